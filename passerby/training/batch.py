"""What a method is given: batches, and how a captioned picture becomes a part of one."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import torch
from torch import Tensor

from passerby.images import ImageProblem, decode_rgb, opened
from passerby.runtime import draw
from passerby.sample import CAPTION_FIELD
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation, augment, fit

IMAGE_MEMBERS = ("jpg", "png", "webp", "jpeg")
PARSING_MEMBER = "parsing.png"

Captions = Literal["first", "random", "rerender"]
"""Which caption of a sample: its first, any of those stored, or one that is worded anew in every epoch."""

Reword = Callable[[Mapping[str, Any], int], str]
"""Words a caption from the fields of a sample, for an epoch."""


class BadSample(ValueError):  # noqa: N818  (it names a sample, with what is wrong with it)
    """A sample that cannot be read. Where a worker process raised it, PyTorch makes another of a text that ends with it."""

    def __init__(self, text: str) -> None:
        super().__init__(text.rsplit(f"{BadSample.__name__}: ", 1)[-1].strip())


class Batch(TypedDict):
    """Tensors on the device of the model, but for the seeds."""

    images: Tensor
    """Float (batch, 3, height, width), normalised; channels last in memory."""

    token_ids: Tensor
    """Int64 (batch, tokens), padded to the longest; no tokens where no text is read."""

    token_mask: Tensor
    """Bool (batch, tokens), true where a token is."""

    person_ids: Tensor
    """Int64 (batch,), numbers from 0; -1 where the person is unknown."""

    camera_ids: Tensor
    """Int64 (batch,); -1 where the camera is unknown."""

    keys: list[str]
    """Of the samples. Empty in a compiled `forward`, which would be compiled anew for every text."""

    seed: Tensor
    """Int64 (), on the CPU: another one in every forward pass of every rank."""

    shared_seed: Tensor
    """Int64 (), on the CPU: the same on all ranks and in all passes of a step."""

    parsing: NotRequired[Tensor]
    """Uint8 (batch, height, width), LIP's classes, where the data set has them and the configuration wants them."""


class Example(TypedDict):
    """What is made of one sample, before batching."""

    image: Tensor
    """Uint8 (3, height, width)."""

    token_ids: list[int]
    key: str
    parsing: Tensor | None
    """Uint8 (height, width)."""

    person_id: NotRequired[int]
    camera_id: NotRequired[int]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Decode, augment and tokenise. Picklable, so that worker processes can do it."""

    height_width: tuple[int, int]
    """Of the images, pixels."""

    text_length: int
    """Tokens at most."""

    tokenizer: Tokenizer | None
    """Without it, no text is read."""

    how: Augmentation
    """What is left to chance."""

    seed: int
    captions: Captions = "first"
    with_parsing: bool = False
    reword: Reword | None = None
    """For captions that are worded anew."""

    def __call__(self, sample: Mapping[str, Any], epoch: int, caption_number: int | None = None) -> Example:
        """Make an example of a sample as `passerby.shards.read.ShardDataset` gives it.

        Args:
            sample: With its image.
            epoch: Decides, with the seed, what is left to chance.
            caption_number: Which of its captions; without it, as `captions` says.

        Raises:
            ImageProblem: the sample has no image, or one that cannot be decoded.
        """
        key = sample["__key__"]
        generator = random.Random(draw(self.seed, key, epoch, "augment"))  # noqa: S311  (no secret)
        image, parsing = self._pictures(sample)
        caption = self._caption(sample, epoch, caption_number)
        image, caption, parsing = augment(image, caption, parsing, self.height_width, how=self.how, generator=generator)
        return {
            "image": image,
            "token_ids": [] if self.tokenizer is None else self.tokenizer.encode(caption, self.text_length)[0],
            "key": key,
            "parsing": parsing if parsing is None else parsing[0],
        }

    @property
    def pad_id(self) -> int:
        """Fills up texts."""
        return 0 if self.tokenizer is None else self.tokenizer.pad_id

    def _pictures(self, sample: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Decode the image, and the parsing map at the size that the image is decoded at."""
        data = next((sample[name] for name in IMAGE_MEMBERS if name in sample), None)
        if data is None:
            raise ImageProblem("missing", f"has no image; its members are {[*sample]}")
        # shape: (3, height, width), channels last in memory, which torchvision resizes fastest
        image = torch.from_numpy(decode_rgb(data, at_least=max(self.height_width))).permute(2, 0, 1)
        if not self.with_parsing:
            return image, None
        if PARSING_MEMBER not in sample:
            raise ImageProblem("missing", f"has no parsing map; its members are {[*sample]}; set data.parsing=false")
        height, width = image.shape[1:]
        return image, fit(_decode_map(sample[PARSING_MEMBER]), (height, width), is_map=True)

    def _caption(self, sample: Mapping[str, Any], epoch: int, number: int | None) -> str:
        if self.tokenizer is None:
            return ""
        if number is not None:
            return captions_of(sample["json"])[number]
        caption: str = sample["txt"]
        if self.captions == "rerender":
            assert self.reword is not None, "the reader has checked"
            caption = self.reword(sample["json"], epoch)
        elif self.captions == "random":
            several = captions_of(sample["json"])
            caption = several[draw(self.seed, sample["__key__"], epoch, "caption") % len(several)]
        return caption


