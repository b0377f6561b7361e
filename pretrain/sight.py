"""What MMET's encoders make of pairs, and what its heads tell of it."""

from typing import NamedTuple

import torch
from torch import Tensor

from passerby.nets.flava import Flava, MultimodalStates
from passerby.training.batch import Batch
from pretrain.hiding import Hiding, MaskedPatches
from pretrain.losses import equal_rows
from pretrain.masking import NOT_MASKED

Predictions = dict[str, tuple[Tensor, Tensor]]
"""Logits, Float (told, labels that there are), and labels, Int64 (told,), or pixels, Float (told, pixels) both; by what is told."""


class Sight(NamedTuple):
    """Pairs as they are and with parts hidden, after the encoders of one modality."""

    images: Tensor
    """Float (batch, 1 + patches, width); see `Flava.see`."""

    masked_images: Tensor
    texts: Tensor
    """Float (batch, tokens, width)."""

    masked_texts: Tensor
    token_mask: Tensor
    """Bool (batch, tokens)."""

    patches: MaskedPatches
    labels: Tensor
    """Of hidden words; see `pretrain.masking.MaskedText`."""


def see(flava: Flava, hiding: Hiding, batch: Batch) -> Sight:
    """Send images and captions through their encoders, as they are and with parts hidden, in one pass each."""
    images, token_ids, token_mask = batch["images"], batch["token_ids"], batch["token_mask"]
    patches, (shown, labels) = hiding.of_images(batch), hiding.of_captions(batch)
    is_hidden = torch.cat([torch.zeros_like(patches.is_hidden), patches.is_hidden])
    seen, masked_images = flava.see(torch.cat([images, images]), is_hidden).chunk(2)
    read, masked_texts = flava.text_encoder(torch.cat([token_ids, shown]), torch.cat([token_mask, token_mask])).chunk(2)
    return Sight(seen, masked_images, read, masked_texts, token_mask, patches, labels)


def join(flava: Flava, sight: Sight, places: Tensor) -> MultimodalStates:
    """Show the multimodal encoder each image with the caption of a place, both with parts hidden.

    Args:
        flava: The encoders.
        sight: Of the pairs.
        places: Of captions, Int64 (batch,).
    """
    states: MultimodalStates = flava.multimodal_encoder(
        sight.masked_images, sight.masked_texts[places], sight.token_mask[places]
    )
    return states


def predict_alone(flava: Flava, sight: Sight) -> Predictions:
    """Tell hidden patches from images, and hidden words from captions."""
    is_hidden, targets = sight.patches
    is_masked = sight.labels != NOT_MASKED
    patches = flava.patch_states(sight.masked_images)[is_hidden]
    return {
        "image_patch": (flava.patch_head(patches), targets[is_hidden]),
        "text_word": (flava.word_head(sight.masked_texts[is_masked]), sight.labels[is_masked]),
    }


def predict_together(flava: Flava, sight: Sight, states: MultimodalStates, *, is_own: Tensor) -> Predictions:
    """Tell hidden patches and words from both.

    Args:
        flava: The encoders.
        sight: Of the pairs.
        states: Of `join`.
        is_own: Bool (batch,), which images are joined with their own captions; of other pairs nothing is told.
    """
    is_hidden = sight.patches.is_hidden & is_own[:, None]
    is_masked = (sight.labels != NOT_MASKED) & is_own[:, None]
    patches, words = states.patches[is_hidden], states.words[is_masked]
    return {
        "multimodal_patch": (flava.multimodal_patch_head(patches), sight.patches.targets[is_hidden]),
        "multimodal_word": (flava.multimodal_word_head(words), sight.labels[is_masked]),
    }


def draw_foreign_captions(token_ids: Tensor, share: float, *, seed: int) -> Tensor:
    """Give the place of the caption that each image is shown with: Int64 (batch,), its own place or that of a different caption.

    Args:
        token_ids: Captions, Int64 (batch, tokens).
        share: Probability of another caption. An image keeps its own where all captions of the batch are equal.
        seed: Decides all.
    """
    generator = torch.Generator(token_ids.device).manual_seed(seed)
    batch = len(token_ids)
    order = torch.rand((batch, batch), generator=generator, device=token_ids.device)
    is_foreign = torch.rand(batch, generator=generator, device=token_ids.device) < share
    is_equal = equal_rows(token_ids)
    others = order.masked_fill(is_equal, -1.0).argmax(dim=1)
    return torch.where(is_foreign & ~is_equal.all(dim=1), others, torch.arange(batch, device=token_ids.device))


def matching_margins(flava: Flava, own: MultimodalStates, foreign: MultimodalStates) -> Tensor:
    """Say how much better images go with their own captions than with others: Float (batch,)."""
    scores: list[Tensor] = [flava.matching_head(states.pair).float().diff(dim=1) for states in (own, foreign)]
    return (scores[0] - scores[1]).squeeze(1)
