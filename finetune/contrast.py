"""The losses that tune prompts: of images and sentences about people, and of pixels and sentences about their parts.

All are computed in fp32, also under autocast.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from finetune.alignment import IGNORED

Counting = Literal["dedup", "literal"]

Similarity = Literal["product", "cosine"]

NO_TEXT = -1
"""Place of a pixel that counts for nothing."""


def comparable(features: Tensor, similarity: Similarity, *, temperature: float) -> Tensor:
    """Give features whose products with others of this kind are their similarities: Float (batch, embed_dim), fp32.

    Args:
        features: Float (batch, embed_dim), of any length.
        similarity: `product` of the features as they are, as CLIP-ReID's code has it; or `cosine`, as CLIP was trained, which suits
            models with longer features than OpenAI's.
        temperature: Divides the cosines.
    """
    features = features.float()
    return features if similarity == "product" else functional.normalize(features, dim=1) / math.sqrt(temperature)


def prompt_loss(image_features: Tensor, text_features: Tensor, person_indices: Tensor) -> Tensor:
    """Give the sum of the losses of finding a person's sentence by image and a person's images by sentence: Float (), fp32.

    Similarity is the plain product, as of `comparable`. Each image brings its sentence, so a person's sentence
    stands among the candidates as often as the person's images.

    Args:
        image_features: Float (batch, embed_dim).
        text_features: Of the sentence about each image's person, Float (batch, embed_dim).
        person_indices: Int64 (batch,).

    Source: CLIP-ReID, section 3.2, and its code; pi-VL, equation 2.
    """
    is_own = person_indices[:, None] == person_indices
    with torch.autocast(image_features.device.type, enabled=False):
        products = image_features.float() @ text_features.float().T
    return _find_own(products, is_own) + _find_own(products.T, is_own)


class PartTexts(NamedTuple):
    """The sentences about parts that a batch needs, each once, and who needs them."""

    person_indices: Tensor
    """Int64 (texts,)."""

    part_indices: Tensor
    """Int64 (texts,)."""

    places: Tensor
    """Of each pixel's sentence, or `NO_TEXT`, Int64 (batch, rows, columns)."""


def list_part_texts(person_indices: Tensor, labels: Tensor) -> PartTexts:
    """List the sentences that pixels of labelled images belong to.

    Args:
        person_indices: Int64 (batch,).
        labels: Places in `PART_NAMES`, or `IGNORED`, of any integer type (batch, rows, columns).
    """
    labels = labels.long()
    is_ignored = labels == IGNORED
    codes = person_indices[:, None, None] * IGNORED + labels
    texts, found = torch.unique(codes[~is_ignored], return_inverse=True)
    places = torch.full_like(labels, NO_TEXT).masked_scatter(~is_ignored, found)
    return PartTexts(texts // IGNORED, texts % IGNORED, places)


def part_loss(
    pixel_features: Tensor,
    text_features: Tensor,
    places: Tensor,
    *,
    temperature: float = 0.07,
    counting: Counting = "dedup",
) -> Tensor:
    """Give the sum of the losses of finding each pixel's sentence and each sentence's pixels: Float (), fp32.

    A pixel belongs to one sentence: that of its person and its part, in whichever image. All others are negatives, those of
    the same person's other parts too. With no pixel at all the loss is 0.

    Args:
        pixel_features: Float (batch, embed_dim, rows, columns), of any length.
        text_features: Float (texts, embed_dim), of any length, of the sentences of `list_part_texts`.
        places: Of `list_part_texts`.
        temperature: Divides the cosines.
        counting: `literal` takes each pixel to bring its sentence, as equations 7 and 8 are written, so that sentences
            weigh by their pixels; `dedup` counts each sentence once, so that large parts do not rule. Two different losses.

    Source: pi-VL, equations 7 and 8. The paper gives neither temperature nor counting; both are ours.
    """
    pixels = pixel_features.permute(0, 2, 3, 1)[places != NO_TEXT]
    targets = places[places != NO_TEXT]
    with torch.autocast(pixels.device.type, enabled=False):
        cosines = functional.normalize(pixels.float(), dim=1) @ functional.normalize(text_features.float(), dim=1).T
    if not len(targets):
        return cosines.sum()
    # shape: (pixels, texts)
    logits = cosines / temperature
    own = logits.gather(1, targets[:, None])[:, 0]
    counts = torch.bincount(targets, minlength=len(text_features))
    # shape: (texts,)
    own_by_text = torch.zeros_like(logits[0]).index_add(0, targets, own) / counts
    losses_by_text = logits.logsumexp(dim=0) - own_by_text
    if counting == "literal":
        of_pixels = ((logits + counts.log()).logsumexp(dim=1) - own).mean()
        return of_pixels + (losses_by_text * counts).sum() / len(targets)
    return functional.cross_entropy(logits, targets) + losses_by_text.mean()


def _find_own(products: Tensor, is_own: Tensor) -> Tensor:
    """Give the mean over rows of the mean negative log-likelihood of the columns that are their own."""
    own = products.log_softmax(dim=1).masked_fill(~is_own, 0.0).sum(dim=1) / is_own.sum(dim=1)
    return -own.sum() / max(1, len(own))
