"""Read a finished shard back, input by input and in order, to make another of it."""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from passerby.sample import Rejected
from passerby.shards.table import TEXT_MEMBERS, layout_of, open_table
from passerby.shards.write import meta_path, tar_path


@dataclass(frozen=True, slots=True)
class Stored:
    """One sample as it lies in a shard."""

    fields: Mapping[str, Any]
    """What its JSON holds."""
    image: bytes
    """Empty, and so is its extension, where the shard holds captions only."""
    image_extension: str
    extras: Mapping[str, bytes]
    """Further members by extension, such as `parsing.png`."""


def read_stored(root: Path, name: str, *, with_images: bool = True) -> Iterator[Stored | Rejected]:
    """Yield every input of shard `name`, kept or rejected; memory does not grow with them.

    Args:
        root: Folder of the data set.
        name: Such as `train-00003-of-00064`.
        with_images: Without them, and without extras, not a byte of the tar is read.

    Raises:
        FileNotFoundError: the table or the tar is missing.
        ValueError: the table is damaged, or places a member outside the tar.
    """
    with open_table(meta_path(root, name)) as table, tar_path(root, name).open("rb") as file:
        field_names, member_names = layout_of(table.schema_arrow)
        has_image = with_images and "image" in member_names
        extra_names = [member for member in member_names if member not in ("image", *TEXT_MEMBERS) and with_images]
        tar = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def content(row: Mapping[str, Any], member: str) -> bytes:
            start, size = row[f"{member}_offset"], row[f"{member}_size"]
            if start is None or size is None or not 0 <= start <= start + size <= len(tar):
                raise ValueError(f"{name}.tar has no {member} of {row['key']} at byte {start}; run passerby verify")
            return tar[start : start + size]

        for batch in table.iter_batches(1024):
            for row in batch.to_pylist():
                if row["status"] == "rejected":
                    yield Rejected(row["path"], row["reason"], row["detail"], row["key"] or "")
                    continue
                fields = {field: row[field] for field in field_names}
                extras = {member: content(row, member) for member in extra_names}
                image, extension = (content(row, "image"), row["image_extension"]) if has_image else (b"", "")
                yield Stored(fields, image, extension, extras)
