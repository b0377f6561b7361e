"""The manifest of a data set: its shards, what they hold, how they were made. It is written last of all."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from passerby.columnar import is_rising
from passerby.runtime import atomic_file, write_atomically
from passerby.shards.table import read_rows
from passerby.shards.write import ShardRecord, meta_path, parse_record, read_footer, read_record, shard_names, tar_path
from passerby.untrusted import read_json

FORMAT, VERSION = "passerby", 2
"""What a manifest says it is; the version grows when older code could misread it."""

MANIFEST_NAME = "manifest.json"
QUARANTINE_NAME = "quarantine.parquet"
QUARANTINE_COLUMNS = ["key", "path", "reason", "detail"]
QUARANTINE_SCHEMA = pa.schema([("shard", pa.string()), *((name, pa.string()) for name in QUARANTINE_COLUMNS)])


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a data set says of itself; `passerby.shards.verify` finds out whether it is true."""

    shards: tuple[ShardRecord, ...]
    """All shards in order, split by split."""

    tables: Mapping[str, str]
    """Hash (sha256, hexadecimal) of the table in `meta/` of each shard, by the shard's name."""

    totals: Mapping[str, Any]
    """The sums over the shards as they are stored; see `totals_of`."""

    header: Mapping[str, Any]
    """How the data set was made: configuration, versions, sources, whatever its maker tells."""

    @property
    def shard_counts(self) -> dict[str, int]:
        """The splits in order, such as `train`, and how many shards each has."""
        return dict(Counter(record.split for record in self.shards))

    @property
    def splits(self) -> dict[str, range]:
        """The splits in order, and which of the shards are theirs."""
        ends = accumulate(self.shard_counts.values())
        return {
            split: range(end - count, end) for (split, count), end in zip(self.shard_counts.items(), ends, strict=True)
        }

    @property
    def totals_by_split(self) -> dict[str, dict[str, Any]]:
        """The sums over the shards of each split; see `totals_of`."""
        return {split: totals_of(self.shards[shards.start : shards.stop]) for split, shards in self.splits.items()}

    @property
    def has_images(self) -> bool:
        """False of a captions-only copy."""
        return self.header.get("has_images", True) is True

    @property
    def has_captions(self) -> bool:
        """False of images that nobody has captioned."""
        return self.header.get("has_captions", True) is True

    @property
    def kept(self) -> int:
        """Samples."""
        return sum(record.kept for record in self.shards)

    @property
    def quarantined(self) -> int:
        """Inputs left out."""
        return sum(self.reasons.values())

    @property
    def seen(self) -> int:
        """All inputs."""
        return self.kept + self.quarantined

    @property
    def reasons(self) -> Mapping[str, int]:
        """Inputs left out, by reason."""
        reasons: Mapping[str, int] = totals_of(self.shards)["reasons"]
        return reasons


