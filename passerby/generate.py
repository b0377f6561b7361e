"""One run of a recipe: claim the folder, make the shards that are missing, merge what the units wrote.

What recipes share is here too: how inputs are sliced, and what an image's file tells.
"""

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from passerby.card import write_card
from passerby.config import config_hash
from passerby.engine import run_units
from passerby.images import ImageInfo
from passerby.runtime import remove_stale_temporaries
from passerby.sample import JsonValue
from passerby.shards.begin import claim
from passerby.shards.manifest import Manifest, finalise
from passerby.shards.write import ShardRecord, read_record, shard_names

SYNTHETIC = "synthetic pedestrians"
"""The name of our own renders as a source of images; cards say in words what it means."""

SYNTHETIC_MARK = "synthetic.json"
"""The file by which a folder of our renders is known."""

NO_ATTRIBUTES, NOTHING_TO_MENTION = "no attributes", "nothing to mention"
HARMLESS_REASONS = frozenset({NO_ATTRIBUTES, NOTHING_TO_MENTION})
"""Reasons for leaving out an input that is not bad in itself; they do not count against `max_bad`."""


class Recipe(Protocol):
    """What makes one data set: a configuration and numbered units, each of which writes one shard."""

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        ...

    @property
    def splits(self) -> Mapping[str, int]:
        """The splits in order, and how many units each has. Units are numbered over all splits."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """Everything that decides the bytes of the shards."""
        ...

    @property
    def inputs_count(self) -> int:
        """How many inputs there are."""
        ...

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` of `shard_names(splits)` from its slice of the sorted inputs."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Give the entries of the manifest that say how the data set was made."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    units_done: int
    units: int
    kept: int
    quarantined: int


def generate(
    recipe: Recipe, *, workers: int, max_bad: float, on_progress: Callable[[Progress], None] = lambda progress: None
) -> Manifest:
    """Make the recipe's data set under its root, or what of it is missing there.

    Every shard is written under a temporary name and renamed, its record last, so a run may be killed at any moment and
    started again, and two runs of the same configuration may share a folder.

    Args:
        recipe: What to make.
        workers: Processes.
        max_bad: Largest share of the inputs that may be unreadable, 0…1.
        on_progress: Called at the start and after each unit.

    Raises:
        ValueError: the folder holds another configuration, or more than `max_bad` of the inputs are bad.
    """
    claim(recipe.root, recipe.config)
    for name in ("data", "meta"):
        (recipe.root / name).mkdir(exist_ok=True)
    for folder in (recipe.root, *filter(Path.is_dir, recipe.root.iterdir())):
        remove_stale_temporaries(folder)
    names = shard_names(recipe.splits)
    records = _done_records(recipe, names)
    missing = [index for index, name in enumerate(names) if name not in records]
    _report(records, len(names), on_progress)
    for record in run_units(recipe, missing, workers=workers):
        records[record.name] = record
        _report(records, len(names), on_progress)
        _check_bad_share(records.values(), recipe, max_bad)
    header = {"config": dict(recipe.config), "versions": _versions(), **recipe.describe()}
    manifest = finalise(recipe.root, recipe.splits, header)
    write_card(recipe.root, manifest)
    return manifest


def slice_of(images: pa.Table, index: int, units: int) -> pa.Table:
    """Give the rows of unit `index` of `units`: whole, in order, sizes differing by one at most."""
    start, stop = (len(images) * bound // units for bound in (index, index + 1))
    return images.slice(start, stop - start)


def mean_size(folder: Path, paths: pa.ChunkedArray) -> float:
    """Give the mean size in bytes of at most 1,000 images, evenly spaced; those that cannot be read count nothing."""
    sizes = [size for path in paths[:: 1 + len(paths) // 1000].to_pylist() if (size := _size(folder / path))]
    return sum(sizes) / max(len(sizes), 1)


def image_fields(data: bytes, info: ImageInfo) -> dict[str, JsonValue]:
    """Give the fields that an image's file tells: width, height, sha256."""
    return {"width": info.width, "height": info.height, "sha256": hashlib.sha256(data).hexdigest()}


def source_name(images: Path, otherwise: str) -> str:
    """Name the source of a folder of images: our own renders are always called so."""
    is_ours = any((folder / SYNTHETIC_MARK).exists() for folder in (images, images.parent))
    return SYNTHETIC if is_ours else otherwise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # counted and explained when the image itself is read
        return 0


def _versions() -> dict[str, str]:
    packages = ("jinja2", "pillow", "pyarrow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _done_records(recipe: Recipe, names: Iterable[str]) -> dict[str, ShardRecord]:
    expected = config_hash(recipe.config)
    found = (read_record(recipe.root, name) for name in names)
    return {record.name: record for record in found if record is not None and record.config_hash == expected}


def _report(records: Mapping[str, ShardRecord], units: int, on_progress: Callable[[Progress], None]) -> None:
    kept = sum(record.kept for record in records.values())
    quarantined = sum(record.quarantined for record in records.values())
    on_progress(Progress(len(records), units, kept, quarantined))


def _check_bad_share(records: Collection[ShardRecord], recipe: Recipe, max_bad: float) -> None:
    """Stop when more than `max_bad` of all inputs were bad, however many shards are still to come."""
    reasons: Counter[str] = Counter()
    for record in records:
        reasons.update(record.reasons)
    bad = {reason: count for reason, count in reasons.items() if reason not in HARMLESS_REASONS}
    if sum(bad.values()) > max_bad * recipe.inputs_count:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(bad.items()))
        raise ValueError(
            f"{listed}: more than {max_bad:.2%} of {recipe.inputs_count:,} inputs are bad; meta/*.parquet names them;"
            " mend them, or allow more with --max-bad and run again to go on"
        )
