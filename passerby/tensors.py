"""Files of tensors that strangers may have made: nothing in them can run, and what is wrong is one `ValueError` with their name."""

import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

DAMAGE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    SafetensorError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
)
"""What PyTorch and safetensors raise on files that are damaged, unsafe, or none of theirs."""


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, onto the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no safetensors.
    """
    try:
        return load_file(path)
    except DAMAGE as error:
        raise ValueError(f"{path} holds no weights, or is damaged: {_reason(error)}") from None


def read_pickled(path: Path, *, otherwise: str) -> Any:  # noqa: ANN401  (whatever was saved)
    """Read what `torch.save` wrote, onto the CPU; nothing in it can run.

    Args:
        path: The file.
        otherwise: What to say of a file that cannot be read, such as "is no checkpoint, or a damaged one".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds more than data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # whose text advises to load it all the same
        raise ValueError(f"{path} {otherwise}, or holds more than data") from None
    except DAMAGE as error:
        raise ValueError(f"{path} {otherwise}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