@dataclass(frozen=True)
class Collate:
    """Put examples into one batch, still without seeds and with images as Uint8."""

    pad_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Stack the images and pad the texts to the longest."""
        lengths = torch.tensor([len(example["token_ids"]) for example in examples])
        longest = int(lengths.max())
        padded = [example["token_ids"] + [self.pad_id] * (longest - len(example["token_ids"])) for example in examples]
        maps = [example["parsing"] for example in examples if example["parsing"] is not None]
        return {
            "images": torch.stack([example["image"] for example in examples]),
            "token_ids": torch.tensor(padded, dtype=torch.int64),
            "token_mask": torch.arange(longest) < lengths[:, None],
            "person_ids": torch.tensor([example.get("person_id", -1) for example in examples]),
            "camera_ids": torch.tensor([example.get("camera_id", -1) for example in examples]),
            "keys": [example["key"] for example in examples],
            **({"parsing": torch.stack(maps)} if maps else {}),
        }


@dataclass(frozen=True)
class ToDevice:
    """Finish a batch on the device of the model."""

    device: torch.device
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of RGB in [0, 1]."""

    def __call__(self, collated: Mapping[str, Any], *, seed: int, shared_seed: int) -> Batch:
        """Move a collated batch, normalise its images, and give it its seeds."""
        moved = {
            name: value.to(self.device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in collated.items()
        }
        mean, std = (torch.tensor(each, device=self.device).view(1, 3, 1, 1) * 255 for each in (self.mean, self.std))
        images = moved["images"].contiguous(memory_format=torch.channels_last)
        seeds = {"seed": torch.tensor(seed), "shared_seed": torch.tensor(shared_seed)}
        return {**moved, **seeds, "images": (images.float() - mean) / std}  # type: ignore[typeddict-item]


def captions_of(fields: Mapping[str, Any]) -> list[str]:
    """Give all captions of a sample, from its fields: the list `captions`, or `caption`, `caption_1`, …."""
    if "captions" in fields:
        return list(fields["captions"])
    return [value for name, value in fields.items() if CAPTION_FIELD.fullmatch(name)]


def _decode_map(data: bytes) -> Tensor:
    """Decode a PNG of class numbers, with or without a palette: Uint8 (1, height, width)."""
    with opened(data, formats=("PNG",)) as picture:
        if picture.mode not in ("P", "L"):
            raise ImageProblem("unsupported format", f"has a parsing map of mode {picture.mode}; it must be P or L")
        picture.load()
        # shape: (1, height, width)
        return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, picture.height, picture.width)
