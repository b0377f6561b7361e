"""Remove samples from a finished data set: image, caption, metadata, embedding, wherever they lie.

The log comes first, and says what must go by hashes; then the data set is made to agree with it, shard by shard: the
tar, then its table, each renamed into place; the manifest comes last. Whatever a kill leaves, the next run sees by the
log that more is to be done, and a shard whose tar is new and whose table is old by the size of the tar. In between,
`passerby verify` says that the data set is not what its manifest says.
"""

import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from passerby.card import write_card
from passerby.curate.erasures import Erasure, hash_name, read_erasures, write_erasures
from passerby.curate.select import REPEATS_NAME
from passerby.runtime import atomic_file, remove_stale_temporaries
from passerby.shards.begin import CONFIG_NAME, ERASURES_NAME
from passerby.shards.copy import SHARDS_AT_ONCE, Part, copy_tar, moved_rows, reject, tar_size, write_rows
from passerby.shards.embeddings import FOLDER, embeddings_path, take_features, write_features
from passerby.shards.manifest import MANIFEST_NAME, QUARANTINE_NAME, Manifest, finalise, hash_table, read_manifest
from passerby.shards.table import open_table
from passerby.shards.write import meta_path, read_footer, tar_path

ERASED = "erased"
"""The reason by which a removed row is counted; nothing else of it is left."""

_KEPT_IN_STEP = frozenset(
    {"README.md", "croissant.json", "data", "meta", FOLDER}
    | {MANIFEST_NAME, QUARANTINE_NAME, REPEATS_NAME, CONFIG_NAME, ERASURES_NAME}
)
"""What is rewritten where needed, or holds nothing of single samples."""


@dataclass(frozen=True, slots=True)
class Exclusion:
    """What came of a request."""

    revision: int
    removed: int
    """Rows, samples and rejected inputs alike."""
    named_before: int
    """Names that earlier requests held; what those had left undone is done now."""
    missing: tuple[str, ...]
    """Names that the data set does not know, and never knew as far as its log tells."""
    stale: tuple[str, ...]
    """Files beside the data set that may still show what was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who shall go."""

    keys: Collection[str] = ()
    people: Collection[str] = ()
    """Values of `person_id`: all their samples."""
    reason: str = ""
    date: str
    """Year-month-day, for the log."""


