"""Images that are not files: in an LMDB, in UniPT's Arrow files; `passerby.readers.tars` reads those in tars.

Each source is picklable and opens what it reads lazily, once in every process; no LMDB handle crosses a fork.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.columnar import map_arrow, naming_damage
from passerby.images import ImageProblem
from passerby.readers.files import Content, read_each
from passerby.readers.inputs import build_inputs, qualified

_OPEN_CONTAINERS = 8
_opening = threading.Lock()


@dataclass(frozen=True)
class LmdbSource:
    """An LMDB whose values are encoded images, as LUPerson's `convert_lmdb.py` writes it."""

    folder: Path
    inputs: pa.Table
    kind: Literal["lmdb"] = "lmdb"

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the encoded image of one row.

        Raises:
            ImageProblem: the database has no such key, or is damaged where its image lies.
        """
        try:
            with _reading(self.folder) as transaction:
                value: bytes | None = transaction.get(row["lmdb_key"].encode())
        except ValueError as error:
            raise ImageProblem("unreadable", str(error)) from None
        if value is None:
            raise ImageProblem("missing", f"the LMDB has no key {row['lmdb_key']!r}")
        return value

    def read_all(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Content]:
        """Give the image of each row, or why it is not to be had."""
        return (content for _, content in read_each(self.read, rows))


def open_lmdb(folder: Path, names: pa.Table | None) -> LmdbSource:
    """Open an LMDB.

    Args:
        folder: Holds `data.mdb`.
        names: Keys to use, in the column `name`, with `person_id` where known; by default all keys.

    Raises:
        ModuleNotFoundError: the `lmdb` package is not installed.
        ValueError: it is no LMDB, or damaged.
    """
    _environment(folder)
    if names is None:
        with _reading(folder) as transaction:
            keys = (key.decode("utf-8", "backslashreplace") for key in transaction.cursor().iternext(values=False))
            names = pa.table({"name": pa.array(keys, pa.string())})
    columns = {name: names[name].combine_chunks() for name in names.column_names}
    keys = columns.pop("name")
    paths = pc.binary_join_element_wise(keys, ".jpg", "")
    return LmdbSource(folder, build_inputs(paths, columns, locators={"lmdb_key": keys}))


@dataclass(frozen=True)
class ArrowSource:
    """UniPT's `LUPerson_{train,val,restval,test}.arrow`: columns `image` (encoded), `caption`, `image_id`, `split`."""

    files: tuple[Path, ...]
    inputs: pa.Table
    kind: Literal["arrow"] = "arrow"

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the encoded image of one row.

        Raises:
            ImageProblem: the row has none.
        """
        image = _arrow_table(self.files[row["file"]])["image"][row["row"]].as_py()
        if image is None:
            raise ImageProblem("missing", f"row {row['row']} of {self.files[row['file']].name} has no image")
        return bytes(image)

    def read_all(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Content]:
        """Give the image of each row, or why it is not to be had."""
        return (content for _, content in read_each(self.read, rows))


def open_arrow(files: Sequence[Path]) -> ArrowSource:
    """Open Arrow files of UniPT's format.

    Raises:
        ValueError: a file is no Arrow file, or lacks the columns.
    """
    names = [_image_names(file, _arrow_table(file)) for file in files]
    lengths = [len(each) for each in names]
    numbers = pa.array(np.repeat(np.arange(len(files), dtype=np.int32), lengths))
    rows = pa.array(np.concatenate([np.arange(length) for length in lengths]))
    paths = qualified(pa.concat_arrays(names), [file.stem for file in files], numbers)
    return ArrowSource(tuple(files), build_inputs(paths, locators={"file": numbers, "row": rows}))


@contextmanager
def _reading(folder: Path) -> Iterator[Any]:
    """Give a transaction on an LMDB; what is damaged in it is named."""
    environment = _environment(folder)
    from lmdb import Error  # noqa: PLC0415  (optional)

    try:
        with environment.begin() as transaction:
            yield transaction
    except Error as error:
        raise ValueError(f"the LMDB {folder} is damaged: {error}") from None


def _environment(folder: Path) -> Any:  # noqa: ANN401  (lmdb is optional)
    with _opening:  # an LMDB opened twice in one process is an error, so threads wait for the first
        return _open_environment(folder)


@lru_cache(maxsize=_OPEN_CONTAINERS)
def _open_environment(folder: Path) -> Any:  # noqa: ANN401
    try:
        import lmdb  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{folder} is an LMDB; reading it needs: pip install lmdb") from None
    try:
        environment = lmdb.open(str(folder), readonly=True, create=False, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise ValueError(f"{folder} cannot be opened as an LMDB: {error}") from error
    # The library reads through a memory map, and a page beyond the end of the file would end this process.
    size_bytes, needed_bytes = (folder / "data.mdb").stat().st_size, _bytes_of(environment)
    if size_bytes < needed_bytes:
        environment.close()
        raise ValueError(
            f"{folder}/data.mdb is cut off: it has {size_bytes:,} of {needed_bytes:,} bytes; copy it again"
        )
    return environment


def _bytes_of(environment: Any) -> int:  # noqa: ANN401
    """Say how long the file of an LMDB is at least: up to its last page."""
    return int(environment.stat()["psize"]) * (int(environment.info()["last_pgno"]) + 1)


os.register_at_fork(after_in_child=_open_environment.cache_clear)


def _image_names(file: Path, table: pa.Table) -> pa.Array:
    """Give the names of the images in a file, whose columns are held to UniPT's format."""
    if missing := {"image", "image_id"} - set(table.column_names):
        raise ValueError(f"{file} has no column {', '.join(sorted(missing))}; it has {', '.join(table.column_names)}")
    if not pa.types.is_binary(kind := table.schema.field("image").type) and not pa.types.is_large_binary(kind):
        raise ValueError(f"{file} has images of the type {kind}; wanted is binary, the bytes of the files")
    with naming_damage(file):
        names = table["image_id"].cast(pa.string()).combine_chunks()
    if names.null_count:
        raise ValueError(f"{file} has {names.null_count:,} images without image_id")
    return names


@lru_cache(maxsize=_OPEN_CONTAINERS)
def _arrow_table(file: Path) -> pa.Table:
    return map_arrow(file)
