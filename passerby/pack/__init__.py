"""An official Re-ID data set as shards: `pack` writes them, `maps` joins parsing maps to its images."""
