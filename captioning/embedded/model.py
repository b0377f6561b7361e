"""The embedded CLIP as an open_clip model: its architecture, and the folder it is shipped in."""

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, cast

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save

from passerby.nets.tower import HEIGHT_WIDTH, passerby_tower
from passerby.nets.vocabulary import vocabulary_size
from passerby.runtime import write_atomically

CONFIG, WEIGHTS, VOCABULARY, METRICS, CARD = (
    "open_clip_config.json",
    "model.safetensors",
    "vocabulary.txt.gz",
    "metrics.json",
    "README.md",
)
"""Files of the folder; the first two are named as open_clip looks for them."""

WIDTH = 256
"""Of the features that images and texts share."""

MEAN, DEVIATION = (0.45, 0.45, 0.45), (0.25, 0.25, 0.25)
"""Of the pixels (0…1) of renders, roughly; one value for all channels, for colour is what is asked for."""

INITIAL_LOGIT_SCALE = 40.0
"""Above CLIP's 14, since two dozen attributes share one unit vector and each has but a small part of it."""

CONTEXT_LENGTH = 77
"""Tokens, CLIP's own; a caption of everything there is takes 50."""


def model_config(vocabulary: bytes) -> dict[str, Any]:
    """Give the architecture as open_clip writes it."""
    return {
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": {
                "image_size": list(HEIGHT_WIDTH),
                "timm_model_name": passerby_tower.__name__,
                "timm_pool": "",
                "timm_proj": "",
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": vocabulary_size(vocabulary),
                "width": 128,
                "heads": 4,
                "layers": 2,
                "tokenizer_kwargs": {"bpe_path": VOCABULARY},
            },
        },
        # Bicubic, squashed: the stock transform would crop heads and feet of a tall image.
        "preprocess_cfg": {"mean": MEAN, "std": DEVIATION, "interpolation": "bicubic", "resize_mode": "squash"},
    }


def build_model(vocabulary: bytes) -> open_clip.CLIP:
    """Build the model with random weights, drawn from torch's global generator."""
    config = model_config(vocabulary)["model_cfg"]
    return open_clip.CLIP(
        config["embed_dim"], config["vision_cfg"], config["text_cfg"], init_logit_scale=math.log(INITIAL_LOGIT_SCALE)
    )


def build_tokenizer(vocabulary: bytes) -> SimpleTokenizer:
    """Build the tokenizer of a trimmed vocabulary; open_clip reads one from a file only."""
    with NamedTemporaryFile(suffix=".txt.gz") as file:
        file.write(vocabulary)
        file.flush()
        return SimpleTokenizer(bpe_path=file.name, context_length=CONTEXT_LENGTH)


def encode_texts(model: open_clip.CLIP, tokenizer: SimpleTokenizer, texts: Iterable[str]) -> torch.Tensor:
    """Give the features of texts, Float (texts, width) of unit length, without computing their padding.

    The feature is the end token's, and in a causal transformer no padding behind it reaches that. open_clip has no way to say
    so: a shorter position table and mask do.
    """
    tokens = tokenizer(list(texts))
    length = int(tokens.argmax(dim=-1).max()) + 1
    shortened = {
        "positional_embedding": model.positional_embedding[:length],
        "attn_mask": model.attn_mask[:length, :length],
    }
    # shape: (texts, width)
    _, features, _ = torch.func.functional_call(model, shortened, (None, tokens[:, :length]))
    return cast(torch.Tensor, features)


def write_model(folder: Path, model: open_clip.CLIP, vocabulary: bytes) -> None:
    """Write config, vocabulary and half-precision weights; the weights, which make the folder a model, last."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / VOCABULARY, vocabulary)
    write_atomically(folder / CONFIG, (json.dumps(model_config(vocabulary), indent=2) + "\n").encode())
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_atomically(folder / WEIGHTS, save(state))


def weights_sha256(folder: Path) -> str:
    """Hash the weights of a folder, in hexadecimal."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
