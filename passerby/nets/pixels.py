"""From decoded pixels to what a vision tower sees, fitted on the device.

Person crops are tall (1:2 to 1:3), CLIP's input is square. The stock transform keeps the middle square, half or a third
of a crop, and loses head and shoes; so how to fit is a choice, `IMAGE_MODES`.
"""

import re
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

IMAGE_MODES = {
    "squash": "the whole crop, its aspect ignored",
    "pad": "the whole crop, with bars of the mean colour",
    "center": "the middle square, as CLIP's own transform",
    "bands": "the mean over three squares: top, middle and bottom",
    "interp:HxW": "the whole crop at another input size, position embeddings interpolated, such as interp:384x192",
}
"""How a crop gets into a square; see `fit` and `bands`."""


def interpolated_size(image_mode: str) -> tuple[int, int] | None:
    """Give (height, width) of an `interp:HxW` mode, `None` for any other.

    Raises:
        ValueError: there is no such mode.
    """
    if match := re.fullmatch(r"interp:([1-9]\d{0,3})x([1-9]\d{0,3})", image_mode):
        return int(match[1]), int(match[2])
    if image_mode not in IMAGE_MODES or image_mode == "interp:HxW":
        raise ValueError(f"unknown image mode {image_mode!r}; allowed are {', '.join(IMAGE_MODES)}")
    return None


def fit(
    images: Sequence[NDArray[np.uint8]],
    height_width: tuple[int, int],
    image_mode: str,
    *,
    rows: int,
    fill: Tensor,
) -> Tensor:
    """Resize images of any sizes into one batch, on the device of `fill`, by bicubic interpolation with antialiasing.

    Images of one size are resized in one call, and all of them reach the device in one copy.

    Args:
        images: RGB uint8 (height, width, 3) each.
        height_width: Of the batch, pixels.
        image_mode: `pad` shrinks until all is inside, `center` until both sides are filled; any other squashes.
        rows: Rows of the batch; those beyond the images are plain.
        fill: Uint8 (3,), the colour of bars and plain rows.

    Returns:
        Uint8 (rows, 3, height, width).
    """
    batch = fill.view(1, 3, 1, 1).repeat(rows, 1, *height_width)
    order = sorted(range(len(images)), key=lambda row: images[row].shape)
    flat = torch.from_numpy(np.concatenate([images[row].reshape(-1) for row in order])).to(fill.device)
    start = 0
    for shape, group in groupby(order, key=lambda row: images[row].shape):
        members = list(group)
        stop = start + len(members) * images[members[0]].size
        # shape: (members, 3, height of the images, width of the images), channels last in memory
        pixels = flat[start:stop].view(len(members), *shape).permute(0, 3, 1, 2)
        start = stop
        resized = _resize(pixels, _size_within(shape[:2], height_width, image_mode))
        if image_mode == "center":
            resized = _middle(resized, height_width)
        height, width = resized.shape[2:]
        top, left = (height_width[0] - height) // 2, (height_width[1] - width) // 2
        batch[members, :, top : top + height, left : left + width] = resized
    return batch


def bands(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut the squares at start, middle and end of the long side; they overlap in crops shorter than 1:3."""
    height, width = image.shape[:2]
    side, slack = min(height, width), abs(height - width)
    first, middle, last = (
        image[start : start + side] if height > width else image[:, start : start + side]
        for start in (0, slack // 2, slack)
    )
    return first, middle, last


def _size_within(size: tuple[int, int], target: tuple[int, int], image_mode: str) -> tuple[int, int]:
    """Give the size to resize to; rounded as torchvision does, to be comparable."""
    (height, width), (target_height, target_width) = size, target
    is_taller = height * target_width > width * target_height
    if image_mode == "center":
        if is_taller:
            return int(target_width * height / width), target_width
        return target_height, int(target_height * width / height)
    if image_mode == "pad":
        if is_taller:
            return target_height, max(1, round(target_height * width / height))
        return max(1, round(target_width * height / width)), target_width
    return target


def _middle(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    (height, width), (height_cut, width_cut) = pixels.shape[2:], size
    top, left = round((height - height_cut) / 2), round((width - width_cut) / 2)
    return pixels[:, :, top : top + height_cut, left : left + width_cut]


def _resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    if pixels.device.type == "cpu":  # in 8 bits, as Pillow does, and six times as fast as in floats
        return functional.interpolate(pixels, size, mode="bicubic", antialias=True)
    levels = functional.interpolate(pixels.float(), size, mode="bicubic", antialias=True)
    return levels.round().clamp(0, 255).to(torch.uint8)
