"""The feature cache: what the model said, kept so that new phrases, thresholds and templates cost no second look.

One Arrow file a shard under `ROOT/embeddings/`, features as 16-bit floats (1.3 GB for 1.28 million images at width
512), read through a memory map. Text features are kept the same way, with the prompts as keys, so that a cache of
another phrase bank shows by its keys.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from passerby.columnar import map_arrow
from passerby.config import describe_difference
from passerby.runtime import atomic_file
from passerby.untrusted import parse_json

FOLDER = "embeddings"
"""Of a data set; files that are no shard's belong to the data set as a whole."""

_SCORER_KEY = b"passerby.scorer"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The features of one shard."""

    keys: tuple[str, ...]
    """In the order of the rows of the shard's table that were encoded; of texts, the prompts."""

    features: NDArray[np.float16]
    """(keys, width), of unit length but for rounding."""


def embeddings_path(root: Path, name: str) -> Path:
    """Say where the features of shard `name` (or of the texts) lie."""
    return root / FOLDER / f"{name}.arrow"


def write_embeddings(path: Path, embeddings: Embeddings, scorer: Mapping[str, str]) -> None:
    """Write features, whole or not at all.

    Args:
        path: Its folder is made where missing.
        embeddings: Keys and features; the same ones give the same bytes.
        scorer: `Scorer.identity` of the model that made them.

    Raises:
        ValueError: there is not one feature vector a key.
    """
    keys, features = embeddings.keys, np.ascontiguousarray(embeddings.features, dtype=np.float16)
    if features.ndim != 2 or len(features) != len(keys):
        raise ValueError(f"features of shape {features.shape} for {len(keys)} keys; there must be a row a key")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    table = pa.table({"key": pa.array(keys, pa.string()), "features": vectors})
    table = table.replace_schema_metadata({_SCORER_KEY: json.dumps(dict(scorer), sort_keys=True).encode()})
    write_features(path, table)


def read_embeddings(path: Path, scorer: Mapping[str, str], keys: Sequence[str] | None = None) -> Embeddings:
    """Read features that this scorer made of these keys; they stay on disk until they are used.

    Args:
        path: What `write_embeddings` wrote.
        scorer: `Scorer.identity` of the model whose features are wanted.
        keys: The keys they must have, in order; by default any.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no cache of ours, or another model's, or of other keys.
    """
    try:
        table = _read(path)
    except ValueError as error:
        raise ValueError(f"this is no whole feature cache: {error}; delete it and run again") from None
    made_by = (table.schema.metadata or {}).get(_SCORER_KEY)
    if made_by is None:
        raise ValueError(f"{path} is no feature cache of ours: it does not say which model it is of")
    made_with = parse_json(made_by, f"the name of the model in {path}")
    if made_with != dict(scorer):
        difference = describe_difference(made_with, dict(scorer))
        raise ValueError(f"{path} holds features of another model ({difference}); delete it, or use that one")
    found = tuple(table["key"].to_pylist())
    if keys is not None and found != tuple(keys):
        raise ValueError(f"{path} holds other keys ({_first_difference(found, keys)}); delete it and run again")
    return Embeddings(found, as_matrix(table))


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
    """Write a table of keys and features, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table.combine_chunks())


def as_matrix(table: pa.Table) -> NDArray[np.float16]:
    """Give the features of a table, without a copy where it is as written: Float16 (rows, width)."""
    vectors = table["features"].combine_chunks()
    matrix: NDArray[np.float16] = vectors.flatten().to_numpy(zero_copy_only=False)
    return matrix.reshape(len(table), table.schema.field("features").type.list_size)


def _read(path: Path) -> pa.Table:
    table = map_arrow(path)
    kinds = {field.name: field.type for field in table.schema}
    if (
        table.column_names != ["key", "features"]
        or not pa.types.is_string(kinds["key"])
        or not pa.types.is_fixed_size_list(kinds["features"])
        or kinds["features"].value_type != pa.float16()
        or any(column.null_count for column in table.columns)
    ):
        columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise ValueError(f"{path} has the columns {columns}, not key (string) and features (of 16-bit floats)")
    return table


def _first_difference(found: Sequence[str], wanted: Sequence[str]) -> str:
    for row, (there, here) in enumerate(zip(found, wanted, strict=False)):
        if there != here:
            return f"row {row} is {there!r} there, {here!r} here"
    return f"{len(found)} there, {len(wanted)} here"
