"""Searches for captions against brute force over a vocabulary of four."""

import itertools
import math
import random

import pytest
import torch

from pretrain.decoding import beam_search, nucleus, sample_nucleus

START, END, VOCABULARY, LENGTH = 0, 1, 4, 5


def logits_after(image: int, prefix: tuple[int, ...]) -> list[float]:
    """Be a model whose logits depend on the whole prefix."""
    draws = random.Random(repr((image, prefix)))
    return [draws.uniform(-2, 2) for _ in range(VOCABULARY)]


def next_logits(prefixes: torch.Tensor) -> torch.Tensor:
    return torch.tensor(
        [[logits_after(image, tuple(beam)) for beam in beams] for image, beams in enumerate(prefixes.tolist())]
    )


def log_probability(image: int, caption: tuple[int, ...]) -> float:
    """Add up the logarithms of the softmax along a caption, up to its end."""
    total = 0.0
    for place in range(1, len(caption)):
        if caption[place - 1] == END:
            break
        logits = logits_after(image, caption[:place])
        total += logits[caption[place]] - math.log(sum(map(math.exp, logits)))
    return total


def all_captions(length: int) -> set[tuple[int, ...]]:
    """Give all that begin with the start, with nothing but ends after an end."""
    captions = set()
    for rest in itertools.product(range(VOCABULARY), repeat=length - 1):
        stop = rest.index(END) if END in rest else len(rest)
        captions.add((START, *rest[:stop], *[END] * (len(rest) - stop)))
    return captions


def search(images: int, beam_size: int, length: int = LENGTH):
    return beam_search(next_logits, torch.full((images,), START), end_id=END, beam_size=beam_size, length=length)


def test_a_wide_search_ranks_captions_as_brute_force_does():
    captions, scores = search(images=3, beam_size=VOCABULARY**LENGTH)
    for image in range(3):
        expected = sorted(all_captions(LENGTH), key=lambda caption: -log_probability(image, caption))[:20]
        assert [tuple(beam) for beam in captions[image, :20].tolist()] == expected
        expected_scores = [log_probability(image, caption) for caption in expected]
        assert scores[image, :20].tolist() == pytest.approx(expected_scores, abs=1e-5)


@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_a_beam_keeps_its_own_history(beam_size):
    captions, scores = search(images=8, beam_size=beam_size, length=7)
    for image in range(8):
        expected = [log_probability(image, tuple(beam)) for beam in captions[image].tolist()]
        assert scores[image].tolist() == pytest.approx(expected, abs=1e-5)
        assert expected == sorted(expected, reverse=True)


def test_one_beam_is_greedy():
    captions, _ = search(images=8, beam_size=1)
    for image in range(8):
        caption = [START]
        while len(caption) < captions.shape[2]:
            logits = logits_after(image, tuple(caption))
            caption.append(END if caption[-1] == END else logits.index(max(logits)))
        assert captions[image, 0].tolist() == caption


def test_a_search_ends_when_all_captions_have():
    def always_end(prefixes):
        return torch.tensor([0.0, 9.0, 0.0, 0.0]).expand(*prefixes.shape[:2], -1)

    captions, _ = beam_search(always_end, torch.tensor([START, START]), end_id=END, beam_size=1, length=50)
    assert captions.tolist() == [[[START, END]]] * 2


@pytest.mark.parametrize("decode", ["beam", "nucleus"])
def test_every_prefix_keeps_the_start_and_grows_by_one(decode):
    seen = []

    def watched(prefixes):
        seen.append(prefixes)
        return next_logits(prefixes)

    start = torch.full((2,), START)
    if decode == "beam":
        beam_search(watched, start, end_id=END, beam_size=2, length=LENGTH)
    else:
        sample_nucleus(watched, start, end_id=END, mass=0.9, length=LENGTH, generator=torch.Generator())
    assert [prefixes.shape[2] for prefixes in seen] == [*range(1, len(seen) + 1)]
    assert all((prefixes[:, :, 0] == START).all() for prefixes in seen)


@pytest.mark.parametrize(
    ("probabilities", "mass", "expected"),
    [
        ([0.5, 0.25, 0.125, 0.125], 0.5, [1, 0, 0, 0]),
        ([0.5, 0.25, 0.125, 0.125], 0.51, [2 / 3, 1 / 3, 0, 0]),
        ([0.125, 0.25, 0.5, 0.125], 0.75, [0, 1 / 3, 2 / 3, 0]),
        ([0.1, 0.6, 0.3, 0.0], 0.01, [0, 1, 0, 0]),
        ([0.25, 0.5, 0.125, 0.125], 1.0, [0.25, 0.5, 0.125, 0.125]),
    ],
)
def test_a_nucleus_is_the_smallest_set_of_a_mass(probabilities, mass, expected):
    assert nucleus(torch.tensor([probabilities]), mass)[0].tolist() == pytest.approx(expected)


def test_no_smaller_set_has_the_mass_of_a_nucleus():
    generator = torch.Generator().manual_seed(0)
    for probabilities in torch.rand(20, 6, generator=generator).softmax(dim=1):
        kept = nucleus(probabilities[None], 0.7)[0].nonzero().flatten().tolist()
        assert probabilities[kept].sum() >= 0.7
        smaller = itertools.combinations(probabilities.tolist(), len(kept) - 1)
        assert all(sum(choice) < 0.7 for choice in smaller)


def test_draws_come_from_the_nucleus_in_its_proportions():
    chances = torch.tensor([0.05, 0.45, 0.1, 0.4])
    captions, scores = sample_nucleus(
        lambda prefixes: chances.log().expand(*prefixes.shape[:2], -1),
        torch.full((4000,), START),
        end_id=END,
        mass=0.8,
        length=2,
        generator=torch.Generator().manual_seed(0),
    )
    drawn = captions[:, 0, 1]
    assert set(drawn.tolist()) == {1, 3}
    assert (drawn == 1).float().mean().item() == pytest.approx(0.45 / 0.85, abs=0.03)
    assert torch.allclose(scores[:, 0], chances.log()[drawn])


def test_a_seed_decides_what_is_drawn():
    def sample(seed):
        generator = torch.Generator().manual_seed(seed)
        start = torch.full((20,), START)
        return sample_nucleus(next_logits, start, end_id=END, mass=0.9, length=LENGTH, generator=generator)[0].tolist()

    assert sample(1) == sample(1) != sample(2)
    for (caption,) in sample(1):
        assert tuple(caption) in all_captions(len(caption))
