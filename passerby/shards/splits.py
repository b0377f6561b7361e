"""What lies in each split of a data set: counts for whoever reads its card, or the end of the run that made it."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.shards.manifest import Manifest
from passerby.shards.table import layout_of, read_rows
from passerby.shards.write import ShardRecord, meta_path

UNKNOWN_CAMERA = -1


def describe_splits(root: Path, manifest: Manifest) -> dict[str, dict[str, int]]:
    """Count by split: `samples`, `shards`, and `people`, `cameras` and `captions` where the samples tell them.

    An unknown person or camera is not counted; of a sample with the field `captions`, all of them are.

    Raises:
        FileNotFoundError: a table of the manifest is missing.
    """
    return {
        split: _describe(root, manifest.shards[shards.start : shards.stop]) for split, shards in manifest.splits.items()
    }


def _describe(root: Path, records: Iterable[ShardRecord]) -> dict[str, int]:
    told = {"samples": 0, "shards": 0}
    people: set[str] = set()
    cameras: set[int] = set()
    for record in records:
        path = meta_path(root, record.name)
        names = layout_of(pq.read_schema(path))[0]
        wanted = [name for name in ("person_id", "camera_id", "captions", "caption") if name in names]
        rows = read_rows(path, "kept", wanted)
        told["samples"] += len(rows)
        told["shards"] += 1
        if "person_id" in wanted:
            people |= set(_distinct(rows["person_id"])) - {""}
            told["people"] = len(people)
        if "camera_id" in wanted:
            cameras |= set(_distinct(rows["camera_id"])) - {UNKNOWN_CAMERA}
            told["cameras"] = len(cameras)
        if "caption" in wanted:
            several = "captions" in wanted and pa.types.is_list(rows["captions"].type)
            here = pc.sum(pc.list_value_length(rows["captions"])).as_py() or 0 if several else len(rows)
            told["captions"] = told.get("captions", 0) + here
    return told


def _distinct(column: pa.ChunkedArray) -> list[object]:
    values: list[object] = pc.unique(column).to_pylist()
    return values
