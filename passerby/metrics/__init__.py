"""How well images are found: distances, the protocol of Market-1501, its scores, and re-ranking."""
