"""Kept embeddings: rows by key, to compare images by and to hand on to what is selected.

`ROOT/embeddings/SHARD.arrow` holds `key` and `features` (16-bit floats) of a shard's samples; the metadata of its schema
names the model. Other files there belong to the data set as a whole.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from passerby.runtime import atomic_file

FOLDER = "embeddings"


def features_path(root: Path, name: str) -> Path:
    """Say where the features of shard `name` lie."""
    return root / FOLDER / f"{name}.arrow"


def take_features(paths: Iterable[Path], keys: Sequence[str]) -> pa.Table:
    """Read the rows of `keys` from several files, in the order of `keys`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a key has no features, or the files are of several models.
    """
    tables = [_read(path) for path in paths]
    if len({frozenset((table.schema.metadata or {}).items()) for table in tables}) > 1:
        raise ValueError(
            "the embeddings are of several models; make them anew with gen-captions luperson-t --embeddings"
        )
    table = pa.concat_tables(tables)
    row_of = {key: row for row, key in enumerate(table["key"].to_pylist())}
    if missing := [key for key in keys if key not in row_of]:
        raise ValueError(f"{len(missing):,} of {len(keys):,} samples have no embedding, such as {missing[0]}")
    return table.take(pa.array([row_of[key] for key in keys], pa.int64()))


def write_features(path: Path, table: pa.Table) -> None:
    """Write rows of `take_features`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def as_matrix(table: pa.Table) -> NDArray[np.float16]:
    """Give the features of a table: Float16 (rows, width)."""
    vectors = table["features"].combine_chunks()
    matrix: NDArray[np.float16] = vectors.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1)
    return matrix


def _read(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()
