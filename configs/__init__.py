"""Configurations of pre-training: one TOML a method and size, holding only what differs from the defaults."""

from pathlib import Path

CONFIGS = Path(__file__).parent
"""Folder of the presets."""
