"""Tables in files: those that strangers wrote, and those that must not take memory.

What strangers wrote is read so that whatever is damaged is one `ValueError` that names the file. To Arrow a false offset is an
`IndexError`, a false length a `MemoryError`, and none of them tells a file.
"""

import mmap
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.runtime import naming_full_disk

Column: TypeAlias = pa.Array | pa.ChunkedArray


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
    try:
        with naming_damage(told or path), pq.ParquetFile(path) as file:
            yield file
    finally:
        pa.default_memory_pool().release_unused()  # or Arrow keeps, of every table read, ten times what it holds


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


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[dict[str, Any]]:
    """Give rows as Python's objects, those of one batch at a time."""
    return (row for batch in batches for row in batch.to_pylist())


def is_rising(texts: Column) -> bool:
    """Say whether each text comes after the one before it; then none is there twice."""
    return not pc.any(pc.less_equal(texts[1:], texts[:-1])).as_py()


def spool(tables: Iterable[pa.Table]) -> pa.Table:
    """Put tables of one schema below each other in a temporary file, and map it.

    So many millions of rows take no memory of a process: their pages are the system's, to drop and to read again.

    Raises:
        OSError: the disk is full.
    """
    rows, folder = iter(tables), tempfile.gettempdir()
    with naming_full_disk(Path(folder, "passerby-rows")), tempfile.TemporaryFile(dir=folder) as file:
        first = next(rows)
        with pa.ipc.new_file(pa.PythonFile(file, "w"), first.schema) as writer:
            writer.write_table(first)
            for table in rows:
                writer.write_table(table)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()


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
