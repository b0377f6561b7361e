"""Diversity: how many words, texts and runs of words there are, how alike the texts, and of how many people one is said."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from passerby.report.self_bleu import SMOOTHING, self_bleu
from passerby.report.wording import Captions, Vocabulary, group_rows, hash_texts
from passerby.runtime import draw
from passerby.text import words_of

TOKENISATION = "Words are runs of letters and digits in lower case, with hyphens and apostrophes inside."
SAMPLE_SIZE = 500
"""Texts that self-BLEU compares. Below a thousand it hardly moves with the sample, as in Texygen, which takes 500."""

SEED = 0
TOP_WORDS = 100
NGRAMS = (2, 3)


@dataclass
class DiversityCounts:
    """What is counted of some captions; of all, once merged."""

    captions: int = 0
    words: Counter[str] = field(default_factory=Counter)
    ngrams: dict[int, list[NDArray[np.uint64]]] = field(default_factory=lambda: {order: [] for order in NGRAMS})
    ngram_totals: Counter[int] = field(default_factory=Counter)
    texts: list[NDArray[np.uint64]] = field(default_factory=list)
    """UInt (captions, 3): hash of the text, and of the person, 0 where unknown."""

    sample: list[tuple[int, str, str]] = field(default_factory=list)
    """Draw, key and text of the captions that drew lowest, at most `SAMPLE_SIZE`."""

    def add(self, captions: Captions, vocabulary: Vocabulary) -> None:
        """Count some captions."""
        self.captions += len(captions.texts)
        times = np.bincount(captions.words, minlength=len(vocabulary.words))
        self.words.update({vocabulary.words[number]: int(times[number]) for number in np.flatnonzero(times)})
        for order in NGRAMS:
            hashes = vocabulary.hash_ngrams(captions, order)
            self.ngram_totals[order] += len(hashes)
            self.ngrams[order].append(np.unique(hashes))
        self.texts.append(np.column_stack([hash_texts(captions.texts), _hash_people(captions.people)]))
        drawn = (
            (draw(SEED, key, number, "self-bleu"), key, text)
            for key, number, text in zip(captions.keys, captions.numbers, captions.texts, strict=True)
        )
        self.sample = heapq.nsmallest(SAMPLE_SIZE, [*self.sample, *drawn])

    def merge(self, other: "DiversityCounts") -> None:
        """Take in the counts of other captions."""
        self.captions += other.captions
        self.words.update(other.words)
        self.ngram_totals.update(other.ngram_totals)
        for order in NGRAMS:
            self.ngrams[order] += other.ngrams[order]
        self.texts += other.texts
        self.sample = heapq.nsmallest(SAMPLE_SIZE, self.sample + other.sample)

    def compact(self) -> None:
        """Forget what is there twice, before a result travels to another process."""
        self.ngrams = {order: [_distinct(arrays)] for order, arrays in self.ngrams.items()}

    def figures(self) -> dict[str, Any]:
        """Give the figures, under the names that `passerby.report` lists."""
        texts = np.concatenate([np.empty((0, 3), np.uint64), *self.texts])
        distinct = len(group_rows(texts[:, :2])[0])
        total = self.words.total()
        bleu = self_bleu([words_of(text) for _, _, text in self.sample])
        ordered = sorted(self.words.items(), key=lambda item: (-item[1], item[0]))
        return {
            "tokenisation": TOKENISATION,
            "words": total,
            "vocabulary": len(self.words),
            "top_words": dict(ordered[:TOP_WORDS]),
            "distinct_captions": distinct,
            "distinct_caption_share": round(distinct / max(1, self.captions), 6),
            "distinct_1": round(len(self.words) / max(1, total), 6),
            **{
                f"distinct_{order}": round(len(_distinct(self.ngrams[order])) / max(1, self.ngram_totals[order]), 6)
                for order in NGRAMS
            },
            "self_bleu_4": {
                "value": None if bleu is None else round(bleu, 6),
                "sample": len(self.sample),
                "of": self.captions,
                "seed": SEED,
                "smoothing": SMOOTHING,
            },
            "shared_texts": _shared(texts),
        }


def _shared(texts: NDArray[np.uint64]) -> dict[str, int] | None:
    """Find the texts that are said of several people."""
    said, _ = group_rows(texts[texts[:, 2] != 0])
    if len(said) == 0:
        return None
    starts = np.flatnonzero(np.concatenate([[True], (said[1:, :2] != said[:-1, :2]).any(axis=1)]))
    people = np.diff(np.append(starts, len(said)))
    is_shared = np.repeat(people > 1, people)
    return {
        "texts": int((people > 1).sum()),
        "people": len(np.unique(said[is_shared, 2])),
        "most_people": int(people.max()),
    }


def _hash_people(people: Sequence[str]) -> NDArray[np.uint64]:
    distinct = dict.fromkeys(people)
    hashes = dict(zip(distinct, hash_texts([*distinct])[:, 0].tolist(), strict=True))
    return np.array([hashes[person] if person else 0 for person in people], np.uint64)


def _distinct(arrays: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *arrays]))
