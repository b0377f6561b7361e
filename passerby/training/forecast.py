"""What a run of training will take: its data are read and its method learns for some seconds, on this machine.

Whatever is worked out from a measurement is an estimate, and named so.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from passerby.forecast import Room, count_cores, free_bytes, streaming_warning
from passerby.ranks import Ranks, find_device
from passerby.shards.plan import Plan
from passerby.shards.read import ShardDataset
from passerby.training.augment import Augmentation
from passerby.training.batch import Preparation, ToDevice
from passerby.training.data import People, build_loader, number_people, read_labels, split_people
from passerby.training.loop import Loop
from passerby.training.method import LoopConfig
from passerby.training.reading import Loader, Share, TrainingData
from passerby.training.run import Course, Job

WARM_UP_STEPS = 2
"""Not counted where more are made: memory is got and kernels are chosen in them."""

PLAIN_HEIGHT_WIDTH = (256, 128)
"""Of images that are read for no method, pixels."""

MAX_STEPS = 1 << 30
"""Of a measurement; more than there is time for."""


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What a method takes on one device, without the exchange of gradients among ranks."""

    device: str
    step_seconds: float
    """Forwards, backwards and the optimizer: all passes of one rank."""

    measured_steps: int
    memory_bytes: int
    """Greatest use of a GPU's; 0 of a CPU."""

    steps: int
    """Of the whole run."""

    room: Room
    """For its checkpoints."""


