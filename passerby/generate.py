"""One run of a recipe: claim the folder, make the shards that are missing, merge what the units wrote.

What recipes share is here too: how inputs are sliced, and what an image's file tells.
"""

import hashlib
import platform
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from passerby.card import write_card
from passerby.config import config_hash
from passerby.engine import Engine
from passerby.images import ImageInfo
from passerby.readers.files import ImageFiles
from passerby.runtime import remove_stale_temporaries
from passerby.sample import JsonValue
from passerby.shards.manifest import Manifest, finalise
from passerby.shards.output import LocalOutput, Output
from passerby.shards.write import ShardRecord, shard_names
from passerby.storage import RemoteFolder

SYNTHETIC = "synthetic pedestrians"
"""The name of our own renders as a source of images; cards say in words what it means."""

SYNTHETIC_MARK = "synthetic.json"
"""The file by which a folder of our renders is known."""

PARTS_NAME = "parts.json"
"""What the parts of a run leave for whoever completes it; see `passerby.parts`."""

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
    recipe: Recipe,
    *,
    engine: Engine,
    max_bad: float,
    output: Output | None = None,
    beside: Callable[[], None] = lambda: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Manifest:
    """Make the recipe's data set under its root, or what of it is missing there.

    Every shard is written under a temporary name and renamed, its record last, so a run may be killed at any moment and
    started again, and two runs of the same configuration may share a folder.

    Args:
        recipe: What to make.
        engine: Where its units run.
        max_bad: Largest share of the inputs that may be unreadable, 0…1.
        output: Where the data set goes by way of the recipe's root, which it is unless said. To be finished by the caller.
        beside: Writes what belongs to the data set beside its shards, once the folder is claimed.
        on_progress: Called at the start and after each unit.

    Raises:
        ValueError: the folder holds another configuration, or more than `max_bad` of the inputs are bad.
    """
    every = range(sum(recipe.splits.values()))
    output = output or LocalOutput(recipe.root)
    make_units(recipe, every, output, engine=engine, max_bad=max_bad, beside=beside, on_progress=on_progress)
    return complete(output, recipe.splits, header_of(recipe))


def make_units(
    recipe: Recipe,
    units: range,
    output: Output,
    *,
    engine: Engine,
    max_bad: float,
    beside: Callable[[], None],
    on_progress: Callable[[Progress], None],
) -> list[ShardRecord]:
    """Make the shards of some units, or what of them is missing, and give their records; options as of `generate`."""
    output.claim(recipe.config)
    for name in ("data", "meta"):
        (recipe.root / name).mkdir(exist_ok=True)
    for folder in _folders(recipe.root):
        remove_stale_temporaries(folder, only_of_this_machine=True)
    beside()
    output.send_beside()
    names, hashed = shard_names(recipe.splits), config_hash(recipe.config)
    done = output.records([names[unit] for unit in units])
    records = {record.name: record for record in done if record.config_hash == hashed}
    missing = [unit for unit in units if names[unit] not in records]
    _report(records, len(units), on_progress)
    for record in engine(output.job(recipe, names, config_hash=hashed), missing):
        records[record.name] = record
        _report(records, len(units), on_progress)
        check_bad_share(records.values(), recipe.inputs_count, max_bad)
    return [records[names[unit]] for unit in units]


def header_of(recipe: Recipe) -> dict[str, Any]:
    """Give what the manifest says on how the data set was made."""
    return {"config": dict(recipe.config), "versions": _versions(), **recipe.describe()}


def complete(output: Output, splits: Mapping[str, int], header: Mapping[str, Any]) -> Manifest:
    """Merge what the units wrote, all of which are done: manifest, quarantine and card; and clean up.

    Raises:
        FileNotFoundError, ValueError: as `passerby.shards.manifest.finalise`.
    """
    are_tars_here = output.gather(shard_names(splits))
    manifest = finalise(output.root, splits, header, are_tars_here=are_tars_here)
    write_card(output.root, manifest)
    if output.read(PARTS_NAME) is not None:
        output.send_beside()
        output.send_manifest()
        output.remove(PARTS_NAME)
    for folder in _folders(output.root):
        remove_stale_temporaries(folder)
    return manifest


def check_bad_share(records: Collection[ShardRecord], inputs: int, max_bad: float) -> None:
    """Stop when more than `max_bad` of all inputs were bad, however many shards are still to come.

    Raises:
        ValueError: it is so.
    """
    reasons: Counter[str] = Counter()
    for record in records:
        reasons.update(record.reasons)
    bad = {reason: count for reason, count in reasons.items() if reason not in HARMLESS_REASONS}
    if sum(bad.values()) > max_bad * inputs:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in sorted(bad.items()))
        raise ValueError(
            f"{listed}: more than {max_bad:.2%} of {inputs:,} inputs are bad; meta/*.parquet names them;"
            " mend them, or allow more with --max-bad and run again to go on"
        )


def slice_of(images: pa.Table, index: int, units: int) -> pa.Table:
    """Give the rows of unit `index` of `units`: whole, in order, sizes differing by one at most."""
    start, stop = (len(images) * bound // units for bound in (index, index + 1))
    return images.slice(start, stop - start)


def mean_size(files: ImageFiles, images: pa.Table) -> float:
    """Give the mean size in bytes of at most 1,000 images, evenly spaced; those that cannot be read count nothing.

    Args:
        files: What the paths name.
        images: Columns `path` and, where sizes are known without looking, `size_bytes`.
    """
    sampled = images.take(pa.array(range(0, len(images), 1 + len(images) // 1000), pa.int64()))
    sizes = [size for row in sampled.to_pylist() if (size := files.size(row))]
    return sum(sizes) / max(len(sizes), 1)


def image_fields(data: bytes, info: ImageInfo) -> dict[str, JsonValue]:
    """Give the fields that an image's file tells: width, height, sha256."""
    return {"width": info.width, "height": info.height, "sha256": hashlib.sha256(data).hexdigest()}


def source_name(images: Path | str, otherwise: str) -> str:
    """Name the source of images in a folder or at a URL: our own renders are always called so."""
    if isinstance(images, Path):
        is_ours = any((folder / SYNTHETIC_MARK).exists() for folder in (images, images.parent))
    else:
        url = images.rstrip("/")
        above = url.rpartition("/")[0]
        is_ours = any(RemoteFolder(place).exists(SYNTHETIC_MARK) for place in (url, above) if not place.endswith("/"))
    return SYNTHETIC if is_ours else otherwise


def _folders(root: Path) -> list[Path]:
    return [root, *filter(Path.is_dir, root.iterdir())]


def _versions() -> dict[str, str]:
    packages = ("jinja2", "pillow", "pyarrow")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _report(records: Mapping[str, ShardRecord], units: int, on_progress: Callable[[Progress], None]) -> None:
    kept = sum(record.kept for record in records.values())
    quarantined = sum(record.quarantined for record in records.values())
    on_progress(Progress(len(records), units, kept, quarantined))
