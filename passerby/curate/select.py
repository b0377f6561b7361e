"""Select from a data set: a smaller one of the same samples, byte for byte, that says where it comes from.

What is left out stays listed: in `meta/` and `quarantine.parquet` with the rule that left it out, and near-duplicates in
`repeats.parquet` with what they repeat. Inputs that the parent had left out are the parent's affair and not seen again.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from passerby import __version__
from passerby.card import write_card
from passerby.config import config_hash
from passerby.curate.parent import Parent, open_parent
from passerby.curate.repeats import REPEATS_SCHEMA, drop_near, drop_repeats, look_at
from passerby.curate.rules import KEPT, Ledger, OnProgress, Rules, apply_where, balance, cap_persons, check_columns
from passerby.runtime import atomic_file, remove_stale_temporaries, write_atomically
from passerby.shards.begin import claim, count_shards_by_split
from passerby.shards.copy import SHARDS_AT_ONCE, Part, copy_shard, reject
from passerby.shards.embeddings import FOLDER, embeddings_path, take_features, write_features
from passerby.shards.manifest import Manifest, finalise
from passerby.shards.table import read_rows
from passerby.shards.write import ShardRecord, meta_path, read_record, shard_names, tar_path

REPEATS_NAME = "repeats.parquet"


def select(
    root: Path,
    out: Path,
    rules: Rules,
    *,
    shards: int = 0,
    workers: int = 1,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Manifest:
    """Write what `rules` leave of the data set `root` as a data set of its own under `out`.

    The same rules give the same bytes with any number of workers. The run may be killed at any moment and started again.

    Args:
        root: the data set to select from; it is only read.
        out: folder of the new one.
        rules: what to select.
        shards: how many to write of the largest split, of the others in proportion; 0 chooses as for a new data set.
        workers: processes that look for near-duplicates.
        on_progress: called with what is being done, how many shards are done, and of how many.

    Raises:
        FileNotFoundError: `root` is no data set, or embeddings are asked for and missing.
        ModuleNotFoundError: there is a condition, and DuckDB is not installed.
        ValueError: the rules do not fit the data set, nothing is left, or `out` holds something else.
    """
    parent = open_parent(root)
    condition = check_columns(rules, parent)
    other = None if rules.not_near is None else open_parent(rules.not_near)
    ledger = Ledger(np.full(parent.seen, KEPT, np.int32))
    if condition is not None:
        apply_where(ledger, parent, condition)
        _check_left(ledger)  # before the folder is claimed: a condition is often mistaken, and soon mended
    config = _config(parent, other, rules, shards)
    claim(out, config)
    for folder in ("", "data", "meta", FOLDER):
        if folder != FOLDER or (root / FOLDER).is_dir():
            (out / folder).mkdir(exist_ok=True)
            remove_stale_temporaries(out / folder)
    _apply(ledger, parent, other, rules, workers=workers, on_progress=on_progress)
    _read_kept.cache_clear()  # the same path may hold another table by now
    copy = _plan(out, parent, ledger, config, shards)
    missing = copy.missing()
    units = len(copy.names)
    on_progress("copying", units - len(missing), units)
    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        for done, _ in enumerate(pool.map(copy.run_unit, missing), start=1 + units - len(missing)):
            on_progress("copying", done, units)
    _copy_other_embeddings(parent, out)
    if rules.not_near is not None or rules.is_deduplicated:
        _write_repeats(out, ledger)
    manifest = finalise(out, copy.splits, _header(parent, config, ledger))
    if "card" in manifest.header:
        write_card(out, manifest)
    return manifest


def count_same_person(out: Path) -> int | None:
    """Count the near-duplicates within one person that were left out; none where nobody looked for near-duplicates."""
    path = out / REPEATS_NAME
    return sum(pq.read_table(path)["is_same_person"].drop_null().to_pylist()) if path.exists() else None


@dataclass(frozen=True)
class Copy:
    """The job of copying what is left, one shard a unit."""

    root: Path
    parent: Parent
    splits: Mapping[str, int]
    """The splits, and how many shards each has."""
    spans: tuple[tuple[int, int], ...]
    """The samples that each shard sees, kept and left out alike: the first, and the one after the last."""
    codes: NDArray[np.int32]
    causes: tuple[tuple[str, str], ...]
    config_hash: str
    has_features: bool

    @property
    def names(self) -> list[str]:
        """Of the shards that there will be."""
        return shard_names(self.splits)

    def missing(self) -> list[int]:
        """Number the shards that are not done."""
        records = (read_record(self.root, name) for name in self.names)
        return [
            index for index, record in enumerate(records) if record is None or record.config_hash != self.config_hash
        ]

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index`."""
        start, stop = self.spans[index]
        parent, name = self.parent, self.names[index]
        first = int(np.searchsorted(parent.starts, start, side="right")) - 1
        last = int(np.searchsorted(parent.starts, stop, side="left"))
        parts = [self._part(shard, start, stop) for shard in range(first, last) if parent.manifest.shards[shard].kept]
        if self.has_features:
            kept = [embeddings_path(parent.root, parent.names[shard]) for shard in range(first, last)]
            keys = [key for part in parts for key in part.kept["key"].to_pylist()]
            write_features(embeddings_path(self.root, name), take_features(kept, keys))
        return copy_shard(self.root, name, parts, config_hash=self.config_hash)

    def _part(self, shard: int, start: int, stop: int) -> Part:
        """Give the rows of a parent's shard that lie between `start` and `stop`, with what is left out emptied."""
        first = self.parent.starts[shard]
        begin, end = max(start, first), min(stop, self.parent.starts[shard + 1])
        rows = _read_kept(meta_path(self.parent.root, self.parent.names[shard])).slice(begin - first, end - begin)
        codes = self.codes[begin:end]
        places = pa.array(codes, mask=codes == KEPT)
        reasons, details = (
            pa.array([cause[part] for cause in self.causes], pa.string()).take(places) for part in (0, 1)
        )
        told = {"reason": reasons, "detail": details, "key": rows["key"], "path": rows["path"]}
        return Part(tar_path(self.parent.root, self.parent.names[shard]), reject(rows, codes != KEPT, told))


