"""Check every byte of a data set: its tables by their hashes, each tar by its table, all of it by the manifest."""

import hashlib
import mmap
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import compress, islice
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from passerby.columnar import open_parquet, rows_of
from passerby.runtime import follow_parent
from passerby.shards.manifest import (
    MANIFEST_NAME,
    QUARANTINE_NAME,
    Manifest,
    duplicate_keys,
    hash_table,
    read_manifest,
    read_quarantine,
    sizes_of,
    totals_of,
    unlisted_files,
)
from passerby.shards.remote import mirror
from passerby.shards.sums import FULL, check_sums
from passerby.shards.table import hash_column, layout_of, open_table, text_members
from passerby.shards.tar import BLOCK, END, padding_after, tar_header
from passerby.shards.write import ShardRecord, meta_path, read_footer, tar_path
from passerby.storage import RemoteFolder, is_url
from passerby.untrusted import read_json

MAX_PROBLEMS_A_SHARD = 100
"""Where this many are found, more would tell nothing new."""

_ROWS_A_BATCH = 1024

Check = Callable[[Path, ShardRecord, bool], "list[Problem]"]
"""Checks a shard: of which root, which one, and whether its table can be believed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it should be."""

    shard: str
    """Empty where the data set as a whole is wrong."""

    key: str
    """Empty where no single sample can be blamed."""

    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, by the manifest's count, and what is wrong with it."""

    shards: int
    kept: int
    quarantined: int
    size_bytes: int
    """Of all tars."""

    problems: tuple[Problem, ...]

    @property
    def seen(self) -> int:
        """All inputs."""
        return self.kept + self.quarantined


def verify(
    root: Path | str, *, workers: int = 1, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Read every byte of a data set and find out whether it is what its manifest says.

    Args:
        root: folder of the data set, or its URL: then each tar is fetched, checked and forgotten, one for each worker.
        workers: processes.
        on_progress: called with the number of shards done, and of all shards.

    Raises:
        FileNotFoundError: `root` is no data set.
        ValueError: its manifest is malformed, so that nothing can be checked by it; or `workers` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    if not is_url(root):
        return _verify(Path(root), verify_shard, workers, on_progress)
    with TemporaryDirectory(prefix="passerby-verify-") as folder:
        remote = RemoteFolder(str(root))
        mirror(remote, Path(folder))
        if not (Path(folder) / MANIFEST_NAME).is_file():
            raise FileNotFoundError(f"{root} is no data set: it has no {MANIFEST_NAME}; if it is being published, wait")
        return _verify(Path(folder), partial(_verify_fetched, remote), workers, on_progress)


def _verify(root: Path, check: Check, workers: int, on_progress: Callable[[int, int], None]) -> Verification:
    manifest = read_manifest(root)
    total = len(manifest.shards)
    has_sound_table = [_has_sound_table(root, manifest, record.name) for record in manifest.shards]
    problems: list[Problem] = []
    on_progress(0, total)
    for done, found in enumerate(_verify_shards(root, manifest, has_sound_table, workers, check), start=1):
        problems += found
        on_progress(done, total)
    problems += _check_manifest(root, manifest)
    problems += _check_together(root, manifest, has_sound_table)
    size_bytes = sum(record.size_bytes for record in manifest.shards)
    return Verification(total, manifest.kept, manifest.quarantined, size_bytes, tuple(problems))


def verify_shard(root: Path, record: ShardRecord, has_sound_table: bool) -> list[Problem]:
    """Read every byte of a shard; its samples are checked one by one only where the table can be believed."""
    found = [*islice(_shard_problems(root, record, has_sound_table), MAX_PROBLEMS_A_SHARD)]
    if len(found) == MAX_PROBLEMS_A_SHARD:
        found.append(("", "has perhaps more problems, which are not listed"))
    return [Problem(record.name, key, message) for key, message in found]


def _verify_fetched(remote: RemoteFolder, root: Path, record: ShardRecord, has_sound_table: bool) -> list[Problem]:
    """Check a shard whose tar is fetched for it, and forgotten afterwards; `root` is the mirror."""
    path = tar_path(root, record.name)
    if path.is_file():
        remote.download(f"data/{path.name}", path)
    found = verify_shard(root, record, has_sound_table)
    path.unlink(missing_ok=True)
    return found


def _verify_shards(
    root: Path, manifest: Manifest, has_sound_table: list[bool], workers: int, check: Check
) -> Iterator[list[Problem]]:
    check = partial(check, root)
    if workers == 1:
        yield from map(check, manifest.shards, has_sound_table)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=follow_parent) as pool:
        yield from pool.map(check, manifest.shards, has_sound_table)


def _has_sound_table(root: Path, manifest: Manifest, name: str) -> bool:
    try:
        return hash_table(root, name) == manifest.tables[name]
    except FileNotFoundError:
        return False


def _shard_problems(root: Path, record: ShardRecord, has_sound_table: bool) -> Iterator[tuple[str, str]]:
    """Yield (key, message); the key is empty where no sample can be blamed."""
    table, path = meta_path(root, record.name), tar_path(root, record.name)
    if not has_sound_table:
        yield "", f"{table.name} is {'not the one the manifest knows' if table.is_file() else 'missing'}"
    if not path.is_file():
        yield "", f"{path.name} is missing"
        return
    size_bytes = path.stat().st_size
    is_blamed = size_bytes != record.size_bytes
    if is_blamed:
        yield "", f"{path.name} has {size_bytes:,} bytes, the manifest says {record.size_bytes:,}"
    if size_bytes == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as tar:
        try:
            for problem in _compare(tar, table, record) if has_sound_table else ():
                is_blamed = True
                yield problem
        except (KeyError, ValueError, OSError) as error:  # what a table raises that is none of ours
            yield "", f"{table.name} cannot be understood: {error}"
        if not is_blamed and hashlib.sha256(tar).hexdigest() != record.sha256:
            yield "", f"{path.name} has another sha256 than the manifest says, and no sample is to blame"


