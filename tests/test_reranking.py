"""Re-ranking against the paper's formulas on whole matrices, torchreid's where it is installed, and the memory it takes."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from passerby.metrics.distances import distance_blocks
from passerby.metrics.labels import Labels
from passerby.metrics.reranking import rerank
from passerby.metrics.scores import evaluate_distances, rank_gallery


def slow_rerank(queries, gallery, k1, k2, lambda_):
    """Equations 1 to 12, a set and a dictionary at a time, in float64; mutual neighbours of `k1 / 2` rounded half to even."""
    images = np.concatenate([queries, gallery]).astype(float)
    everyone = range(len(images))
    squares = [[float(((a - b) ** 2).sum()) for b in images] for a in images]
    ratios = [[d / max(*row, 1e-30) for d in row] for row in squares]
    order = [sorted(everyone, key=row.__getitem__) for row in squares]

    def mutual(image, k):
        return {other for other in order[image][: k + 1] if image in order[other][: k + 1]}

    def expanded(image):
        start = mutual(image, k1)
        result = set(start)
        for other in start:
            theirs = mutual(other, round(k1 / 2))
            if len(theirs & start) > 2 / 3 * len(theirs):
                result |= theirs
        return result

    weights = [{j: math.exp(-ratios[i][j]) for j in expanded(i)} for i in everyone]
    encodings = [{j: w / sum(row.values()) for j, w in row.items()} for row in weights]
    averaged = [
        {j: sum(encodings[near].get(j, 0) for near in order[i][:k2]) / len(order[i][:k2]) for j in everyone}
        for i in everyone
    ]
    result = np.empty((len(queries), len(gallery)))
    for query in range(len(queries)):
        for place in range(len(gallery)):
            image = len(queries) + place
            shared = sum(min(averaged[query][j], averaged[image][j]) for j in everyone)
            jaccard = 1 - shared / (2 - shared)
            result[query, place] = (1 - lambda_) * jaccard + lambda_ * ratios[query][image]
    return result


def draw_people(seed, *, queries=12, gallery=45, persons=8, width=6, spread=0.7):
    """Features around one centre a person, labels, and cameras."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(persons, width))
    people = generator.integers(0, persons, queries), generator.integers(0, persons, gallery)
    features = [centres[who] + spread * generator.normal(size=(len(who), width)) for who in people]
    cameras = generator.integers(0, 3, queries), generator.integers(3, 6, gallery)
    return features, Labels(*people, *cameras)


def whole(blocks):
    return np.concatenate([block for _, block in blocks])


@pytest.mark.parametrize(("k1", "k2", "lambda_"), [(20, 6, 0.3), (5, 2, 0.0), (7, 1, 0.5), (1, 1, 0.1), (80, 60, 0.3)])
def test_reranked_distances_are_those_of_the_formulas(k1, k2, lambda_):
    for seed in range(3):
        (queries, gallery), _ = draw_people(seed)
        blocks = rerank(queries, gallery, distance="euclidean", k1=k1, k2=k2, lambda_=lambda_, chunk_bytes=8 * 45 * 5)
        assert whole(blocks) == pytest.approx(slow_rerank(queries, gallery, k1, k2, lambda_), abs=1e-6)


@pytest.mark.parametrize("k2", [1, 3])
def test_equal_images_are_reranked_in_order(k2):
    generator = np.random.default_rng(0)
    for values in (1, 2, 3):  # all images the same; many the same
        queries, gallery = (generator.integers(0, values, (count, 3)).astype(np.float32) for count in (6, 30))
        blocks = rerank(queries, gallery, distance="euclidean", k1=4, k2=k2)
        assert whole(blocks) == pytest.approx(slow_rerank(queries, gallery, 4, k2, 0.3), abs=1e-6)


