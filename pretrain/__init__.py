"""Pre-training on captions: VTBR, UniPT and MMET, one module a method."""
