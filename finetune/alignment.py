"""The loss that draws pixels to the sentences about their person's parts."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

IGNORED = 255
"""In label maps: no part is known here, as where an image was erased."""

Distance = Literal["cosine", "mse"]


def alignment_loss(
    pixel_features: Tensor,
    text_features: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    distance: Distance = "cosine",
) -> Tensor:
    """Give the mean distance of pixels to the sentences about them, and 0 where no pixel is labelled: Float (), fp32.

    Args:
        pixel_features: Float (batch, embed_dim, rows, columns).
        text_features: Of the sentences about all parts of each image's person, Float (batch, parts, embed_dim).
        labels: Parts, or `IGNORED`, of any integer type (batch, rows, columns).
        weights: How much each pixel counts, from 0, Float (batch, rows, columns); none for all alike.
        distance: `cosine` is the squared distance of vectors of length 1, 2 - 2 cos; `mse` is that of the vectors as they
            are, divided by their width.

    Source: pi-VL, equation 11, which is `mse`; weights as in its later version. That error depends on the scale of CLIP's
    vectors, and of those of length 1 it is at most 4 / embed_dim, too little to matter; so ours is `cosine`.
    """
    is_labelled = labels != IGNORED
    parts = labels.masked_fill(~is_labelled, 0).long().flatten(1)
    with torch.autocast(pixel_features.device.type, enabled=False):
        # shape: (batch, embed_dim, pixels)
        pixels, texts = pixel_features.float().flatten(2), text_features.float()
        if distance == "cosine":
            pixels, texts = functional.normalize(pixels, dim=1), functional.normalize(texts, dim=2)
        # Every pixel against its person's few texts: no text is copied to pixels. shape: (batch, parts, pixels)
        products = texts @ pixels
    # shape: (batch, pixels)
    product = products.gather(1, parts[:, None])[:, 0]
    if distance == "cosine":
        errors = 2 - 2 * product
    else:
        lengths = texts.square().sum(dim=2).gather(1, parts)
        errors = (pixels.square().sum(dim=1) - 2 * product + lengths) / pixels.shape[1]
    counted = is_labelled.flatten(1).float()
    if weights is not None:
        counted = counted * weights.float().flatten(1)
    total = counted.sum()
    return (errors * counted).sum() / torch.where(total > 0, total, 1.0)
