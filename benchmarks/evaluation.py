"""How fast galleries are scored, and in how much memory, beside the loop that the field uses.

    python -m benchmarks.evaluation            (the loop alone takes minutes)
    python -m benchmarks.evaluation --small

Features are of random people, as many as in Market-1501 and in MSMT17, 256 wide. At Market-1501's size the loop of torchreid's
`eval_market1501` (its own where it is installed, else the same steps written anew) gets the same matrix of distances, and must come
to the same scores. Every line is a process of its own: its memory is all of it, Python and torch included.
"""

import argparse
import importlib
import importlib.util
import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.side_by_side import Row, show
from passerby.metrics.distances import distance_blocks
from passerby.metrics.labels import Labels
from passerby.metrics.reranking import rerank
from passerby.metrics.scores import evaluate_distances, evaluate_retrieval

WIDTH = 256
CAMERAS = 6
RANKS = range(1, 51)
"""torchreid counts as many."""

Floats = NDArray[Any]
Ids = NDArray[np.int64]
Labelled = tuple[Ids, Ids, Ids, Ids]
"""People of queries and gallery, then cameras."""


class Size(NamedTuple):
    """Of a data set."""

    queries: int
    gallery: int
    people: int


MARKET = Size(3_368, 15_913, 751)
MSMT17 = Size(11_659, 82_161, 3_060)
SMALL = Size(200, 2_000, 100)


class Measured(NamedTuple):
    """What a method took, and found."""

    seconds: float
    memory_mib: float
    rank_1: float
    mean_average_precision: float


def main() -> None:
    """Measure everything, a line each, and how many times the loop takes ours."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="200 x 2,000 for all, in seconds")
    show(measure(is_small=parser.parse_args().small))


def measure(*, is_small: bool) -> Iterator[Row]:
    """Score by every method.

    Raises:
        RuntimeError: the loop comes to other scores.
    """
    market, msmt17 = (SMALL, SMALL) if is_small else (MARKET, MSMT17)
    ours, loop = run("matrix", market), run("loop", market)
    difference = max(abs(a - b) for a, b in zip(ours[2:], loop[2:], strict=True))
    if difference > 1e-6:
        raise RuntimeError(f"the scores differ by {difference:.0e}; they must be the same to 1e-6")
    yield row("score distances", market, ours, rival_rate=market.queries / loop.seconds)
    yield row("score features", market, run("features", market))
    yield row("score features", msmt17, run("features", msmt17))
    yield row("re-rank and score features", market, run("rerank", market))
    yield row("re-rank and score features", msmt17, run("rerank", msmt17))


def row(task: str, size: Size, measured: Measured, rival_rate: float = 0.0) -> Row:
    """Tell what a method took."""
    return Row(
        task=f"{task}, {size.queries:,} x {size.gallery:,}",
        rate=size.queries / measured.seconds,
        unit="queries/s",
        rival=loop_name() if rival_rate else "",
        rival_rate=rival_rate,
        memory_mib=measured.memory_mib,
    )


def run(name: str, size: Size) -> Measured:
    """Run a method in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(run_here, name, size).result()


def run_here(name: str, size: Size) -> Measured:
    """Time a method in this process."""
    queries, gallery, labels = draw(size)
    given: tuple[Any, ...] = (queries, gallery)
    if name in {"matrix", "loop"}:
        given = (np.concatenate([block for _, block in distance_blocks(*given, distance="euclidean")]),)
    started_at = time.perf_counter()
    rank_1, mean = METHODS[name](*given, labels)
    elapsed_seconds = time.perf_counter() - started_at
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Measured(elapsed_seconds, kibibytes / 1024, rank_1, mean)


def score_matrix(distances: Floats, labels: Labelled) -> tuple[float, float]:
    """Give Rank-1 and mAP of distances that are known."""
    scores = evaluate_distances([(0, distances)], Labels(*labels), ranks=RANKS)
    return scores.rank[1], scores.mAP


def score_features(queries: Floats, gallery: Floats, labels: Labelled) -> tuple[float, float]:
    """Give Rank-1 and mAP of features."""
    scores = evaluate_retrieval(queries, gallery, Labels(*labels), distance="euclidean", ranks=RANKS)
    return scores.rank[1], scores.mAP


def score_reranked(queries: Floats, gallery: Floats, labels: Labelled) -> tuple[float, float]:
    """Give Rank-1 and mAP of features, re-ranked."""
    scores = evaluate_distances(rerank(queries, gallery, distance="euclidean"), Labels(*labels), ranks=RANKS)
    return scores.rank[1], scores.mAP


def loop_name() -> str:
    """Say whose loop it is."""
    return "torchreid" if importlib.util.find_spec("torchreid") else "torchreid's steps, written anew"


def score_by_loop(distances: Floats, labels: Labelled) -> tuple[float, float]:
    """Give Rank-1 and mAP by torchreid, or by our writing of its steps."""
    try:
        torchreid = importlib.import_module("torchreid.reid.metrics.rank")
    except ImportError:
        cmc, mean = loop_market1501(distances, labels, max(RANKS))
    else:
        cmc, mean = torchreid.eval_market1501(distances, *labels, max(RANKS))
    return float(cmc[0]), float(mean)


def loop_market1501(distances: Floats, labels: Labelled, max_rank: int) -> tuple[Floats, float]:
    """Sort everything, then add up precisions a place at a time, as torchreid does: CMC and mAP."""
    query_people, gallery_people, query_cameras, gallery_cameras = labels
    orders = np.argsort(distances, axis=1)
    matches = (gallery_people[orders] == query_people[:, None]).astype(np.int32)
    curves, averages = [], []
    for query, order in enumerate(orders):
        is_junk = (gallery_people[order] == query_people[query]) & (gallery_cameras[order] == query_cameras[query])
        hits = matches[query][~is_junk]
        if not hits.any():
            continue
        found = hits.cumsum()
        curves.append(np.minimum(found, 1)[:max_rank])
        precisions = np.asarray([count / (place + 1.0) for place, count in enumerate(found)]) * hits
        averages.append(precisions.sum() / hits.sum())
    return np.mean(curves, axis=0), float(np.mean(averages))


METHODS: dict[str, Callable[..., tuple[float, float]]] = {
    "matrix": score_matrix,
    "loop": score_by_loop,
    "features": score_features,
    "rerank": score_reranked,
}


def draw(size: Size) -> tuple[Floats, Floats, Labelled]:
    """Give features of both, near those of the person shown, and ids of people and cameras."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((size.people, WIDTH), np.float32)
    people = [generator.integers(size.people, size=count) for count in size[:2]]
    cameras = [generator.integers(CAMERAS, size=count) for count in size[:2]]
    features = [centres[ids] + 1.5 * generator.standard_normal((len(ids), WIDTH), np.float32) for ids in people]
    return features[0], features[1], (people[0], people[1], cameras[0], cameras[1])


if __name__ == "__main__":
    main()
