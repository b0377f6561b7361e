"""Write one shard: a tar of samples, and a table with a row for every input and the place of every member.

The table comes last, and its footer holds the shard's record: where that is, the shard is done. The same
entries give the same bytes, anywhere and at any time.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from passerby.columnar import naming_damage
from passerby.runtime import atomic_file, remove_stale_temporaries
from passerby.sample import Rejected, Sample
from passerby.shards.table import TableWriter, text_members
from passerby.shards.tar import TarWriter
from passerby.untrusted import parse_json

SHARD_PATTERN = re.compile(r"(?P<split>[a-z][a-z0-9_]{0,39})-(?P<index>[0-9]{5,7})-of-(?P<of>[0-9]{5,7})")
"""A shard's name. What a file says is matched against it before it becomes a path."""

RECORD_KEY = b"passerby.shard"
"""Where the record lies in the footer of a table."""

IMAGE_EXTENSIONS = ("jpg", "png", "webp")

_LARGEST_COUNT = (1 << 48) - 1
"""Of bytes 256 TiB; a thousand such shards still add up within 64 bits."""

_RECORD_TYPES = {
    "name": str,
    "kept": int,
    "reasons": dict,
    "first_key": str,
    "last_key": str,
    "size_bytes": int,
    "sha256": str,
    "config_hash": str,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """What a shard holds, in counts and in bytes."""

    name: str
    """Such as `train-00003-of-00064`: split, index, and number of shards of the split."""

    kept: int
    """Samples in the tar."""

    reasons: Mapping[str, int]
    """Inputs left out, by reason."""

    first_key: str
    """Empty where nothing was kept; so is `last_key`."""

    last_key: str
    size_bytes: int
    """Of the tar."""

    sha256: str
    """Of the tar, in hexadecimal."""

    config_hash: str
    """Names the configuration that decided every byte."""

    def __post_init__(self) -> None:
        """Refuse a name that could become a path outside the data set."""
        check_name(self.name)

    @property
    def split(self) -> str:
        """What comes before the numbers."""
        return self.name.split("-")[0]

    @property
    def quarantined(self) -> int:
        """Inputs left out."""
        return sum(self.reasons.values())


def shard_names(splits: Mapping[str, int]) -> list[str]:
    """Name all shards of a data set in order: of each split, so many.

    >>> shard_names({"train": 1, "val": 2})
    ['train-00000-of-00001', 'val-00000-of-00002', 'val-00001-of-00002']

    Raises:
        ValueError: a split's name cannot stand in a file name, a split has no shard, or there is no split.
    """
    if min(splits.values(), default=0) < 1:
        raise ValueError(f"splits is {dict(splits)}; a data set has at least one, and each has at least 1 shard")
    return [shard_name(split, index, of) for split, of in splits.items() for index in range(of)]


def shard_name(split: str, index: int, of: int) -> str:
    """Name shard `index` of the `of` shards of a split.

    Raises:
        ValueError: `split` cannot stand in a file name, or there is no such shard.
    """
    name = f"{split}-{index:05d}-of-{of:05d}"
    check_name(name)
    return name


def check_name(name: str) -> None:
    """Refuse a name that is none of a shard, and could become a path outside the data set."""
    found = SHARD_PATTERN.fullmatch(name)
    if not found or int(found["index"]) >= int(found["of"]):
        raise ValueError(
            f"{name!r:.80} names no shard; names are like train-00003-of-00064: a lower-case word, and numbers from 0"
        )


def tar_path(root: Path, name: str) -> Path:
    """Say where the tar of a shard lies."""
    return root / "data" / f"{name}.tar"


def meta_path(root: Path, name: str) -> Path:
    """Say where the table of a shard lies."""
    return root / "meta" / f"{name}.parquet"


def write_shard(
    root: Path, name: str, entries: Iterable[Sample | Rejected], *, columns: pa.Schema, config_hash: str
) -> ShardRecord:
    """Write shard `name` under `root`: `entries` in their order, few of them in memory at a time.

    A shard that this configuration has finished already is left as it is.

    Args:
        root: folder of the data set.
        name: see `shard_name`.
        entries: samples, and inputs that are left out.
        columns: names, order and types of every sample's fields. `key`, `sha256` (of the image, in hexadecimal) and `path`
            are among them; so is `caption`, or no sample has one.
        config_hash: names the configuration that decides every byte.

    Raises:
        ValueError: a sample that could not be read back as it is, or whose key is taken; or `name` is none of a shard.
    """
    if done := begin_shard(root, name, config_hash=config_hash):
        return done
    with atomic_file(meta_path(root, name)) as meta_file, closing(TableWriter(meta_file, columns)) as table:
        with atomic_file(tar_path(root, name)) as tar_file:
            tar = TarWriter(tar_file)
            keys, reasons = _write_entries(entries, tar, table)
        record = ShardRecord(
            name=name,
            kept=len(keys),
            reasons=dict(sorted(reasons.items())),
            first_key=next(iter(keys), ""),
            last_key=next(reversed(keys), ""),
            size_bytes=tar.size_bytes,
            sha256=tar.sha256,
            config_hash=config_hash,
        )
        table.finish({RECORD_KEY: json.dumps(asdict(record)).encode()})
    return record


def begin_shard(root: Path, name: str, *, config_hash: str) -> ShardRecord | None:
    """Make way for a shard: its folders, free of what dead writers left; or give its record, if this configuration has finished it.

    Raises:
        ValueError: `name` is none of a shard.
    """
    check_name(name)
    before = read_record(root, name)
    if before is not None and before.config_hash == config_hash:
        return before  # done, perhaps a moment ago by another run into the same folder
    if before is not None:
        meta_path(root, name).unlink()  # another configuration's record must not vouch for the tar that comes now
    for path in (tar_path(root, name), meta_path(root, name)):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(path.parent, only_of_this_machine=True)
    return None


def read_record(root: Path, name: str) -> ShardRecord | None:
    """Read the record of a shard that is done: it is in the table, and the tar is there and has its size."""
    try:
        record = read_footer(meta_path(root, name))
        size_bytes = tar_path(root, name).stat().st_size
    except (FileNotFoundError, ValueError):
        return None
    return record if (record.name, record.size_bytes) == (name, size_bytes) else None


def read_footer(path: Path | BinaryIO) -> ShardRecord:
    """Read the record in a table's footer; the end of a table that holds the footer will do.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it is damaged, or no shard's.
    """
    with naming_damage(path):
        stored = (pq.read_metadata(path).metadata or {}).get(RECORD_KEY)
    if stored is None:
        raise ValueError(f"{path} is not the table of a shard")
    return parse_record(parse_json(stored, f"the record in {path}"))


def parse_record(stored: object) -> ShardRecord:
    """Make a record of what JSON held.

    Raises:
        ValueError: it is no record, or its name is none of a shard.
    """
    if not isinstance(stored, dict) or stored.keys() != _RECORD_TYPES.keys():
        raise ValueError(f"a shard's record has the fields {[*_RECORD_TYPES]}, got {stored!s:.200}")
    for name, expected in _RECORD_TYPES.items():
        if type(stored[name]) is not expected:
            raise ValueError(f"a shard's {name} is {stored[name]!r:.80}, which is no {expected.__name__}")
    counts = {name: stored[name] for name in ("kept", "size_bytes")} | stored["reasons"]
    for name, count in counts.items():
        if type(count) is not int or not 0 <= count <= _LARGEST_COUNT:
            raise ValueError(
                f"a shard's count of {name!s:.80} is {count!r:.80}; allowed is an int from 0 to {_LARGEST_COUNT:,}"
            )
    return ShardRecord(**stored)


def _write_entries(
    entries: Iterable[Sample | Rejected], tar: TarWriter, table: TableWriter
) -> tuple[dict[str, None], Counter[str]]:
    """Write all entries; give the keys in order, and how many inputs were left out, by reason."""
    keys: dict[str, None] = {}
    reasons: Counter[str] = Counter()
    for entry in entries:
        if isinstance(entry, Rejected):
            table.add_rejected(entry)
            reasons[entry.reason] += 1
            continue
        if entry.key in keys:
            raise ValueError(f"two samples have the key {entry.key}; keys must be unique")
        keys[entry.key] = None
        table.check(entry)
        table.add_kept(entry, tar.add(entry.key, _members(entry)))
    table.flush()
    tar.finish()
    return keys, reasons


def _members(sample: Sample) -> list[tuple[str, bytes]]:
    """Give the members of a sample in the order of `table.member_names`."""
    if "caption" in sample.fields and (sample.caption.splitlines() != [sample.caption] or sample.caption.isspace()):
        raise ValueError(f"sample {sample.key}: caption {sample.caption!r} must be one line of text")
    if (sample.fields["key"], sample.fields.get("caption", "")) != (sample.key, sample.caption):
        raise ValueError(f"sample {sample.key}: the fields key and caption must be those of the sample")
    if sample.image_extension not in IMAGE_EXTENSIONS and (sample.image or sample.image_extension):
        raise ValueError(f"sample {sample.key} is a {sample.image_extension!r}; allowed are {IMAGE_EXTENSIONS}")
    image = [(sample.image_extension, sample.image)] if sample.image_extension else []
    return [*image, *text_members(sample.fields).items(), *sample.extras.items()]
