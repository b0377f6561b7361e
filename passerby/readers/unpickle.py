"""Read pickled lists of names without running anything a stranger wrote into them.

A pickle is a program. This one may build lists, dicts, text, bytes, numbers, and plain arrays of numbers or text; whatever
else it names is refused before it is looked up. Arrays are rebuilt here, from their bytes: numpy's own reconstructors
would let a pickle set the state of shared types, or make arrays of objects.
"""

import io
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_LONG_PUT = re.compile(rb"p[\s+\d_]{8}")
"""Could be an object's number in digits, and a large one."""

_PLAIN_KINDS = "biufSU"
"""Booleans, integers, floats, bytes and text; not objects, records or dates."""


def load_plain(path: Path) -> object:
    """Load a pickle of plain data.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no pickle, or holds (or would run) anything that is not plain data.
    """
    data = path.read_bytes()
    try:
        _check_numbers(data)
        return _plain(_PlainUnpickler(io.BytesIO(data), encoding="latin-1").load())
    # What the pickle machine raises on bytes that are no pickle; its documentation lists no less.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(f"{path} is no pickle of plain data: {error}") from None


def _check_numbers(data: bytes) -> None:
    """Refuse a pickle that gives its objects numbers beyond its own length: the machine would make room for all below them.

    Nine bytes can ask for 64 GB so. Where no byte could be such a number, which is soon seen, nothing else is looked at.
    """
    codes = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(codes[:-4] == ord(pickle.LONG_BINPUT))
    numbers = sum(codes[places + 1 + byte].astype(np.int64) << 8 * byte for byte in range(4))
    if not np.any(numbers > len(data)) and not _LONG_PUT.search(data):
        return
    for operation, number, _ in pickletools.genops(data):
        if operation.code in ("p", "r") and number is not None and int(number) > len(data):
            raise pickle.UnpicklingError(f"it numbers an object {number:,}, and has {len(data):,} bytes")


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        # numpy 2 renamed numpy.core to numpy._core
        known = _KNOWN.get((module.replace("numpy._core.", "numpy.core."), name))
        if known is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no list of names needs; nothing was run")
        return known


class _Type:
    """Stands for `numpy.dtype` while unpickling."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def plain(self) -> np.dtype[Any]:
        found = np.dtype(f"{self.order}{self.code}")
        if found.kind not in _PLAIN_KINDS:
            raise pickle.UnpicklingError(f"it holds an array of {found}; allowed are numbers and text")
        return found


class _Array:
    """Stands for `numpy.ndarray` while unpickling."""

    def __init__(self, *_: object) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, is_fortran, data = state
        self.values = _values(data, kind, shape, "F" if is_fortran else "C")


def _values(data: object, kind: _Type, shape: object, order: str) -> np.ndarray:
    raw = data.encode("latin-1") if isinstance(data, str) else data  # as Python 2 wrote bytes
    if not isinstance(kind, _Type) or not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("it holds an array whose content is not plain bytes")
    if 0 in shape and len(shape) > 1:
        raise pickle.UnpicklingError(f"it holds an array of the shape {shape}, which has no content")
    return np.frombuffer(raw, dtype=kind.plain()).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _from_buffer(data: object, kind: _Type, shape: object, order: str, *_: object) -> _Array:
    array = _Array()
    array.values = _values(data, kind, shape, order)
    return array


def _scalar(kind: _Type, data: object) -> object:
    return _values(data, kind, (1,), "C")[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it holds bytes in the encoding {encoding!r}; allowed is latin1")
    return text.encode("latin-1")


_KNOWN: Mapping[tuple[str, str], Callable[..., object]] = {
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}
"""Everything a pickle may name; each of these is ours."""


def _plain(value: object) -> object:
    """Put arrays in place of what stood for them: the whole, or values of a dict, which is where lists of names are."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value.values if isinstance(value, _Array) else value