def test_cosine_reranks_by_angles():
    (queries, gallery), _ = draw_people(0)
    angles = [features / np.linalg.norm(features, axis=1, keepdims=True) for features in (queries, gallery)]
    stretched = queries * np.arange(1, 13)[:, None], torch.from_numpy(gallery * 7)
    assert whole(rerank(*stretched, distance="cosine")) == pytest.approx(slow_rerank(*angles, 20, 6, 0.3), abs=1e-6)


def test_float32_reranks_like_float64():
    (queries, gallery), _ = draw_people(0, queries=40, gallery=300, persons=30, width=32)
    exact = whole(rerank(queries, gallery, distance="euclidean"))
    single = whole(rerank(queries.astype(np.float32), gallery.astype(np.float32), distance="euclidean"))
    assert single.dtype == np.float32
    assert np.abs(single - exact).max() < 1e-5


def test_blocks_change_nothing():
    (queries, gallery), _ = draw_people(1)
    few, all_at_once = (
        [*rerank(queries, gallery, distance="euclidean", chunk_bytes=chunk_bytes)] for chunk_bytes in (1, 1 << 20)
    )
    assert [start for start, _ in few] == list(range(12))
    assert [start for start, _ in all_at_once] == [0]
    assert whole(few) == pytest.approx(whole(all_at_once), abs=1e-12)


def test_reranking_finds_more_people():
    (queries, gallery), labels = draw_people(0, queries=60, gallery=400, persons=25, width=8, spread=0.6)
    before = evaluate_distances(distance_blocks(queries, gallery, distance="euclidean"), labels)
    after = evaluate_distances(rerank(queries, gallery, distance="euclidean", k1=15), labels)
    assert after.mAP > before.mAP + 0.05
    assert after.valid_queries == 60


def test_reranked_galleries_can_be_shown():
    (queries, gallery), labels = draw_people(2)
    ranked = [*rank_gallery(rerank(queries, gallery, distance="euclidean"), labels, top=3)]
    expected = np.argsort(slow_rerank(queries, gallery, 20, 6, 0.3), axis=1, kind="stable")[:, :3]
    assert [found.places.tolist() for found in ranked] == expected.tolist()


def test_torchreid_agrees_on_distances_that_are_not_squared():
    reference = pytest.importorskip("torchreid.reid.utils.rerank", reason="torchreid is not installed").re_ranking
    (queries, gallery), _ = draw_people(0, queries=30, gallery=200, persons=20)
    # It squares what it is given.
    pairs = (queries, gallery), (queries, queries), (gallery, gallery)
    matrices = [np.sqrt(((a[:, None] - b) ** 2).sum(axis=2)) for a, b in pairs]
    assert whole(rerank(queries, gallery, distance="euclidean")) == pytest.approx(reference(*matrices), abs=1e-5)


MEMORY = """
import re, numpy as np
from pathlib import Path
from passerby.metrics.reranking import rerank
def most(images):
    features = [np.random.default_rng(0).random((count, 8), dtype=np.float32) for count in (images // 4, images)]
    for _ in rerank(*features, distance="euclidean", chunk_bytes=1_000_000):
        pass
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(most(200), most(3200))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the most memory ever held from /proc")
def test_memory_grows_with_images_and_not_with_their_square():
    run = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    few, many = map(int, run.stdout.split())
    assert many - few < 32_000_000  # one matrix of 4,000 x 4,000 is 64 MB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k1": 5, "k2": 6}, "k1 is 5 and k2 6; must be 1 <= k2 <= k1"),
        ({"k2": 0}, "k1 is 20 and k2 0; must be 1 <= k2 <= k1"),
        ({"lambda_": 1.5}, r"lambda_ is 1\.5; must be 0"),
        ({"distance": "manhattan"}, "distance is 'manhattan'; allowed are euclidean, cosine"),
    ],
)
def test_options_that_are_not_allowed_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        rerank(np.eye(3), np.eye(3), **{"distance": "euclidean", **options})


def test_features_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="query_features are 3 wide, gallery_features 4"):
        rerank(np.eye(3), np.eye(4), distance="euclidean")
