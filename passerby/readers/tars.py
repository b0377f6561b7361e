"""Images in plain WebDataset tars, ours or others', here or at a URL; nothing is unpacked.

Ours tell in `meta/` where each image lies. Through others we walk once, header by header. At a URL that walk takes all of a
tar through the network; so what it finds is kept in the cache, and images that lie side by side are read together.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.columnar import open_parquet, spool
from passerby.images import MAX_BYTES, ImageProblem
from passerby.network import naming, read_ahead, retrying
from passerby.readers.files import Content, read_each
from passerby.readers.inputs import IMAGE_SUFFIXES, build_inputs, qualified
from passerby.readers.tar_members import walk_members
from passerby.runtime import atomic_file
from passerby.storage import REQUESTS_AT_ONCE, RemoteFolder, cache_folder

SPAN_BYTES = 8 << 20
"""How much one request asks for at most; its latency, some 50 ms, is then a small part."""

GAP_BYTES = 64 << 10
"""So much between two images, such as their captions, is read along rather than asked around."""

TARS_AT_ONCE = 4
"""How many tars are walked through at once."""

_PLACES = pa.schema([("name", pa.string()), ("image_offset", pa.int64()), ("image_size", pa.int64())])
"""Of the images in a tar; in bytes."""


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
        _check_size(row)
        descriptor = os.open(self.tars[row["tar"]], os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, row["image_size"], row["image_offset"])
        finally:
            os.close(descriptor)
        return _whole(data, row, self.tars[row["tar"]].name)

    def read_all(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Content]:
        """Give the image of each row, or why it is not to be had."""
        return (content for _, content in read_each(self.read, rows))


@dataclass(frozen=True)
class RemoteTarSource:
    """Images in plain tars at a URL, read by ranges of bytes."""

    folder: RemoteFolder
    tars: tuple[str, ...]
    """Their names, relative to the folder."""
    inputs: pa.Table
    kind: Literal["tars"] = "tars"

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the encoded image of one row.

        Raises:
            ImageProblem: the tar ends inside it, or it is absurdly large.
        """
        (content,) = self._read_span([row])
        if isinstance(content, ImageProblem):
            raise content
        return content

    def read_all(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Content]:
        """Give the image of each row, or why it is not to be had; what lies side by side comes by one request."""
        for _, contents in read_ahead(self._read_span, spans_of(rows), at_once=REQUESTS_AT_ONCE):
            yield from contents

    def _read_span(self, rows: Sequence[Mapping[str, Any]]) -> list[Content]:
        usable = [row for row in rows if row["image_size"] <= MAX_BYTES]
        start = min((row["image_offset"] for row in usable), default=0)
        end = max((row["image_offset"] + row["image_size"] for row in usable), default=0)
        name = self.tars[rows[0]["tar"]]
        data = self.folder.read(name, start, end) if end > start else b""

        def cut(row: Mapping[str, Any]) -> bytes:
            _check_size(row)
            place = row["image_offset"] - start
            return _whole(data[place : place + row["image_size"]], row, name.rpartition("/")[2])

        return [content for _, content in read_each(cut, rows)]


