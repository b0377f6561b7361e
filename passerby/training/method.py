"""What a method promises to the loop, and what the loop can be told."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from passerby.optim import Optimizer, Schedule
from passerby.training.batch import Batch


class Method(Protocol):
    """A module that learns; besides this it is an `nn.Module`.

    `forward(batch)` gives `{"loss": Float (), fp32, "loss_components": {name: Float (), detached}}`. Every parameter gets
    a gradient in every step (`idle_loss`), since several ranks do not search for idle ones.
    """

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn from the data what the first step needs, into buffers; called once, on the first rank."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give every parameter once, with `lr`, the greatest learning rate of the run, and `weight_decay`."""
        ...

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build what makes the steps."""
        ...

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Measure on people that were held out; called in evaluation mode, without gradients, on the first rank."""
        ...

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give the image encoder and what rebuilds it: `architecture`, image size and statistics; plain values."""
        ...


def idle_loss(module: nn.Module) -> Tensor:
    """Give 0, Float (), with a gradient for every parameter, whether or not the other losses of a step have one.

    Those of which this rank holds a part only are left out, see `passerby.training.sharded.Sharded`, which mends it.
    """
    return 0.0 * torch.stack([each.sum() for each in module.parameters() if type(each) is nn.Parameter]).sum()


def encoder_table(config: object) -> dict[str, Any]:
    """Give what rebuilds an image encoder, from the fields that every method's configuration has."""
    names = ("architecture", "image_height", "image_width", "image_mean", "image_std")
    return {name: getattr(config, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how a method learns."""

    steps: int
    """Steps of the optimizer."""

    batch_size: int
    """Samples a step, over all ranks and passes."""

    accumulation: int = 1
    """Forward passes of each rank a step. A contrastive loss compares within one pass."""

    schedule: Schedule = "cosine"
    """How the learning rate falls after warm-up; see `passerby.optim.multiplier`."""

    warmup_steps: int = 0
    """Steps until the learning rate is at its greatest."""

    milestones: tuple[float, ...] = ()
    """For the schedule `step`: parts of the run after which the learning rate is a tenth."""

    clip_norm: float = 0.0
    """Greatest L2 norm of the gradient; 0 for no limit."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the forward pass on a GPU; the CPU always takes fp32."""

    compile: bool = False
    """Compile the method with `torch.compile`."""

    log_every: int = 10
    """Steps between two lines of numbers."""

    validate_every: int = 1000
    """Steps between two validations; there is one at the end in any case."""

    best_by: str = ""
    """Number of the validation that decides which step's encoder is exported, lower being better if its name ends in `loss`;
    empty for the last step's."""

    save_every: int = 1000
    """Steps between two checkpoints."""

    keep: int = 2
    """Checkpoints that are kept, the newest."""

    seed: int = 0
    """Of weights, order, augmentation, masks and dropout."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulation", "log_every", "validate_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps}; it must be 0 or more, and fewer than steps ({self.steps})"
            )
        if self.clip_norm < 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; it must be 0 (no limit) or more")
