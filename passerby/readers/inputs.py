"""The table of images that every reader gives: keys, paths, and what the names say."""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.columnar import Column, is_rising, spool
from passerby.sample import KEY_PATTERN, key_from_path, printable

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""Endings of file names that are taken for images; BMP is listed so that it is counted when it is refused."""

NAME_PATTERN = r"(?:^|/)(?P<person_id>[0-9]{1,8})_c(?P<camera_id>[0-9]{1,3})(?P<sequence>s[0-9]+)?_[^/]*$"
"""`0002_c1s1_000451_03.jpg` (Market-1501), `0002_c1_f0044158.jpg`, `0001_c01_w01_l01_p01.jpg` (FineGPR)."""

_AT_ONCE = 1 << 14
"""Images whose names are in memory together."""

_PLAIN_PATTERN = rf"^{KEY_PATTERN.pattern}\.jpg$"


def build_inputs(
    paths: Column, columns: Mapping[str, Column] | None = None, *, locators: Mapping[str, Column] | None = None
) -> pa.Table:
    """Make the table of inputs, sorted by key; it lies in a file, and takes no memory.

    Args:
        paths: Strings, relative and printable, one an image.
        columns: What is known better than from the names: `key`, `person_id` or `camera_id`.
        locators: Columns by which the reader finds each image.

    Returns:
        Columns `key`, `path`, `person_id` ("" where unknown), `camera_id` (int16, -1 where unknown), and the locators.

    Raises:
        ValueError: two images have one key.
    """
    known = pa.table({"path": paths, **(columns or {}), **(locators or {})})
    starts = range(0, max(len(known), 1), _AT_ONCE)
    table = spool(_complete(known.slice(start, _AT_ONCE)) for start in starts)
    if is_rising(table["key"]):
        return table
    order = pc.sort_indices(table["key"])
    # a column at a time, so that no more is in memory
    table = pa.table({name: spool([table.select([name]).take(order)])[name] for name in table.column_names})
    keys = table["key"]
    twice = pc.index(pc.equal(keys[1:], keys[:-1]), value=True).as_py()
    if twice >= 0:
        first, second = table["path"][twice].as_py(), table["path"][twice + 1].as_py()
        raise ValueError(f"{first} and {second} have one key, {keys[twice]}; rename one")
    return table


def hash_names(names: pa.ChunkedArray) -> str:
    """Hash keys or paths, sha256 in hexadecimal; a slice at a time, so that millions never become Python's objects at once."""
    digest = hashlib.sha256()
    for start in range(0, len(names), _AT_ONCE):
        digest.update("".join(f"{name}\n" for name in names.slice(start, _AT_ONCE).to_pylist()).encode())
    return digest.hexdigest()


def walk_images(folder: str, prefix: str = "", *, is_flat: bool = False) -> Iterator[str]:
    """Yield the image files of a folder as printable paths relative to it, in no order; hidden names are left alone.

    Args:
        folder: Where to look.
        prefix: What to put before each path.
        is_flat: Look into no folders inside.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.name.lower().endswith(IMAGE_SUFFIXES):
                yield printable(prefix + entry.name)
            elif not is_flat and entry.is_dir():
                yield from walk_images(entry.path, f"{prefix}{entry.name}/")


def qualified(names: Column, containers: Sequence[str], numbers: Column) -> Column:
    """Tell equal names in several containers apart: where there are any, all become CONTAINER/NAME.

    Args:
        names: Strings, one an image.
        containers: Name of each container.
        numbers: Int (images,), the container of each image.
    """
    if not _has_twice(names):
        return names
    return pc.binary_join_element_wise(pa.array(containers, pa.string()).take(numbers), names, "/")


def stem_keys(paths: pa.Array, stems: pa.Array, is_plain: pa.Array) -> pa.Array:
    """Take a file's stem as its key where it may be one and occurs once; slug and hash of the path elsewhere.

    Args:
        paths: Strings, one an image.
        stems: Strings, the file names without their endings.
        is_plain: Bool (images,), where the stem may be a key.
    """
    may_stay = np.array(is_plain)
    if _has_twice(stems):
        encoded = stems.dictionary_encode()
        counts = np.bincount(np.asarray(encoded.indices), minlength=len(encoded.dictionary))
        may_stay &= counts[np.asarray(encoded.indices)] == 1
    others = np.flatnonzero(~may_stay)
    if len(others) == 0:
        return stems
    keys = pa.array([key_from_path(path) for path in paths.take(pa.array(others)).to_pylist()], pa.string())
    return pc.replace_with_mask(stems, pa.array(~may_stay), keys)


def _complete(known: pa.Table) -> pa.Table:
    """Add to some images what their names tell."""
    found = {name: known[name].combine_chunks() for name in known.column_names}
    person_ids, camera_ids = _people(found["path"])
    keys = found["key"] if "key" in found else _keys(found["path"])
    people = {"person_id": person_ids, "camera_id": camera_ids}
    return pa.table({"key": keys, "path": found["path"], **people, **found})


def _keys(paths: pa.Array) -> pa.Array:
    """Do as `key_from_path`, of which the loop over four million plain names would take a minute."""
    is_plain = pc.match_substring_regex(paths, _PLAIN_PATTERN)
    stems = pc.utf8_slice_codeunits(paths, 0, -len(".jpg"))
    others = np.flatnonzero(~np.asarray(is_plain))
    if len(others) == 0:
        return stems
    keys = pa.array([key_from_path(path) for path in paths.take(pa.array(others)).to_pylist()], pa.string())
    return pc.replace_with_mask(stems, pc.invert(is_plain), keys)


def _has_twice(texts: Column) -> bool:
    """Say whether a text is there twice; sorting what is nearly sorted takes less time and memory than counting."""
    if is_rising(texts):
        return False
    ordered = texts.take(pc.sort_indices(texts))
    return bool(pc.any(pc.equal(ordered[1:], ordered[:-1])).as_py())


def _people(paths: pa.Array) -> tuple[pa.Array, pa.Array]:
    fields = pc.extract_regex(paths, NAME_PATTERN)
    person_ids = pc.fill_null(pc.struct_field(fields, "person_id"), "")
    # Market-1501's background boxes all say person 0000
    is_nobody = pc.and_(
        pc.match_substring_regex(person_ids, "^0+$"), pc.not_equal(pc.struct_field(fields, "sequence"), "")
    )
    person_ids = pc.if_else(pc.fill_null(is_nobody, fill_value=False), "", person_ids)
    return person_ids, pc.fill_null(pc.struct_field(fields, "camera_id").cast(pa.int16()), -1)
