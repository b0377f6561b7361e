"""Parquet and Arrow files that strangers wrote, read so that whatever is damaged is one `ValueError` that names the file.

To Arrow a false offset is an `IndexError`, a false length a `MemoryError`, and none of them tells a file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


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
