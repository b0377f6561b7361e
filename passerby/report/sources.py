"""What a report can be made of: a data set of this project, or captions that others wrote."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from passerby.card import CARD_NAME
from passerby.readers.caption_files import BATCH_ROWS, one_row_an_image, open_caption_files
from passerby.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from passerby.shards.table import layout_of, open_table
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
    manifest: Manifest

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.root.resolve().name

    def __len__(self) -> int:
        return len(self.manifest.shards)

    def batches(self, index: int) -> Iterator[pa.Table]:
        """Yield the samples of one shard, whose people are the same in all splits.

        Raises:
            ValueError: the table is damaged.
        """
        path = meta_path(self.root, self.manifest.shards[index].name)
        with open_table(path) as file:
            fields = [name for name in layout_of(file.schema_arrow)[0] if name != "split"]
            for batch in file.iter_batches(BATCH_ROWS, columns=["status", *fields]):
                rows = pa.Table.from_batches([batch])
                yield one_row_an_image(rows.filter(pc.equal(rows["status"], "kept")).select(fields), path)

    def describe(self) -> dict[str, Any]:
        """Give `source`, with the splits; the manifest's hash tells which state of the data set this is."""
        digest = hashlib.sha256((self.root / MANIFEST_NAME).read_bytes()).hexdigest()
        return {
            "kind": "passerby",
            "name": self.name,
            "title": str(self.manifest.header.get("title", "")),
            "manifest_sha256": digest,
            "files": len(self),
            "splits": {split: totals["kept"] for split, totals in self.manifest.totals_by_split.items()},
        }


def open_source(name: str) -> Source:
    """Open a data set's folder, or a file, a folder or a pattern of captions.

    Raises:
        FileNotFoundError: there is nothing of that name.
        ValueError: it is of no kind that can be read, its manifest is malformed, or it has no captions.
    """
    root = Path(name)
    if not (root / MANIFEST_NAME).is_file():
        return open_caption_files(name)
    manifest = read_manifest(root)
    if not manifest.has_captions:
        raise ValueError(
            f"{root} has no captions, which is what a report measures; its {CARD_NAME} counts images, people and cameras, and"
            " passerby browse shows them"
        )
    return DataSet(root, manifest)
