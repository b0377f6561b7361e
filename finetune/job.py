"""How a run of fine-tuning is put together: who is learnt, in which batches, for how many epochs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from finetune.data import NamedPeople, Order, open_people
from finetune.sampler import PersonPlan
from finetune.schedules import prompt_cosine, warmup_step_factor
from passerby.nets.features import Triple
from passerby.shards.plan import Plan
from passerby.tokens import Tokenizer
from passerby.training.method import LoopConfig
from passerby.training.run import Course, Job


@dataclass(frozen=True, kw_only=True)
class EpochConfig:
    """How long and how a method learns. The defaults are the strong Re-ID baseline's."""

    epochs: int = 120
    """Times that the training images are gone through."""

    batch_size: int = 64
    """Samples a step, over all ranks and passes."""

    images_a_person: int = 4
    """K: a batch has as many images of each of its people; 0 for batches of whoever comes."""

    accumulation: int = 1
    """Forward passes of each rank a step. Triplets and rankings are found within one pass."""

    schedule: Literal["step", "cosine"] = "step"
    """How learning rates go by epoch: `finetune.schedules.warmup_step_factor` or `prompt_cosine`."""

    warmup_epochs: int = 10
    """Epochs until learning rates are at their greatest."""

    warmup_factor: float = 0.01
    """For `step`: part of the greatest at which warm-up begins."""

    milestones: tuple[int, ...] = (40, 70)
    """For `step`: epochs, from 1, from which on a learning rate is a tenth of what it was."""

    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the forward pass on a GPU; the CPU always takes fp32."""

    compile: bool = False
    """Compile the method with `torch.compile`."""

    log_every: int = 10
    """Steps between two lines of numbers."""

    validate_every: int = 10
    """Epochs between two validations."""

    best_by: str = "mAP"
    """Number of the validation that decides which epoch is exported; empty for the last."""

    save_every: int = 10
    """Epochs between two checkpoints."""

    keep: int = 2
    """Checkpoints that are kept, the newest."""

    seed: int = 0
    """Of weights, order, augmentation and dropout."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulation", "log_every", "validate_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.images_a_person < 0 or (self.images_a_person and self.batch_size % self.images_a_person):
            raise ValueError(
                f"images_a_person is {self.images_a_person}; it must divide batch_size ({self.batch_size}), or be 0"
            )

    def factor(self, epoch: int) -> float:
        """Give the part of its greatest value that a learning rate has in an epoch, from 1."""
        if self.schedule == "cosine":
            return prompt_cosine(epoch, self.epochs, warmup_epochs=self.warmup_epochs)
        return warmup_step_factor(
            epoch, warmup_epochs=self.warmup_epochs, warmup_factor=self.warmup_factor, milestones=self.milestones
        )

    def order(self, labels: NDArray[np.int64]) -> Order:
        """Plan the batches of positions, told the label of each: Int64 (positions,)."""
        if not self.images_a_person:
            return Plan(samples=len(labels), batch_size=self.batch_size, seed=self.seed, run_length=1)
        return PersonPlan(
            person_numbers=labels,
            people=self.batch_size // self.images_a_person,
            images=self.images_a_person,
            epochs=self.epochs,
            seed=self.seed,
        )

    def by_step(self, steps_an_epoch: int) -> LoopConfig:
        """Tell the loop, which counts steps."""
        return LoopConfig(
            steps=self.epochs * steps_an_epoch,
            batch_size=self.batch_size,
            accumulation=self.accumulation,
            precision=self.precision,
            compile=self.compile,
            log_every=self.log_every,
            validate_every=self.validate_every * steps_an_epoch,
            best_by=self.best_by,
            save_every=self.save_every * steps_an_epoch,
            keep=self.keep,
            seed=self.seed,
        )


class MethodModule(Protocol):
    """A Python module such as `finetune.reid`."""

    Config: type[Any]
    """Of the method; it has `image_height`, `image_width`, `image_mean`, `image_std`, and, where text is read, `text_length` and
    `positions` (see `finetune.data.Positions`)."""

    make_tokenizer: Callable[[Any, Sequence[str]], Tokenizer] | None
    """Makes or loads a vocabulary, told the method's configuration and the captions; `None` where no text is read."""

    def build(self, config: Any, data: NamedPeople, *, seed: int) -> nn.Module:  # noqa: ANN401
        """Build the method, with the weights that it begins with."""
        ...


def build_job(
    name: str,
    module: MethodModule,
    sections: Mapping[str, Any],
    *,
    root: str,
    run: Path,
    workers: int = 0,
    device: str = "auto",
) -> Job[NamedPeople]:
    """Put a run of fine-tuning together.

    Args:
        name: Of the method.
        module: Where it lives.
        sections: Its configurations: `method`, `loop`, `data` and `augment`.
        root: A data set of ours, whose split `train` is learnt.
        run: Folder of the run.
        workers: Processes that read, for each rank.
        device: See `passerby.ranks.join_ranks`.
    """
    method, loop = sections["method"], sections["loop"]

    def open_data(state: Mapping[str, Any]) -> NamedPeople:
        return open_people(
            root,
            sections["data"],
            sections["augment"],
            (method.image_height, method.image_width),
            build_order=loop.order,
            seed=loop.seed,
            text_length=getattr(method, "text_length", 0),
            make_tokenizer=partial(module.make_tokenizer, method) if module.make_tokenizer else None,
            positions=method.positions if module.make_tokenizer else "images",
            state=state,
        )

    def begin(data: NamedPeople) -> Course:
        built = module.build(method, data, seed=loop.seed)
        return course_of(built, loop, data.order.steps_an_epoch, (method.image_mean, method.image_std))

    return Job(
        name=name,
        sections=sections,
        open_data=open_data,
        begin=begin,
        run=run,
        trained_on=str(root),
        workers=workers,
        device=device,
    )


def course_of(method: nn.Module, loop: EpochConfig, steps_an_epoch: int, statistics: tuple[Triple, Triple]) -> Course:
    """Say by steps what a configuration says by epochs; `statistics` are mean and deviation of the images."""
    return Course(
        method=method,
        loop=loop.by_step(steps_an_epoch),
        factor=lambda step: loop.factor(1 + step // steps_an_epoch),
        image_mean=statistics[0],
        image_std=statistics[1],
    )
