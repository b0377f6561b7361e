"""CMC, mAP and mINP against a full stable sort, hand-worked cases, Matlab's loop, and torchreid where it is installed."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from passerby.metrics.labels import Labels
from passerby.metrics.scores import evaluate_distances, evaluate_retrieval, rank_gallery

RANKS = (1, 2, 3, 5, 10, 50)


def kept_hits(distances, query_person, gallery_people, query_camera, gallery_cameras):
    """Whether each gallery image is of the person, nearest first, without the person's images from the query's camera."""
    order = sorted(range(len(distances)), key=lambda place: distances[place])  # stable
    return [
        gallery_people[place] == query_person
        for place in order
        if not (gallery_people[place] == query_person and gallery_cameras[place] == query_camera)
    ]


def slow_step(hits):
    found, total = 0, 0.0
    for place, is_hit in enumerate(hits, start=1):
        if is_hit:
            found += 1
            total += found / place
    return total / found


def slow_trapezoid(hits):
    """The loop of Market-1501's compute_AP.m, its 1-based ranks included."""
    total, old_recall, old_precision, intersection, count = 0.0, 0.0, 1.0, 0, 1
    for is_hit in hits:
        intersection += is_hit
        recall, precision = intersection / sum(hits), intersection / count
        total += (recall - old_recall) * (old_precision + precision) / 2
        old_recall, old_precision, count = recall, precision, count + 1
        if intersection == sum(hits):
            break
    return total


def slow_scores(distances, people, cameras, average=slow_step):
    """Shares of rank, mAP, mINP, and how many queries counted."""
    lists = [
        kept_hits(row, people[0][query], people[1], cameras[0][query], cameras[1])
        for query, row in enumerate(np.asarray(distances).tolist())
    ]
    valid = [hits for hits in lists if any(hits)]
    last = [len(hits) - hits[::-1].index(True) for hits in valid]
    return {
        **{f"rank_{k}": sum(any(hits[:k]) for hits in valid) / len(valid) for k in RANKS},
        "mAP": sum(map(average, valid)) / len(valid),
        "mINP": sum(sum(hits) / place for hits, place in zip(valid, last, strict=True)) / len(valid),
        "valid_queries": len(valid),
    }


def draw_problem(seed, kind):
    """Distances, people and cameras: of few values (`tied`), of many, or both degenerate in one way."""
    generator = np.random.default_rng(seed)
    queries, gallery = generator.integers(1, 12), generator.integers(1, 60)
    people = generator.integers(0, 6, queries), generator.integers(0, 6, gallery)
    cameras = generator.integers(0, 3, queries), generator.integers(0, 3, gallery)
    levels = {"random": 1 << 30, "tied": 5, "equal": 1, "two people": 4}[kind]
    if kind == "two people":
        people = people[0] // 3, people[1] // 3
    distances = generator.integers(0, levels, (queries, gallery)).astype(np.float32)
    return distances, people, cameras


def is_answerable(people, cameras):
    return any(
        p == q and c != d
        for p, c in zip(people[0], cameras[0], strict=True)
        for q, d in zip(people[1], cameras[1], strict=True)
    )


@pytest.mark.parametrize(("average", "slow_average"), [("step", slow_step), ("trapezoid", slow_trapezoid)])
@pytest.mark.parametrize("kind", ["random", "tied", "equal", "two people"])
def test_scores_equal_those_of_a_full_stable_sort(kind, average, slow_average):
    problems = [problem for seed in range(60) if is_answerable(*(problem := draw_problem(seed, kind))[1:])]
    assert len(problems) > 40
    for distances, people, cameras in problems:
        labels = Labels(*people, *cameras)
        scores = evaluate_distances([(0, distances)], labels, ranks=RANKS, average_precision=average).to_dict()
        expected = slow_scores(distances, people, cameras, slow_average)
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-12)
        assert (scores["queries"], scores["gallery"]) == distances.shape


MARKET = {
    "distances": np.array([
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
        [0.7, 0.1, 0.5, 0.2, 0.6, 0.3, 0.4],
        [0.3, 0.2, 0.1, 0.4, 0.5, 0.6, 0.7],
    ]),
    "labels": ([1, 2, 9], [1, 0, 1, 2, 1, 2, 2], [0, 1, 0], [0, 1, 1, 1, 2, 0, 2]),
}  # fmt: skip


@pytest.mark.parametrize(("average", "mean"), [("step", 13 / 24), ("trapezoid", 3 / 8)])
def test_scores_of_a_case_worked_by_hand(average, mean):
    # The good stand at 2 and 4, and at 2 and 3, where junk is gone; the third person is not in the gallery.
    labels = Labels(*MARKET["labels"])
    scores = evaluate_distances([(0, MARKET["distances"])], labels, ranks=(1, 2, 9), average_precision=average)
    assert scores.rank == {1: 0.0, 2: 1.0, 9: 1.0}
    assert scores.mAP == pytest.approx(mean)
    assert scores.mINP == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert (scores.valid_queries, scores.queries, scores.gallery) == (2, 3, 7)


