"""The captions-only copy: a data set without its images, and what is needed to put them back, bit for bit.

The licences of most person data sets forbid handing their images on; captions and attributes may go. The copy is a data set
like any other, whose samples are JSON and text. Each has the sha256 of its image in its JSON, and the copy's folder `full/`
holds the data set it was made from but for the tars: its manifest, card and tables (with the hash of every extra member, and
the place of every byte), and whatever else it says in text. `passerby.publish.hydrate` builds the tars again from these.

Left out are `embeddings/`, which are derived from the images, pages that show them (`report.html`), and the log of removals.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from passerby.card import CONTACT_NAME, REPORT_NAME, read_report, write_card
from passerby.config import config_hash
from passerby.engine import run_units
from passerby.runtime import write_atomically
from passerby.sample import Rejected, Sample
from passerby.shards.manifest import MANIFEST_NAME, Manifest, finalise
from passerby.shards.stored import read_stored
from passerby.shards.sums import FULL, hash_file, write_sums
from passerby.shards.table import columns_of
from passerby.shards.write import ShardRecord, meta_path, write_shard

TEXT_SUFFIXES = frozenset({".json", ".md", ".parquet"})
"""Files beside `data/` and `meta/` that hold no pictures; only these are handed on."""


@dataclass(frozen=True)
class CaptionsOnly:
    """Makes the shards of a captions-only copy; see `passerby.engine.Job`."""

    root: Path
    manifest: Manifest
    out: Path

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` of the copy."""
        name = self.manifest.shards[index].name
        return write_shard(
            self.out,
            name,
            self._entries(name),
            columns=columns_of(pq.read_schema(meta_path(self.root, name))),
            config_hash=config_hash({"made_from": self.manifest.shards[index].config_hash, "has_images": False}),
        )

    def _entries(self, name: str) -> Iterator[Sample | Rejected]:
        for entry in read_stored(self.root, name, with_images=False):
            if isinstance(entry, Rejected):
                yield entry
            else:
                yield Sample(entry.fields["key"], b"", "", entry.fields, entry.fields.get("caption", ""))


def write_captions_only(root: Path, manifest: Manifest, out: Path, *, workers: int) -> Manifest:
    """Write the captions-only copy of a data set into an empty folder."""
    count = len(manifest.shards)
    for _ in run_units(CaptionsOnly(root, manifest, out), range(count), workers=workers):
        pass  # the records are read back when all are there
    copy = finalise(out, manifest.shard_counts, {**manifest.header, "has_images": False})
    _carry_claims(root, out)
    write_card(out, copy)
    sums = {}
    for name in files_without_images(root, manifest):
        target = out / FULL / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
        sums[name] = hash_file(target)
    write_sums(out / FULL, sums)
    return copy


def _carry_claims(root: Path, out: Path) -> None:
    """Give the copy what its card rests on: the contact, and the report, whose captions are the copy's own."""
    if (root / CONTACT_NAME).exists():
        shutil.copyfile(root / CONTACT_NAME, out / CONTACT_NAME)
    if report := read_report(root):
        source = {**report["source"], "manifest_sha256": hash_file(out / MANIFEST_NAME)}
        told = json.dumps({**report, "source": source}, indent=2, ensure_ascii=False)
        write_atomically(out / REPORT_NAME, f"{told}\n".encode())


def files_without_images(root: Path, manifest: Manifest) -> list[str]:
    """Name the files of a data set that show nobody: its tables, and the texts beside them."""
    texts = [path.name for path in root.glob("[!.]*") if path.is_file() and path.suffix in TEXT_SUFFIXES]
    tables = [f"meta/{record.name}.parquet" for record in manifest.shards]
    return sorted([*texts, *tables, "data/sizes.json"])
