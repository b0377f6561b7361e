"""Pictures of two colours and their captions, for methods that are tiny."""

import re
import zlib

import torch

from passerby.training.batch import Batch, Collate

COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "white": (1, 1, 1)}
PAIRS = [(upper, lower) for upper in COLOURS for lower in COLOURS if upper != lower]
CAPTIONS = [f"A man in a {upper} shirt, and {lower} trousers." for upper, lower in PAIRS]
LENGTH = 20
"""Tokens of a caption, at most."""


def figure(caption):
    """Draw the two colours of a caption, with noise of its own."""
    image = torch.randn(3, 32, 16, generator=torch.Generator().manual_seed(zlib.crc32(caption.encode()))) / 10
    colours = [word for word in re.findall(r"\w+", caption) if word in COLOURS]
    for half, colour in zip(image.chunk(2, dim=1), colours, strict=True):
        half.add_(torch.tensor(COLOURS[colour])[:, None, None])
    return image


def make_batch(tokenizer, captions, *, seed=0, length=LENGTH) -> Batch:
    example = {"image": torch.zeros(3, 1, 1), "person_id": -1, "key": "", "parsing": None}
    rows = [tokenizer.encode(caption, length)[0] for caption in captions]
    collated = Collate(tokenizer.pad_id)([{**example, "token_ids": row} for row in rows])
    images = torch.stack([figure(caption) for caption in captions])
    return {**collated, "images": images, "seed": torch.tensor(seed), "shared_seed": torch.tensor(seed)}
