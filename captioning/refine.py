"""Refined selecting: mention an attribute's value only where its probability in the data set is at most λ.

Source: VTBR, section 3.3, eq. 1. Read literally, eq. 1 keeps a sentence only if all its attributes are rare enough; its text
("select representative attributes … with lower probability") and the released captions drop single attributes, as here. The
equation's K, "the number of identities", is the number of slots in the sentence.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from captioning.attributes import IDENTITY_SLOTS, SLOTS
from passerby.untrusted import read_json


@dataclass(frozen=True, slots=True)
class Probability:
    """How often one slot has one value: `count` of the `total` identities (or images) whose slot is known."""

    slot: str
    value: str
    count: int
    total: int

    @property
    def level(self) -> str:
        """What was counted: identities for what belongs to a person, images for view, weather and illumination."""
        return "identity" if self.slot in IDENTITY_SLOTS else "image"

    def is_mentioned(self, threshold: Fraction) -> bool:
        """Tell whether P ≤ λ, in whole numbers."""
        return self.count * threshold.denominator <= threshold.numerator * self.total


@dataclass(frozen=True, slots=True)
class ProbabilityTable:
    """P(slot = value) for every value of every slot, in the order of `SLOTS`."""

    rows: tuple[Probability, ...]

    def mentioned(self, threshold: Fraction) -> frozenset[tuple[str, str]]:
        """Give the (slot, value) pairs that captions name: P ≤ λ, inclusive. A value never seen has P = 0."""
        return frozenset((row.slot, row.value) for row in self.rows if row.is_mentioned(threshold))

    def to_json(self, threshold: Fraction) -> list[dict[str, Any]]:
        """Give the table as records, with what survives λ, to be stored with the data set."""
        return [
            {
                "slot": row.slot,
                "value": row.value,
                "level": row.level,
                "count": row.count,
                "total": row.total,
                "is_mentioned": row.is_mentioned(threshold),
            }
            for row in self.rows
        ]

    @staticmethod
    def from_json(records: Iterable[Mapping[str, Any]]) -> "ProbabilityTable":
        """Read back what `to_json` gave, to apply the training split's table to another split.

        Raises:
            ValueError: a record lacks an entry.
        """
        try:
            stored = {(row["slot"], row["value"]): (int(row["count"]), int(row["total"])) for row in records}
        except (KeyError, TypeError) as error:
            raise ValueError(f"a stored probability lacks {error}; each needs slot, value, count and total") from error
        rows = [(slot, value) for slot, values in SLOTS.items() for value in values]
        return ProbabilityTable(tuple(Probability(*row, *stored.get(row, (0, 0))) for row in rows))


def measure_probabilities(
    people: Iterable[Mapping[str, str]], images: Mapping[str, Mapping[str, int]]
) -> ProbabilityTable:
    """Count how probable every value is, over the training images and their identities, before anything is left out.

    Args:
        people: The known words of each identity that has images.
        images: For view, weather and illumination, the number of images of each word.

    Source: VTBR, section 3.3: "in terms of identity". View, weather and illumination vary within an identity, so they are
        counted over images.
    """
    counts: dict[str, Counter[str]] = {slot: Counter(images.get(slot, {})) for slot in SLOTS}
    for words in people:
        for slot, word in words.items():
            counts[slot][word] += 1
    return ProbabilityTable(
        tuple(
            Probability(slot, value, counts[slot][value], counts[slot].total())
            for slot, values in SLOTS.items()
            for value in values
        )
    )


def parse_threshold(text: str) -> Fraction:
    """Read λ exactly: "0.8" is 4/5, so a value with P = 4/5 is kept.

    Raises:
        ValueError: not a number, or outside [0, 1].
    """
    try:
        threshold = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"lambda is {text!r}; give a number from 0 to 1, such as 0.8") from None
    if not 0 <= threshold <= 1:
        raise ValueError(f"lambda is {text}; allowed is 0 to 1: 1 mentions every attribute, 0.8 drops the most common")
    return threshold


def read_probabilities(manifest: Path) -> ProbabilityTable:
    """Read the table that a data set's `manifest.json` stores.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no manifest with probabilities.
    """
    stored = read_json(manifest)
    if not isinstance(stored, dict) or "probabilities" not in stored:
        raise ValueError(f"{manifest} stores no probabilities; give the manifest.json of a FineGPR-C data set")
    try:
        return ProbabilityTable.from_json(stored["probabilities"])
    except ValueError as error:
        raise ValueError(f"{manifest}: {error}") from None
