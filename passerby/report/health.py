"""Health: lengths, what a text tower cuts off, faults of English, and words on groups of people."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from passerby.report.tally import Tally
from passerby.report.terms import GROUPS, TermCounts
from passerby.report.wording import Captions, Vocabulary
from passerby.text import lint

CUTS = (64, 77, 100)
"""Tokens that text towers read: VTBR 64, CLIP 77, UniPT 100."""


_QUOTED = re.compile(r"""(?:(?<=\s)|^)(?:'.*?'|".*?")(?=\s|$)""")
"""What a message of the lint quotes from the text, which is no part of the fault's kind."""


@dataclass
class HealthCounts:
    """What is counted of some captions; of all, once merged."""

    captions: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    tokens: dict[str, Counter[int]] = field(default_factory=dict)
    faulty: int = 0
    faults: dict[str, Tally] = field(default_factory=dict)
    terms: list[TermCounts] = field(default_factory=lambda: [TermCounts(group) for group in GROUPS])

    def add(self, captions: Captions, vocabulary: Vocabulary, counters: Mapping[str, Callable[[str], int]]) -> None:
        """Count some captions.

        Args:
            captions: The captions.
            vocabulary: Where their words have their numbers.
            counters: What counts a text's tokens, by the name of its vocabulary.
        """
        self.captions += len(captions.texts)
        lengths = np.bincount(captions.places, minlength=len(captions.texts))
        self.lengths.update(lengths.tolist())
        for name, count in counters.items():
            self.tokens.setdefault(name, Counter()).update(map(count, captions.texts))
        self._lint(captions)
        for counts in self.terms:
            counts.add(captions, vocabulary)

    def merge(self, other: "HealthCounts") -> None:
        """Take in the counts of other captions, which come after these."""
        self.captions += other.captions
        self.lengths.update(other.lengths)
        for name, counts in other.tokens.items():
            self.tokens.setdefault(name, Counter()).update(counts)
        self.faulty += other.faulty
        for kind, tally in other.faults.items():
            self.faults.setdefault(kind, Tally()).merge(tally)
        for ours, theirs in zip(self.terms, other.terms, strict=True):
            ours.merge(theirs)

    def figures(self) -> dict[str, Any]:
        """Give the figures, under the names that `passerby.report` lists."""
        kinds = sorted(self.faults.items(), key=lambda item: (-item[1].captions, item[0]))
        tokens = {name: self.tokens.get(name) for name in ("clip_bpe", "bert_wordpiece")}
        return {
            "words": _spread(self.lengths),
            "tokens": {name: counts and {**_spread(counts), "cut": _cut(counts)} for name, counts in tokens.items()},
            "lint": {
                "captions": self.faulty,
                "share": round(self.faulty / max(1, self.captions), 6),
                "kinds": {kind: {"captions": tally.captions, "examples": tally.examples} for kind, tally in kinds},
            },
            "demographic_terms": {counts.group: counts.figures(self.captions) for counts in self.terms},
        }

    def _lint(self, captions: Captions) -> None:
        for place, text in enumerate(captions.texts):
            if faults := lint(text):
                self.faulty += 1
                for kind, detail in {_QUOTED.sub("…", fault): fault for fault in reversed(faults)}.items():
                    self.faults.setdefault(kind, Tally()).add(1, [{**captions.example(place), "detail": detail}])


def _spread(counts: Counter[int]) -> dict[str, Any]:
    total = sum(length * captions for length, captions in counts.items())
    return {
        "mean": round(total / max(1, counts.total()), 4),
        "min": min(counts, default=0),
        "max": max(counts, default=0),
        "histogram": {str(length): counts[length] for length in sorted(counts)},
    }


def _cut(counts: Counter[int]) -> dict[str, float]:
    total = max(1, counts.total())
    return {str(cut): round(sum(n for length, n in counts.items() if length > cut) / total, 6) for cut in CUTS}
