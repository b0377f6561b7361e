"""Change a picture of a person as chance says, and its caption and parsing map with it; never its colours.

Captions name colours, so hue and saturation stay as they are. What is drawn depends on the generator alone.

Source: VTBR and VirTex (random crops, word swap with the flip), the strong Re-ID baseline (pad and crop, erasing). Their
colour jitter is left out, but for brightness.
"""

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

Crop = Literal["none", "pad", "resized"]
ErasedFill = Literal["mean", "baseline", "noise"]

PADDING_SHARE = 10 / 256
"""Of the height, on all four sides: the baseline's 10 pixels at 256x128."""

ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 10 / 3)
"""Height over width. Both as in the strong baseline."""

BASELINE_COLOUR = (152, 142, 127)
"""What the strong baseline paints: it takes ImageNet's mean for values that are normalised already, which makes a light grey."""

NOISE_MEAN, NOISE_STD = (124, 116, 104), (58, 57, 57)
"""ImageNet's, of 0…255: noise of these is that of a mean of 0 and a deviation of 1 once it is normalised by them."""

Box = tuple[slice, slice, slice]
"""All channels, some rows, some columns."""

UNKNOWN = 255
"""In a parsing map: nobody knows what is there."""

TRIES = 10
"""To place a crop or an erased box of the drawn size, as in torchvision."""