@lru_cache(maxsize=SHARDS_AT_ONCE)
def _read_kept(table: Path) -> pa.Table:
    """Read the samples' rows of a table, which several smaller shards need one after the other."""
    return read_rows(table, "kept")


def _config(parent: Parent, other: Parent | None, rules: Rules, shards: int) -> dict[str, Any]:
    """Give everything that decides the bytes: how the parent was made, and what is selected from it. No paths."""
    is_near = other is not None or rules.is_deduplicated
    selection = {
        "version": __version__,
        "from_manifest_sha256": parent.manifest_sha256,
        "where": rules.where,
        "not_near_manifest_sha256": "" if other is None else other.manifest_sha256,
        "dedup": rules.is_deduplicated,
        "hash_distance": rules.hash_distance if is_near else None,
        "cosine": rules.cosine,
        "per_person": rules.per_person,
        "balance": rules.balance,
        "balance_to": rules.balance_to,
        "seed": rules.seed if rules.per_person or rules.balance else None,
        "shards": shards,
    }
    inherited = dict(parent.manifest.header.get("config", {}))
    return {**inherited, **{f"selection_{name}": value for name, value in selection.items()}}


def _apply(
    ledger: Ledger, parent: Parent, other: Parent | None, rules: Rules, *, workers: int, on_progress: OnProgress
) -> None:
    """Apply the rules that come after `where`."""
    if other is not None or rules.is_deduplicated:
        look = partial(look_at, has_features=rules.cosine is not None, workers=workers)
        images, problems = look(parent, ledger.left, on_progress=partial(on_progress, "hashing"))
        for row, problem in problems.items():
            ledger.drop(np.array([row]), problem.reason, str(problem))
        if other is not None:
            theirs, _ = look(other, np.arange(other.seen), on_progress=partial(on_progress, "hashing the other set"))
            images = drop_near(ledger, images, theirs, rules)
        if rules.is_deduplicated:
            drop_repeats(ledger, images, rules)
    keys = parent.column("key")
    if rules.per_person:
        cap_persons(ledger, parent, rules, keys)
    if rules.balance:
        balance(ledger, parent, rules, keys)
    _check_left(ledger)


def _check_left(ledger: Ledger) -> None:
    if len(ledger.left) == 0:
        raise ValueError(f"nothing is left of {len(ledger.codes):,} samples ({_counted(ledger)}); ask for less")


def _counted(ledger: Ledger) -> dict[str, int]:
    counts = Counter[str]()
    for code, count in zip(*np.unique(ledger.codes[ledger.codes != KEPT], return_counts=True), strict=True):
        counts[ledger.causes[code][0]] += int(count)
    return dict(sorted(counts.items()))


def _plan(out: Path, parent: Parent, ledger: Ledger, config: Mapping[str, Any], shards: int) -> Copy:
    """Cut what is left of each split into shards of about as many samples each; a split of which nothing is left goes."""
    left = ledger.left
    bounds = {
        split: (parent.starts[shards.start], parent.starts[shards.stop])
        for split, shards in parent.manifest.splits.items()
    }
    left_of = {split: left[slice(*np.searchsorted(left, bound))] for split, bound in bounds.items()}
    sizes = parent.column("image_size").take(pa.array(left)).to_numpy() if "image_size" in parent.schema.names else [0]
    counts = {split: len(rows) for split, rows in left_of.items() if len(rows)}
    splits = count_shards_by_split(counts, float(np.mean(sizes)), shards)
    spans: list[tuple[int, int]] = []
    for split, units in splits.items():
        cuts = [int(left_of[split][counts[split] * unit // units]) for unit in range(1, units)]
        start, stop = bounds[split]
        spans += pairwise((start, *cuts, stop))
    return Copy(
        root=out,
        parent=parent,
        splits=splits,
        spans=tuple(spans),
        codes=ledger.codes,
        causes=tuple(ledger.causes),
        config_hash=config_hash(config),
        has_features=(parent.root / FOLDER).is_dir(),
    )


def _header(parent: Parent, config: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    """Give the parent's entries of the manifest, and the chain of selections with this one as its last link."""
    inherited = {name: value for name, value in parent.manifest.header.items() if name not in ("config", "revision")}
    selection = {name.removeprefix("selection_"): config[name] for name in config if name.startswith("selection_")}
    link = {
        "title": parent.title,
        "revision": parent.manifest.header.get("revision", 1),
        "manifest_sha256": selection.pop("from_manifest_sha256"),
        "selection": selection,
        "seen": parent.seen,
        "dropped": _counted(ledger),
        "kept": len(ledger.left),
    }
    return {**inherited, "config": dict(config), "selected_from": [*inherited.get("selected_from", []), link]}


def _write_repeats(out: Path, ledger: Ledger) -> None:
    table = pa.concat_tables([REPEATS_SCHEMA.empty_table(), *ledger.repeats])
    with atomic_file(out / REPEATS_NAME) as file:
        pq.write_table(table, file, compression="zstd")


def _copy_other_embeddings(parent: Parent, out: Path) -> None:
    """Copy the embeddings that are of no shard: those of the texts."""
    for path in sorted((parent.root / FOLDER).glob("[!.]*.arrow")):
        if path.stem not in parent.names:
            write_atomically(out / FOLDER / path.name, path.read_bytes())
