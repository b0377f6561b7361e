"""What a report can be made of: a data set of this project, or captions that others wrote."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.readers.caption_files import BATCH_ROWS, one_row_an_image, open_caption_files
from passerby.shards.manifest import MANIFEST_NAME, read_manifest
from passerby.shards.table import layout_of
from passerby.shards.write import meta_path


class Source(Protocol):
    """Captions in numbered parts, each read on its own."""

    @property
    def name(self) -> str:
        """What the user calls it, without the folders before it."""
        ...

    def __len__(self) -> int: ...

    def batches(self, index: int) -> Iterator[pa.Table]:
        """Yield the rows of one part, as `passerby.readers.caption_files` says."""
        ...

    def describe(self) -> dict[str, Any]:
        """Give `source`, as `passerby.report` lists it, but for its splits."""
        ...


@dataclass(frozen=True)
class DataSet:
    """A data set of this project, read from `meta/` alone: no tar is opened."""

    root: Path
    shards: tuple[str, ...]
    title: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.root.resolve().name

    def __len__(self) -> int:
        return len(self.shards)

    def batches(self, index: int) -> Iterator[pa.Table]:
        """Yield the samples of one shard.

        Raises:
            ValueError: the table is damaged.
        """
        path = meta_path(self.root, self.shards[index])
        try:
            with pq.ParquetFile(path) as file:
                fields, _ = layout_of(file.schema_arrow)
                for batch in file.iter_batches(BATCH_ROWS, columns=["status", *fields]):
                    rows = pa.Table.from_batches([batch])
                    yield one_row_an_image(rows.filter(pc.equal(rows["status"], "kept")).select(fields), path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is damaged ({error}); run passerby verify") from None

    def describe(self) -> dict[str, Any]:
        """Give `source`; the manifest's hash tells which state of the data set this is."""
        digest = hashlib.sha256((self.root / MANIFEST_NAME).read_bytes()).hexdigest()
        return {
            "kind": "passerby",
            "name": self.name,
            "title": self.title,
            "manifest_sha256": digest,
            "files": len(self),
        }


def open_source(name: str) -> Source:
    """Open a data set's folder, or a file, a folder or a pattern of captions.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is of no kind that can be read, or its manifest is malformed.
    """
    root = Path(name)
    if not (root / MANIFEST_NAME).is_file():
        return open_caption_files(name)
    manifest = read_manifest(root)
    return DataSet(root, tuple(record.name for record in manifest.shards), str(manifest.header.get("title", "")))
