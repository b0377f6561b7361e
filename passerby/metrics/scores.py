"""CMC, mAP and mINP of ranked galleries by the protocol of Market-1501, and Rank-k for text queries.

Only the ranks of the right images matter, so nothing is ranked as a whole: where a few distances stand among the sorted ones is
enough. Of equal distances the one that is earlier in the gallery comes first, as in a stable sort.

Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015 (protocol, CMC, mAP); Ye et al., Deep Learning for
Person Re-identification: A Survey and Outlook, TPAMI 2021 (mINP).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from passerby.metrics.distances import CHUNK_BYTES, Block, Distance, Features, distance_blocks, nearest
from passerby.metrics.labels import Labels

AveragePrecision = Literal["step", "trapezoid"]

RANKS = (1, 5, 10)


@dataclass(frozen=True)
class Scores:
    """What a ranking is worth. Shares are from 0 to 1, means over the valid queries."""

    rank: Mapping[int, float]
    """Of each k, the share of queries with a good image among the first k: CMC, or Rank-k."""

    mAP: float  # noqa: N815  (the field's name)
    """Mean average precision."""

    mINP: float  # noqa: N815  (the field's name)
    """Mean inverse negative penalty: good images, over the rank of the last of them."""

    average_precision: AveragePrecision
    """How `mAP` was summed; two ways do not compare."""

    valid_queries: int
    """That have a good image in the gallery."""

    queries: int
    gallery: int

    def to_dict(self) -> dict[str, float | str]:
        """Give everything as JSON takes it: `rank_1`, `rank_5`, …, `mAP`, `mINP`, …."""
        ranks = {f"rank_{k}": share for k, share in self.rank.items()}
        return ranks | {name: value for name, value in vars(self).items() if name != "rank"}


def evaluate_retrieval(
    query_features: Features,
    gallery_features: Features,
    labels: Labels,
    *,
    distance: Distance,
    ranks: Sequence[int] = RANKS,
    average_precision: AveragePrecision = "step",
    chunk_bytes: int = CHUNK_BYTES,
) -> Scores:
    """Score how well queries find their persons in a gallery.

    Args:
        query_features: Float (queries, width), numpy or torch, on any device.
        gallery_features: Float (gallery, width).
        labels: Of both.
        distance: As in `passerby.metrics.distances.distance_blocks`.
        ranks: The k of Rank-k.
        average_precision: As in `evaluate_distances`.
        chunk_bytes: Of distances at a time.

    Raises:
        ValueError: as `distance_blocks` and `evaluate_distances`.
    """
    blocks = distance_blocks(query_features, gallery_features, distance=distance, chunk_bytes=chunk_bytes)
    return evaluate_distances(blocks, labels, ranks=ranks, average_precision=average_precision)


def evaluate_distances(
    blocks: Iterable[Block],
    labels: Labels,
    *,
    ranks: Sequence[int] = RANKS,
    average_precision: AveragePrecision = "step",
) -> Scores:
    """Score distances that come a block at a time, as from `distance_blocks` or `passerby.metrics.reranking.rerank`.

    Args:
        blocks: Of all queries, in order; `[(0, matrix)]` for a whole matrix.
        labels: Of queries and gallery.
        ranks: The k of Rank-k.
        average_precision: `step`, the mean of the precision at each good image, as papers report it; or `trapezoid`, the area
            under the precision-recall curve of Market-1501's own Matlab code, which is never more.

    Raises:
        ValueError: no query is valid; distances are not those of `labels`, or hold NaN; no such k or `average_precision`.
    """
    if average_precision not in _AVERAGES:
        raise ValueError(f"average_precision is {average_precision!r}; allowed are {', '.join(_AVERAGES)}")
    if not ranks or min(ranks) < 1:
        raise ValueError(f"ranks are {tuple(ranks)}; must be 1 or more, such as {RANKS}")
    labels.check()
    firsts, averages, penalties = [], [], []
    for query, distances in _rows(blocks, labels):
        places, is_junk = labels.of_person(query)
        if is_junk.all():
            continue
        good = good_ranks(distances, places, is_junk)
        firsts.append(good[0])
        averages.append(_AVERAGES[average_precision](good))
        penalties.append(len(good) / good[-1])
    return Scores(
        rank={k: float(np.mean(np.less_equal(firsts, k))) for k in ranks},
        mAP=float(np.mean(averages)),
        mINP=float(np.mean(penalties)),
        average_precision=average_precision,
        valid_queries=len(firsts),
        queries=labels.queries,
        gallery=labels.gallery,
    )


class RankedGallery(NamedTuple):
    """The first images that a query finds, nearest first."""

    query: int
    places: NDArray[np.int64]
    """In the gallery, (images,)."""

    is_good: NDArray[np.bool_]
    """Those that show the person, Bool (images,)."""

    is_junk: NDArray[np.bool_]
    """Those that do not count, Bool (images,)."""


def rank_gallery(blocks: Iterable[Block], labels: Labels, *, top: int = 10) -> Iterator[RankedGallery]:
    """Yield for each query the first images that count, and the junk before the last of them.

    Args:
        blocks: As in `evaluate_distances`.
        labels: Of queries and gallery.
        top: How many images that count, or all if there are fewer.

    Raises:
        ValueError: `top` is less than 1; distances are not those of `labels`, or hold NaN.
    """
    if top < 1:
        raise ValueError(f"top is {top}; must be 1 or more")
    for query, distances in _rows(blocks, labels):
        places, is_junk = labels.of_person(query)
        ranked = nearest(distances, top + int(is_junk.sum()))
        ranked = ranked[: np.searchsorted(np.cumsum(~np.isin(ranked, places[is_junk])), top) + 1]
        yield RankedGallery(query, ranked, np.isin(ranked, places[~is_junk]), np.isin(ranked, places[is_junk]))


def good_ranks(distances: NDArray[Any], places: NDArray[np.int64], is_junk: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the ranks of the good images of a query, from 1, ascending, once the junk is gone: Int64 (good,).

    Args:
        distances: Float (gallery,).
        places: Where the gallery shows the person: Int64 (images,).
        is_junk: Which of these are junk: Bool (images,).
    """
    ordered, wanted = np.sort(distances), distances[places]
    before = np.searchsorted(ordered, wanted)
    is_tied = np.searchsorted(ordered, wanted, side="right") - before > 1
    for value in np.unique(wanted[is_tied]):  # few, and argsort would take ten times as long
        is_value = wanted == value
        before[is_value] += np.searchsorted(np.flatnonzero(distances == value), places[is_value])
    good, junk = np.sort(before[~is_junk]), np.sort(before[is_junk])
    return good - np.searchsorted(junk, good) + 1


def _step(ranks: NDArray[np.int64]) -> float:
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def _trapezoid(ranks: NDArray[np.int64]) -> float:
    """Average the precision at each good image with the one just before it, which is 1 at the top of the list."""
    found = np.arange(1, len(ranks) + 1)
    before = np.where(ranks == 1, 1.0, (found - 1) / np.maximum(ranks - 1, 1))
    return float(np.mean((found / ranks + before) / 2))


_AVERAGES = {"step": _step, "trapezoid": _trapezoid}


def _rows(blocks: Iterable[Block], labels: Labels) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield each query and its distances."""
    query = 0
    for start, block in blocks:
        if start != query or start + len(block) > labels.queries or block.shape[1:] != (labels.gallery,):
            raise ValueError(
                f"distances {block.shape} from query {start} do not follow query {query} of {labels.queries} "
                f"with a gallery of {labels.gallery}; labels and features must be of the same images"
            )
        for query, distances in enumerate(block, start=start):
            if np.isnan(distances.max()):
                raise ValueError(f"distances of query {query} hold NaN")
            yield query, distances
        query = start + len(block)
    if query != labels.queries:
        raise ValueError(f"distances of {query} queries, but labels of {labels.queries}")
