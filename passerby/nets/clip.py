"""CLIP as a scorer: any model of open_clip, from local weights or by tag, on person crops of any size.

An image's features do not depend on how many others come with it: every batch has the same size, the last one filled
up with plain rows.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from passerby.nets.clip_source import ClipModel, ClipSource, build, check_grid, find
from passerby.nets.pixels import bands, fit, interpolated_size

Precision = Literal["fp32", "fp16", "bf16"]

_AUTOCAST = {"fp16": torch.float16, "bf16": torch.bfloat16}
_TEXTS_A_BATCH = 64


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """What `load_clip` was asked for."""

    model: str
    weights: str
    image_mode: str
    device: str
    precision: Precision
    batch_size: int


def load_clip(
    model: str = "ViT-B-16-quickgelu",
    weights: str = "openai",
    *,
    image_mode: str = "squash",
    device: str = "auto",
    precision: Precision = "fp32",
    batch_size: int = 32,
) -> "OpenClipScorer":
    """Load a CLIP model.

    Args:
        model: A name of open_clip, such as `ViT-B-16-quickgelu` (the plain `ViT-B-16` has another activation than
            OpenAI's weights, and nothing warns of it), or `embedded`, the tiny CLIP of this package.
        weights: A file (safetensors or a state dict), `local-dir:FOLDER` (which also names the model), or a tag of
            open_clip, which is downloaded on first use. The embedded model has its own.
        image_mode: How a tall crop gets into the model's square; see `passerby.nets.pixels.IMAGE_MODES`.
        device: `cpu`, `cuda`, `cuda:1`, or `auto`: CUDA where there is one.
        precision: Of the image tower; `fp16` agrees with `fp32` on nearly all picks, `bf16` less. Features are
            normalised in 32 bits always.
        batch_size: Images a forward pass.

    Raises:
        FileNotFoundError: the folder of the model does not exist.
        RuntimeError: the weights of a tag cannot be downloaded, or the device is not there.
        ValueError: an option does not fit, or the weights do not fit the model.
    """
    if precision not in ("fp32", *_AUTOCAST):
        raise ValueError(f"unknown precision {precision!r}; allowed are fp32, fp16, bf16")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    settings = ClipSettings(model, weights, image_mode, device, precision, batch_size)
    size = interpolated_size(image_mode)
    source = find(model, weights)
    if size is not None:
        check_grid(source, size)
    return OpenClipScorer(settings, source, build(source, size).to(_device(device)))


class OpenClipScorer:
    """An open_clip model as `captioning.conquer.Scorer`.

    Pickled, it is the settings only: each process loads the weights for itself.
    """

    def __init__(self, settings: ClipSettings, source: ClipSource, network: ClipModel) -> None:
        self.settings = settings
        self.identity: Mapping[str, str] = {
            "model": source.name,
            "weights": source.label,
            "weights_sha256": source.sha256,
            "model_config": hashlib.sha256(json.dumps(source.config, sort_keys=True).encode()).hexdigest(),
            "image_mode": settings.image_mode,
            "precision": settings.precision,
        }
        self._network = network.eval().requires_grad_(requires_grad=False)
        self._tokenizer = open_clip.get_tokenizer(source.open_clip_name, **source.tokenizer_options())
        self._device = next(network.parameters()).device
        self.on_gpu = self._device.type != "cpu"
        self.logit_scale = float(self._network.logit_scale.exp())
        size = self._network.visual.image_size
        self._height_width: tuple[int, int] = (size, size) if isinstance(size, int) else size
        statistics = self._network.visual.preprocess_cfg
        # shape: (3, 1, 1), in levels of 0…255
        self._mean, self._deviation = (
            torch.tensor(statistics[name], device=self._device).view(3, 1, 1) * 255 for name in ("mean", "std")
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(load_clip, **asdict(self.settings)), ()

    @torch.inference_mode()
    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Give float32 (prompts, width) of unit length, computed in 32 bits."""
        tokens = self._tokenizer(list(prompts)).to(self._device)
        with self._exactly():
            features = [self._text_features(batch) for batch in tokens.split(_TEXTS_A_BATCH)]
        return _numpy(functional.normalize(torch.cat(features).float(), dim=-1))

    @torch.inference_mode()
    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Give float32 (images, width) of unit length, from RGB uint8 (height, width, 3) of any sizes."""
        if not images:
            return self.encode_texts([""])[:0]
        size = self.settings.batch_size
        with self._exactly():
            features = [self._features(images[start : start + size]) for start in range(0, len(images), size)]
        return _numpy(torch.cat(features))

    def _features(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        if self.settings.image_mode != "bands":
            return self._forward(images)
        squares = zip(*map(bands, images), strict=True)
        mean = torch.stack([self._forward(square) for square in squares]).mean(dim=0)
        return functional.normalize(mean, dim=-1)

    def _forward(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        fill = self._mean.round().to(torch.uint8)
        rows, mode = self.settings.batch_size, self.settings.image_mode
        # shape: (batch, 3, height, width)
        levels = fit(images, self._height_width, mode, rows=rows, fill=fill)
        pixels = (levels - self._mean) / self._deviation
        with self._autocast():
            # shape: (batch, width)
            features = self._network.encode_image(pixels)
        return functional.normalize(features[: len(images)].float(), dim=-1)

    def _text_features(self, tokens: Tensor) -> Tensor:
        network = self._network
        is_causal = type(network) is open_clip.CLIP and network.attn_mask is not None
        if not is_causal or network.text_pool_type != "argmax":
            return cast(Tensor, network.encode_text(tokens))
        # The features are those of the end token, which nothing behind it can reach: leaving out the padding changes
        # nothing and costs a fifth.
        length = int(tokens.argmax(dim=-1).max()) + 1
        shortened = {
            "positional_embedding": network.positional_embedding[:length],
            "attn_mask": network.attn_mask[:length, :length],
        }
        found = torch.func.functional_call(network, shortened, (None, tokens[:, :length]))
        return cast(Tensor, found["text_features"] if isinstance(found, dict) else found[1])

    def _autocast(self) -> AbstractContextManager[object]:
        kind = _AUTOCAST.get(self.settings.precision)
        return nullcontext() if kind is None else torch.autocast(self._device.type, dtype=kind)

    def _exactly(self) -> AbstractContextManager[object]:
        """Let CUDA's convolutions neither round to 19 bits nor choose their algorithm by a race."""
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"device {name} is not there; use cpu")
    return device


def _numpy(features: Tensor) -> NDArray[np.float32]:
    return features.float().cpu().numpy()
