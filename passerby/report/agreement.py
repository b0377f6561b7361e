"""Fidelity with labels: how often the data set says what people said, and whether its confidences are worth their name."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerby.report.attributes import CONFIDENCE, AttributeCounts, attribute_names, attribute_values, has_confidence
from passerby.report.labels import NO, YES, Labels, names_value

ECE_BINS = 15
"""Of equal width, over 0 to 1, as Guo and others (2017) take."""

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

_Pair = tuple[str, str, str]
"""Column of the labels, label, and the value that the data set has."""


@dataclass
class Answers:
    """The images that have one label and one value."""

    images: int = 0
    sure: int = 0
    """How many of them come with a confidence."""

    bins: NDArray[np.int64] = field(default_factory=lambda: np.zeros(ECE_BINS, np.int64))
    bin_sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(ECE_BINS))
    """Sum of the confidences in each bin."""

    above: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    """Images at least as sure as each threshold."""

    def add(self, other: "Answers") -> None:
        """Take in other answers."""
        self.images += other.images
        self.sure += other.sure
        self.bins += other.bins
        self.bin_sums += other.bin_sums
        self.above += other.above


@dataclass
class AgreementCounts:
    """What is counted of some images; of all, once merged."""

    images_matched: int = 0
    rows_matched: set[int] = field(default_factory=set)
    answers: dict[_Pair, Answers] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    """Attributes whose empty value is an answer (none), not a gap: those that come with a confidence."""

    def add(self, table: pa.Table, labels: Labels) -> None:
        """Count the rows of one table that have labels."""
        rows = pc.index_in(table[labels.matched_by], labels.ids)
        table, rows = table.filter(rows.is_valid()), rows.drop_null()
        self.images_matched += len(table)
        self.rows_matched.update(pc.unique(rows).to_pylist())
        known = attribute_names(table)
        for column, attribute in labels.attributes.items():
            if attribute in known and len(table):
                said = labels.columns[column].take(rows.combine_chunks())
                self._add_column(column, said, table, attribute)

    def merge(self, other: "AgreementCounts") -> None:
        """Take in the counts of other images."""
        self.images_matched += other.images_matched
        self.rows_matched |= other.rows_matched
        self.answered |= other.answered
        for pair, answers in other.answers.items():
            self.answers.setdefault(pair, Answers()).add(answers)

    def figures(self, labels: Labels, attributes: AttributeCounts) -> dict[str, Any]:
        """Give `agreement`, as `passerby.report` lists it."""
        left_out = [column for column, name in labels.attributes.items() if name not in attributes.values]
        return {
            "labels": {
                "name": labels.name,
                "rows": len(labels.ids),
                "rows_unmatched": len(labels.ids) - len(self.rows_matched),
                "matched_by": labels.matched_by,
                "images_matched": self.images_matched,
            },
            "ece_bins": ECE_BINS,
            "left_out": left_out,
            "attributes": {
                column: self._column(column, labels, attributes)
                for column in labels.attributes
                if column not in left_out and self.images_matched
            },
        }

    def _add_column(self, column: str, said: pa.Array, table: pa.Table, attribute: str) -> None:
        values = attribute_values(table, attribute).combine_chunks()
        encoded = [array.dictionary_encode() for array in (said, values)]
        first, second = (array.indices.to_numpy() for array in encoded)
        pairs = first.astype(np.int64) * len(encoded[1].dictionary) + second
        confidence = np.full(len(values), np.nan)
        if has_confidence(table, attribute):
            self.answered.add(attribute)
            stored = table[attribute + CONFIDENCE].to_numpy()
            # an empty answer turned down the best phrase, whose probability is stored
            confidence = np.where(np.asarray(pc.equal(values, "")), 1 - stored, stored)
        for pair in np.unique(pairs):
            label, value = divmod(int(pair), len(encoded[1].dictionary))
            key = column, encoded[0].dictionary[label].as_py(), encoded[1].dictionary[value].as_py()
            self.answers.setdefault(key, Answers()).add(_count(confidence[pairs == pair]))

    def _column(self, column: str, labels: Labels, attributes: AttributeCounts) -> dict[str, Any]:
        attribute = labels.attributes[column]
        pairs = {(label, value): found for (name, label, value), found in self.answers.items() if name == column}
        said = {label for label, _ in pairs} - {""}
        is_presence = bool(said) and said <= YES | NO and not (YES & attributes.values[attribute].keys())
        words = labels.words[column]
        known = {
            *attributes.values[attribute],
            *(name for name in attributes.rivals if name.startswith(f"{attribute}.")),
        }
        compared: dict[str, dict[bool, Answers]] = {}
        not_compared: Counter[str] = Counter()
        for (label, value), found in sorted(pairs.items()):
            word = words.get(label, label)
            is_known = label in words or is_presence or any(names_value(word, name, attribute) for name in known)
            if reason := self._why_not(label, value, attribute, is_known=is_known):
                not_compared[reason] += found.images
                continue
            is_right = (value != "") == (word in YES) if is_presence else names_value(word, value, attribute)
            compared.setdefault(label, {}).setdefault(is_right, Answers()).add(found)
        return {
            "attribute": attribute,
            "compared_as": "present or not" if is_presence else "values",
            "not_compared": dict(sorted(not_compared.items())),
            **_scores(compared),
        }

    def _why_not(self, label: str, value: str, attribute: str, *, is_known: bool) -> str:
        if label == "":
            return "no label"
        if value == "" and attribute not in self.answered:
            return "no value in the data set"
        return "" if is_known else f"no value {label!r} occurs; if it is one, --label-map can say so"


def _count(confidence: NDArray[np.float64]) -> Answers:
    sure = confidence[~np.isnan(confidence)]
    bins = np.clip(np.ceil(sure * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    return Answers(
        len(confidence),
        len(sure),
        np.bincount(bins, minlength=ECE_BINS).astype(np.int64),
        np.bincount(bins, sure, minlength=ECE_BINS).astype(np.float64),
        np.array([(sure >= threshold).sum() for threshold in THRESHOLDS], np.int64),
    )


def _scores(compared: Mapping[str, Mapping[bool, Answers]]) -> dict[str, Any]:
    """Give the scores of one attribute from its answers, by label and by whether they are right."""
    everything, right = Answers(), Answers()
    classes = {}
    for label, by_truth in compared.items():
        for answers in by_truth.values():
            everything.add(answers)
        if True in by_truth:
            right.add(by_truth[True])
        correct = by_truth[True].images if True in by_truth else 0
        classes[label] = {"images": sum(answers.images for answers in by_truth.values()), "correct": correct}
    recalls = [row["correct"] / row["images"] for row in classes.values()]
    return {
        "compared": everything.images,
        "accuracy": _share(right.images, everything.images),
        "balanced_accuracy": round(sum(recalls) / len(recalls), 6) if recalls else None,
        "majority_share": _share(max((row["images"] for row in classes.values()), default=0), everything.images),
        "ece": _ece(everything, right) if everything.sure else None,
        "thresholds": _thresholds(everything, right) if everything.sure else None,
        "classes": classes,
    }


def _ece(everything: Answers, right: Answers) -> float:
    """Give the expected calibration error (Guo and others, 2017, eq. 3): bins open below and closed above."""
    return round(float(np.abs(right.bins - everything.bin_sums).sum()) / everything.sure, 6)


def _thresholds(everything: Answers, right: Answers) -> list[dict[str, Any]]:
    return [
        {"confidence": threshold, "coverage": _share(reached, everything.sure), "accuracy": _share(correct, reached)}
        for threshold, reached, correct in zip(THRESHOLDS, everything.above.tolist(), right.above.tolist(), strict=True)
    ]


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
