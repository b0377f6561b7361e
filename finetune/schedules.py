"""Learning rates by epoch, as parts of their peak; the first epoch is 1."""

import math
from collections.abc import Sequence

PROMPT_PEAK = 3.5e-4
"""Learning rate of the tuning of prompts, of which `prompt_cosine` gives parts."""


def warmup_step_factor(
    epoch: int,
    *,
    warmup_epochs: int = 10,
    warmup_factor: float = 0.01,
    milestones: Sequence[int] = (40, 70),
) -> float:
    """Give what part of its peak a learning rate has: it rises straight, and is a tenth from each milestone on.

    Args:
        epoch: From 1.
        warmup_epochs: The first epoch at the peak; with 0 or 1 there is no warm-up.
        warmup_factor: Where the line begins, at epoch 0.
        milestones: Epochs.

    Source: the strong Re-ID baseline, whose values are the defaults. CLIP-ReID begins its vision transformers at 0.1, with
    milestones 30 and 50.

    >>> 3.5e-4 * warmup_step_factor(1)
    3.815e-05
    """
    rise = 1.0 if epoch >= warmup_epochs else warmup_factor + (1 - warmup_factor) * epoch / warmup_epochs
    return float(rise * 0.1 ** sum(epoch >= milestone for milestone in milestones))


def prompt_cosine(epoch: int, epochs: int, *, warmup_epochs: int = 5) -> float:
    """Give what part of its peak the learning rate of prompts has: it rises straight, and falls as half a cosine.

    The cosine runs from epoch 0 whether or not there is a warm-up, and ends a little above 0.

    Args:
        epoch: From 1.
        epochs: All of them.
        warmup_epochs: The first epoch on the cosine.

    Source: CLIP-ReID's code: from 1e-5, over 3.5e-4, to 1e-6.
    """
    first, last = 1e-5 / PROMPT_PEAK, 1e-6 / PROMPT_PEAK
    if epoch < warmup_epochs:
        return first + (1 - first) * epoch / warmup_epochs
    return last + (1 - last) * (1 + math.cos(math.pi * epoch / epochs)) / 2
