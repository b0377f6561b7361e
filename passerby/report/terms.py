"""Words by which captions say something of people's groups: perceived gender and age, and skin or ethnicity, which none should."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from passerby.report.tally import Tally
from passerby.report.wording import Captions, Vocabulary, group_rows
from templates import TEMPLATES

GROUPS = ("perceived_gender", "perceived_age", "skin_or_ethnicity")


@dataclass
class TermCounts:
    """What is counted of the terms of one group."""

    group: str
    tally: Tally = field(default_factory=Tally)
    classes: Counter[str] = field(default_factory=Counter)
    """Captions that use a term of each class, such as `woman`."""

    terms: Counter[str] = field(default_factory=Counter)
    """Captions that use each term."""

    def add(self, captions: Captions, vocabulary: Vocabulary) -> None:
        """Count some captions."""
        class_of = load_terms()[self.group]
        names = [*class_of]
        # shape: (hits, 2): caption, and place of the term in `names`; each pair once
        hits, _ = group_rows(_find(captions, vocabulary, {name: place for place, name in enumerate(names)}))
        self.terms.update(names[place] for place in hits[:, 1].tolist())
        said: dict[str, set[int]] = {name: set() for name in class_of.values()}
        for caption, place in hits.tolist():
            said[class_of[names[place]]].add(caption)
        self.classes.update({name: len(captions) for name, captions in said.items()})
        every = sorted(set().union(*said.values()))
        self.tally.add(len(every), [captions.example(place) for place in every[: Tally.kept]])

    def merge(self, other: "TermCounts") -> None:
        """Take in the counts of other captions, which come after these."""
        self.tally.merge(other.tally)
        self.classes.update(other.classes)
        self.terms.update(other.terms)

    def figures(self, captions: int) -> dict[str, Any]:
        """Give the figures of the group, of so many captions in all."""
        return {
            "captions": self.tally.captions,
            "share": round(self.tally.captions / max(1, captions), 6),
            "classes": {name: self.classes[name] for name in dict.fromkeys(load_terms()[self.group].values())},
            "terms": dict(sorted(self.terms.items(), key=lambda item: (-item[1], item[0]))),
            "examples": self.tally.examples,
        }


@cache
def load_terms() -> Mapping[str, Mapping[str, str]]:
    """Give for each group its terms, one word or two, each with its class."""
    stored = yaml.safe_load((TEMPLATES / "report" / "demographic_terms.yaml").read_text(encoding="utf-8"))
    groups = {}
    for group in GROUPS:
        classes = {
            name: map(" ".join, product(*terms.values())) if isinstance(terms, dict) else terms
            for name, terms in stored[group].items()
        }
        groups[group] = {term: name for name, terms in classes.items() for term in terms}
    return groups


def _find(captions: Captions, vocabulary: Vocabulary, place_of: Mapping[str, int]) -> NDArray[np.int64]:
    """Find every use of a term; Int (uses, 2): caption, and place of the term."""
    words, places = captions.words, captions.places
    pairs = [term.partition(" ") for term in place_of if " " in term]
    is_first = vocabulary.has(frozenset(first for first, _, _ in pairs))
    is_second = vocabulary.has(frozenset(second for _, _, second in pairs))
    starts = np.flatnonzero(is_first[words[:-1]] & is_second[words[1:]] & (places[:-1] == places[1:]))
    names = [f"{vocabulary.words[words[start]]} {vocabulary.words[words[start + 1]]}" for start in starts]
    of_pairs = np.array([place_of.get(name, -1) for name in names], np.int64)
    starts, of_pairs = starts[of_pairs >= 0], of_pairs[of_pairs >= 0]
    of_word = np.fromiter((place_of.get(word, -1) for word in vocabulary.words), np.int64, len(vocabulary.words))
    found = of_word[words]
    found[starts] = of_pairs
    found[starts + 1] = -1
    is_use = found >= 0
    return np.column_stack([places[is_use], found[is_use]])