def exclude(
    root: Path,
    request: Request,
    *,
    allows_missing: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Exclusion:
    """Remove samples, and finish what an earlier removal left undone. Where a name is missing, nothing is removed.

    Args:
        root: folder of the data set.
        request: who shall go.
        allows_missing: remove the others where a name is missing.
        on_progress: called with the number of shards looked at, and of all.

    Raises:
        FileNotFoundError: `root` is no data set.
        ValueError: it is damaged, has no `person_id`, or another removal is at work on it.
    """
    with _locked(root):
        manifest, log = read_manifest(root), read_erasures(root)
        revision = manifest.header.get("revision", 1)
        if not log or log[-1].revision == revision:  # else a removal was cut short, and the tables are ahead
            _check_files(root, manifest)
        rows = _read_identities(root, manifest, has_people=bool(request.people))
        known, named_before, missing = _sort_names(request, rows, log)
        if missing and not allows_missing:
            return Exclusion(revision, 0, len(named_before), missing, ())
        if known:
            log.append(_erasure(request, known, rows, max([revision, *(entry.revision for entry in log)]) + 1))
            write_erasures(root, log)
        if log:
            _agree(root, manifest, log, on_progress)
        return Exclusion(
            revision=log[-1].revision if log else revision,
            removed=log[-1].count if known else 0,
            named_before=len(named_before),
            missing=missing,
            stale=tuple(sorted(path.name for path in root.glob("[!.]*") if path.name not in _KEPT_IN_STEP)),
        )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold `root` against other removals, which would overwrite each other's log."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; give the folder of a data set")
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ValueError(f"another removal is at work on {root}; wait for it to end") from None
    finally:
        os.close(descriptor)


def _check_files(root: Path, manifest: Manifest) -> None:
    """Refuse a data set with another table or a tar of another size, before anything is logged or changed."""
    for record in manifest.shards:
        table, tar = meta_path(root, record.name), tar_path(root, record.name)
        if not table.is_file() or hash_table(root, record.name) != manifest.tables[record.name]:
            raise ValueError(f"{table} is not the one the manifest knows; run passerby verify {root}")
        if not tar.is_file() or tar.stat().st_size != record.size_bytes:
            raise ValueError(
                f"{tar} has not the {record.size_bytes:,} bytes of the manifest; run passerby verify {root}"
            )


def _read_identities(root: Path, manifest: Manifest, *, has_people: bool) -> pa.Table:
    """Read who is in the data set, rejected inputs too: key, sha256, and person_id where it is asked for."""
    columns = ["key", "sha256", *(["person_id"] if has_people else [])]
    tables = []
    for record in manifest.shards:
        with open_table(meta_path(root, record.name)) as file:
            if has_people and "person_id" not in file.schema_arrow.names:
                raise ValueError(f"{root} has no person_id; name the samples to remove by their keys")
            tables.append(file.read(columns))
    return pa.concat_tables(tables).replace_schema_metadata()


def _sort_names(request: Request, rows: pa.Table, log: Sequence[Erasure]) -> tuple[set[str], set[str], tuple[str, ...]]:
    """Sort the names of a request: keys to remove, names of earlier requests, and names that never were there."""
    logged = {digest for entry in log for digest in (*entry.key_sha256, *entry.person_sha256)}
    by_key = set(rows["key"].drop_null().to_pylist())
    by_person: dict[str, set[str]] = {person: set() for person in request.people}
    if request.people:
        for key, person in zip(rows["key"].to_pylist(), rows["person_id"].to_pylist(), strict=True):
            if key and person in by_person:
                by_person[person].add(key)
    names = {*request.keys, *request.people}
    named_before = {name for name in names if hash_name(name) in logged}  # some may still be there, after a kill
    missing = {key for key in request.keys if key not in by_key} | {
        name for name, keys in by_person.items() if not keys
    }
    found = by_key.intersection(request.keys).union(*by_person.values())
    known = {key for key in found if hash_name(key) not in logged}
    return known, named_before, tuple(sorted(missing - named_before))


def _erasure(request: Request, known: Collection[str], rows: pa.Table, revision: int) -> Erasure:
    gone = rows.filter(pc.is_in(rows["key"], pa.array(sorted(known), pa.string())))
    return Erasure(
        revision=revision,
        date=request.date,
        reason=request.reason,
        count=len(gone),
        key_sha256=sorted(hash_name(key) for key in known),
        person_sha256=sorted(hash_name(person) for person in request.people),
        image_sha256=sorted(set(gone["sha256"].drop_null().to_pylist())),
    )


def _agree(root: Path, manifest: Manifest, log: Sequence[Erasure], on_progress: Callable[[int, int], None]) -> None:
    """Make the data set agree with the log. What agrees already is left as it is, so that this may be repeated."""
    erased = frozenset(digest for entry in log for digest in entry.key_sha256)
    for folder in ("", "data", "meta", *([FOLDER] if (root / FOLDER).is_dir() else [])):
        remove_stale_temporaries(root / folder)
    names = [record.name for record in manifest.shards]
    on_progress(0, len(names))
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        for done, _ in enumerate(pool.map(lambda name: _erase_from_shard(root, name, erased), names), start=1):
            on_progress(done, len(names))
    _erase_from_repeats(root, erased)
    header = {**manifest.header, "revision": log[-1].revision}
    done_manifest = finalise(root, manifest.shard_counts, header)
    if "card" in header:
        write_card(root, done_manifest)


def _erase_from_shard(root: Path, name: str, erased: Collection[str]) -> None:
    """Rewrite tar, table and embeddings of a shard without the erased rows, if it has any."""
    before = read_footer(meta_path(root, name))
    with open_table(meta_path(root, name)) as file:
        rows = file.read()
    is_erased = _are_erased(rows["key"], erased)
    if not is_erased.any():
        return
    told = {"reason": [ERASED] * len(rows), "detail": ["removed by request"] * len(rows), "path": [""] * len(rows)}
    left = reject(rows, is_erased, {column: pa.array(values, pa.string()) for column, values in told.items()})
    part = Part(tar_path(root, name), left)
    if embeddings_path(root, name).exists():
        write_features(
            embeddings_path(root, name), take_features([embeddings_path(root, name)], part.kept["key"].to_pylist())
        )
    size_bytes = part.tar.stat().st_size
    if size_bytes == tar_size(left) != before.size_bytes:  # a run was killed after it had put this tar into place
        with part.tar.open("rb") as tar:
            sha256 = hashlib.file_digest(tar, "sha256").hexdigest()
    elif size_bytes == before.size_bytes:
        sha256 = copy_tar(part.tar, [part])
    else:
        raise ValueError(f"{part.tar} has {size_bytes:,} bytes, not {before.size_bytes:,}; run passerby verify {root}")
    write_rows(root, name, moved_rows([part]), sha256=sha256, config_hash=before.config_hash)


def _erase_from_repeats(root: Path, erased: Collection[str]) -> None:
    """Forget what the erased samples repeated, and that others repeated them."""
    path = root / REPEATS_NAME
    if not path.exists():
        return
    table = pq.read_table(path)
    table = table.filter(pa.array(~_are_erased(table["key"], erased)))
    is_gone = pa.array(_are_erased(table["other_key"], erased))
    others = pc.if_else(is_gone, "", table["other_key"])
    column = table.schema.get_field_index("other_key")
    with atomic_file(path) as file:
        pq.write_table(table.set_column(column, table.schema.field(column), others), file, compression="zstd")


def _are_erased(keys: pa.ChunkedArray, erased: Collection[str]) -> NDArray[np.bool_]:
    return np.array([bool(key) and hash_name(key) in erased for key in keys.to_pylist()], bool)
