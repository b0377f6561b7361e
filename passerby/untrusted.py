"""What strangers wrote, read so that whatever its parser stumbles over is one `ValueError` that names the file.

The parsers are other people's, and raise what they like: deep nesting is a `RecursionError` of `json`, a false offset an
`IndexError` of Arrow, a false length a `MemoryError`. None of them knows the file's name.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
"""What JSON writes where a text may hold a surrogate, most often one of a pair."""


def read_json(path: Path) -> Any:  # noqa: ANN401  (whatever it holds)
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or nests too deeply.
    """
    return parse_json(path.read_bytes(), path)


def parse_json(data: bytes | str, name: object) -> Any:  # noqa: ANN401
    """Parse JSON that came from `name`.

    Raises:
        ValueError: it is no JSON, nests too deeply, or holds half of a surrogate pair, which no file can.
    """
    try:
        value = json.loads(data)
        if _SURROGATE.search(data if isinstance(data, bytes) else data.encode()):
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}") from None
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TOML, or nests too deeply.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


@contextmanager
def open_parquet(path: Path | pa.NativeFile, told: str = "") -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; what is damaged in it is named, when it is read within the block too.

    Args:
        path: The file, or its bytes.
        told: Its name, for errors, where only its bytes are here.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no Parquet file.
    """
    with naming_damage(told or path), pq.ParquetFile(path) as file:
        yield file


def map_arrow(path: Path) -> pa.Table:
    """Read an Arrow file through a memory map, with every offset in it checked: a false one could lead anywhere.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no Arrow file.
    """
    with naming_damage(path):
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)
    return table


@contextmanager
def naming_damage(name: object) -> Iterator[None]:
    """Turn whatever Arrow raises on damaged bytes into a `ValueError` that names where they are from."""
    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file system, and no damage
            raise
        reason = " ".join(str(error).split()) or "it asks for more memory than there is"
        raise ValueError(f"{name} is damaged, or of another kind: {reason}") from None
