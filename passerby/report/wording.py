"""Captions as numbers: every word an integer, so that counting millions of them is arithmetic on arrays."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from passerby.text import WORD

Number = TypeVar("Number", np.uint64, np.int64)

_END = "\0"
_WORD_OR_END = re.compile(f"{WORD.pattern}|{_END}")

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio, odd: tells the order of words apart. The words' own hashes are random already."""


@dataclass(frozen=True)
class Captions:
    """Some captions, none of them empty, and their words."""

    keys: Sequence[str]
    """Of each caption, the key of its image."""

    numbers: Sequence[int]
    """Of each caption, which of its image's captions it is."""

    people: Sequence[str]
    """Of each caption, whom it describes; "" where unknown."""

    texts: Sequence[str]

    words: NDArray[np.int64]
    """Int (words,): numbers in a `Vocabulary`, in the order of the texts."""

    places: NDArray[np.int64]
    """Int (words,), rising: index of the caption that each word stands in."""

    def example(self, place: int) -> dict[str, str]:
        """Give a caption with the key of its image."""
        return {"key": self.keys[place], "caption": self.texts[place]}


class Vocabulary:
    """Numbers words as they come and keeps a hash of each; it grows as long as its process works."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self._numbers: dict[str, int] = {}
        self._hashes = np.empty(0, np.uint64)

    def read(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Split texts into words: their numbers, and of each the index of its text; both Int (words,).

        The words are those of `passerby.text.words_of`.
        """
        tokens = _WORD_OR_END.findall(_END.join([text.replace(_END, " ") for text in texts]).lower())
        numbers = self._numbers
        for word in dict.fromkeys(tokens):
            if word not in numbers and word != _END:
                numbers[word] = len(self.words)
                self.words.append(word)
        flat = np.fromiter((numbers.get(token, -1) for token in tokens), np.int64, len(tokens))
        is_word = flat >= 0
        return flat[is_word], np.cumsum(~is_word, dtype=np.int64)[is_word]

    def has(self, words: frozenset[str]) -> NDArray[np.bool_]:
        """Say of every number whether its word is one of `words`."""
        return np.fromiter((word in words for word in self.words), np.bool_, len(self.words))

    def hash_ngrams(self, captions: Captions, order: int) -> NDArray[np.uint64]:
        """Hash every run of `order` words within a caption to 64 bits, the same in every process. UInt (n-grams,)."""
        hashes = self._word_hashes()[captions.words]
        runs = max(0, len(hashes) - order + 1)
        mixed: NDArray[np.uint64] = np.zeros(runs, np.uint64)
        for place in range(order):
            mixed = mixed * _MULTIPLIER + hashes[place : place + runs]
        is_within = captions.places[:runs] == captions.places[order - 1 :]
        within: NDArray[np.uint64] = mixed[is_within]
        return within

    def _word_hashes(self) -> NDArray[np.uint64]:
        if fresh := self.words[len(self._hashes) :]:
            digests = b"".join(blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest() for word in fresh)
            self._hashes = np.concatenate([self._hashes, np.frombuffer(digests, np.uint64)])
        return self._hashes


def hash_texts(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Hash each text to 128 bits: UInt (texts, 2). Two texts of a billion share one with a chance of 1 in 10^20."""
    digests = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)


def group_rows(rows: NDArray[Number]) -> tuple[NDArray[Number], NDArray[np.int64]]:
    """Give the distinct rows, sorted, and how often each is there; Int (distinct,)."""
    if len(rows) == 0:
        return rows, np.empty(0, np.int64)
    ordered = rows[np.lexsort(rows.T[::-1])]
    starts = np.flatnonzero(np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    return ordered[starts], np.diff(np.append(starts, len(ordered)))
