"""Self-BLEU: how much captions repeat each other, 0 (nothing) to 1 (all the same)."""

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4
EPSILON = 0.1
SMOOTHING = "method 1 of Chen and Cherry (2014): 0.1 where no n-gram matches"


def self_bleu(texts: Sequence[Sequence[str]]) -> float | None:
    """Give the mean BLEU-4 of every text, by its words, with all others as its references; `None` for fewer than two.

    An n-gram of a text counts as often as the other text that has it most often has it; so the two largest counts over
    all texts suffice, and time grows with the words, not with the square of the texts.

    Source: Zhu and others, "Texygen" (SIGIR 2018); BLEU-4, its closest reference length and its smoothing as in NLTK's
    `sentence_bleu(..., smoothing_function=SmoothingFunction().method1)`, which the tests compare with.
    """
    if len(texts) < 2:
        return None
    counts = [[_ngrams(text, order) for text in texts] for order in range(1, ORDER + 1)]
    largest = [_two_largest(of_order) for of_order in counts]
    lengths = Counter(map(len, texts))
    scores = []
    for place, text in enumerate(texts):
        precisions = [_precision(counts[order][place], largest[order]) for order in range(ORDER)]
        scores.append(_bleu(precisions, len(text), _closest(lengths, len(text))))
    return math.fsum(scores) / len(scores)


def _ngrams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[place:] for place in range(order)), strict=False))


def _two_largest(of_texts: Sequence[Counter[tuple[str, ...]]]) -> dict[tuple[str, ...], tuple[int, int]]:
    largest: dict[tuple[str, ...], tuple[int, int]] = {}
    for counts in of_texts:
        for ngram, count in counts.items():
            first, second = largest.get(ngram, (0, 0))
            largest[ngram] = (count, first) if count >= first else (first, max(second, count))
    return largest


def _precision(own: Counter[tuple[str, ...]], largest: dict[tuple[str, ...], tuple[int, int]]) -> tuple[int, int]:
    """Give matched and all n-grams of one text; what only the text itself has is not matched."""
    matched = 0
    for ngram, count in own.items():
        first, second = largest[ngram]
        matched += min(count, second if count == first else first)
    return matched, max(1, own.total())


def _bleu(precisions: Sequence[tuple[int, int]], length: int, reference_length: int) -> float:
    if precisions[0][0] == 0:
        return 0.0
    logarithms = [math.log((matched or EPSILON) / possible) for matched, possible in precisions]
    return math.exp(math.fsum(logarithms) / ORDER) * min(1.0, math.exp(1 - reference_length / length))


def _closest(lengths: Counter[int], length: int) -> int:
    """Give the length of the reference closest to `length`, the shorter one of two; the text itself is no reference."""
    others = (other for other, count in lengths.items() if count > (other == length))
    return min(others, key=lambda other: (abs(other - length), other))
