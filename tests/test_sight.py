"""Which captions are foreign to an image, and how guesses are counted."""

from collections import Counter

import pytest
import torch

from pretrain.sight import draw_foreign_captions
from pretrain.tally import Tally

TOKEN_IDS = torch.tensor([[5, 6]] * 3 + [[5, 6], [7, 6], [7, 8], [5, 9], [6, 5]] + [[7, 6]] * 4)


def test_no_image_is_shown_with_a_foreign_caption_that_equals_its_own():
    counts: Counter[int] = Counter()
    for seed in range(300):
        places = draw_foreign_captions(TOKEN_IDS, 0.4, seed=seed)
        is_changed = places != torch.arange(12)
        assert (TOKEN_IDS[places] != TOKEN_IDS).any(dim=1)[is_changed].all()
        counts.update(places[11:][is_changed[11:]].tolist())
    assert {*counts} == {0, 1, 2, 3, 5, 6, 7}
    assert counts.total() == pytest.approx(300 * 0.4, abs=30)


def test_images_whose_captions_are_all_equal_keep_their_own():
    assert draw_foreign_captions(TOKEN_IDS[:4], 0.9, seed=0).tolist() == [0, 1, 2, 3]


def test_a_tally_counts_by_hand():
    tally = Tally()
    tally.add(torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 1, 2]))
    tally.add(torch.eye(3)[[0]], torch.tensor([1]))
    assert (tally.accuracy, tally.chance) == (0.6, 0.6)
    assert (Tally().accuracy, Tally().chance) == (0, 0)
