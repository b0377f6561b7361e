"""Losses of fine-tuning, each beside a slow computation of its definition."""

import math

import pytest
import torch

from finetune.losses import hardest, identity_loss, triplet_loss


def features_and_labels(counts=(4, 4, 3, 2), width=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.tensor([person for person, count in enumerate(counts) for _ in range(count)])
    order = torch.randperm(len(labels), generator=generator)
    return torch.randn(len(labels), width, generator=generator)[order], labels[order]


def distances_of(features):
    return [[math.dist(one, other) for other in features.tolist()] for one in features.tolist()]


@pytest.mark.parametrize("margin", [0.3, 0.5, 0.0])
@pytest.mark.parametrize("counts", [(4, 4, 4, 4), (4, 4, 3, 2), (2, 7)])
def test_triplets_are_the_hardest_of_each_anchor(counts, margin):
    features, labels = features_and_labels(counts)
    distances, terms = distances_of(features), []
    for anchor, person in enumerate(labels.tolist()):
        positive = max(each for each, other in zip(distances[anchor], labels.tolist(), strict=True) if other == person)
        negative = min(each for each, other in zip(distances[anchor], labels.tolist(), strict=True) if other != person)
        gap = positive - negative
        terms.append(max(0.0, gap + margin) if margin else math.log1p(math.exp(gap)))

    assert float(triplet_loss(features, labels, margin=margin)) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_equal_features_have_a_gradient_that_is_a_number():
    features = torch.ones(4, 3, requires_grad=True)
    triplet_loss(features, torch.tensor([0, 0, 1, 1]), margin=0.3).backward()
    assert features.grad.isfinite().all()


def test_what_all_features_share_costs_no_digits():
    features, labels = features_and_labels()
    far = features + 100
    distances = torch.tensor(distances_of(far))
    is_same = labels[:, None] == labels
    found = hardest(far, labels)
    assert torch.allclose(found.positive, distances.where(is_same, -torch.inf).amax(dim=1), rtol=1e-4)
    assert torch.allclose(found.negative, distances.where(~is_same, torch.inf).amin(dim=1), rtol=1e-4)


def test_distances_are_of_fp32_whatever_the_forward_pass_is():
    features, labels = features_and_labels()
    far = features + 100  # where squares are large, bf16 would lose all differences
    with torch.autocast("cpu", torch.bfloat16):
        found = hardest(far, labels)
    expected = hardest(far.double().float(), labels)
    assert torch.allclose(found.positive, expected.positive, rtol=1e-2)
    assert torch.allclose(found.negative, expected.negative, rtol=1e-2)


def test_smoothing_goes_to_all_people_alike():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 9, generator=generator), torch.tensor([0, 3, 8, 3, 1])
    terms = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        norm = math.log(sum(map(math.exp, row)))
        shares = [0.1 / 9 + (0.9 if person == label else 0.0) for person in range(9)]
        terms.append(-sum(share * (value - norm) for share, value in zip(shares, row, strict=True)))
    assert float(identity_loss(logits, labels, smoothing=0.1)) == pytest.approx(sum(terms) / 5, rel=1e-5)
