"""Image files in a folder, here or at a URL: which there are, and what is in them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from passerby.images import MAX_BYTES, ImageProblem, read_file
from passerby.network import read_ahead
from passerby.readers.inputs import build_inputs
from passerby.storage import REQUESTS_AT_ONCE, RemoteFolder

Content = bytes | ImageProblem
"""What a file holds, or why that is not to be had."""

_OUTSIDE_PATTERN = r"^/|(^|/)\.\.(/|$)|\x00"
"""Names that would lead out of the image folder; a list comes from strangers."""

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The files of one folder. Picklable."""

    folder: Path | RemoteFolder

    def __str__(self) -> str:
        return str(self.folder) if isinstance(self.folder, Path) else self.folder.url

    @property
    def at_once(self) -> int:
        """How many to read at once: here one, while at a URL each takes a request, which mostly waits."""
        return 1 if isinstance(self.folder, Path) else REQUESTS_AT_ONCE

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the bytes of the file at a row's `path`; its `size_bytes`, where known, spare a file of an absurd size.

        Raises:
            ImageProblem: the file is missing or unreadable.
            OSError: the place cannot be reached, which says nothing about the file.
        """
        if isinstance(self.folder, Path):
            return read_file(f"{self.folder}/{row['path']}")
        if row.get("size_bytes", 0) > MAX_BYTES:
            raise ImageProblem("too many bytes", f"has {row['size_bytes']:,} bytes, more than {MAX_BYTES:,}")
        try:
            return self.folder.read(row["path"])
        except FileNotFoundError:
            raise ImageProblem("missing", "no such file") from None

    def size(self, row: Mapping[str, Any]) -> int:
        """Give the size of a file in bytes; 0 where it cannot be had, which is told when the file itself is read."""
        if not isinstance(self.folder, Path):
            return int(row["size_bytes"])
        try:
            return Path(self.folder, row["path"]).stat().st_size
        except OSError:
            return 0


@dataclass(frozen=True)
class FolderSource:
    """Image files under one folder."""

    files: ImageFiles
    inputs: pa.Table
    kind: Literal["flat", "tree"]

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the bytes of one row's file.

        Raises:
            ImageProblem: the file is missing or unreadable.
        """
        return self.files.read(row)

    def read_all(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Content]:
        """Give the bytes of each row's file, or why they are not to be had."""
        return (content for _, content in read_each(self.files.read, rows, at_once=self.files.at_once))


def open_files(files: ImageFiles, names: pa.Table) -> FolderSource:
    """Make a source of the images with these names.

    Args:
        files: Where they lie.
        names: Columns `name`, relative to the folder, and what else is known: `person_id`, `size_bytes`.

    Raises:
        ValueError: a name leads out of the folder.
    """
    columns = {name: names[name].combine_chunks() for name in names.column_names}
    paths = columns.pop("name")
    outside = pc.index(pc.match_substring_regex(paths, _OUTSIDE_PATTERN), value=True).as_py()
    if outside >= 0:
        raise ValueError(f"the name {paths[outside].as_py()!r} leads out of {files}; names are relative to it")
    has_folders = pc.any(pc.match_substring(paths, "/")).as_py()
    return FolderSource(files, build_inputs(paths, columns), "tree" if has_folders else "flat")


def check_unlisted(kind: str, names: pa.Table | None) -> None:
    """Refuse a list of names for what it cannot choose from.

    Raises:
        ValueError: there is such a list.
    """
    if names is not None:
        raise ValueError(f"a list of names cannot choose from {kind}; it can from folders and LMDBs")


def read_each(
    read: Callable[[Item], bytes], items: Iterable[Item], *, at_once: int = 1
) -> Iterator[tuple[Item, Content]]:
    """Yield each item with what is read for it, in order, `at_once` in threads where that is more than one."""

    def content(item: Item) -> Content:
        try:
            return read(item)
        except ImageProblem as problem:
            return problem

    if at_once == 1:
        return ((item, content(item)) for item in items)
    return read_ahead(content, items, at_once=at_once)
