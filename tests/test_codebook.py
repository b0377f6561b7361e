"""The codebook of patches against loops over patches and points."""

import math

import pytest
import torch

from pretrain.codebook import Codebook, codebook_scores, find_centroids, move_centroids, nearest, patch_vectors


def test_a_patch_is_described_by_the_mean_colours_of_16_cells():
    pixels = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    vectors = patch_vectors(pixels, 8)
    assert vectors.shape == (2, 2 * 3, 48)
    for place in range(6):
        top, left = place // 3 * 8, place % 3 * 8
        means = [
            pixels[1, channel, top + y : top + y + 2, left + x : left + x + 2].mean()
            for channel in range(3)
            for y in range(0, 8, 2)
            for x in range(0, 8, 2)
        ]
        torch.testing.assert_close(vectors[1, place], torch.stack(means))


def slow_nearest(vectors, centroids):
    return [min(range(len(centroids)), key=lambda code: math.dist(v, centroids[code])) for v in vectors]


def slow_step(vectors, centroids):
    codes, moved = slow_nearest(vectors, centroids), []
    for code in range(len(centroids)):
        own = [vector for vector, nearest_code in zip(vectors, codes, strict=True) if nearest_code == code]
        moved.append([sum(column) / len(own) for column in zip(*own, strict=True)])
    return moved


def test_points_move_to_the_means_of_those_they_are_nearest_to():
    vectors = torch.rand(60, 3, generator=torch.Generator().manual_seed(1))
    centroids = vectors[:5]
    for _ in range(4):
        assert nearest(vectors, centroids).tolist() == slow_nearest(vectors.tolist(), centroids.tolist())
        expected = torch.tensor(slow_step(vectors.tolist(), centroids.tolist()))
        centroids = move_centroids(vectors, centroids)
        torch.testing.assert_close(centroids, expected)


def test_a_point_of_none_takes_the_place_of_the_vector_farthest_from_its_own():
    vectors = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    moved = move_centroids(vectors, torch.tensor([[1.0], [100.0]]))
    assert moved.tolist() == [[3.0], [9.0]]


def test_groups_far_apart_are_found_again_in_any_order():
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    noise = torch.randn(50, 4, 2, generator=torch.Generator().manual_seed(2)) / 10
    vectors = (middles + noise).flatten(0, 1)
    found = find_centroids(vectors, 4)
    torch.testing.assert_close(found[nearest(middles, found)], (middles + noise.mean(dim=0)), atol=1e-5, rtol=0)
    assert torch.equal(find_centroids(vectors, 4), found)


def test_as_many_codes_as_patches_stand_for_each():
    vectors = torch.tensor([[3.0], [1.0], [2.0], [1.0]])
    assert find_centroids(vectors, 3).sort(dim=0).values.tolist() == [[1.0], [2.0], [3.0]]
    with pytest.raises(ValueError, match="3 different patches, too few for 4 codes"):
        find_centroids(vectors, 4)


def test_patches_of_one_colour_have_one_code_and_checkpoints_hold_it():
    colours = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    pixels = colours[:, :, None, None].expand(3, 3, 16, 8)
    codebook = Codebook(3, 8)
    codebook.fit(patch_vectors(pixels, 8).flatten(0, 1))
    codes = codebook(pixels)
    assert sorted(codes[:, 0].tolist()) == [0, 1, 2]
    assert torch.equal(codes[:, 0], codes[:, 1])
    loaded = Codebook(3, 8)
    loaded.load_state_dict(codebook.state_dict())
    assert torch.equal(loaded(pixels), codes)


def test_use_and_perplexity_are_those_of_hand():
    even = codebook_scores(torch.tensor([0, 1, 2, 3] * 5), 8)
    assert even == {"codebook_use": 0.5, "codebook_perplexity": pytest.approx(4)}
    uneven = codebook_scores(torch.tensor([0, 0, 0, 1]), 4)["codebook_perplexity"]
    assert uneven == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