@dataclass(frozen=True, kw_only=True)
class TrainingForecast:
    """What a run will take."""

    shards: int
    samples: int
    """Images, or captions, that are learnt from; without validation and test."""

    people: int
    """That are known by name."""

    world: int
    workers: int
    """Processes that read, for each rank."""

    cores: int
    """Of this machine, as far as this process may use them."""

    batch_size: int
    accumulation: int
    steps_an_epoch: int
    examples_a_second: float
    """That one worker reads, decodes, augments and tokenises."""

    measured_examples: int
    learning: Learning | None
    notes: tuple[str, ...]
    """What the data say of themselves, such as captions that are cut."""

    @property
    def pass_size(self) -> int:
        """Samples of one forward pass of one rank, at most."""
        return -(-self.batch_size // (self.world * self.accumulation))

    @property
    def reading_seconds(self) -> float:
        """Estimate how long the workers of a rank take for its part of a batch."""
        return self.batch_size / self.world / (self.examples_a_second * max(1, self.workers))

    @property
    def estimates(self) -> dict[str, Any]:
        """Give what follows from the measurements."""
        if self.learning is None:
            return {"reading_hours_an_epoch": self.steps_an_epoch * self.reading_seconds / 3600}
        step = self.learning.step_seconds
        whole = max(step, self.reading_seconds) if self.workers else step + self.reading_seconds
        return {
            "step_seconds": whole,
            "hours": self.learning.steps * whole / 3600,
            "epochs": self.learning.steps / self.steps_an_epoch,
            "bottleneck": "reading" if self.reading_seconds > step else "learning",
            "balancing_workers": math.ceil(self.batch_size / self.world / (self.examples_a_second * step)),
        }

    @property
    def warnings(self) -> list[str]:
        """What a person should think of beforehand."""
        found = [*streaming_warning(self.shards, world=self.world, workers=self.workers)]
        if self.batch_size > self.samples:
            found.append(
                f"a batch of {self.batch_size:,} is larger than the {self.samples:,} samples; every step will have them all"
            )
        if self.learning is not None:
            found += [*self.learning.room.warnings, *self._reading_warnings(self.estimates)]
        return found

    def _reading_warnings(self, estimates: dict[str, Any]) -> Iterator[str]:
        if estimates["bottleneck"] != "reading":
            return
        wanted = estimates["balancing_workers"]
        yield f"reading is slower than learning (CPU-bound); about {wanted} workers a rank would balance them"
        if wanted * self.world > self.cores:
            yield (
                f"{wanted} workers x {self.world} ranks want {wanted * self.world} cores, and this machine has {self.cores};"
                " smaller images in the shards are read faster"
            )


def forecast_job(job: Job[Any], *, world: int, seconds: float) -> TrainingForecast:
    """Open the data of a run, read them, and let the method learn; nothing is written.

    Args:
        job: The run.
        world: Ranks that it will have.
        seconds: How long to read, and how long to learn; at least one step of each.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: what the run itself would refuse, such as batches of more people than there are.
    """
    data = job.open_data({})
    course = job.begin(data)
    steps = data.steps_an_epoch(course.loop.batch_size)
    device = find_device(job.device)
    passes, count, elapsed = _read(data, course.loop, world=world, seconds=seconds)
    return TrainingForecast(
        **_count(data.train),
        world=world,
        workers=job.workers,
        cores=count_cores(),
        batch_size=course.loop.batch_size,
        accumulation=course.loop.accumulation,
        steps_an_epoch=steps,
        examples_a_second=count / elapsed,
        measured_examples=count,
        learning=_learn(course, data, passes, device, out=job.run, seconds=seconds),
        notes=tuple(data.notes),
    )


def forecast_reading(
    root: Path | str, *, batch_size: int, world: int, workers: int, seconds: float
) -> TrainingForecast:
    """Read a data set for no method: decode its images at 256 x 128 pixels.

    Args:
        root: Folder or URL of a data set.
        batch_size: Samples a step, over all ranks.
        world: Ranks.
        workers: Processes that read, for each.
        seconds: How long to read; at least one batch.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: a batch cannot be shared by the ranks.
    """
    data = _Plain(root, batch_size)
    loop = LoopConfig(steps=MAX_STEPS, batch_size=batch_size)
    _, count, elapsed = _read(data, loop, world=world, seconds=seconds)
    return TrainingForecast(
        **_count(data.train),
        world=world,
        workers=workers,
        cores=count_cores(),
        batch_size=batch_size,
        accumulation=1,
        steps_an_epoch=data.plan.steps_an_epoch,
        examples_a_second=count / elapsed,
        measured_examples=count,
        learning=None,
        notes=(),
    )


class _Plain:
    """Images without captions, as far as the measurement needs them."""

    def __init__(self, root: Path | str, batch_size: int) -> None:
        samples = ShardDataset(root)
        keys, people, camera_ids = read_labels(samples)
        train, _ = split_people(samples, keys, people, 0.0)
        how = Augmentation()
        preparation = Preparation(height_width=PLAIN_HEIGHT_WIDTH, text_length=0, tokenizer=None, how=how, seed=0)
        numbers = number_people(people)
        self.train = People(samples, train, preparation, person_numbers=numbers, camera_ids=camera_ids)
        self.plan = Plan(samples=len(train), batch_size=batch_size)

    def training(self, start_step: int, stop_step: int, share: Share) -> Loader:
        """Read the passes of a rank from one step to another."""
        parts = self.plan.parts(start_step, stop_step, rank=share.rank, world=share.world)
        return build_loader(self.train, parts, share)


def _count(train: People) -> dict[str, int]:
    numbers = train.person_numbers[train.indices]
    people = len(np.unique(numbers[numbers >= 0]))
    return {"samples": len(train), "people": people, "shards": len(train.samples.manifest.shards)}


def _read(
    data: Any,  # noqa: ANN401  (with `training`)
    loop: LoopConfig,
    *,
    world: int,
    seconds: float,
) -> tuple[list[dict[str, Any]], int, float]:
    """Read as the first rank would, in this process: give the passes of a step, how many examples, and the seconds they took."""
    share = Share(
        batch_size=loop.batch_size, accumulation=loop.accumulation, rank=0, world=world, workers=0, pin_memory=False
    )
    first: list[dict[str, Any]] = []
    count = 0
    started_at = time.perf_counter()
    for collated in data.training(0, loop.steps, share):
        count += len(collated["keys"])
        if len(first) < loop.accumulation:
            first.append(collated)
        if len(first) == loop.accumulation and time.perf_counter() - started_at > seconds:
            break
    return first, count, time.perf_counter() - started_at


def _learn(
    course: Course,
    data: TrainingData,
    passes: list[dict[str, Any]],
    device: torch.device,
    *,
    out: Path,
    seconds: float,
) -> Learning:
    """Let one rank learn from the same passes again and again."""
    loop = Loop(
        course.method,
        course.loop,
        data,
        factor=course.factor,
        to_device=ToDevice(device, course.image_mean, course.image_std),
        ranks=Ranks(0, 1, device),
        workers=0,
        is_sharded=False,
        is_prepared=False,
        checkpoint=None,
    )
    loop.module.train()
    times: list[float] = []
    until = time.perf_counter() + seconds
    while not times or time.perf_counter() < until:
        started_at = time.perf_counter()
        losses = loop.make_step(passes)
        float(losses["loss"])  # waits for the device
        times.append(time.perf_counter() - started_at)
    measured = times[WARM_UP_STEPS:] or times[-1:]
    return Learning(
        device=str(device),
        step_seconds=sum(measured) / len(measured),
        measured_steps=len(measured),
        memory_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0,
        steps=course.loop.steps,
        room=Room(needed_bytes=_checkpoint_bytes(loop), free_bytes=free_bytes(out)),
    )


def _checkpoint_bytes(loop: Loop) -> int:
    """Estimate what the checkpoints of a run take: those kept, one that is being written, and the best."""
    states = [loop.module.state_dict(), *loop.optimizer.state_dict()["state"].values()]
    tensors = [value for state in states for value in state.values() if isinstance(value, Tensor)]
    count = loop.config.keep + 1 + bool(loop.config.best_by)
    return count * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
