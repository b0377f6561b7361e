"""Learning rates by step, and the groups of parameters they belong to."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import nn

Schedule = Literal["cosine", "linear", "step", "constant"]


class Optimizer(Protocol):
    """What the loops need of an optimizer; those of PyTorch and the wrappers of timm have it."""

    param_groups: list[dict[str, Any]]

    def step(self) -> Any: ...  # noqa: ANN401, D102  (PyTorch's own signature)
    def zero_grad(self) -> None: ...  # noqa: D102
    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...  # noqa: D102


def multiplier(
    step: int, steps: int, *, warmup_steps: int, schedule: Schedule, milestones: Sequence[float] = ()
) -> float:
    """Give the part of its peak that a learning rate has in a step.

    Warm-up is linear from 0. After it `cosine` falls as cos²(π/2 · progress), which is half a cosine; `linear` falls
    straight; both reach 0 at `steps`. `step` is a tenth after each milestone.

    Args:
        step: Steps done before this one.
        steps: All steps of the run.
        warmup_steps: Steps until the peak.
        schedule: What comes after.
        milestones: For `step`: parts of `steps`, between 0 and 1.

    Source: VTBR and VirTex (cosine), UniPT (linear), the strong Re-ID baseline (step).
    """
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "cosine":
            return math.cos(math.pi / 2 * progress) ** 2
        case "linear":
            return 1 - progress
        case "step":
            return float(0.1 ** sum(step >= milestone * steps for milestone in milestones))
        case "constant":
            return 1.0


def decay_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    learning_rate: float,
    weight_decay: float,
    undecayed: tuple[str, ...] = (),
) -> list[dict[str, Any]]:
    """Make two groups: matrices, which decay, and vectors and scalars (biases, norms, temperatures), which do not.

    Args:
        named_parameters: Those that are trained, and others, which are left out.
        learning_rate: Of both groups.
        weight_decay: Of the first.
        undecayed: Ends of the names of matrices that do not decay either.
    """
    groups: dict[float, list[nn.Parameter]] = {weight_decay: [], 0.0: []}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_free = parameter.ndim <= 1 or name.endswith(undecayed)
            groups[0.0 if is_free else weight_decay].append(parameter)
    return [
        {"params": parameters, "lr": learning_rate, "weight_decay": decay}
        for decay, parameters in groups.items()
        if parameters
    ]


def adamw(groups: Sequence[Mapping[str, Any]], *, betas: tuple[float, float], eps: float) -> torch.optim.AdamW:
    """Build AdamW, fused where all parameters are on a GPU."""
    is_fused = all(parameter.is_cuda for group in groups for parameter in group["params"])
    return torch.optim.AdamW([dict(group) for group in groups], betas=betas, eps=eps, fused=is_fused)


def check_groups(module: nn.Module, groups: Iterable[Mapping[str, Any]]) -> None:
    """Make sure that every parameter that is trained is in exactly one group.

    Raises:
        ValueError: some are in none, or in several.
    """
    counts: dict[int, int] = {}
    for group in groups:
        for parameter in group["params"]:
            counts[id(parameter)] = counts.get(id(parameter), 0) + 1
    for name, parameter in module.named_parameters():
        count = counts.get(id(parameter), 0)
        if count != 1 and parameter.requires_grad:
            raise ValueError(f"the parameter {name} is in {count} groups of the optimizer; it must be in one")
