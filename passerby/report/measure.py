"""Measure a data set: parts on several processes, counts merged in the order of the parts, figures at the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.engine import run_units
from passerby.report.agreement import AgreementCounts
from passerby.report.attributes import AttributeCounts
from passerby.report.clip_tokens import ClipTokens
from passerby.report.diversity import DiversityCounts
from passerby.report.health import HealthCounts
from passerby.report.images import ImageCounts, people_of
from passerby.report.labels import Labels
from passerby.report.sources import Source
from passerby.report.wording import Captions, Vocabulary

if TYPE_CHECKING:
    from passerby.tokens import Tokenizer

FORMAT, VERSION = "passerby-report", 1
"""What a report says it is; the version grows when a key changes its meaning."""


@dataclass
class Counts:
    """Everything that is counted of one part; of all, once merged."""

    images: ImageCounts = field(default_factory=ImageCounts)
    diversity: DiversityCounts = field(default_factory=DiversityCounts)
    health: HealthCounts = field(default_factory=HealthCounts)
    attributes: AttributeCounts = field(default_factory=AttributeCounts)
    agreement: AgreementCounts = field(default_factory=AgreementCounts)

    def merge(self, other: "Counts") -> None:
        """Take in the counts of the part that comes next."""
        self.images.merge(other.images)
        self.diversity.merge(other.diversity)
        self.health.merge(other.health)
        self.attributes.merge(other.attributes)
        self.agreement.merge(other.agreement)


@dataclass(frozen=True)
class Measurement:
    """The work of a report, cut into the parts of its source."""

    source: Source
    labels: Labels | None = None
    bert: "Tokenizer | None" = None

    def run_unit(self, index: int) -> Counts:
        """Count one part."""
        counts = Counts()
        for table in self.source.batches(index):
            counts.images.add(table)
            counts.attributes.add(table)
            if self.labels:
                counts.agreement.add(table, self.labels)
            captions = _captions(table, self._vocabulary)
            counts.diversity.add(captions, self._vocabulary)
            counts.health.add(captions, self._vocabulary, self._token_counters)
        counts.diversity.compact()
        return counts

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary()

    @cached_property
    def _token_counters(self) -> Mapping[str, Callable[[str], int]]:
        counters: dict[str, Callable[[str], int]] = {"clip_bpe": ClipTokens()}
        if self.bert:
            counters["bert_wordpiece"] = self.bert.count
        return counters


def measure(
    measurement: Measurement, *, workers: int = 1, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Give the report on a data set, as `passerby.report` lists it, without a comparison.

    Args:
        measurement: What to measure.
        workers: Processes; the figures do not depend on them.
        on_progress: Is told how many parts of how many are done.

    Raises:
        ValueError: a file is damaged, or there is not a single caption.
    """
    counts = Counts()
    parts = len(measurement.source)
    for done, part in enumerate(run_units(measurement, range(parts), workers=min(workers, parts)), start=1):
        counts.merge(part)
        on_progress(done, parts)
    if counts.diversity.captions == 0:
        raise ValueError(f"{measurement.source.name} holds {counts.images.images:,} images and not a single caption")
    labels = measurement.labels
    fidelity = {
        **counts.attributes.figures(),
        "agreement": counts.agreement.figures(labels, counts.attributes) if labels else None,
    }
    splits = {split: counts.images.splits[split] for split in sorted(filter(None, counts.images.splits))}
    return {
        "format": FORMAT,
        "version": VERSION,
        "source": {"splits": splits, **measurement.source.describe()},
        **counts.images.totals(),
        "fidelity": fidelity,
        "diversity": counts.diversity.figures(),
        "health": {**counts.health.figures(), **counts.images.health()},
        "comparison": None,
    }


def _captions(table: pa.Table, vocabulary: Vocabulary) -> Captions:
    """Take the captions out of a table, one after the other, empty ones left out."""
    lists = table["captions"].combine_chunks()
    rows = pc.list_parent_indices(lists).to_numpy()
    numbers = np.arange(len(rows)) - np.searchsorted(rows, rows)
    texts = lists.flatten().to_pylist()
    is_said = np.fromiter((bool(text and text.strip()) for text in texts), np.bool_, len(texts))
    said = np.flatnonzero(is_said)
    keys, people = table["key"].to_pylist(), people_of(table)
    kept = [texts[place] for place in said]
    words, places = vocabulary.read(kept)
    owners = rows[said].tolist()
    return Captions(
        [keys[row] for row in owners],
        numbers[said].tolist(),
        [people[row] for row in owners],
        kept,
        words,
        places,
    )
