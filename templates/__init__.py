"""The words: caption templates, phrase banks, synonyms and card templates, as data files a user can copy and edit."""

from pathlib import Path

TEMPLATES = Path(__file__).parent
"""Folder of the shipped templates; one subfolder for each data set."""
