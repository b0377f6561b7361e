"""Where a method begins: at a run of pre-training or fine-tuning, at weights of others, or at random."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from passerby.checkpoint import (
    ENCODER_TABLE_NAME,
    chosen_checkpoint,
    load_checkpoint,
    load_encoder,
    read_encoder_table,
)
from passerby.config import read_table
from passerby.nets.image_encoder import ImageEncoder
from passerby.nets.vit import ARCHITECTURES, load_vit
from passerby.nets.weights import load_weights, read_weights
from passerby.training.run import CONFIG_NAME

GEOMETRY = ("architecture", "image_height", "image_width", "image_mean", "image_std")
"""What an encoder's table says of its input and shape."""

TEXT_GEOMETRY = ("text_architecture", "text_length", "embedding_width", "multimodal_layers")
"""What the configuration of a run says besides, where it learnt from texts too."""

VOCABULARY_SIZE = 10_000
"""Pieces at most of a vocabulary that is made of captions, where no run brings one."""

CLASSIFIER = ("fc.", "classifier.", "head.")
"""Begin the names of weights that belong to somebody's classifier."""

BACKBONE = "encoder.backbone."
"""Begins the names of an encoder's weights in an export of `finetune reid`."""


def is_run(init: str) -> bool:
    """Say whether something is the folder of a run with an encoder."""
    return bool(init) and (Path(init) / ENCODER_TABLE_NAME).is_file()


def geometry_of(init: str, config: type[Any]) -> dict[str, Any]:
    """Give what a run says of its encoders, for the fields of a configuration that builds upon it; nothing where it is no run.

    Args:
        init: Folder of a run, or what else `load_initial` takes.
        config: A method's dataclass.
    """
    if not is_run(init):
        return {}
    path = Path(init) / CONFIG_NAME  # absent where somebody has handed on an encoder alone
    known = read_table(path)["method"] if path.is_file() else {}
    table = {name: known[name] for name in TEXT_GEOMETRY if name in known} | read_encoder_table(Path(init))
    wanted = {field.name for field in fields(config)}
    return {name: table[name] for name in GEOMETRY + TEXT_GEOMETRY if name in table and name in wanted}


def load_initial(encoder: ImageEncoder, init: str, *, architecture: str) -> str:
    """Load the weights that an encoder begins with, every one of them or none; say in a line what they are.

    Args:
        encoder: With random weights.
        init: Folder of a run, a file or folder of weights (see `passerby.nets.weights.read_weights`), or empty.
        architecture: Of the encoder.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds weights of another shape, or an encoder of another architecture.
    """
    if not init:
        return "begins with random weights"
    if is_run(init):
        weights, table = load_encoder(Path(init))
        if table["architecture"] != architecture:
            raise ValueError(
                f"{init} holds a {table['architecture']}, and method.architecture is {architecture}; leave that to the run"
            )
        if any(name.startswith(BACKBONE) for name in weights):
            weights = {name.removeprefix(BACKBONE): each for name, each in weights.items() if name.startswith(BACKBONE)}
        load_weights(encoder.backbone, weights, source=init)
    elif architecture in ARCHITECTURES:
        load_vit(encoder.backbone, init)  # type: ignore[arg-type]
        weights = encoder.backbone.state_dict()
    else:
        weights = {name: each for name, each in read_weights(init).items() if not name.startswith(CLASSIFIER)}
        load_weights(encoder.backbone, weights, source=init)
    return f"begins with all {len(weights):,} tensors of {init}"


def read_pretrained(init: str, method: str) -> dict[str, Any]:
    """Read the checkpoint that a run of pre-training ended with: `model`, `data`, `config`.

    Args:
        init: Folder of the run.
        method: That it must be of.

    Raises:
        FileNotFoundError: it is no folder of a run that reached its end.
        ValueError: it is a run of another method.
    """
    path = chosen_checkpoint(Path(init)) if is_run(init) else None
    if path is None:
        raise FileNotFoundError(
            f"{init} is no folder of a run that reached its end; give one of `pretrain {method}`, or '' to begin without"
        )
    checkpoint = load_checkpoint(path)
    if checkpoint["method"] != method:
        raise ValueError(f"{init} is a run of {checkpoint['method']}; this begins with a run of `pretrain {method}`")
    return checkpoint


def load_parts(
    module: nn.Module, names: Sequence[str], checkpoint: dict[str, Any], *, source: str, prefix: str = ""
) -> None:
    """Load some parts of a module from a checkpoint, every weight of them.

    Args:
        module: Whose parts have random weights.
        names: Of the parts.
        checkpoint: Of `read_pretrained`.
        source: Where it is from, for the message.
        prefix: Before the names of the parts in the checkpoint.

    Raises:
        ValueError: the weights are of other shapes.
    """
    parts = nn.ModuleDict({name: getattr(module, name) for name in names})
    beginnings = tuple(f"{prefix}{name}." for name in names)
    weights = {name: weight for name, weight in checkpoint["model"].items() if name.startswith(beginnings)}
    load_weights(parts, {name.removeprefix(prefix): weight for name, weight in weights.items()}, source=source)
