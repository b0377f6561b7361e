"""Shared ground of the toolkit: shards, readers, synthetic pedestrians, networks, and the command line."""

__version__ = "0.1.0"
