"""Say the caption that a model finds most probable (beam search), or draw one (nucleus sampling).

The prefix keeps its start token and every beam its own history. VirTex's search, which VTBR used, drops the start token
after the first step, so that all positions are off by one and nearly all published captions begin "there a"; nor does
it here forbid a token to follow itself, since a rare word is spelt in letters, and "wool" needs two of one.

Source: VirTex (both searches); nucleus sampling: Holtzman et al., The Curious Case of Neural Text Degeneration, section 3.1.
"""

import math
import re
from collections.abc import Callable

import torch
from torch import Tensor

from passerby.text import capitalise, tidy

NextLogits = Callable[[Tensor], Tensor]
"""Gives Float (images, beams, vocabulary), of the token that follows prefixes Int64 (images, beams, tokens)."""

Search = Callable[..., tuple[Tensor, Tensor]]
"""`beam_search` or `sample_nucleus` with what is their own given: a function of `next_logits`, `start`, `end_id` and `length`."""

CUT_WORD = re.compile(r"(?<=\w) ([-'/]) (?=\w)")


def beam_search(
    next_logits: NextLogits, start: Tensor, *, end_id: int, beam_size: int, length: int
) -> tuple[Tensor, Tensor]:
    """Find probable captions: of every step's continuations the `beam_size` most probable go on. 1 is greedy search.

    Args:
        next_logits: The model.
        start: Int64 (images,), the token that each caption begins with.
        end_id: The token that ends a caption, and follows it at no cost.
        beam_size: Captions an image.
        length: Tokens at most, start and end among them.

    Returns:
        Int64 (images, beams, tokens), the most probable first; and their log-probabilities, Float (images, beams).
    """
    # shape: (images, beams, tokens) and (images, beams)
    sequences, scores = start[:, None, None], torch.zeros(len(start), 1, device=start.device)
    while sequences.shape[2] < length and not (has_ended := sequences[:, :, -1] == end_id).all():
        log_probabilities = next_logits(sequences).float().log_softmax(dim=2)
        # shape: (images, beams, vocabulary)
        continued = scores[:, :, None] + _only_end(log_probabilities, has_ended, end_id)
        scores, places = continued.flatten(1).topk(min(beam_size, continued[0].numel()), dim=1)
        parents, tokens = places // continued.shape[2], places % continued.shape[2]
        histories = sequences.gather(1, parents[:, :, None].expand(-1, -1, sequences.shape[2]))
        sequences = torch.cat([histories, tokens[:, :, None]], dim=2)
    return sequences, scores


def sample_nucleus(
    next_logits: NextLogits, start: Tensor, *, end_id: int, mass: float, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one caption an image, every token from the few that hold most of the probability; see `nucleus`.

    Args:
        next_logits: The model.
        start: Int64 (images,), the token that each caption begins with.
        end_id: The token that ends a caption.
        mass: Probability that the few hold together.
        length: Tokens at most, start and end among them.
        generator: Draws, on the device of `start`.

    Returns:
        As `beam_search`, with one beam; the log-probabilities are the model's, before anything is cut off.
    """
    sequences, scores = start[:, None, None], torch.zeros(len(start), 1, device=start.device)
    while sequences.shape[2] < length and not (has_ended := sequences[:, :, -1] == end_id).all():
        log_probabilities = next_logits(sequences).float().log_softmax(dim=2)
        allowed = _only_end(log_probabilities, has_ended, end_id)
        # shape: (images, 1)
        tokens = torch.multinomial(nucleus(allowed[:, 0].exp(), mass), num_samples=1, generator=generator)
        scores = scores + allowed[:, 0].gather(1, tokens)
        sequences = torch.cat([sequences, tokens[:, :, None]], dim=2)
    return sequences, scores


def nucleus(probabilities: Tensor, mass: float) -> Tensor:
    """Keep the fewest tokens that together have at least `mass`, and scale them to 1.

    Args:
        probabilities: Float (images, vocabulary).
        mass: Above 0, where the most probable token alone is kept, and at most 1, where all are.

    >>> nucleus(torch.tensor([[0.5, 0.1, 0.4]]), 0.6)
    tensor([[0.5556, 0.0000, 0.4444]])
    """
    ordered, order = probabilities.sort(dim=1, descending=True)
    mass_before = ordered.cumsum(dim=1) - ordered
    kept = torch.where(mass_before < mass, ordered, 0)
    return torch.zeros_like(probabilities).scatter(1, order, kept / kept.sum(dim=1, keepdim=True))


def readable(text: str) -> str:
    """Undo what cutting a text into pieces did to it: gaps within words, and lower case at the start of a sentence.

    >>> readable("she wears upper - body clothes. a bag too.")
    'She wears upper-body clothes. A bag too.'
    """
    return capitalise(tidy(CUT_WORD.sub(r"\1", text)))


def _only_end(log_probabilities: Tensor, has_ended: Tensor, end_id: int) -> Tensor:
    """Let nothing but the end token follow a caption that has ended, and at no cost."""
    end = torch.full_like(log_probabilities[0, 0], -math.inf)
    end[end_id] = 0.0
    return torch.where(has_ended[:, :, None], end, log_probabilities)
