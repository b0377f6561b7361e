"""Which patches are hidden, against counts and loops over patches."""

import math

import pytest
import torch

from pretrain.image_masking import expect_person, find_person, mask_patches

GRID = (16, 8)
COUNT = 19


def draw(is_person, mode, *, seed=0, count=COUNT, grid=GRID):
    return mask_patches(is_person, grid, count, mode=mode, seed=seed)


def test_the_person_of_a_parsing_map_is_where_three_tenths_of_a_patch_are():
    parsing = torch.zeros(2, 32, 16, dtype=torch.uint8)
    parsing[0, :8, :8] = 5
    parsing[0, 8, :8], parsing[0, 9, :8], parsing[0, 10, :3] = 1, 19, 7  # 19 of 64: too few
    parsing[1, 24, 8:], parsing[1, 25, 8:], parsing[1, 26, 8:12] = 2, 2, 2  # 20 of 64
    found = find_person(parsing, (4, 2)).view(2, 4, 2)
    assert found.nonzero().tolist() == [[0, 0, 0], [1, 3, 1]]


def test_people_are_expected_where_the_bell_of_the_specification_is_high():
    def height(x, y):
        return math.exp(-(((x - 3.5) / 1.6) ** 2 + ((y - 7.5) / 5.5) ** 2) / 2)

    expected = [[height(x, y) >= 0.25 for x in range(8)] for y in range(16)]
    assert expect_person(GRID).view(GRID).tolist() == expected
    assert expect_person(GRID).sum() == 76


def test_people_are_expected_at_the_same_place_of_a_finer_grid():
    finer = expect_person((32, 16)).view(32, 16)
    assert torch.equal(finer, finer.flip(0))
    assert torch.equal(finer, finer.flip(1))
    assert finer.float().mean() == pytest.approx(76 / 128, abs=0.05)


@pytest.mark.parametrize("mode", ["pedestrian", "random", "block"])
def test_every_way_hides_the_same_number_of_patches_as_the_seed_says(mode):
    is_person = expect_person(GRID).expand(50, -1)
    first, again, other = (draw(is_person, mode, seed=seed) for seed in (1, 1, 2))
    assert first.sum(dim=1).tolist() == [COUNT] * 50
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 50


def test_the_person_is_hidden_first_and_evenly():
    is_person = expect_person(GRID).expand(4000, -1)
    hits = draw(is_person, "pedestrian").float().mean(dim=0)
    assert (hits[~is_person[0]] == 0).all()
    torch.testing.assert_close(hits[is_person[0]], torch.full((76,), COUNT / 76), atol=0.04, rtol=0)


def test_the_background_tops_up_a_person_who_is_too_small():
    is_person = torch.zeros(8, 128, dtype=torch.bool)
    is_person[:, 40:45] = True
    mask = draw(is_person, "pedestrian")
    assert mask[:, 40:45].all()
    assert mask.sum(dim=1).tolist() == [COUNT] * 8


def test_random_patches_are_anywhere():
    hits = draw(expect_person(GRID).expand(4000, -1), "random").float().mean(dim=0)
    torch.testing.assert_close(hits, torch.full((128,), COUNT / 128), atol=0.03, rtol=0)


def neighbours(mask):
    """Share of hidden patches with a hidden one beside, above or below, by a loop."""
    together = 0
    places = {tuple(place) for place in mask.view(GRID).nonzero().tolist()}
    for row, column in places:
        around = {(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)}
        together += bool(around & places)
    return together / len(places)


def test_blocks_are_of_patches_that_lie_together():
    anywhere = torch.zeros(200, 128, dtype=torch.bool)
    shares = {mode: sum(map(neighbours, draw(anywhere, mode))) / 200 for mode in ("block", "random")}
    assert shares["block"] > 0.9
    assert shares["random"] < 0.6


@pytest.mark.parametrize(("grid", "count"), [((12, 6), 11), ((4, 2), 7), ((2, 1), 1), ((1, 3), 3)])
def test_blocks_fit_small_grids(grid, count):
    masks = draw(torch.zeros(20, grid[0] * grid[1], dtype=torch.bool), "block", grid=grid, count=count)
    assert (masks.sum(dim=1) == count).all()
