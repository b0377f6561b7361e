"""The ranking loss against worked examples and a loop over all anchors."""

import pytest
import torch
from torch.nn import functional

from finetune.ranking import cosines, ranking_loss

WORKED = torch.tensor([[0.60, 0.52, 0.10], [0.55, 0.70, 0.25], [0.30, 0.45, 0.40]])
"""Images by texts; no anchor has two semi-hard negatives, so that nothing is left to chance."""


def score(similarities, labels, *, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return ranking_loss(similarities, torch.as_tensor(labels), margin=0.2, generator=generator, **options)


@pytest.mark.parametrize(
    ("labels", "parity", "expected"),
    [([0, 1, 2], "paper", 0.49), ([0, 1, 2], "lgur", 0.69), ([0, 0, 1], "paper", 0.15), ([0, 0, 1], "lgur", 0.35)],
)
def test_worked_examples(labels, parity, expected):
    assert score(WORKED, labels, parity=parity).item() == pytest.approx(expected, abs=1e-6)


def possible_terms(similarities, labels, margin):
    """For each anchor, images first, what each of its semi-hard negatives would add."""
    for matrix in (similarities, similarities.T):
        for anchor, row in enumerate(matrix.tolist()):
            others = [place for place in range(len(row)) if labels[place] != labels[anchor]]
            losses = [margin - row[anchor] + row[place] for place in others]
            yield [loss for loss in losses if 0 < loss < margin]


def test_each_anchor_adds_one_of_its_semi_hard_negatives_chosen_by_the_seed():
    generator = torch.Generator().manual_seed(3)
    similarities = torch.rand(4, 4, generator=generator) / 2 + 0.2 * torch.eye(4)
    labels = [0, 1, 2, 3]
    terms = [each for each in possible_terms(similarities, labels, 0.2) if each]
    assert max(map(len, terms)) > 1
    sums = {0.0}
    for each in terms:
        sums = {before + loss for before in sums for loss in each}
    found = {round(score(similarities, labels, seed=seed).item(), 5) for seed in range(400)}
    assert found == {round(total, 5) for total in sums}
    assert score(similarities, labels, seed=7) == score(similarities, labels, seed=7)


def test_harder_and_easier_negatives_and_the_own_person_add_nothing():
    similarities = torch.tensor([[0.5, 0.6, 0.4], [0.2, 0.5, 0.25], [0.4, 0.25, 0.5]])
    assert score(similarities, [0, 1, 0]).item() == 0  # 0.6 is harder, 0.2 and 0.25 are easy, 0.4 is of the same person
    assert score(similarities, [0, 1, 2]).item() == pytest.approx(4 * 0.1)


@pytest.mark.parametrize("parity", ["paper", "lgur"])
def test_one_person_alone_gives_no_loss_but_gradients(parity):
    features = torch.randn(4, 8, requires_grad=True)
    loss = score(cosines(features, torch.randn(4, 8)), [0, 0, 0, 0], parity=parity)
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_the_gradient_pulls_at_anchor_and_negative_only():
    similarities = WORKED.clone().requires_grad_()
    score(similarities, [0, 0, 1]).backward()
    # image 2 with text 0 for a negative, and text 2 with image 1
    assert similarities.grad.tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, -2]]


def test_cosines_are_fp32_even_where_training_is_not():
    images, texts = torch.randn(3, 8), torch.randn(5, 8)
    expected = functional.cosine_similarity(images[:, None], texts[None], dim=2)
    with torch.autocast("cpu", torch.bfloat16):
        found = cosines(images, texts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected)
