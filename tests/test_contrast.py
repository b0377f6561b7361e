"""The losses of prompts, against loops over every image, pixel and sentence."""

import math

import pytest
import torch
from torch.nn import functional

from finetune.alignment import IGNORED
from finetune.contrast import NO_TEXT, list_part_texts, part_loss, prompt_loss

PEOPLE = torch.tensor([5, 2, 5, 0, 2])
BACKGROUND, HAIR, PANTS = 0, 2, 9


def by_hand(products, is_own):
    """For each row: the mean over its own columns of -log of their share among all columns."""
    losses = []
    for row, own in zip(products.tolist(), is_own.tolist(), strict=True):
        total = sum(math.exp(product) for product in row)
        shares = [math.exp(product) / total for product, mine in zip(row, own, strict=True) if mine]
        losses.append(-sum(map(math.log, shares)) / len(shares))
    return sum(losses) / len(losses)


def test_the_loss_of_people_is_that_of_every_image_and_every_sentence():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(5, 8, generator=generator), torch.randn(6, 8, generator=generator)[PEOPLE]
    products = images.double() @ texts.double().T
    is_own = PEOPLE[:, None] == PEOPLE
    expected = by_hand(products, is_own) + by_hand(products.T, is_own)
    assert prompt_loss(images, texts, PEOPLE).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_people_is_not_normalised():
    images, texts = torch.eye(2), torch.eye(2)
    alike, larger = (prompt_loss(scale * images, texts, torch.tensor([0, 1])) for scale in (1, 3))
    assert alike.item() == pytest.approx(2 * math.log(1 + math.exp(-1)))
    assert larger.item() == pytest.approx(2 * math.log(1 + math.exp(-3)))


def test_no_images_lose_nothing():
    images = torch.zeros(0, 4, requires_grad=True)
    loss = prompt_loss(images, images, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0


@pytest.fixture
def batch():
    """Two images of person 4 and one of person 1, 3x2 cells each, some ignored."""
    people = torch.tensor([4, 1, 4])
    labels = torch.tensor(
        [
            [[HAIR, BACKGROUND], [PANTS, PANTS], [IGNORED, PANTS]],
            [[BACKGROUND, HAIR], [BACKGROUND, BACKGROUND], [PANTS, IGNORED]],
            [[HAIR, HAIR], [BACKGROUND, PANTS], [IGNORED, IGNORED]],
        ],
        dtype=torch.uint8,
    )
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 8, 3, 2, generator=generator)
    sentences = {(p, s): torch.randn(8, generator=generator) for p in (1, 4) for s in (BACKGROUND, HAIR, PANTS)}
    return people, labels, pixels, sentences


def loop(batch, temperature, *, counting):
    """Equations 7 and 8 over all pixels; `literal` with a sentence for each of them."""
    people, labels, pixels, sentences = batch
    owners, vectors = [], []
    for image, person in enumerate(people.tolist()):
        for row in range(3):
            for column in range(2):
                if labels[image, row, column] != IGNORED:
                    owners.append((person, int(labels[image, row, column])))
                    vectors.append(functional.normalize(pixels[image, :, row, column].double(), dim=0))
    texts = owners if counting == "literal" else sorted(set(owners))
    similar = [
        [
            math.exp(float(vector @ functional.normalize(sentences[text].double(), dim=0)) / temperature)
            for text in texts
        ]
        for vector in vectors
    ]
    of_pixels = 0.0
    for pixel, owner in enumerate(owners):
        own = similar[pixel][texts.index(owner)]
        negatives = sum(value for value, text in zip(similar[pixel], texts, strict=True) if text != owner)
        repeated = texts.count(owner)  # of a literal sentence, each pixel of its part brings one
        of_pixels -= math.log(own / (repeated * own + negatives)) / len(owners)
    of_texts = 0.0
    for place, text in enumerate(texts):
        own_pixels = [pixel for pixel, owner in enumerate(owners) if owner == text]
        total = sum(row[place] for row in similar)
        of_texts -= sum(math.log(similar[pixel][place] / total) for pixel in own_pixels) / len(own_pixels) / len(texts)
    return of_pixels + of_texts


def features_of(texts, sentences):
    pairs = zip(texts.person_indices.tolist(), texts.part_indices.tolist(), strict=True)
    return torch.stack([sentences[pair] for pair in pairs])


@pytest.mark.parametrize("counting", ["dedup", "literal"])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_loss_of_parts_is_that_of_every_pixel_and_every_sentence(batch, counting, temperature):
    people, labels, pixels, sentences = batch
    texts = list_part_texts(people, labels)
    features = features_of(texts, sentences)
    found = part_loss(pixels, features, texts.places, temperature=temperature, counting=counting)
    assert found.item() == pytest.approx(loop(batch, temperature, counting=counting), rel=1e-5)


def test_each_sentence_about_a_part_is_listed_once(batch):
    people, labels, _, _ = batch
    texts = list_part_texts(people, labels)
    pairs = list(zip(texts.person_indices.tolist(), texts.part_indices.tolist(), strict=True))
    assert pairs == [(1, BACKGROUND), (1, HAIR), (1, PANTS), (4, BACKGROUND), (4, HAIR), (4, PANTS)]
    assert texts.places.shape == (3, 3, 2)
    for image, row, column in torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2)).tolist():
        label, place = int(labels[image, row, column]), int(texts.places[image, row, column])
        assert place == NO_TEXT if label == IGNORED else pairs[place] == (int(people[image]), label)


def test_ignored_pixels_change_nothing_and_learn_nothing(batch):
    people, labels, pixels, sentences = batch
    texts = list_part_texts(people, labels)
    features = features_of(texts, sentences)
    pixels.requires_grad_()
    loss = part_loss(pixels, features, texts.places)
    loss.backward()
    is_ignored = (labels == IGNORED)[:, None].expand_as(pixels)
    assert not pixels.grad[is_ignored].any()
    assert pixels.grad[~is_ignored].all()
    other = torch.where(is_ignored, 100.0, pixels.detach())
    assert part_loss(other, features, texts.places).item() == loss.item()


def test_images_without_parts_lose_nothing():
    texts = list_part_texts(torch.tensor([3]), torch.full((1, 2, 2), IGNORED))
    assert len(texts.person_indices) == 0
    context = torch.zeros(0, 8, requires_grad=True)
    loss = part_loss(torch.randn(1, 8, 2, 2), context, texts.places)
    loss.backward()
    assert loss.item() == 0


def test_losses_are_exact_under_autocast(batch):
    people, labels, pixels, sentences = batch
    texts = list_part_texts(people, labels)
    features = features_of(texts, sentences)
    images = 10 * torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    expected = part_loss(pixels, features, texts.places), prompt_loss(images, images.flip(0), people)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = part_loss(pixels, features, texts.places), prompt_loss(images, images.flip(0), people)
    assert found == expected