@pytest.mark.parametrize(("average", "mean"), [("step", 0.516667), ("trapezoid", 0.352083)])
def test_text_queries_without_cameras_drop_nothing(average, mean):
    distances = 1 - np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [0.1, 0.9, 0.3, 0.8, 0.2]])
    labels = Labels(["one", "two"], ["two", "one", "one", "two", "three"])
    scores = evaluate_distances([(0, distances)], labels, ranks=(1, 2), average_precision=average)
    assert scores.rank == {1: 0.0, 2: 1.0}
    assert scores.mAP == pytest.approx(mean, abs=1e-6)
    assert scores.mINP == pytest.approx(0.533333, abs=1e-6)


def test_scores_are_json_in_shares():
    labels = Labels([1, 1], [1, 2])
    scores = evaluate_distances([(0, np.array([[0.0, 1.0], [1.0, 0.0]]))], labels, ranks=[1, 5])
    assert json.loads(json.dumps(scores.to_dict())) == {
        "rank_1": 0.5,
        "rank_5": 1.0,
        "mAP": 0.75,
        "mINP": 0.75,
        "average_precision": "step",
        "valid_queries": 2,
        "queries": 2,
        "gallery": 2,
    }


def test_same_camera_keep_counts_what_drop_leaves_out():
    # The nearest is of the query's camera: junk, then good.
    distances, labels = [(0, np.array([[0.1, 0.2, 0.3]]))], ([7], [7, 8, 7], [0], [0, 0, 1])
    assert evaluate_distances(distances, Labels(*labels)).mAP == pytest.approx(1 / 2)
    kept = evaluate_distances(distances, Labels(*labels, same_camera="keep"))
    assert kept.mAP == pytest.approx((1 + 2 / 3) / 2)


def test_torchreid_agrees():
    rank = pytest.importorskip("torchreid.reid.metrics.rank", reason="torchreid is not installed")
    for seed in range(20):
        generator = np.random.default_rng(seed)
        people, cameras = [(generator.integers(0, 9, 30), generator.integers(0, 9, 200)) for _ in range(2)]
        # Without ties: torchreid does not say which of two equal distances comes first.
        distances = generator.permutation(6000).reshape(30, 200).astype(np.float32)
        cmc, mean = rank.evaluate_rank(distances, *people, *cameras, max_rank=50, use_cython=False)
        scores = evaluate_distances([(0, distances)], Labels(*people, *cameras), ranks=range(1, 51))
        assert scores.mAP == pytest.approx(mean, abs=1e-6)
        assert list(scores.rank.values()) == pytest.approx(cmc.tolist(), abs=1e-6)


def draw_features(queries, gallery, width=16, seed=0):
    """Whole numbers, so that every precision and every order of summing gives the same distances, many of them equal."""
    generator = np.random.default_rng(seed)
    return [generator.integers(-3, 4, (count, width)).astype(np.float32) for count in (queries, gallery)]


def draw_labels(queries, gallery, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, limit, count) for limit in (8, 4) for count in (queries, gallery)]


def test_scores_of_features_are_those_of_their_distances():
    queries, gallery = draw_features(20, 150)
    query_people, gallery_people, query_cameras, gallery_cameras = labels = draw_labels(20, 150)
    distances = {
        "euclidean": ((queries[:, None].astype(float) - gallery) ** 2).sum(axis=2),
        "cosine": 1 - np.array([[q @ g / np.sqrt((q @ q) * (g @ g)) for g in gallery.astype(float)] for q in queries]),
    }
    for distance, matrix in distances.items():
        expected = slow_scores(matrix, (query_people, gallery_people), (query_cameras, gallery_cameras))
        scores = evaluate_retrieval(
            queries.astype(float), gallery.astype(float), Labels(*labels), distance=distance, ranks=RANKS
        )
        assert {name: scores.to_dict()[name] for name in expected} == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 150 * 7])
def test_blocks_change_no_score(chunk_bytes):
    features, labels = draw_features(20, 150), Labels(*draw_labels(20, 150))
    chunked = evaluate_retrieval(*features, labels, distance="euclidean", chunk_bytes=chunk_bytes)
    assert chunked == evaluate_retrieval(*features, labels, distance="euclidean")


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda ids: [f"person-{number}" for number in ids]])
def test_ids_of_any_kind_mean_the_same(kind):
    distances, people, cameras = draw_problem(3, "random")
    expected = evaluate_distances([(0, distances)], Labels(*people, *cameras))
    labels = Labels(*(kind(ids.tolist()) for ids in (*people, *cameras)))
    assert evaluate_distances([(0, distances)], labels) == expected
    objects = [np.array([f"person-{number}" for number in ids], dtype=object) for ids in people]
    assert evaluate_distances([(0, distances)], Labels(*objects, *cameras)) == expected


