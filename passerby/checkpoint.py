"""Checkpoints that appear whole or not at all and load without running code; and encoders to build upon."""

import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from safetensors.torch import save
from torch import Tensor, nn

from passerby.config import to_toml
from passerby.runtime import atomic_file, write_atomically
from passerby.tensors import read_pickled, read_safetensors
from passerby.untrusted import read_toml

ENCODER_NAME = "encoder.safetensors"
ENCODER_TABLE_NAME = "encoder.toml"
BEST_NAME = "best.pt"
_PATTERN = "checkpoint-*.pt"


def checkpoint_path(run: Path, step: int) -> Path:
    """Say where a run keeps its checkpoint after `step` steps; names sort as steps do."""
    return run / f"checkpoint-{step:08d}.pt"


def save_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint: tensors, numbers, texts, lists and dicts of them.

    Raises:
        OSError: the disk is full.
    """
    with atomic_file(path) as file:
        remembering = _Remembering(file)
        try:
            torch.save(checkpoint, cast(BinaryIO, remembering))
        except RuntimeError:  # PyTorch's own words for a file that does not take all are "unexpected pos"
            if remembering.error:
                raise remembering.error from None
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; nothing in it can run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or holds more than data.
    """
    checkpoint: object = read_pickled(path, otherwise="is no checkpoint, or a damaged one")
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is no checkpoint: it holds {type(checkpoint).__name__}")
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
        ValueError: its weights or its table are damaged.
    """
    table = read_encoder_table(run)  # which says what is amiss where there is none
    return read_safetensors(run / ENCODER_NAME), table


def read_encoder_table(run: Path) -> dict[str, Any]:
    """Read what rebuilds the encoder of a run.

    Raises:
        FileNotFoundError: there is no encoder.
        ValueError: it is no TOML.
    """
    path = run / ENCODER_TABLE_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{run} has no {ENCODER_TABLE_NAME}; give the folder of a run that reached its end")
    return read_toml(path)


class _Remembering:
    """A file that remembers why it did not take what it was given."""

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
