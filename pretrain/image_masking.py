"""Hide patches of images, mainly those that show the person, so that an image encoder learns to tell them.

Source: MMET, section 3.2: of the patches, 15 % are masked, "mainly the pedestrian region instead of the whole image". The
paper does not say how it finds the region; here it is the person of the parsing map, or where people mostly stand.
"""

import math
import random
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from passerby.training.augment import UNKNOWN

MaskMode = Literal["pedestrian", "random", "block"]
"""Where patches are hidden: on the person, anywhere, or in blocks anywhere (BEiT's way, which FLAVA takes)."""

PERSON_SHARE = 0.3
"""Of a patch's pixels that must show the person."""

PRIOR_GRID = (16, 8)
PRIOR_DEVIATION = (5.5, 1.6)
PRIOR_LEVEL = 0.25
"""Where there is no parsing map, the person is where a bell of these deviations (rows, columns of the grid) is this high: 76
patches of 128, a standing figure in a tight crop."""

MIN_BLOCK = 4
"""Patches of a block, but for the last; in proportion to 15 % of 16x8 what BEiT's 16 are to 40 % of 14x14."""

BLOCK_ASPECT = (0.3, 1 / 0.3)
"""Height over width, BEiT's."""


def find_person(parsing: Tensor, grid: tuple[int, int]) -> Tensor:
    """Say which patches show the person, row by row: Bool (batch, patches).

    Args:
        parsing: LIP's classes, 0 being the background, 255 unknown: Uint8 (batch, height, width).
        grid: Rows and columns of patches, which tile the images.
    """
    is_person = (parsing > 0) & (parsing < UNKNOWN)
    shares = functional.adaptive_avg_pool2d(is_person[:, None].float(), grid)
    return shares.flatten(1) >= PERSON_SHARE


def expect_person(grid: tuple[int, int]) -> Tensor:
    """Say which patches mostly show the person: Bool (patches,).

    Args:
        grid: Rows and columns of patches.
    """
    squares = []
    for count, prior_count, deviation in zip(grid, PRIOR_GRID, PRIOR_DEVIATION, strict=True):
        centres = (torch.arange(count) + 0.5) * prior_count / count
        squares.append(((centres - prior_count / 2) / deviation) ** 2)
    heights = torch.exp(-(squares[0][:, None] + squares[1]) / 2)
    return heights.flatten() >= PRIOR_LEVEL


def mask_patches(is_person: Tensor, grid: tuple[int, int], count: int, *, mode: MaskMode, seed: int) -> Tensor:
    """Draw the same number of patches of each image: Bool (batch, patches).

    Args:
        is_person: Which patches show the person, Bool (batch, patches). For `pedestrian` these are drawn, and others only
            where they are too few; for the other modes only its shape counts.
        grid: Rows and columns of patches.
        count: How many are drawn of each image.
        mode: Where.
        seed: Decides all.
    """
    if mode == "block":
        blocks = random.Random(seed)  # noqa: S311  (no secret)
        return torch.stack([_draw_blocks(grid, count, blocks) for _ in is_person]).to(is_person.device)
    generator = torch.Generator(is_person.device).manual_seed(seed)
    order = torch.rand(is_person.shape, generator=generator, device=is_person.device)
    if mode == "pedestrian":
        order = order + is_person  # all of the person before all others
    return torch.zeros_like(is_person).scatter_(1, order.topk(count, dim=1).indices, value=True)


def _draw_blocks(grid: tuple[int, int], count: int, generator: random.Random) -> Tensor:
    """Draw blocks until there are enough patches: Bool (patches,). The last block loses what is too much, from its end."""
    rows, columns = grid
    places: list[int] = []
    while len(places) < count:
        area = generator.uniform(MIN_BLOCK, max(MIN_BLOCK, count - len(places)))
        aspect = math.exp(generator.uniform(*map(math.log, BLOCK_ASPECT)))
        height = min(rows, max(1, round(math.sqrt(area * aspect))))
        width = min(columns, max(1, round(math.sqrt(area / aspect))))
        top, left = generator.randint(0, rows - height), generator.randint(0, columns - width)
        block = [row * columns + column for row in range(top, top + height) for column in range(left, left + width)]
        places += [place for place in block if place not in places][: count - len(places)]
    mask = torch.zeros(rows * columns, dtype=torch.bool)
    mask[places] = True
    return mask
