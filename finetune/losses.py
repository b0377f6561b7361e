"""Losses that several methods of fine-tuning share. All are computed in fp32."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

SQUARED_FLOOR = 1e-12
"""Under the root of a squared distance, whose gradient at 0 is infinite."""


class Hardest(NamedTuple):
    """Distances of each anchor: Float (batch,) each."""

    positive: Tensor
    """To the farthest image of the same person."""

    negative: Tensor
    """To the nearest image of another."""


def identity_loss(logits: Tensor, labels: Tensor, *, smoothing: float) -> Tensor:
    """Give the cross-entropy with smoothed labels, a mean over the batch: Float ().

    The true person gets 1 - smoothing + smoothing / people, each other smoothing / people.

    Args:
        logits: Float (batch, people).
        labels: Int64 (batch,).
        smoothing: The share that goes to all people alike.
    """
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


def triplet_loss(features: Tensor, labels: Tensor, *, margin: float) -> Tensor:
    """Give the batch-hard triplet loss, a mean over the anchors: Float ().

    Args:
        features: Float (batch, width), not normalised.
        labels: Int64 (batch,); each at least twice, and two of them.
        margin: By which another person shall be farther away; 0 for the soft margin, log(1 + exp(positive - negative)).

    Source: In Defense of the Triplet Loss (Hermans et al., 2017), equation 5.
    """
    positive, negative = hardest(features, labels)
    if margin == 0:
        return functional.softplus(positive - negative).mean()
    return functional.relu(positive - negative + margin).mean()


def hardest(features: Tensor, labels: Tensor) -> Hardest:
    """Find the hardest positive and negative of each anchor, by Euclidean distance; see `triplet_loss`."""
    with torch.autocast(features.device.type, enabled=False):
        distances = euclidean(features.float())
    is_same = labels[:, None] == labels
    return Hardest(
        distances.masked_fill(~is_same, -torch.inf).amax(dim=1), distances.masked_fill(is_same, torch.inf).amin(dim=1)
    )


def euclidean(features: Tensor) -> Tensor:
    """Give the distances of all pairs: Float (batch, batch) of Float (batch, width).

    They are those of the features around their mean: what all share, much of it before anything is learnt, would only cost digits.
    """
    features = features - features.mean(dim=0).detach()
    squares = features.square().sum(dim=1)
    squared = squares[:, None] + squares - 2 * features @ features.T
    return squared.clamp_min(SQUARED_FLOOR).sqrt()