SIDED_WORDS = re.compile(r"\b(left|right)\b", re.IGNORECASE)
LIP_SIDES = (*range(14), 15, 14, 17, 16, 19, 18)
"""LIP's 20 classes after mirroring: left and right arm, leg and shoe change places."""


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How much is left to chance; the defaults change nothing."""

    crop: Crop = "none"
    """`none`: the whole picture, squashed. `pad`: shifted by up to 10 pixels in 256. `resized`: a window of it, enlarged."""

    crop_scale: tuple[float, float] = (0.6, 1.0)
    """For `resized`: least and greatest area of the window, as shares of the picture's."""

    crop_ratio: tuple[float, float] = (0.35, 0.6)
    """For `resized`: least and greatest width over height."""

    flip: float = 0.0
    """Probability of mirroring."""

    erasing: float = 0.0
    """Probability that a box is painted over; a parsing map is unknown there."""

    erasing_fill: ErasedFill = "mean"
    """With what: the picture's mean colour, the strong baseline's light grey, or noise, as CLIP-ReID does."""

    brightness: float = 0.0
    """Greatest change of brightness, as a share."""

    def __post_init__(self) -> None:
        for name in ("flip", "erasing", "brightness"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        for name in ("crop_scale", "crop_ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {[low, high]}; it must be two numbers above 0, the smaller first")


def fit(image: Tensor, height_width: tuple[int, int], *, is_map: bool = False) -> Tensor:
    """Squash a whole picture (or a map of classes) to a size: Uint8 (channels, height, width) in and out."""
    mode = InterpolationMode.NEAREST_EXACT if is_map else InterpolationMode.BICUBIC
    resized: Tensor = functional.resize(image, [*height_width], interpolation=mode, antialias=not is_map)
    return resized


def augment(
    image: Tensor,
    caption: str,
    parsing: Tensor | None,
    height_width: tuple[int, int],
    *,
    how: Augmentation,
    generator: random.Random,
) -> tuple[Tensor, str, Tensor | None]:
    """Give a picture of a size, its caption, and its parsing map cut and mirrored like it.

    Args:
        image: Uint8 (3, height, width), of any size.
        caption: What is said of it.
        parsing: LIP's classes, Uint8 (1, height, width) of the same size, or none.
        height_width: Of the result, pixels.
        how: What is left to chance.
        generator: Draws it.
    """
    window = _window(image, how, generator)
    image = fit(_cut(image, window), height_width)
    if parsing is not None:
        parsing = fit(_cut(parsing, window), height_width, is_map=True)
    if generator.random() < how.flip:
        image, caption = functional.horizontal_flip(image), mirror_words(caption)
        parsing = parsing if parsing is None else mirror_parsing(parsing)
    if how.brightness:
        factor = generator.uniform(1 - how.brightness, 1 + how.brightness)
        image = functional.adjust_brightness(image, factor)
    if generator.random() < how.erasing and (box := draw_box(*height_width, generator)):
        image = paint_over(image, box, how.erasing_fill, seed=generator.getrandbits(63))
        parsing = parsing if parsing is None else parsing.clone()
        if parsing is not None:
            parsing[box] = UNKNOWN
    return image, caption, parsing


def mirror_words(caption: str) -> str:
    """Swap left and right where they are words; "bright" stays.

    >>> mirror_words("Left of a bright bag, seen from the right.")
    'Right of a bright bag, seen from the left.'
    """

    def swap(match: re.Match[str]) -> str:
        word = match[0]
        other = "right" if word.lower() == "left" else "left"
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return SIDED_WORDS.sub(swap, caption)


def mirror_parsing(parsing: Tensor) -> Tensor:
    """Mirror a map of LIP's classes: Uint8 (1, height, width). Left and right are the person's, so they swap too."""
    return torch.tensor(LIP_SIDES, dtype=torch.uint8)[functional.horizontal_flip(parsing).long()]


def draw_box(height: int, width: int, generator: random.Random) -> Box | None:
    """Draw a box of random size and place in a picture of this size, in pixels; none where ten of ten did not fit."""
    for _ in range(TRIES):
        area = generator.uniform(*ERASED_AREA) * height * width
        aspect = _log_uniform(ERASED_ASPECT, generator)
        box_height, box_width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if box_height < height and box_width < width:
            top, left = generator.randrange(height - box_height), generator.randrange(width - box_width)
            return slice(None), slice(top, top + box_height), slice(left, left + box_width)
    return None


def paint_over(image: Tensor, box: Box, fill: ErasedFill, *, seed: int) -> Tensor:
    """Give a picture, Uint8 (3, height, width), with a box of it painted over; `seed` is that of the noise."""
    image = image.clone()
    if fill == "noise":
        noise = torch.randn(image[box].shape, generator=torch.Generator().manual_seed(seed))
        mean, std = (torch.tensor(each)[:, None, None] for each in (NOISE_MEAN, NOISE_STD))
        image[box] = (noise * std + mean).clamp(0, 255).to(torch.uint8)
    else:
        colour = image.float().mean(dim=(1, 2)) if fill == "mean" else torch.tensor(BASELINE_COLOUR)
        image[box] = colour.to(torch.uint8)[:, None, None]
    return image


def _window(image: Tensor, how: Augmentation, generator: random.Random) -> tuple[int, int, int, int]:
    """Draw what is seen of a picture: top, left, height and width, in its pixels; it may reach beyond its borders."""
    height, width = image.shape[1:]
    if how.crop == "pad":
        reach_down = round(height * PADDING_SHARE)
        reach_right = round(width * PADDING_SHARE * 2)  # as many pixels of a picture of 2:1
        return generator.randint(-reach_down, reach_down), generator.randint(-reach_right, reach_right), height, width
    if how.crop == "resized":
        return _resized_window(height, width, how.crop_scale, how.crop_ratio, generator)
    return 0, 0, height, width


def _resized_window(
    height: int, width: int, scale: Sequence[float], ratio: Sequence[float], generator: random.Random
) -> tuple[int, int, int, int]:
    """Draw a window of random area and aspect (width over height), as torchvision's RandomResizedCrop does."""
    for _ in range(TRIES):
        area = generator.uniform(*scale) * height * width
        aspect = _log_uniform(ratio, generator)
        window_width, window_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < window_width <= width and 0 < window_height <= height:
            top, left = generator.randint(0, height - window_height), generator.randint(0, width - window_width)
            return top, left, window_height, window_width
    window_width = min(width, max(1, round(height * ratio[1])))
    window_height = min(height, max(1, round(width / ratio[0])))
    return (height - window_height) // 2, (width - window_width) // 2, window_height, window_width


def _log_uniform(bounds: Sequence[float], generator: random.Random) -> float:
    return math.exp(generator.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _cut(image: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Cut a window out; what lies beyond the borders is black (in a map: background)."""
    cut: Tensor = functional.crop(image, *window)
    return cut