def _compare(tar: mmap.mmap, table: Path, record: ShardRecord) -> Iterator[tuple[str, str]]:
    """Walk a tar along its table, and hold both to the record."""
    if (told := read_footer(table)) != record:
        yield "", f"{table.name} tells of {told}, the manifest of {record}"
    position = kept = 0
    first_key = last_key = ""
    reasons: Counter[str] = Counter()
    with open_table(table) as file:
        fields, members = layout_of(file.schema_arrow)
        for row in rows_of(file.iter_batches(_ROWS_A_BATCH)):
            if row["status"] != "kept":
                reasons[row["reason"]] += 1
                continue
            end, message = _check_sample(tar, row, fields, members, position)
            if message:
                yield row["key"] or "", message
            if end > len(tar):
                yield "", f"{record.kept - kept:,} of {record.kept:,} samples are cut off"
                return
            position, kept, last_key = end, kept + 1, row["key"]
            first_key = first_key or last_key
    found = (kept, dict(sorted(reasons.items())), first_key, last_key)
    expected = (record.kept, record.reasons, record.first_key, record.last_key)
    if found != expected:
        yield "", f"{table.name} has kept, reasons, first and last key {found}, its record says {expected}"
    if tar[position:] != END:
        yield "", "the tar does not end after its last sample"


def _check_sample(
    tar: mmap.mmap, row: dict[str, Any], fields: list[str], members: list[str], position: int
) -> tuple[int, str]:
    """Check every byte of the sample that begins at `position`; give where it ends, and what is wrong."""
    key = row["key"]
    try:
        known = text_members({name: row[name] for name in fields})
        names = {member: row["image_extension"] if member == "image" else member for member in members}
        headers = {member: tar_header(f"{key}.{names[member]}", row[f"{member}_size"]) for member in members}
    except (ValueError, TypeError) as error:
        return position, f"its row in the table is not a sample's: {error}"
    message = ""
    for member, header in headers.items():
        offset, size = row[f"{member}_offset"], row[f"{member}_size"]
        start, end, padding = position + BLOCK, position + BLOCK + size, padding_after(size)
        content = tar[start:end]
        if offset != start:
            wrong = f"lies at byte {start}, and the table says {offset}"
        elif end + len(padding) > len(tar):
            wrong = "is cut off"
        elif tar[position:start] != header:
            wrong = "has a damaged header"
        elif member not in known and hashlib.sha256(content).hexdigest() != row[hash_column(member)]:
            wrong = "has another sha256 than the table says"
        elif content != known.get(member, content):
            wrong = "is not what the table says"
        elif tar[end : end + len(padding)] != padding:
            wrong = "has something in its padding"
        else:
            wrong = ""
        message = message or (wrong and f"its {names[member]} {wrong}")
        position = end + len(padding)
    return position, message


def _check_manifest(root: Path, manifest: Manifest) -> Iterator[Problem]:
    """Hold the manifest to itself, to `sizes.json`, and to the files that are there."""
    for name, expected in totals_of(manifest.shards).items():
        if manifest.totals[name] != expected:
            yield Problem("", "", f"the manifest says {name} is {manifest.totals[name]}, its shards say {expected}")
    if len(hashes := sorted({record.config_hash for record in manifest.shards})) > 1:
        yield Problem("", "", f"the shards are of several configurations: {hashes}")
    if (root / FULL).is_dir():
        yield from (Problem("", "", message) for message in check_sums(root / FULL))
    for name in unlisted_files(root, [record.name for record in manifest.shards]):
        yield Problem(Path(name).stem, "", f"{name} belongs to no shard of the manifest")
    try:
        stored = read_json(root / "data" / "sizes.json")
    except (FileNotFoundError, ValueError) as error:
        yield Problem("", "", f"sizes.json is missing or malformed: {error}")
        return
    sizes, expected = stored if isinstance(stored, dict) else {}, sizes_of(manifest.shards)
    for name in sorted(sizes.keys() | expected.keys()):
        if sizes.get(name) != expected.get(name):
            message = f"sizes.json says {name} has {sizes.get(name)} samples, the manifest says {expected.get(name)}"
            yield Problem(name.removesuffix(".tar"), "", message)


def _check_together(root: Path, manifest: Manifest, has_sound_table: list[bool]) -> Iterator[Problem]:
    """Check what concerns all shards with sound tables: that no key is there twice, and the quarantine."""
    names = [record.name for record in compress(manifest.shards, has_sound_table)]
    if not names:
        return
    for key, shards in duplicate_keys(root, names):
        yield Problem(shards[0], key, f"the key is there {len(shards)} times: {', '.join(shards)}")
    expected = pa.concat_tables(read_quarantine(root, name) for name in names)
    try:
        with open_parquet(root / QUARANTINE_NAME) as file:
            found = file.read()
        unknown = pa.array([record.name for record in manifest.shards if record.name not in names], pa.string())
        found = found.filter(pc.invert(pc.is_in(found["shard"], unknown)))
    except (OSError, ValueError, KeyError) as error:
        yield Problem("", "", f"{QUARANTINE_NAME} is missing or damaged: {error}")
        return
    if not found.equals(expected):
        yield Problem("", "", f"{QUARANTINE_NAME} ({len(found)} rows) disagrees with the tables ({len(expected)})")
