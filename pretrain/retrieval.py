"""How well images and captions find each other, among people that were held out.

Many people share a caption, so what counts is the caption: an image is right that has exactly the words of the query.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from pretrain.losses import cosines

RANKS = (1, 5, 10)
QUERIES_AT_A_TIME = 1024
"""So that a large validation fits into memory."""


def retrieval_scores(image_features: Tensor, text_features: Tensor, token_ids: Tensor) -> dict[str, float]:
    """Give recall at 1, 5 and 10 in both directions, and what a random order would give.

    Queries are the images and, once each, the captions that differ; so are the galleries.

    Args:
        image_features: Float (samples, width).
        text_features: Float (samples, width), of the captions of those images.
        token_ids: Of the captions, padded: Int64 (samples, tokens).

    Returns:
        `text_to_image_recall_at_1`, …, and `text_to_image_chance_at_1`, …; the same for `image_to_text`.
    """
    _, numbers = torch.unique(token_ids, dim=0, return_inverse=True)
    different, firsts = _firsts(numbers)
    texts = text_features[firsts]
    directions = {
        "text_to_image": (texts, different, image_features, numbers),
        "image_to_text": (image_features, numbers, texts, different),
    }
    scores = {}
    for name, (queries, query_numbers, gallery, gallery_numbers) in directions.items():
        ranks = torch.cat([*first_right_ranks(queries, query_numbers, gallery, gallery_numbers)])
        right = (query_numbers[:, None] == gallery_numbers).sum(dim=1)
        for limit in RANKS:
            scores[f"{name}_recall_at_{limit}"] = float((ranks < limit).float().mean())
            scores[f"{name}_chance_at_{limit}"] = float(chance(right, len(gallery), limit).mean())
    return scores


def first_right_ranks(
    queries: Tensor, query_numbers: Tensor, gallery: Tensor, gallery_numbers: Tensor
) -> Iterator[Tensor]:
    """Yield how many wrong ones stand before the first right one, some queries at a time: Int64 (queries,).

    What is as similar stands before it, so that features which are all the same find nothing.

    Args:
        queries: Float (queries, width).
        query_numbers: Of their captions, Int64 (queries,).
        gallery: Float (gallery, width).
        gallery_numbers: Of their captions, Int64 (gallery,).
    """
    for start in range(0, len(queries), QUERIES_AT_A_TIME):
        end = start + QUERIES_AT_A_TIME
        # shape: (queries, gallery)
        similarities = cosines(queries[start:end], gallery)
        is_right = query_numbers[start:end, None] == gallery_numbers
        best = similarities.masked_fill(~is_right, -torch.inf).amax(dim=1, keepdim=True)
        yield ((similarities >= best) & ~is_right).sum(dim=1)


def chance(right: Tensor, gallery: int, limit: int) -> Tensor:
    """Give the probability that a random order has a right one among its first.

    Args:
        right: How many of the gallery are right, Int64 (queries,).
        gallery: How many there are.
        limit: How many count as first.
    """
    misses = torch.ones(right.shape, dtype=torch.float64, device=right.device)
    for place in range(min(limit, gallery)):
        misses *= (gallery - right - place).clamp(min=0) / (gallery - place)
    return 1 - misses


def _firsts(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Give each number once, in order, and where it stands first: Int64 (different,) both."""
    different = torch.arange(int(numbers.max()) + 1, device=numbers.device)
    # shape: (different,)
    places = torch.full_like(different, len(numbers))
    places.scatter_reduce_(0, numbers, torch.arange(len(numbers), device=numbers.device), reduce="amin")
    return different, places
