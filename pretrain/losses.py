"""The contrastive loss of images and captions, within a rank or over all of them, and the loss of words that were masked."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

MAX_SCALE = 100.0
"""Of cosines, as in CLIP."""


class Gathered(NamedTuple):
    """The rows of all ranks."""

    rows: Tensor
    """(rows of all ranks, ...), in the order of the ranks."""

    start: int
    """Place of this rank's first row."""


def contrastive_loss(
    image_features: Tensor,
    text_features: Tensor,
    *,
    scale: Tensor | float,
    is_ignored: Tensor | None = None,
    is_gathered: bool = False,
) -> Tensor:
    """Give the symmetric loss of telling each image's caption from all others, and each caption's image: Float (), fp32.

    The mean over ranks is the loss of the whole batch if all have as many rows, and so is its gradient.

    Args:
        image_features: Float (batch, width), of any length.
        text_features: Float (batch, width), in the same order.
        scale: Of the cosines, 1 / temperature.
        is_ignored: Pairs that are no negatives, such as those of equal captions, Bool (batch, candidates), symmetric in
            images and captions; true pairs count nevertheless.
        is_gathered: Compare with the rows of all ranks; else with those of this one.

    Source: UniPT, equation 1, which is CLIP's. There are no gathered negatives in the authors' code.
    """
    images, start = gather(image_features) if is_gathered else Gathered(image_features, 0)
    texts, _ = gather(text_features) if is_gathered else Gathered(text_features, 0)
    targets = start + torch.arange(len(image_features), device=image_features.device)
    of_images = one_way_loss(image_features, texts, targets, scale=scale, is_ignored=is_ignored)
    of_texts = one_way_loss(text_features, images, targets, scale=scale, is_ignored=is_ignored)
    return (of_images + of_texts) / 2


def one_way_loss(
    anchors: Tensor, candidates: Tensor, targets: Tensor, *, scale: Tensor | float, is_ignored: Tensor | None = None
) -> Tensor:
    """Give the mean negative log-likelihood of the right candidate under a softmax over scaled cosines: Float (), fp32.

    Args:
        anchors: Float (anchors, width).
        candidates: Float (candidates, width).
        targets: Place of each anchor's candidate, Int64 (anchors,).
        scale: Of the cosines.
        is_ignored: Candidates that are left out, unless they are right: Bool (anchors, candidates).
    """
    logits = scale * cosines(anchors, candidates)
    if is_ignored is not None:
        is_right = functional.one_hot(targets, len(candidates)).bool()
        logits = logits.masked_fill(is_ignored & ~is_right, float("-inf"))
    return functional.cross_entropy(logits, targets)


def cosines(left: Tensor, right: Tensor) -> Tensor:
    """Give the cosine of each row with each row in fp32, also where autocast would take less: Float (left, right).

    Args:
        left: Float (left, width).
        right: Float (right, width).
    """
    with torch.autocast(left.device.type, enabled=False):
        return functional.normalize(left.float(), dim=1) @ functional.normalize(right.float(), dim=1).T


def equal_rows(rows: Tensor, *, is_gathered: bool = False) -> Tensor:
    """Say which candidates equal each row: Bool (batch, candidates).

    Args:
        rows: Captions, padded to the same length on all ranks: Int64 (batch, tokens).
        is_gathered: The candidates are the rows of all ranks; else those of this one.
    """
    candidates, start = gather(rows) if is_gathered else Gathered(rows, 0)
    numbers: Tensor = torch.unique(candidates, dim=0, return_inverse=True)[1]
    return numbers[start : start + len(rows), None] == numbers


def masked_token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Give the mean negative log-likelihood of masked tokens, and 0 with gradients of 0 where none is masked: Float (), fp32.

    Args:
        logits: Float (masked tokens, vocabulary).
        targets: Int64 (masked tokens,).

    Source: UniPT, equation 2, but for a mean instead of its sum.
    """
    return functional.cross_entropy(logits.float(), targets, reduction="sum") / max(1, len(targets))


def hidden_loss(told: Tensor, targets: Tensor) -> Tensor:
    """Give the loss of what is told of hidden words or patches, and 0 with gradients of 0 where nothing is hidden: Float (), fp32.

    Args:
        told: Float (hidden, labels), or (hidden, pixels).
        targets: Labels, Int64 (hidden,): their mean negative log-likelihood; or pixels, Float (hidden, pixels): the mean
            squared error.
    """
    if not targets.is_floating_point():
        return masked_token_loss(told, targets)
    return functional.mse_loss(told.float(), targets, reduction="sum") / max(1, targets.numel())


class Temperature(nn.Module):
    """What cosines are multiplied by: 1 / temperature, fixed or learned.

    Args:
        initial: Temperature at first.
        is_learned: Learn its logarithm.

    Source: CLIP, which starts at 0.07.
    """

    log_scale: Tensor

    def __init__(self, initial: float, *, is_learned: bool) -> None:
        super().__init__()
        log_scale = torch.tensor(-math.log(initial))
        if is_learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    def forward(self) -> Tensor:
        """Give the scale: Float ()."""
        with torch.no_grad():  # not on the way of the gradient, which could never lower it again
            self.log_scale.clamp_(max=math.log(MAX_SCALE))
        return self.log_scale.exp()


def gather(rows: Tensor) -> Gathered:
    """Give the rows of all ranks, whose gradients go back to where they came from; alone, the rows themselves.

    Ranks may have different numbers of rows. All must ask.

    Args:
        rows: (rows, ...).
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return Gathered(rows, 0)
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes, rank = [int(count) for count in counts], distributed.get_rank()
    # shape: (greatest number of rows of a rank, ...)
    padded = torch.cat([rows, rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])])
    parts = _AllRows.apply(padded)
    return Gathered(torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]), sum(sizes[:rank]))


class _AllRows(torch.autograd.Function):
    """Equal parts of all ranks; backwards, the sum of all ranks' gradients of this one's part."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401  (PyTorch's own signature)
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        # shape: (ranks, rows, ...)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        summed = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(summed)
        return summed[distributed.get_rank()]