@pytest.mark.parametrize("kind", ["random", "tied", "equal"])
@pytest.mark.parametrize("top", [1, 4, 100])
def test_ranked_gallery_shows_the_first_that_count_and_the_junk_between(kind, top):
    for seed in range(20):
        distances, people, cameras = draw_problem(seed, kind)
        for query, found in enumerate(rank_gallery([(0, distances)], Labels(*people, *cameras), top=top)):
            is_person = people[1] == people[0][query]
            is_junk = is_person & (cameras[1] == cameras[0][query])
            order = sorted(range(len(is_junk)), key=lambda place: distances[query, place])
            counting = [place for place in order if not is_junk[place]][:top]
            assert found.query == query
            assert found.places[~found.is_junk].tolist() == counting
            if len(counting) == top:
                assert found.places.tolist() == order[: order.index(counting[-1]) + 1]
            assert found.is_junk.tolist() == is_junk[found.places].tolist()
            assert found.is_good.tolist() == (is_person & ~is_junk)[found.places].tolist()


def test_a_gallery_of_one_image_is_scored():
    scores = evaluate_retrieval(np.ones((2, 3)), np.ones((1, 3)), Labels([1, 2], [1]), distance="cosine")
    assert (scores.rank[1], scores.mAP, scores.mINP, scores.valid_queries) == (1, 1, 1, 1)


MEMORY = """
import re, numpy as np
from pathlib import Path
from passerby.metrics.labels import Labels
from passerby.metrics.scores import evaluate_retrieval
def most(queries):
    features = [np.random.default_rng(0).random((count, 8), dtype=np.float32) for count in (queries, 20_000)]
    labels = Labels(*(np.arange(count) % 500 for count in (queries, 20_000)))
    evaluate_retrieval(*features, labels, distance="euclidean", chunk_bytes=8_000_000)
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(most(1000), most(8000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the most memory ever held from /proc")
def test_memory_does_not_grow_with_queries():
    run = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    few, many = map(int, run.stdout.split())
    assert many - few < 50_000_000  # the distances of 7,000 more queries would be 560 MB


ANY = ([1], [1, 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1]), r"query_person_ids must be whole numbers or texts, .* float64 of shape \(1,\)"),
        (([1], [[1]]), r"gallery_person_ids must be .* shape \(1, 1\)"),
        (([1], []), r"gallery_person_ids must be .* shape \(0,\)"),
        ((["1"], [1]), "person ids are <U1 of queries and int64 of the gallery"),
        (([1], [1, -1, -1]), "2 images are of person '-1'"),
        (([""], ["a"]), "1 images are of person ''"),
        ((*ANY, [0]), "give them for both or for neither"),
        ((*ANY, [0], [0]), "camera ids of 1 queries and 1 gallery images, but person ids of 1 and 2"),
    ],
)
def test_labels_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Labels(*arguments)


def test_same_camera_is_drop_or_keep():
    with pytest.raises(ValueError, match="same_camera is 'ignore'; allowed are drop, keep"):
        Labels(*ANY, same_camera="ignore")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (([1], [1, 2], [5], [5, 5]), "all 1 queries are invalid.*only from the camera.*same_camera='keep'"),
        (([3], [1, 2], [5], [6, 6]), "all 1 queries are invalid: the gallery of 2 images shows none"),
    ],
)
def test_without_a_valid_query_there_is_no_score(labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_distances([(0, np.zeros((1, 2)))], Labels(*labels))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([(0, np.zeros((1, 2)))], "distances of 1 queries, but labels of 2"),
        ([(0, np.zeros((3, 2)))], r"distances \(3, 2\) from query 0 do not follow query 0 of 2"),
        ([(0, np.zeros((2, 3)))], "with a gallery of 2; labels and features must be of the same images"),
        ([(1, np.zeros((1, 2)))], "from query 1 do not follow query 0"),
        ([(0, np.zeros((1, 2))), (1, np.array([[0.0, np.nan]]))], "distances of query 1 hold NaN"),
    ],
)
def test_distances_that_do_not_fit_are_refused(blocks, message):
    with pytest.raises(ValueError, match=message):
        evaluate_distances(blocks, Labels([1, 2], [1, 2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": "manhattan"}, "distance is 'manhattan'; allowed are euclidean, cosine"),
        ({"distance": "cosine", "average_precision": "voc"}, "average_precision is 'voc'; allowed are step, trapezoid"),
        ({"distance": "cosine", "ranks": (0, 1)}, r"ranks are \(0, 1\); must be 1 or more"),
        ({"distance": "cosine", "ranks": ()}, r"ranks are \(\); must be 1 or more"),
    ],
)
def test_options_that_are_not_allowed_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_retrieval(np.eye(2), np.eye(2), Labels([1, 2], [1, 2]), **options)


def test_a_ranked_gallery_has_an_image():
    with pytest.raises(ValueError, match="top is 0; must be 1 or more"):
        next(rank_gallery([(0, np.zeros((1, 2)))], Labels(*ANY), top=0))
