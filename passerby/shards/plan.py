"""The order in which training reads a data set: a pure function, the same on any number of ranks and workers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mode = Literal["exactly-once", "padded"]


class Part(NamedTuple):
    """What one rank reads for one forward pass."""

    step: int
    """Of the optimizer, from 0 over all epochs."""

    epoch: int
    """From 0."""

    positions: NDArray[np.int64]
    """Samples, as places from 0 to `Plan.samples`: Int64 (batch,)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which samples make up the batch of every step.

    An epoch is one order over all samples, cut into global batches; a rank takes its part of each. So the batch of a
    step does not depend on the number of ranks, every rank makes equally many steps, and a run continues at any step
    on another number of ranks with the samples that were left.

    The order is shuffled in two stages, so that a disk or a network file system reads mostly forwards: runs of
    neighbours are put in random order, then samples are shuffled within a window. A batch mixes samples of
    `window / run_length` places; consecutive samples of a shard show the same person, so that number wants to be large.

    Raises:
        ValueError: there are too few samples, or a number is not positive.
    """

    samples: int
    """How many there are to read."""

    batch_size: int
    """Samples a step, over all ranks."""

    seed: int = 0
    """Decides the order, together with the epoch."""

    mode: Mode = "exactly-once"
    """`exactly-once`: batches as even as they can be, none larger than `batch_size`. `padded`: all of `batch_size`, the last
    of an epoch filled up with the epoch's first samples; for batches that must have one shape."""

    run_length: int = 64
    """Samples that are read in a row."""

    window: int = 8192
    """Samples among which neighbours are scattered."""

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size", "run_length", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")

    @property
    def steps_an_epoch(self) -> int:
        """Steps that it takes to read everything."""
        return -(-self.samples // self.batch_size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Give all samples in the order of an epoch: Int64 (samples,)."""
        generator = np.random.default_rng([self.seed, epoch])
        # Runs begin elsewhere in every epoch, so that neighbours at a border are not always kept apart.
        runs = (np.arange(self.samples) + generator.integers(self.run_length)) // self.run_length
        order = np.argsort(generator.permutation(int(runs[-1]) + 1)[runs], kind="stable")
        for start in range(0, self.samples, self.window):
            generator.shuffle(order[start : start + self.window])
        return order

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Give the global batches of an epoch: Int64 (batch,) each."""
        order = self.order(epoch)
        if self.mode == "padded":
            order = np.resize(order, self.steps_an_epoch * self.batch_size)
        return np.array_split(order, self.steps_an_epoch)

    def parts(
        self, start_step: int, stop_step: int, *, rank: int = 0, world: int = 1, accumulation: int = 1
    ) -> Iterator[Part]:
        """Yield what a rank reads from one step to another: `accumulation` parts a step, of sizes that differ by 1 at most.

        Args:
            start_step: The first step.
            stop_step: The step after the last.
            rank: Which rank reads.
            world: Number of ranks.
            accumulation: Forward passes of each rank that make up a step.

        Raises:
            ValueError: some rank would have nothing to read in some step.
        """
        pieces = world * accumulation
        smallest = self.batch_size if self.mode == "padded" else self.samples // self.steps_an_epoch
        if smallest < pieces:
            raise ValueError(
                f"a batch of {smallest} of the {self.samples} samples cannot be shared by {world} ranks of {accumulation} passes;"
                f" use a batch_size of {pieces} or more, fewer ranks, or more samples"
            )
        yield from share_batches(
            self.batches,
            self.steps_an_epoch,
            range(start_step, stop_step),
            rank=rank,
            world=world,
            accumulation=accumulation,
        )


def share_batches(
    batches_of: Callable[[int], Sequence[NDArray[np.int64]]],
    steps_an_epoch: int,
    steps: Iterable[int],
    *,
    rank: int,
    world: int,
    accumulation: int,
) -> Iterator[Part]:
    """Yield what a rank reads of the global batches of some steps: `accumulation` parts a step, of sizes that differ by 1 at most.

    Args:
        batches_of: Gives the global batches of an epoch, at least `steps_an_epoch`, Int64 (batch,) each.
        steps_an_epoch: How many of them make up an epoch.
        steps: Consecutive steps.
        rank: Which rank reads.
        world: Number of ranks.
        accumulation: Forward passes of each rank that make up a step.
    """
    batches: Sequence[NDArray[np.int64]] = []
    for step in steps:
        epoch, place = divmod(step, steps_an_epoch)
        if place == 0 or not batches:
            batches = batches_of(epoch)
        shares = np.array_split(batches[place], world * accumulation)
        for share in shares[rank * accumulation : (rank + 1) * accumulation]:
            yield Part(step, epoch, share)
