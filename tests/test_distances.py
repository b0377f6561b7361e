"""Distances a block at a time against whole matrices in float64, in any precision that features come in."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from passerby.metrics.distances import distance_blocks, nearest


def draw_features(queries, gallery, width=16, seed=0):
    """Whole numbers, so that every precision and every order of summing gives the same distances, many of them equal."""
    generator = np.random.default_rng(seed)
    return [generator.integers(-3, 4, (count, width)).astype(np.float32) for count in (queries, gallery)]


def squared_euclidean(queries, gallery):
    return ((queries[:, None] - gallery) ** 2).sum(axis=2)


def whole(blocks):
    return np.concatenate([block for _, block in blocks])


@pytest.mark.parametrize("chunk_bytes", [1, 4 * 150 * 7, 1 << 20])
def test_blocks_change_nothing(chunk_bytes):
    queries, gallery = draw_features(20, 150)
    blocks = [*distance_blocks(queries, gallery, distance="euclidean", chunk_bytes=chunk_bytes)]
    assert max(block.nbytes for _, block in blocks) <= max(chunk_bytes, 4 * 150)
    assert [start for start, _ in blocks] == [0, *np.cumsum([len(block) for _, block in blocks])[:-1]]
    assert np.array_equal(whole(blocks), squared_euclidean(queries, gallery))


@pytest.mark.parametrize(
    "kind", [np.float16, np.float32, np.float64, torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str
)
def test_arrays_and_tensors_of_any_precision_agree(kind):
    features = queries, gallery = draw_features(20, 150)
    changed = [torch.from_numpy(f).to(kind) if isinstance(kind, torch.dtype) else f.astype(kind) for f in features]
    distances = whole(distance_blocks(*changed, distance="euclidean"))
    assert distances.dtype == (np.float64 if kind in {np.float64, torch.float64} else np.float32)
    assert np.array_equal(distances, squared_euclidean(queries, gallery))


@pytest.mark.parametrize("kinds", [(np.float32, np.float64), (np.float64, np.float32)])
def test_one_side_of_float64_makes_distances_exact(kinds):
    generator = np.random.default_rng(0)
    queries, gallery = (generator.normal(size=(9, 30)).astype(kind) for kind in kinds)
    distances = whole(distance_blocks(queries, gallery, distance="euclidean"))
    assert distances == pytest.approx(squared_euclidean(queries.astype(float), gallery.astype(float)), rel=1e-12)


def test_cosine_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(count, 7, generator=generator).double() for count in (5, 40))
    exact = 1 - torch.cosine_similarity(queries[:, None], gallery, dim=2)
    assert whole(distance_blocks(queries, gallery, distance="cosine")) == pytest.approx(exact.numpy(), abs=1e-12)


class SeenPrecisions(TorchDispatchMode):
    """How exactly fp32 products are asked for, of which the CPU may take no notice."""

    def __init__(self):
        super().__init__()
        self.precisions = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if "mm" in str(function):
            self.precisions.append(torch.get_float32_matmul_precision())
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_distances_are_fp32_where_training_takes_less(distance):
    generator = torch.Generator().manual_seed(0)
    queries, gallery = torch.randn(4, 64, generator=generator), torch.randn(30, 64, generator=generator)
    queries.requires_grad_()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16), SeenPrecisions() as seen:
            distances = whole(distance_blocks(queries, gallery, distance=distance))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(seen.precisions) == {"highest"}
    exact = whole(distance_blocks(queries.detach().double(), gallery.double(), distance=distance))
    assert distances.dtype == np.float32
    assert distances == pytest.approx(exact, rel=1e-5, abs=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_gpu_and_cpu_agree_though_tf32_is_allowed(distance):
    generator = torch.Generator().manual_seed(0)
    queries, gallery = (torch.randn(count, 256, generator=generator) for count in (20, 300))
    torch.set_float32_matmul_precision("high")
    try:
        on_gpu = whole(distance_blocks(queries, gallery.cuda(), distance=distance))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert on_gpu == pytest.approx(whole(distance_blocks(queries, gallery, distance=distance)), rel=1e-5, abs=1e-5)


@pytest.mark.filterwarnings("error")
def test_features_are_taken_read_only_and_turned_around(tmp_path):
    queries, gallery = draw_features(3, 9)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    assert np.array_equal(
        whole(distance_blocks(queries[::-1], mapped, distance="euclidean")), squared_euclidean(queries[::-1], gallery)
    )


def test_a_feature_of_zeros_is_far_from_everything_by_cosine():
    (_, block), *_ = distance_blocks(np.eye(2), np.array([[0.0, 0.0], [0.0, 5.0]]), distance="cosine")
    assert block.tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("count", [1, 3, 9, 40])
def test_nearest_is_the_beginning_of_a_stable_sort(count):
    for seed in range(20):
        distances = np.random.default_rng(seed).integers(0, 4, 30).astype(np.float32)
        expected = sorted(range(30), key=lambda place: distances[place])[:count]
        assert nearest(distances, count).tolist() == expected


def with_nan(row):
    features = np.zeros((5, 3))
    features[row, 1] = np.nan
    return features


@pytest.mark.parametrize(
    ("queries", "gallery", "message"),
    [
        (with_nan(3), np.zeros((5, 3)), "query_features hold NaN or infinity in 1 of 5 rows, first in row 3"),
        (np.zeros((5, 3)), torch.tensor([[np.inf]]), "gallery_features hold NaN or infinity .* row 0"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "query_features are 3 wide, gallery_features 4"),
        (np.zeros((0, 3)), np.zeros((5, 3)), r"query_features are of shape \(0, 3\): empty"),
        (np.zeros(3), np.zeros((5, 3)), r"query_features must be .* got torch.float64 \(3,\)"),
        (np.zeros((5, 3)), np.zeros((5, 3), int), r"gallery_features must be .* got int64 \(5, 3\)"),
        ([[1.0]], np.zeros((5, 1)), "query_features must be .* got list"),
    ],
)
def test_features_that_do_not_fit_are_refused(queries, gallery, message):
    with pytest.raises(ValueError, match=message):
        distance_blocks(queries, gallery, distance="euclidean")


def test_an_unknown_distance_is_refused():
    with pytest.raises(ValueError, match="distance is 'manhattan'; allowed are euclidean, cosine"):
        distance_blocks(np.eye(2), np.eye(2), distance="manhattan")
