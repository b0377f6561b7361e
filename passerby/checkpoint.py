"""Checkpoints that appear whole or not at all and load without running code; and encoders to build upon."""

import os
import pickle
import tomllib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from passerby.config import to_toml
from passerby.runtime import atomic_file, write_atomically

ENCODER_NAME = "encoder.safetensors"
ENCODER_TABLE_NAME = "encoder.toml"
BEST_NAME = "best.pt"
_PATTERN = "checkpoint-*.pt"


def checkpoint_path(run: Path, step: int) -> Path:
    """Say where a run keeps its checkpoint after `step` steps; names sort as steps do."""
    return run / f"checkpoint-{step:08d}.pt"


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint: tensors, numbers, texts, lists and dicts of them."""
    with atomic_file(path) as file:
        torch.save(checkpoint, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it can run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or holds more than data.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose text advises to load it all the same
        raise ValueError(f"{path} is no checkpoint, or a damaged one, or holds more than data") from None
    except (RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0] or "it is empty"
        raise ValueError(f"{path} is no checkpoint, or a damaged one: {reason}") from None
    return checkpoint


def latest_checkpoint(run: Path) -> Path | None:
    """Find the newest checkpoint of a run."""
    return max(run.glob(_PATTERN), default=None)


def chosen_checkpoint(run: Path) -> Path | None:
    """Find the checkpoint whose encoder a run exports: its best if it chose one, else its newest."""
    best = run / BEST_NAME
    return best if best.is_file() else latest_checkpoint(run)


def remove_old_checkpoints(run: Path, keep: int) -> None:
    """Remove all checkpoints of a run but the `keep` newest."""
    for path in sorted(run.glob(_PATTERN))[:-keep]:
        path.unlink()


def link_checkpoint(path: Path, other: Path) -> None:
    """Give a checkpoint a second name, under which it outlives its first; an older one of that name is replaced."""
    temporary = other.with_name(f".{other.name}.{os.getpid()}")
    temporary.hardlink_to(path)
    temporary.replace(other)


def save_encoder(run: Path, encoder: nn.Module, table: dict[str, Any]) -> None:
    """Write an encoder's weights, then what rebuilds it.

    Args:
        run: Folder to write into.
        encoder: Whose state is written, on any device.
        table: Architecture, image size and statistics: texts, numbers and lists of them.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    write_atomically(run / ENCODER_NAME, save(state))
    write_atomically(run / ENCODER_TABLE_NAME, to_toml(table).encode())


def load_encoder(run: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_encoder` wrote: the weights, and what rebuilds the encoder.

    Raises:
        FileNotFoundError: there is no encoder.
    """
    table = read_encoder_table(run)  # which says what is amiss where there is none
    return load_file(run / ENCODER_NAME), table


def read_encoder_table(run: Path) -> dict[str, Any]:
    """Read what rebuilds the encoder of a run.

    Raises:
        FileNotFoundError: there is no encoder.
    """
    path = run / ENCODER_TABLE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{run} has no {ENCODER_TABLE_NAME}; give the folder of a run that reached its end")
    with path.open("rb") as file:
        return tomllib.load(file)
