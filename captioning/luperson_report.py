"""What a LUPerson-T data set says, beside what the published one says.

Source: UniPT, figure 4 (580,257 optional attributes in 1.28 million images) and section 4; shares are ours, from those counts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from captioning.divide import OPTIONAL, REQUIRED
from passerby.report.wording import hash_texts
from passerby.shards.read import ShardDataset
from passerby.text import words_of

PUBLISHED = {
    "bag": 221_750,
    "cellphone": 118_686,
    "glasses": 99_492,
    "hat": 97_063,
    "vehicle": 24_736,
    "gloves": 16_259,
    "umbrella": 1_578,
    "smoke": 693,
}
"""How many captions of the published data set name each optional attribute."""

PUBLISHED_IMAGES = 1_281_167
PUBLISHED_VOCABULARY = 459
_COUNTED_AT_ONCE = 2048
"""Samples whose words are in memory together, however large a shard is."""

FAR = 5.0
"""An attribute's share that is off by more than this factor is flagged."""


def measure(root: Path) -> dict[str, Any]:
    """Count attributes, words, captions and templates of a data set, from `meta/` alone.

    Returns:
        JSON: `attributes` (a row for each optional one), `rank_correlation` with the published counts (Spearman; `None`
        where fewer than two attributes occur), `classes` of the required ones, and figures on the text.

    Raises:
        FileNotFoundError, ValueError: `root` is no LUPerson-T data set.
    """
    dataset = ShardDataset(root)
    counts = _Counts(np.empty(len(dataset), np.uint64))
    for table in dataset.tables(["caption", "templates", *REQUIRED, *OPTIONAL]):
        for start in range(0, len(table), _COUNTED_AT_ONCE):
            counts.add(table.slice(start, _COUNTED_AT_ONCE))
    selected = {name: counts.optional[name] for name in PUBLISHED}
    return {
        "images": counts.images,
        "attributes": [_attribute(name, selected, counts.images) for name in PUBLISHED],
        "rank_correlation": rank_correlation([*selected.values()], [*PUBLISHED.values()]),
        "classes": {name: _shares(counts.classes[name], counts.images) for name in REQUIRED},
        **counts.text(),
        **_templates(counts.templates),
    }


@dataclass
class _Counts:
    """What is counted, table after table."""

    captions: NDArray[np.uint64]
    """UInt (images,): hashes of the captions counted, which are all that is kept of them."""

    images: int = 0
    optional: Counter[str] = field(default_factory=Counter)
    classes: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in REQUIRED})
    templates: Counter[str] = field(default_factory=Counter)
    vocabulary: set[str] = field(default_factory=set)
    lengths: Counter[int] = field(default_factory=Counter)
    """Captions by their number of words."""

    def add(self, table: pa.Table) -> None:
        """Count the samples of a table."""
        start, self.images = self.images, self.images + len(table)
        self.captions[start : self.images] = hash_texts(table["caption"].to_pylist())[:, 0]
        for name in OPTIONAL:
            self.optional[name] += pc.sum(pc.not_equal(table[name], "")).as_py() or 0
        for name, classes in self.classes.items():
            classes.update(_count(table[name]))
        self.templates.update(_count(pc.list_flatten(table["templates"])))
        for chunk in table["caption"].chunks:
            self._add_words(chunk)

    def _add_words(self, captions: pa.StringArray) -> None:
        """Count words, by way of the few distinct pieces between the spaces."""
        pieces = pc.utf8_split_whitespace(pc.utf8_lower(captions))
        encoded = pieces.flatten().dictionary_encode()
        words = [words_of(piece) for piece in encoded.dictionary.to_pylist()]
        self.vocabulary.update(word for several in words for word in several)
        counts = np.array([len(several) for several in words], np.int64)[encoded.indices]
        ends = np.cumsum(pc.list_value_length(pieces).to_numpy())
        lengths = np.diff(np.r_[0, np.cumsum(counts)][np.r_[0, ends]])
        self.lengths.update(lengths.tolist())

    def text(self) -> dict[str, Any]:
        """Give the figures on the captions."""
        self.captions.sort()
        return {
            "distinct_captions": int(np.count_nonzero(np.diff(self.captions))) + (self.images > 0),
            "vocabulary": len(self.vocabulary),
            "words_mean": round(sum(n * times for n, times in self.lengths.items()) / max(self.lengths.total(), 1), 3),
            "words_min": min(self.lengths, default=0),
            "words_max": max(self.lengths, default=0),
        }


def _count(column: pa.ChunkedArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(column).to_pylist()}


def rank_correlation(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Give Spearman's rank correlation, ties sharing their mean rank; `None` where one side has a single value throughout."""
    first, second = _ranks(ours), _ranks(theirs)
    means = sum(first) / len(first), sum(second) / len(second)
    products = sum((a - means[0]) * (b - means[1]) for a, b in zip(first, second, strict=True))
    squares = sum((a - means[0]) ** 2 for a in first) * sum((b - means[1]) ** 2 for b in second)
    return round(products / squares**0.5, 4) if squares else None


def show(report: Mapping[str, Any]) -> str:
    """Lay the report out as a table for people."""
    lines = ["attribute    selected  of images  published   ratio"]
    for row in report["attributes"]:
        flag = f"  off by more than {FAR:g} times" if row["is_far"] else ""
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        counts = f"{row['selected']:>8,}  {row['share']:>9.2%}  {row['published_share']:>9.2%}"
        lines.append(f"{row['attribute']:<11}{counts}  {ratio:>6}{flag}")
    correlation = "undefined" if report["rank_correlation"] is None else f"{report['rank_correlation']:.2f}"
    lines += [
        f"rank correlation with the published counts: {correlation}",
        f"captions: {report['distinct_captions']:,} distinct of {report['images']:,}; "
        f"{report['words_mean']:.1f} words on average, {report['words_min']} to {report['words_max']}",
        f"vocabulary: {report['vocabulary']:,} words (published: {PUBLISHED_VOCABULARY})",
        f"templates: {report['templates_used']} used; chi-square against uniform {report['templates_chi_square']:.0f}",
    ]
    for name, shares in report["classes"].items():
        common = ", ".join(f"{phrase.partition('.')[2]} {share:.1%}" for phrase, share in list(shares.items())[:4])
        lines.append(f"{name}: {common}")
    return "\n".join(lines)


def _attribute(name: str, counts: Mapping[str, int], images: int) -> dict[str, Any]:
    share, published = counts[name] / max(images, 1), PUBLISHED[name] / PUBLISHED_IMAGES
    return {
        "attribute": name,
        "selected": counts[name],
        "share": round(share, 6),
        "share_of_occurrences": round(counts[name] / max(sum(counts.values()), 1), 6),
        "published_count": PUBLISHED[name],
        "published_share": round(published, 6),
        "ratio": round(share / published, 4) if share else None,
        "is_far": not published / FAR <= share <= published * FAR,
    }


def _shares(counts: Mapping[str, int], images: int) -> dict[str, float]:
    counted = sorted(((count, value) for value, count in counts.items()), reverse=True)
    return {value: round(count / images, 6) for count, value in counted}


def _templates(counts: Mapping[str, int]) -> dict[str, Any]:
    expected = sum(counts.values()) / max(len(counts), 1)
    chi_square = sum((count - expected) ** 2 for count in counts.values()) / expected if counts else 0.0
    return {"templates_used": len(counts), "templates_chi_square": round(chi_square, 2)}


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
