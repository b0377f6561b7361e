"""The loss that draws pixels to sentences about parts, against a loop over pixels."""

import pytest
import torch
from torch.nn import functional

from finetune.alignment import IGNORED, alignment_loss

LABELS = torch.tensor([[[0, 3], [IGNORED, 1]], [[2, 2], [0, IGNORED]]], dtype=torch.uint8)
WEIGHTS = torch.tensor([[[1.0, 0.5], [9.0, 0.0]], [[0.25, 1.0], [2.0, 9.0]]])


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 2, 2, generator=generator), torch.randn(2, 4, 6, generator=generator)


def loop(pixels, texts, distance, weights):
    total = counted = 0.0
    for image in range(2):
        for row in range(2):
            for column in range(2):
                label = int(LABELS[image, row, column])
                if label == IGNORED:
                    continue
                pixel, text = pixels[image, :, row, column], texts[image, label]
                if distance == "cosine":
                    error = (functional.normalize(pixel, dim=0) - functional.normalize(text, dim=0)).square().sum()
                else:
                    error = functional.mse_loss(pixel, text)
                total += float(error * weights[image, row, column])
                counted += float(weights[image, row, column])
    return total / counted


@pytest.mark.parametrize("distance", ["cosine", "mse"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_loss_is_the_mean_over_labelled_pixels(features, distance, weights):
    found = alignment_loss(*features, LABELS, weights=weights, distance=distance)
    expected = loop(*features, distance, torch.ones(2, 2, 2) if weights is None else weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_pixels_that_point_as_their_sentences_do_lose_nothing(features):
    _, texts = features
    pixels = torch.stack([texts[image, LABELS[image].long().clamp(max=3)] for image in range(2)]).permute(0, 3, 1, 2)
    assert alignment_loss(7 * pixels, texts, LABELS).item() == pytest.approx(0, abs=1e-6)
    assert alignment_loss(-pixels, texts, LABELS).item() == pytest.approx(4)


def test_ignored_pixels_learn_nothing(features):
    pixels, texts = features
    pixels.requires_grad_()
    alignment_loss(pixels, texts, LABELS).backward()
    is_ignored = (LABELS == IGNORED)[:, None].expand_as(pixels)
    assert not pixels.grad[is_ignored].any()
    assert pixels.grad[~is_ignored].all()


@pytest.mark.parametrize("weights", [None, torch.zeros(2, 2, 2)])
def test_where_nothing_is_labelled_nothing_is_lost(features, weights):
    pixels, texts = features
    pixels.requires_grad_()
    labels = torch.full_like(LABELS, IGNORED) if weights is None else LABELS
    loss = alignment_loss(pixels, texts, labels, weights=weights)
    loss.backward()
    assert loss.item() == 0
    assert not pixels.grad.any()


def test_the_loss_is_exact_under_autocast(features):
    expected = alignment_loss(*features, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert alignment_loss(*features, LABELS) == expected
