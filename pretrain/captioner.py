"""Captions for images that nobody described, by a model that VTBR has pre-trained."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from passerby.checkpoint import chosen_checkpoint, load_checkpoint
from passerby.config import read_section
from passerby.images import ImageProblem, decode_rgb, read_image
from passerby.tokens import Tokenizer
from passerby.training.augment import fit
from passerby.training.batch import ToDevice
from pretrain.decoding import Search
from pretrain.vtbr import Config, Vtbr, build


@dataclass(frozen=True, slots=True)
class Written:
    """What the model says of an image."""

    path: Path
    caption: str
    log_probability: float
    """Natural logarithm, of the whole caption."""


def load_captioner(run: Path, device: torch.device) -> Vtbr:
    """Load the model of a run: its best checkpoint if the run chose one, else its newest.

    Args:
        run: Folder of the run, or one checkpoint.
        device: Where the model shall be.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: it is damaged, or of another method.
    """
    path = run if run.is_file() else chosen_checkpoint(run)
    if path is None:
        raise FileNotFoundError(f"{run} holds no checkpoint; give the folder of a run of `pretrain vtbr`")
    checkpoint = load_checkpoint(path)
    if (method := checkpoint.get("method")) != "vtbr":
        raise ValueError(f"{path} is of the method {method!r}; only vtbr writes captions")
    tokenizer = Tokenizer.from_json(checkpoint["data"]["tokenizer"])
    model = build(read_section(Config, checkpoint["config"]["method"]), tokenizer, generator_seed=0)
    model.load_state_dict(checkpoint["model"])
    return model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


@torch.inference_mode()
def caption_images(
    model: Vtbr, paths: Iterable[Path], search: Search, *, batch_size: int
) -> Iterator[Written | tuple[Path, ImageProblem]]:
    """Write a caption of each image, in order; of one that cannot be used, say why.

    Args:
        model: See `load_captioner`.
        paths: JPEG, PNG or WebP files.
        search: See `pretrain.decoding`.
        batch_size: Images a forward pass.
    """
    remaining = iter(paths)
    while batch := [*islice(remaining, batch_size)]:
        read = [_read(path, model.config) for path in batch]
        usable = [picture for picture in read if isinstance(picture, Tensor)]
        said = iter(_write(model, usable, search))
        for path, picture in zip(batch, read, strict=True):
            yield (path, picture) if isinstance(picture, ImageProblem) else Written(path, *next(said))


def _read(path: Path, config: Config) -> Tensor | ImageProblem:
    """Decode an image at the model's size, Uint8 (3, height, width), as validation does."""
    height_width = (config.image_height, config.image_width)
    try:
        pixels = decode_rgb(read_image(path)[0], at_least=max(height_width))
    except ImageProblem as problem:
        return problem
    return fit(torch.from_numpy(pixels.copy()).permute(2, 0, 1), height_width)


def _write(model: Vtbr, pictures: Sequence[Tensor], search: Search) -> Iterable[tuple[str, float]]:
    if not pictures:
        return ()
    device = next(model.parameters()).device
    to_device = ToDevice(device, model.config.image_mean, model.config.image_std)
    images = to_device({"images": torch.stack([*pictures])}, seed=0, shared_seed=0)["images"]
    return zip(*model.write_captions(images, search), strict=True)
