"""Fidelity without labels: which values the attributes take, and how sure their maker was."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BINS = 20
MAX_VALUES = 1000
"""A column with more values is no attribute: a name, a link, a sentence. LUPerson-T's garments take a few hundred."""

CONFIDENCE = "_confidence"

_NO_ATTRIBUTES = frozenset(
    (
        "key",
        "captions",
        "person_id",
        "split",
        "sha256",
        "width",
        "height",
        "source",
        "path",
        "template",
        "recipe",
        "url",
    )
)
"""Columns that say where a row came from."""

_RIVALS = "runners_up"
"""LUPerson-T's column of second choices, as `ATTRIBUTE.VALUE`: it names values that no image got."""


@dataclass
class Confidence:
    """How sure the answers of one attribute were."""

    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: float = 0.0
    below_half: int = 0


@dataclass
class AttributeCounts:
    """What is counted of some images; of all, once merged."""

    images: int = 0
    values: dict[str, Counter[str]] = field(default_factory=dict)
    confidences: dict[str, Confidence] = field(default_factory=dict)
    too_many: set[str] = field(default_factory=set)
    rivals: set[str] = field(default_factory=set)

    def add(self, table: pa.Table) -> None:
        """Count the rows of one table, whose columns are named as in `passerby.readers.caption_files`."""
        self.images += len(table)
        for name in attribute_names(table):
            counted = pc.value_counts(attribute_values(table, name).combine_chunks())
            pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
            self._take(name, Counter(dict(pairs)))
            if has_confidence(table, name):
                self._take_confidence(name, table[name + CONFIDENCE].to_numpy())
        if _RIVALS in table.column_names:
            self.rivals.update(pc.unique(pc.list_flatten(table[_RIVALS])).to_pylist())

    def merge(self, other: "AttributeCounts") -> None:
        """Take in the counts of other images."""
        self.images += other.images
        self.too_many |= other.too_many
        self.rivals |= other.rivals
        for name, counts in other.values.items():
            self._take(name, counts)
        for name, theirs in other.confidences.items():
            ours = self.confidences.setdefault(name, Confidence())
            ours.bins += theirs.bins
            ours.total += theirs.total
            ours.below_half += theirs.below_half

    def figures(self) -> dict[str, Any]:
        """Give `attributes` and `not_attributes`, as `passerby.report` lists them."""
        reason = f"more than {MAX_VALUES:,} values"
        return {
            "attributes": {name: self._attribute(name) for name in self.values if name not in self.too_many},
            "not_attributes": dict.fromkeys(sorted(self.too_many), reason),
        }

    def _take(self, name: str, counts: Counter[str]) -> None:
        ours = self.values.setdefault(name, Counter())
        if name not in self.too_many:
            ours.update(counts)
            if len(ours) > MAX_VALUES:
                self.too_many.add(name)
                ours.clear()

    def _take_confidence(self, name: str, confidence: NDArray[np.float64]) -> None:
        known = confidence[~np.isnan(confidence)]
        ours = self.confidences.setdefault(name, Confidence())
        ours.bins += np.histogram(np.clip(known, 0, 1), bins=BINS, range=(0, 1))[0]
        ours.total += float(known.sum())
        ours.below_half += int((known < 0.5).sum())

    def _attribute(self, name: str) -> dict[str, Any]:
        counts = self.values[name]
        known = max(1, counts.total())
        confidence = self.confidences.get(name)
        answers = max(1, int(confidence.bins.sum())) if confidence else 1
        return {
            "values": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
            "distinct": len(counts.keys() - {""}),
            "none_share": round(counts[""] / known, 6),
            "parts": _parts(counts, name),
            "confidence": confidence
            and {
                "mean": round(confidence.total / answers, 6),
                "below_half": round(confidence.below_half / answers, 6),
                "bins": confidence.bins.tolist(),
            },
        }


def _parts(counts: Counter[str], attribute: str) -> list[dict[str, int]] | None:
    """Count the parts of LUPerson-T's ids one by one: of `upper_clothes.black.pure.t-shirt` colour, pattern and garment."""
    ids = {
        value: value.removeprefix(f"{attribute}.").split(".") for value in counts if value.startswith(f"{attribute}.")
    }
    if max(map(len, ids.values()), default=0) < 2:
        return None
    parts: list[Counter[str]] = [Counter() for _ in range(max(map(len, ids.values())))]
    for value, words in ids.items():
        for part, word in zip(parts, words, strict=False):
            part[word] += counts[value]
    return [dict(sorted(part.items(), key=lambda item: (-item[1], item[0]))) for part in parts]


def attribute_names(table: pa.Table) -> list[str]:
    """List the columns that hold an attribute: one word or number of a small set for each image."""
    return [
        name
        for name, kind in zip(table.column_names, table.schema.types, strict=True)
        if name not in _NO_ATTRIBUTES
        and (
            pa.types.is_string(kind)
            or pa.types.is_boolean(kind)
            or (pa.types.is_integer(kind) and name.endswith("_id"))
        )
    ]


def has_confidence(table: pa.Table, attribute: str) -> bool:
    """Say whether the table has the confidences of an attribute."""
    name = attribute + CONFIDENCE
    return name in table.column_names and bool(pa.types.is_floating(table[name].type))


def attribute_values(table: pa.Table, name: str) -> pa.ChunkedArray:
    """Give an attribute as strings, "" where there is none or it is unknown (null, or -1 in a number)."""
    values = table[name]
    texts = pc.fill_null(values.cast(pa.string()), "")
    return pc.if_else(pc.equal(texts, "-1"), "", texts) if pa.types.is_integer(values.type) else texts
