"""Images that are not files: in an LMDB, in WebDataset tars, in UniPT's Arrow files.

Each source is picklable and opens what it reads lazily, once in every process; no LMDB handle crosses a fork.
"""

import os
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.images import MAX_BYTES, ImageProblem
from passerby.readers.inputs import IMAGE_SUFFIXES, build_inputs, qualified
from passerby.sample import printable

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
            ImageProblem: the database has no such key.
        """
        with _environment(self.folder).begin() as transaction:
            value: bytes | None = transaction.get(row["lmdb_key"].encode())
        if value is None:
            raise ImageProblem("missing", f"the LMDB has no key {row['lmdb_key']!r}")
        return value


def open_lmdb(folder: Path, names: pa.Table | None) -> LmdbSource:
    """Open an LMDB.

    Args:
        folder: Holds `data.mdb`.
        names: Keys to use, in the column `name`, with `person_id` where known; by default all keys.

    Raises:
        ModuleNotFoundError: the `lmdb` package is not installed.
        ValueError: it is no LMDB.
    """
    environment = _environment(folder)
    if names is None:
        with environment.begin() as transaction:
            keys = (key.decode("utf-8", "backslashreplace") for key in transaction.cursor().iternext(values=False))
            names = pa.table({"name": pa.array(keys, pa.string())})
    columns = {name: names[name].combine_chunks() for name in names.column_names}
    keys = columns.pop("name")
    paths = pc.binary_join_element_wise(keys, ".jpg", "")
    return LmdbSource(folder, build_inputs(paths, columns, locators={"lmdb_key": keys}))


@dataclass(frozen=True)
class TarSource:
    """Images in plain tars, read at their offsets."""

    tars: tuple[Path, ...]
    inputs: pa.Table
    kind: Literal["tars"] = "tars"

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the encoded image of one row.

        Raises:
            ImageProblem: the tar ends inside it, or it is absurdly large.
        """
        size = row["image_size"]
        if size > MAX_BYTES:
            raise ImageProblem("too many bytes", f"has {size:,} bytes, more than {MAX_BYTES:,}")
        with self.tars[row["tar"]].open("rb", buffering=0) as file:
            data = os.pread(file.fileno(), size, row["image_offset"])
        if len(data) < size:
            raise ImageProblem("truncated", f"{self.tars[row['tar']].name} ends after {len(data)} of its {size} bytes")
        return data


def open_tars(root: Path, tars: Sequence[Path]) -> TarSource:
    """Open WebDataset tars: ours by the tables in `meta/`, others by walking their headers once.

    Raises:
        ValueError: a tar is compressed, damaged, or there is no image.
    """
    tables = [root / "meta" / f"{tar.stem}.parquet" for tar in tars]
    if (root / "manifest.json").is_file() and all(table.is_file() for table in tables):
        return _open_own(tars, tables)
    members = [(number, *member) for number, tar in enumerate(tars) for member in _images_in(tar)]
    numbers, names, offsets, sizes = zip(*members, strict=True) if members else ((), (), (), ())
    locators = _locators(pa.array(numbers, pa.int32()), pa.array(offsets, pa.int64()), pa.array(sizes, pa.int64()))
    paths = qualified(pa.array(names, pa.string()), [tar.stem for tar in tars], locators["tar"])
    return TarSource(tuple(tars), build_inputs(paths, locators=locators))


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


def open_arrow(files: Sequence[Path]) -> ArrowSource:
    """Open Arrow files of UniPT's format.

    Raises:
        ValueError: a file is no Arrow file, or lacks the columns.
    """
    tables = [_arrow_table(file) for file in files]
    for file, table in zip(files, tables, strict=True):
        if missing := {"image", "image_id"} - set(table.column_names):
            raise ValueError(
                f"{file} has no column {', '.join(sorted(missing))}; it has {', '.join(table.column_names)}"
            )
    lengths = [len(table) for table in tables]
    numbers = pa.array(np.repeat(np.arange(len(files), dtype=np.int32), lengths))
    rows = pa.array(np.concatenate([np.arange(length) for length in lengths]))
    names = pa.concat_tables([table.select(["image_id"]) for table in tables])["image_id"].cast(pa.string())
    paths = qualified(names.combine_chunks(), [file.stem for file in files], numbers)
    return ArrowSource(tuple(files), build_inputs(paths, locators={"file": numbers, "row": rows}))


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
        return lmdb.open(str(folder), readonly=True, create=False, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise ValueError(f"{folder} cannot be opened as an LMDB: {error}") from error


os.register_at_fork(after_in_child=_open_environment.cache_clear)


@lru_cache(maxsize=_OPEN_CONTAINERS)
def _arrow_table(file: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{file} is no Arrow file: {error}") from error


def _open_own(tars: Sequence[Path], tables: Sequence[Path]) -> TarSource:
    kept = []
    for number, table in enumerate(tables):
        wanted = ["status", "key", "path", "person_id", "camera_id", "image_offset", "image_size"]
        present = [name for name in wanted if name in pq.read_schema(table).names]
        rows = pq.read_table(table, columns=present)
        rows = rows.filter(pc.equal(rows["status"], "kept"))
        kept.append(rows.append_column("tar", pa.array([number] * len(rows), pa.int32())))
    rows = pa.concat_tables(kept).combine_chunks()
    column = {name: rows[name].combine_chunks() for name in rows.column_names}
    known = {name: column[name] for name in ("key", "person_id", "camera_id") if name in column}
    locators = _locators(column["tar"], column["image_offset"], column["image_size"])
    return TarSource(tuple(tars), build_inputs(column["path"], known, locators=locators))


def _locators(numbers: pa.Array, offsets: pa.Array, sizes: pa.Array) -> dict[str, pa.Array]:
    return {"tar": numbers, "image_offset": offsets, "image_size": sizes}


def _images_in(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of the images in a tar, in bytes."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # the library would keep them all
                if member.isreg() and member.name.lower().endswith(IMAGE_SUFFIXES):
                    yield printable(member.name), member.offset_data, member.size
    except tarfile.TarError as error:
        raise ValueError(
            f"{path} cannot be read as a plain tar ({error}); fetch it again, or unpack its compression"
        ) from error
