"""What lies in each split of a data set: counts for whoever reads its card, or the end of the run that made it."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.sample import CAPTION_FIELD
from passerby.shards.manifest import Manifest
from passerby.shards.table import layout_of, read_rows
from passerby.shards.write import ShardRecord, meta_path

UNKNOWN_CAMERA = -1


def describe_splits(root: Path, manifest: Manifest) -> dict[str, dict[str, int]]:
    """Count by split: `samples`, `shards`, and `people`, `cameras` and `captions` where any is known.

    The captions of a sample are those of its list `captions` or, where it has none, of `caption`, `caption_1` and so on.

    Raises:
        FileNotFoundError: a table of the manifest is missing.
    """
    return {
        split: _describe(root, manifest.shards[shards.start : shards.stop]) for split, shards in manifest.splits.items()
    }


def _describe(root: Path, records: Iterable[ShardRecord]) -> dict[str, int]:
    samples = shards = captions = 0
    people: set[str] = set()
    cameras: set[int] = set()
    for record in records:
        path = meta_path(root, record.name)
        names = layout_of(pq.read_schema(path))[0]
        texts = [name for name in names if CAPTION_FIELD.fullmatch(name)]
        wanted = [name for name in ("person_id", "camera_id", "captions") if name in names]
        rows = read_rows(path, "kept", ["key", *wanted])
        samples += len(rows)
        shards += 1
        if "person_id" in wanted:
            people |= {*pc.unique(rows["person_id"]).to_pylist()} - {""}
        if "camera_id" in wanted:
            cameras |= {*pc.unique(rows["camera_id"]).to_pylist()} - {UNKNOWN_CAMERA}
        if "captions" in wanted:
            captions += pc.sum(pc.list_value_length(rows["captions"])).as_py() or 0
        else:
            captions += len(rows) * len(texts)
    found = {"samples": samples, "shards": shards, "people": len(people), "cameras": len(cameras), "captions": captions}
    return {name: count for name, count in found.items() if count or name in ("samples", "shards")}