def finalise(
    root: Path, splits: Mapping[str, int], header: Mapping[str, Any], *, are_tars_here: bool = True
) -> Manifest:
    """Turn finished shards into a data set: write `sizes.json`, the quarantine, and the manifest.

    Args:
        root: folder of the data set.
        splits: their names in order, and how many shards each has.
        header: what the manifest shall say on how the data set was made; JSON.
        are_tars_here: false where only the tables are, which tell of the tars.

    Raises:
        FileNotFoundError: shards are not done.
        ValueError: shards of several configurations, files of other shards, a key in two shards, a split without shards, or
            a header that claims a name of the manifest's own.
    """
    names = shard_names(splits)
    records = _done_records(root, names, are_tars_here=are_tars_here)
    _check_together(root, records)
    tables = {name: hash_table(root, name) for name in names}
    manifest = Manifest(records, tables, totals_of(records), dict(header))
    own = {"format": FORMAT, "version": VERSION, "splits": [*splits], **manifest.totals}
    lists = {"shards": [asdict(record) for record in records], "tables": tables}
    if claimed := sorted({*own, *lists} & header.keys()):
        raise ValueError(f"header must not hold {claimed}, which are the manifest's own")
    write_atomically(root / "data" / "sizes.json", _encode(sizes_of(records)))
    _write_quarantine(root, [record.name for record in records if record.quarantined])
    write_atomically(root / MANIFEST_NAME, _encode({**own, **header, **lists}))
    return manifest


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of a data set.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is malformed, of another version, or names a file that is no shard's.
    """
    path = root / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{root} is no data set: it has no {MANIFEST_NAME}; if a run made it, let it finish")
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not the manifest of a passerby data set")
    version, splits, shards, tables = (stored.pop(name, None) for name in ("version", "splits", "shards", "tables"))
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version}; this passerby reads version {VERSION}; make the data set again"
        )
    if not _is_text_list(splits) or not isinstance(shards, list) or not shards:
        raise ValueError(f"{path} is malformed: it has no list of splits, or no list of shards")
    try:
        records = tuple(map(parse_record, shards))
        counts = Counter(record.split for record in records)
        expected = shard_names({split: counts[split] for split in splits})
    except ValueError as error:
        raise ValueError(f"{path} is malformed: {error}") from None
    if [record.name for record in records] != expected:
        raise ValueError(f"{path} is malformed: its shards are not {_listed(expected)} in this order")
    if not isinstance(tables, dict) or [*tables] != expected:
        raise ValueError(f"{path} is malformed: it does not name one table for each shard")
    totals = {name: stored.pop(name, None) for name in totals_of(records)}
    return Manifest(records, tables, totals, stored)


def totals_of(records: Iterable[ShardRecord]) -> dict[str, Any]:
    """Sum over shards: inputs seen, kept, quarantined and why, and the size of the tars in bytes."""
    reasons: Counter[str] = Counter()
    kept = size_bytes = 0
    for record in records:
        reasons.update(record.reasons)
        kept += record.kept
        size_bytes += record.size_bytes
    quarantined = reasons.total()
    return {
        "seen": kept + quarantined,
        "kept": kept,
        "quarantined": quarantined,
        "reasons": dict(sorted(reasons.items())),
        "size_bytes": size_bytes,
    }


def sizes_of(records: Iterable[ShardRecord]) -> dict[str, int]:
    """Give the content of `sizes.json`: the number of samples in each tar, which open_clip adds up."""
    return {f"{record.name}.tar": record.kept for record in records}


def unlisted_files(root: Path, names: Iterable[str]) -> list[str]:
    """List what lies in `data/` and `meta/` beside the shards named; other clients would read it as data."""
    expected = {root / "data" / "sizes.json"}
    for name in names:
        expected |= {tar_path(root, name), meta_path(root, name)}
    found = [path for folder in ("data", "meta") for path in (root / folder).glob("[!.]*")]
    return sorted(str(path.relative_to(root)) for path in found if path not in expected)


def hash_table(root: Path, name: str) -> str:
    """Hash the table of a shard: sha256 in hexadecimal."""
    with meta_path(root, name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def duplicate_keys(root: Path, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Find the keys that several samples have, each with the shards they lie in.

    Where keys do not rise from sample to sample, that takes 8 bytes a sample: hashes are compared first, and keys only where
    hashes meet.
    """
    if _all_rise(read_keys(root, name) for name in names):
        return []
    hashes = np.concatenate([hash_keys(read_keys(root, name).to_pylist()) for name in names])
    hashes.sort()
    suspects = frozenset(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    shards_of: dict[str, list[str]] = {}
    if suspects:
        for name in names:
            for key in read_keys(root, name).to_pylist():
                if hash(key) in suspects:
                    shards_of.setdefault(key, []).append(name)
    return [(key, shards) for key, shards in sorted(shards_of.items()) if len(shards) > 1]


def read_keys(root: Path, name: str) -> pa.ChunkedArray:
    """Read the keys of a shard's samples, in order."""
    return read_rows(meta_path(root, name), "kept", ["key"])["key"]


def hash_keys(keys: Sequence[str]) -> np.ndarray:
    """Hash each key to 64 bits, Int64 (keys,), by Python's own hash, which is another in every process."""
    return np.fromiter(map(hash, keys), np.int64, len(keys))


def read_quarantine(root: Path, name: str) -> pa.Table:
    """Read the rows that a shard gives to the quarantine."""
    rows = read_rows(meta_path(root, name), "rejected", QUARANTINE_COLUMNS)
    return rows.add_column(0, "shard", pa.array([name] * len(rows), pa.string())).cast(QUARANTINE_SCHEMA)


def _all_rise(columns: Iterable[pa.ChunkedArray]) -> bool:
    """Say whether each text of all columns comes after the one before it."""
    last = ""
    for column in filter(len, columns):
        if column[0].as_py() <= last or not is_rising(column):
            return False
        last = column[-1].as_py()
    return True


def _is_text_list(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def _done_records(root: Path, names: Sequence[str], *, are_tars_here: bool) -> tuple[ShardRecord, ...]:
    if not are_tars_here:
        return tuple(read_footer(meta_path(root, name)) for name in names)
    found = {name: read_record(root, name) for name in names}
    if missing := [name for name, record in found.items() if record is None]:
        raise FileNotFoundError(
            f"{root} lacks {len(missing)} of {len(names)} shards ({_listed(missing)}); run again, all on this folder"
        )
    return tuple(record for record in found.values() if record is not None)


def _check_together(root: Path, records: Sequence[ShardRecord]) -> None:
    """Refuse shards that are sound one by one but make no data set together."""
    names = [record.name for record in records]
    if len(hashes := sorted({record.config_hash for record in records})) > 1:
        raise ValueError(f"{root} mixes shards of the configurations {hashes}; make it anew in an empty folder")
    if strangers := unlisted_files(root, names):
        raise ValueError(f"{root} holds files of no shard of this data set: {_listed(strangers)}; delete them")
    if duplicates := duplicate_keys(root, names):
        key, shards = duplicates[0]
        raise ValueError(f"the key {key} is there {len(shards)} times, in {_listed(sorted(set(shards)))}")


def _write_quarantine(root: Path, names: Iterable[str]) -> None:
    path = root / QUARANTINE_NAME
    with atomic_file(path) as file, pq.ParquetWriter(file, QUARANTINE_SCHEMA, compression="zstd") as writer:
        for name in names:
            writer.write_table(read_quarantine(root, name))


def _encode(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
