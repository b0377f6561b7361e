"""What queries find: the nearest images of the gallery, right and wrong, without those that do not count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finetune.evaluate import Found
from finetune.target import Target
from passerby.browse import choose_evenly
from passerby.metrics.scores import rank_gallery


@dataclass(frozen=True)
class Search:
    """A query, and what it finds."""

    query: int
    """Sample that asks, or whose caption does."""

    caption: str
    """Empty where the image asks."""

    found: tuple[int, ...]
    """Samples, nearest first."""

    is_right: tuple[bool, ...]
    """Which of them show the person."""

    nearest_right: int
    """Place in the gallery of the nearest image of the person, however far; -1 where there is none that counts."""


def choose_queries(target: Target, *, keys: Sequence[str], count: int) -> list[int]:
    """Choose who asks: those of the keys, or some that have an answer, evenly spaced; as places among the queries.

    Of an image with several captions, the first asks.

    Raises:
        ValueError: a key is none of a query, or no query has an answer.
    """
    if keys:
        places = {target.keys[sample]: place for place, sample in reversed([*enumerate(target.queries.tolist())])}
        if unknown := [key for key in keys if key not in places]:
            raise ValueError(f"{unknown[0]} asks nothing in {target.samples.root}; its queries are of {target.split}")
        return [places[key] for key in keys]
    labels = target.labels("drop")
    labels.check()
    valid = [query for query in range(labels.queries) if not labels.of_person(query)[1].all()]
    return [valid[place] for place in choose_evenly(len(valid), count, seed=0)]


def search(target: Target, found: Found, *, top: int) -> list[Search]:
    """Let all queries search the gallery.

    Args:
        target: With few queries.
        found: Features of theirs.
        top: Images that each finds.
    """
    labels = target.labels("drop")
    distances = np.concatenate([block for _, block in found.blocks(is_reranked=False)])
    searches = []
    for ranked in rank_gallery([(0, distances)], labels, top=top):
        places, is_junk = labels.of_person(ranked.query)
        right = places[~is_junk]
        counts = ~ranked.is_junk
        searches.append(
            Search(
                query=int(target.queries[ranked.query]),
                caption="" if target.captions is None else target.captions[ranked.query],
                found=tuple(target.gallery[ranked.places[counts]].tolist()),
                is_right=tuple(ranked.is_good[counts].tolist()),
                nearest_right=int(right[distances[ranked.query, right].argmin()]) if len(right) else -1,
            )
        )
    return searches
