"""A whole CLIP to train from, image tower, text tower and tokenizer: from weights of open_clip, or tiny with random weights."""

import json
from functools import cache
from typing import Any, NamedTuple

import open_clip
from open_clip.model import set_model_preprocess_cfg
from open_clip.tokenizer import SimpleTokenizer

from passerby.nets.clip_source import ClipModel, build, find
from passerby.nets.features import Triple

_TINY_TEXT = {"width": 32, "heads": 2, "layers": 2}

TINY: dict[str, dict[str, Any]] = {
    "tiny-resnet": {"layers": [1, 1, 1, 1], "width": 8, "image_size": 224},
    "tiny-vit": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 224},
}
"""Image towers, as in open_clip's JSON, of models that serve to try things out: they know nothing, and read CLIP's tokens."""

TINY_EMBED_DIM = 64


class ClipPair(NamedTuple):
    """A model and what makes tokens for it."""

    model: ClipModel

    tokenizer: SimpleTokenizer


def load_pair(model: str, weights: str) -> ClipPair:
    """Load a CLIP in fp32, or build one of `TINY` with random weights.

    Args:
        model: One of `TINY`, or as of `passerby.nets.clip.load_clip`.
        weights: As of `passerby.nets.clip.load_clip`; the tiny ones have none.

    Raises:
        FileNotFoundError: the folder of the model does not exist.
        RuntimeError: the weights of a tag cannot be downloaded.
        ValueError: an option does not fit, the weights do not fit the model, or its tokens are not CLIP's.
    """
    if model in TINY:
        if weights:
            raise ValueError(f"weights is {weights!r}, and {model} begins with random ones; leave it empty")
        text = {**_TINY_TEXT, "vocab_size": 49408, "context_length": 77}
        return ClipPair(open_clip.CLIP(TINY_EMBED_DIM, TINY[model], text, quick_gelu=True), _tokenizer())
    source = find(model, weights)
    tokenizer = open_clip.get_tokenizer(source.open_clip_name, **source.tokenizer_options())
    if not isinstance(tokenizer, SimpleTokenizer):
        raise ValueError(
            f"{model} has another tokenizer than CLIP; use RN50-quickgelu, ViT-B-16-quickgelu or their kin"
        )
    return ClipPair(build(source, None), tokenizer)


def read_architecture(model: str, weights: str) -> str:
    """Give what `build_blank` takes to build the image tower of a CLIP again, once its weights are elsewhere: a JSON text.

    Arguments and errors as of `load_pair`.
    """
    if model in TINY:
        return json.dumps({"embed_dim": TINY_EMBED_DIM, "vision_cfg": TINY[model], "quick_gelu": True})
    config = find(model, weights).config
    return json.dumps({name: config.get(name, False) for name in ("embed_dim", "vision_cfg", "quick_gelu")})


def build_blank(architecture: str, *, mean: Triple, deviation: Triple) -> ClipModel:
    """Build a CLIP with random weights, whose text tower is as small as can be: its image tower is wanted.

    Args:
        architecture: Of `read_architecture`.
        mean: Of the images' levels, 0…1, that the image tower was trained with.
        deviation: Likewise.
    """
    table = json.loads(architecture)
    text = {"width": 8, "heads": 1, "layers": 1, "vocab_size": 1, "context_length": 1}
    model = open_clip.CLIP(table["embed_dim"], table["vision_cfg"], text, quick_gelu=table["quick_gelu"])
    set_model_preprocess_cfg(model, {"mean": mean, "std": deviation})
    return model


@cache
def _tokenizer() -> SimpleTokenizer:
    """Give CLIP's own, whose vocabulary takes a moment to read."""
    return SimpleTokenizer()
