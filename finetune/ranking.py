"""The ranking loss of text-to-image Re-ID, with semi-hard negatives."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

RankingParity = Literal["paper", "lgur"]


def ranking_loss(
    similarities: Tensor,
    labels: Tensor,
    *,
    margin: float,
    generator: torch.Generator,
    parity: RankingParity = "paper",
) -> Tensor:
    """Give the ranking loss of images and texts as anchors, a sum over both: Float ().

    The positive of an anchor is its own partner alone. Its negative is drawn from the semi-hard: of another person, less
    similar than the positive, but by less than the margin. An anchor that has none adds nothing.

    Args:
        similarities: Float (batch, batch), cosines, images by texts; partners are on the diagonal.
        labels: Of people, Int64 (batch,).
        margin: By which the positive shall be more similar.
        generator: On the device of `similarities`; draws the negatives.
        parity: `paper` is equation 5. `lgur` takes negatives of texts as the code of LGUR does, from which UniPT's results
            may be: it draws image n for text i, and then compares image i with text n.

    Source: UniPT, equation 5, and the code of LGUR, which takes a triplet with any negative where a batch has no semi-hard one
    at all.
    """
    from_images = _terms(similarities, similarities, labels, margin, generator)
    scored = similarities if parity == "lgur" else similarities.T
    from_texts = _terms(similarities.T, scored, labels, margin, generator)
    return from_images.sum() + from_texts.sum()


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """Compare all images with all texts, in fp32: Float (images, texts) of features of one width."""
    with torch.autocast(images.device.type, enabled=False):
        return functional.normalize(images.float()) @ functional.normalize(texts.float()).T


def _terms(mined: Tensor, scored: Tensor, labels: Tensor, margin: float, generator: torch.Generator) -> Tensor:
    """Give what each anchor adds, drawing its negative by one matrix and scoring it by another: Float (batch,)."""
    positives = mined.diagonal()[:, None]
    is_semi_hard = (labels[:, None] != labels) & (mined < positives) & (mined > positives - margin)
    chances = torch.rand(mined.shape, generator=generator, device=mined.device).masked_fill(~is_semi_hard, -1.0)
    negatives = chances.argmax(dim=1, keepdim=True)
    terms = functional.relu(margin - scored.diagonal() + scored.gather(1, negatives).squeeze(1))
    return terms * is_semi_hard.any(dim=1)
