"""The data set that a selection starts from: its rows, and the hashes of its images."""

import hashlib
import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from passerby.curate.near import perceptual_hash
from passerby.engine import run_units
from passerby.images import ImageProblem
from passerby.shards.manifest import MANIFEST_NAME, Manifest, hash_table, read_manifest
from passerby.shards.table import read_rows
from passerby.shards.write import meta_path, tar_path


@dataclass(frozen=True)
class Parent:
    """A data set whose tables are those of its manifest."""

    root: Path
    manifest: Manifest
    manifest_sha256: str
    names: tuple[str, ...]
    """Of its shards."""
    starts: tuple[int, ...]
    """Where the samples of each shard begin among those of all; one more entry gives their number."""
    schema: pa.Schema
    """The columns of its tables."""

    @property
    def seen(self) -> int:
        """How many samples it has."""
        return self.starts[-1]

    @property
    def title(self) -> str:
        """What it calls itself."""
        return str(self.manifest.header.get("title", ""))

    def column(self, name: str) -> pa.ChunkedArray:
        """Read a column of all samples."""
        return pa.concat_tables(self.rows(shard, [name]) for shard in range(len(self.names)))[name]

    def rows(self, shard: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the samples' rows of a shard."""
        return read_rows(meta_path(self.root, self.names[shard]), "kept", columns)


def open_parent(root: Path) -> Parent:
    """Open a data set to select from.

    Raises:
        FileNotFoundError: there is none, or a table is missing.
        ValueError: its manifest is malformed, a table is another than the manifest's, or it has no samples.
    """
    manifest = read_manifest(root)
    for record in manifest.shards:
        if hash_table(root, record.name) != manifest.tables[record.name]:
            raise ValueError(
                f"{meta_path(root, record.name)} is not the one the manifest knows; run passerby verify {root}"
            )
    counts = [record.kept for record in manifest.shards]
    names = tuple(record.name for record in manifest.shards)
    if not any(counts):
        raise ValueError(f"{root} has no samples to select from")
    first = next(name for name, count in zip(names, counts, strict=True) if count)  # empty shards lack extras' columns
    return Parent(
        root=root,
        manifest=manifest,
        manifest_sha256=hashlib.sha256((root / MANIFEST_NAME).read_bytes()).hexdigest(),
        names=names,
        starts=(0, *np.cumsum(counts).tolist()),
        schema=pq.read_schema(meta_path(root, first)).remove_metadata(),
    )


def hash_images(
    parent: Parent, rows: NDArray[np.int64], *, workers: int, on_progress: Callable[[int, int], None]
) -> tuple[NDArray[np.uint64], dict[int, ImageProblem]]:
    """Hash the images of the samples `rows`, Int64 (rows,) in ascending order.

    Returns:
        UInt64 (rows,), 0 where an image cannot be decoded; and why not, by row.

    Raises:
        ValueError: the data set holds captions only.
    """
    if "image_offset" not in parent.schema.names:
        raise ValueError(f"{parent.root} holds captions without images; near-duplicates are found in images")
    job = _HashJob(parent, rows)
    shards = range(len(parent.names))
    hashes: list[NDArray[np.uint64]] = []
    problems: dict[int, ImageProblem] = {}
    on_progress(0, len(shards))
    for found, bad in run_units(job, shards, workers=workers):
        hashes.append(found)
        problems |= bad
        on_progress(len(hashes), len(shards))
    return np.concatenate(hashes), problems


@dataclass(frozen=True)
class _HashJob:
    parent: Parent
    rows: NDArray[np.int64]

    def run_unit(self, shard: int) -> tuple[NDArray[np.uint64], dict[int, ImageProblem]]:
        """Hash the images of one shard."""
        start, stop = np.searchsorted(self.rows, self.parent.starts[shard : shard + 2])
        wanted = self.rows[start:stop]
        hashes = np.zeros(len(wanted), np.uint64)
        problems: dict[int, ImageProblem] = {}
        if len(wanted) == 0:
            return hashes, problems
        places = self.parent.rows(shard, ["image_offset", "image_size"]).take(wanted - self.parent.starts[shard])
        path = tar_path(self.parent.root, self.parent.names[shard])
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
            spans = zip(places["image_offset"].to_pylist(), places["image_size"].to_pylist(), strict=True)
            for place, (offset, size) in enumerate(spans):
                try:
                    hashes[place] = perceptual_hash(tar[offset : offset + size])
                except ImageProblem as problem:
                    problems[int(wanted[place])] = problem
        return hashes, problems
