"""Where an image encoder begins: at a run of pre-training or fine-tuning, at weights of others, or at random."""

from pathlib import Path

from passerby.checkpoint import ENCODER_TABLE_NAME, load_encoder, read_encoder_table
from passerby.config import Table
from passerby.nets.image_encoder import ImageEncoder
from passerby.nets.vit import ARCHITECTURES, load_vit
from passerby.nets.weights import load_weights, read_weights

GEOMETRY = ("architecture", "image_height", "image_width", "image_mean", "image_std")
"""What an encoder's table says of its input and shape."""

CLASSIFIER = ("fc.", "classifier.", "head.")
"""Begin the names of weights that belong to somebody's classifier."""

BACKBONE = "encoder.backbone."
"""Begins the names of an encoder's weights in an export of `finetune reid`."""


def is_run(init: str) -> bool:
    """Say whether something is the folder of a run with an encoder."""
    return bool(init) and (Path(init) / ENCODER_TABLE_NAME).is_file()


def geometry_of(init: str) -> Table:
    """Give what a run says of its encoder: the section `method` for who builds upon it; empty where it is no run."""
    if not is_run(init):
        return {}
    table = read_encoder_table(Path(init))
    return {name: table[name] for name in GEOMETRY if name in table}


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
