"""The rules of a selection, in the order they are applied: each sees what the ones before it have left.

`where` says what is wanted; `not_near` takes away what another set (a test set) holds; `dedup` leaves one of each group
of near-duplicates; `per_person` and `balance` cap counts, last of all, so that the counts are right in the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerby.curate.near import MAX_DISTANCE
from passerby.curate.parent import Parent
from passerby.curate.where import Condition, evaluate, parse_condition
from passerby.runtime import draw

KEPT = -1
UNKNOWN_VALUES = ("", "-1")
"""How a data set says that it does not know: nulls there are none."""

OnProgress = Callable[[str, int, int], None]
"""`on_progress(what, done, total)`."""


@dataclass(frozen=True)
class Rules:
    """What to select."""

    where: str = ""
    """A condition in SQL over the columns of `meta/`; empty keeps all."""
    not_near: Path | None = None
    """A data set, of whose images nothing may come near."""
    is_deduplicated: bool = False
    """Keep one of each group of near-duplicates."""
    hash_distance: int = 4
    """Of 64 bits, in how many two perceptual hashes may differ to be near-duplicates."""
    cosine: float | None = None
    """From which cosine on kept embeddings make near-duplicates as well; none: embeddings are not looked at."""
    per_person: int = 0
    """The most samples of one person; 0: any number. Samples of unknown persons are not counted together."""
    balance: str = ""
    """A column, of which every value is capped at the count of its rarest known value."""
    balance_to: int = 0
    """Cap at this count instead."""
    seed: int = 0
    """Seeds which samples a cap takes: by key, in whatever order they lie."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and options that do nothing."""
        if not 0 <= self.hash_distance <= MAX_DISTANCE:
            raise ValueError(f"hash distance is {self.hash_distance}; allowed is 0 to {MAX_DISTANCE}")
        if self.cosine is not None and not 0 < self.cosine <= 1:
            raise ValueError(f"cosine is {self.cosine}; allowed is above 0 up to 1")
        if self.cosine is not None and not (self.is_deduplicated or self.not_near):
            raise ValueError("a cosine says nothing without --dedup or --not-near")
        if self.balance_to and not self.balance:
            raise ValueError("--balance-to says nothing without --balance COLUMN")


@dataclass
class Ledger:
    """What has been left out so far, and why."""

    codes: NDArray[np.int32]
    """(samples,), `KEPT` or a place in `causes`."""
    causes: list[tuple[str, str]] = field(default_factory=list)
    """(reason, detail) pairs."""
    repeats: list[pa.Table] = field(default_factory=list)
    """Of the samples that are too near another; see `passerby.curate.repeats.REPEATS_SCHEMA`."""

    @property
    def left(self) -> NDArray[np.int64]:
        """The samples that are kept so far, in order."""
        return np.flatnonzero(self.codes == KEPT)

    def drop(self, samples: NDArray[np.int64], reason: str, detail: str) -> None:
        """Leave out `samples`, Int64 (samples,)."""
        if (reason, detail) not in self.causes:
            self.causes.append((reason, detail))
        self.codes[samples] = self.causes.index((reason, detail))


def check_columns(rules: Rules, parent: Parent) -> Condition | None:
    """Check what the rules name against the columns that there are; give the parsed condition.

    Raises:
        ModuleNotFoundError: there is a condition, and DuckDB is not installed.
        ValueError: the condition is none, or a column is missing or unfit.
    """
    for option, name in (("--per-person", "person_id" if rules.per_person else ""), ("--balance", rules.balance)):
        if name and name not in parent.schema.names:
            raise ValueError(f"{option} needs a column {name}; {parent.root} has {', '.join(parent.schema.names)}")
    if rules.balance and pa.types.is_list(parent.schema.field(rules.balance).type):
        raise ValueError(f"--balance takes a column of single values; {rules.balance} holds lists")
    return parse_condition(rules.where, parent.schema) if rules.where else None


def apply_where(ledger: Ledger, parent: Parent, condition: Condition) -> None:
    """Leave out the samples of which the condition does not hold."""
    columns = condition.columns or ("key",)
    holds = [evaluate(condition, parent.rows(shard, columns)) for shard in range(len(parent.names))]
    ledger.drop(np.flatnonzero(~np.concatenate(holds)), "where", "--where does not hold")


def cap_persons(ledger: Ledger, parent: Parent, rules: Rules, keys: pa.ChunkedArray) -> None:
    """Leave out all but `per_person` samples of each known person."""
    left = ledger.left
    people = parent.column("person_id").take(left)
    is_known = np.asarray(pc.invert(_is_unknown(people)))
    draws = _draws(keys, left[is_known], rules.seed, "per-person")
    over = _beyond(left[is_known], people.filter(pa.array(is_known)), draws, rules.per_person)
    ledger.drop(over, "per-person", f"more than {rules.per_person:,} samples of this person")


def balance(ledger: Ledger, parent: Parent, rules: Rules, keys: pa.ChunkedArray) -> None:
    """Cap every value of a column, the unknown one too, at the count of the rarest known value, or at `balance_to`.

    Raises:
        ValueError: no sample that is left has a known value.
    """
    left = ledger.left
    values = parent.column(rules.balance).take(left)
    counts = pc.value_counts(values.filter(pc.invert(_is_unknown(values)))).field("counts").to_pylist()
    if not counts:
        raise ValueError(f"--balance {rules.balance}: no sample that is left has a known value")
    cap = rules.balance_to or min(counts)
    over = _beyond(left, values, _draws(keys, left, rules.seed, "balance"), cap)
    ledger.drop(over, "balance", f"more than {cap:,} samples of one {rules.balance}")


def _is_unknown(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(values.cast(pa.string()), pa.array(UNKNOWN_VALUES))


def _draws(keys: pa.ChunkedArray, samples: NDArray[np.int64], seed: int, purpose: str) -> NDArray[np.uint64]:
    names = keys.take(pa.array(samples)).to_pylist()
    return np.fromiter((draw(seed, key, purpose=purpose) for key in names), np.uint64, len(names))


def _beyond(
    samples: NDArray[np.int64], values: pa.ChunkedArray, draws: NDArray[np.uint64], cap: int
) -> NDArray[np.int64]:
    """Give the samples beyond `cap` of each value: those with the highest draws."""
    groups = values.combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((draws, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return np.sort(samples[order[rank >= cap]])