def spans_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Cut rows into runs whose images lie in one tar, one after the other, closely enough to be read together."""
    span: list[Mapping[str, Any]] = []
    for row in rows:
        if span and not _continues(span, row):
            yield span
            span = []
        span.append(row)
    if span:
        yield span


def open_tars(root: Path, tars: Sequence[Path]) -> TarSource:
    """Open WebDataset tars: ours by the tables in `meta/`, others by walking their headers once.

    Raises:
        ValueError: a tar is compressed, damaged, or there is no image.
    """
    tables = [root / "meta" / f"{tar.stem}.parquet" for tar in tars]
    if (root / "manifest.json").is_file() and all(table.is_file() for table in tables):
        return TarSource(tuple(tars), _inputs_of_ours(map(_kept_rows, tables)))
    return TarSource(tuple(tars), _inputs_of_others([tar.stem for tar in tars], map(_walk, tars)))


def open_remote_tars(folder: RemoteFolder, tars: Sequence[str], sizes: Mapping[str, int]) -> RemoteTarSource:
    """Open WebDataset tars at a URL, as `open_tars` does in a folder.

    Args:
        folder: What the names are relative to.
        tars: Their names.
        sizes: Of all files that are there, in bytes.

    Raises:
        ValueError: as `open_tars`.
    """
    stems = [Path(tar).stem for tar in tars]
    tables = [f"meta/{stem}.parquet" for stem in stems]
    if "manifest.json" in sizes and sizes.keys() >= set(tables):
        fetched = read_ahead(folder.read, tables, at_once=TARS_AT_ONCE)
        inputs = _inputs_of_ours(_kept_rows(pa.BufferReader(data), f"{folder.url}/{name}") for name, data in fetched)
    else:
        walked = read_ahead(lambda tar: _walk_remote(folder, tar, sizes[tar]), tars, at_once=TARS_AT_ONCE)
        inputs = _inputs_of_others(stems, (places for _, places in walked))
    return RemoteTarSource(folder, tuple(tars), inputs)


def _check_size(row: Mapping[str, Any]) -> None:
    if row["image_size"] > MAX_BYTES:
        raise ImageProblem("too many bytes", f"has {row['image_size']:,} bytes, more than {MAX_BYTES:,}")


def _whole(data: bytes, row: Mapping[str, Any], tar: str) -> bytes:
    if len(data) < row["image_size"]:
        raise ImageProblem("truncated", f"{tar} ends after {len(data)} of its {row['image_size']} bytes")
    return data


def _continues(span: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> bool:
    first, last = span[0], span[-1]
    gap = row["image_offset"] - last["image_offset"] - last["image_size"]
    size_bytes = row["image_offset"] + row["image_size"] - first["image_offset"]
    return bool(row["tar"] == first["tar"] and 0 <= gap <= GAP_BYTES and size_bytes <= SPAN_BYTES)


def _kept_rows(table: Path | pa.BufferReader, told: str = "") -> pa.Table:
    """Read what a table of ours tells of the samples: who they are, and where their images lie."""
    wanted = ["status", "key", "path", "person_id", "camera_id", "image_offset", "image_size"]
    with open_parquet(table, told) as file:
        rows = file.read([name for name in wanted if name in file.schema_arrow.names])
        rows.validate(full=True)  # Parquet's reader takes any bytes for text
        if {"status", "path", *_PLACES.names[1:]} - {*rows.column_names}:
            raise ValueError(f"{told or table} does not tell where images lie; it has {', '.join(rows.column_names)}")
        rows = rows.filter(pc.equal(rows["status"], "kept"))
        for column in (rows[name].cast(pa.int64()) for name in _PLACES.names[1:]):
            if column.null_count or (pc.min(column).as_py() or 0) < 0:
                raise ValueError(f"{told or table} does not tell where every image lies; run passerby verify")
    return rows


def _inputs_of_ours(tables: Iterable[pa.Table]) -> pa.Table:
    rows = _together(tables)
    known = {name: rows[name] for name in ("key", "person_id", "camera_id") if name in rows.column_names}
    return build_inputs(rows["path"], known, locators=_locators(rows))


def _inputs_of_others(stems: Sequence[str], tables: Iterable[pa.Table]) -> pa.Table:
    rows = _together(tables)
    return build_inputs(qualified(rows["name"], stems, rows["tar"]), locators=_locators(rows))


def _together(tables: Iterable[pa.Table]) -> pa.Table:
    """Put all tables one below the other, and add the column `tar`: which table each row is of."""
    return spool(
        table.append_column("tar", pa.repeat(pa.scalar(number, pa.int32()), len(table)))
        for number, table in enumerate(tables)
    )


def _locators(rows: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: rows[name] for name in ("tar", "image_offset", "image_size")}


def _walk(tar: Path) -> pa.Table:
    with tar.open("rb") as file:
        return _places_in(file, str(tar))


def _walk_remote(folder: RemoteFolder, tar: str, size_bytes: int) -> pa.Table:
    """Find the images of a tar at a URL, in one pass over it; what was found of this very object is kept."""
    system, path = folder.open()
    url = f"{folder.url}/{tar}"
    with naming(url):
        stamp = f"{url}\n{size_bytes}\n{retrying(lambda: system.ukey(f'{path}/{tar}'))}"
    kept = cache_folder() / "tars" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:32]}.parquet"
    if kept.exists():
        return pq.read_table(kept)

    def walk() -> pa.Table:
        with closing(system.open(f"{path}/{tar}", "rb", block_size=SPAN_BYTES, cache_type="readahead")) as file:
            return _places_in(file, url)

    with naming(url):
        places = retrying(walk)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(kept) as file:
        pq.write_table(places, file)
    return places


def _places_in(file: BinaryIO, told: str) -> pa.Table:
    """Find the images in a tar that `told` names."""
    places = [
        (member.name, member.offset, member.size)
        for member in walk_members(file, told)
        if member.name.lower().endswith(IMAGE_SUFFIXES)
    ]
    columns = zip(*places, strict=True) if places else ((), (), ())
    return pa.table([*map(list, columns)], schema=_PLACES)
