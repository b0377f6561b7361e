"""What lies in each split of a data set: counts for whoever reads its card, or the end of the run that made it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from passerby.sample import CAPTION_FIELD
from passerby.shards.manifest import Manifest
from passerby.shards.table import kept_rows, layout_of, open_table
from passerby.shards.write import ShardRecord, meta_path

UNKNOWN_CAMERA = -1


@dataclass(frozen=True, slots=True)
class Split:
    """What lies in one split."""

    counts: Mapping[str, int]
    """`samples`, `shards`, and `people`, `cameras` and `captions` where any is known."""

    members: tuple[str, ...]
    """Of its samples; see `passerby.shards.table.member_names`."""

    image_extensions: frozenset[str]
    """Such as `jpg`; empty where only captions are there."""


def read_splits(root: Path, manifest: Manifest) -> dict[str, Split]:
    """Look once through the tables of a data set.

    The captions of a sample are those of its list `captions` or, where it has none, of `caption`, `caption_1` and so on.

    Raises:
        FileNotFoundError: a table of the manifest is missing.
    """
    return {
        split: _read_split(root, manifest.shards[shards.start : shards.stop])
        for split, shards in manifest.splits.items()
    }


def _read_split(root: Path, records: Iterable[ShardRecord]) -> Split:
    samples = shards = captions = 0
    people: set[str] = set()
    cameras: set[int] = set()
    members: dict[str, None] = {}
    extensions: set[str] = set()
    for record in records:
        shards += 1
        if not record.kept:
            continue
        with open_table(meta_path(root, record.name)) as file:
            names, its_members = layout_of(file.schema_arrow)
            wanted = [name for name in ("person_id", "camera_id", "captions") if name in names]
            rows = kept_rows(file, ["image_extension", *wanted])
        samples += len(rows)
        members |= dict.fromkeys(its_members)
        extensions |= {*pc.unique(rows["image_extension"]).to_pylist()}
        if "person_id" in wanted:
            people |= {*pc.unique(rows["person_id"]).to_pylist()} - {""}
        if "camera_id" in wanted:
            cameras |= {*pc.unique(rows["camera_id"]).to_pylist()} - {UNKNOWN_CAMERA}
        if "captions" in wanted:
            captions += pc.sum(pc.list_value_length(rows["captions"])).as_py() or 0
        else:
            captions += len(rows) * sum(1 for name in names if CAPTION_FIELD.fullmatch(name))
    found = {"samples": samples, "shards": shards, "people": len(people), "cameras": len(cameras), "captions": captions}
    counts = {name: count for name, count in found.items() if count or name in ("samples", "shards")}
    return Split(counts, tuple(members), frozenset(extensions))
