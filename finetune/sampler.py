"""Batches of P people with K images each, as losses that compare within a batch want them.

Source: In Defense of the Triplet Loss (Hermans et al., 2017), section 2; the algorithm is that of the strong Re-ID baseline
(Luo et al., 2019), of CLIP-ReID and of torchreid.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from passerby.shards.plan import Part, share_batches


@dataclass(frozen=True, kw_only=True)
class PersonPlan:
    """Which samples make up the batch of every step; a pure function, like `passerby.shards.plan.Plan`.

    In every epoch the images of each person are shuffled and cut into groups of K (of a person who has fewer, K are drawn
    with replacement; a rest that fills no group is left for another epoch). A batch takes one group each of P people, drawn
    from those who have one left; when fewer than P are left, the epoch is over.

    How many batches that makes is a matter of chance. So that step and epoch stand in one relation, by which learning
    rates and validations go, every epoch ends with as many batches as the shortest has.

    Raises:
        ValueError: there are fewer than P people, or a batch cannot be shared by the ranks.
    """

    person_numbers: NDArray[np.int64]
    """Of the positions to choose from, Int64 (positions,)."""

    people: int
    """P."""

    images: int
    """K."""

    epochs: int
    seed: int

    def __post_init__(self) -> None:
        for name in ("people", "images", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if (known := len(self._positions)) < self.people:
            raise ValueError(
                f"a batch takes {self.people} people, and there are {known} to learn from; set loop.batch_size to"
                f" {known * self.images} or less"
            )

    @cached_property
    def steps_an_epoch(self) -> int:
        """Batches of the shortest epoch."""
        return min(len(self.batches(epoch)) for epoch in range(self.epochs))

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        """Draw all batches of an epoch, as positions, one person's after the other's: Int64 (P * K,) each."""
        generator = np.random.default_rng([self.seed, epoch])
        groups = [self._groups(positions, generator) for positions in self._positions]
        left = np.array([len(each) for each in groups])
        batches = []
        while np.count_nonzero(left) >= self.people:
            chosen = generator.choice(np.flatnonzero(left), self.people, replace=False)
            left[chosen] -= 1
            batches.append(np.concatenate([groups[person][left[person]] for person in chosen]))
        return batches

    def parts(
        self, start_step: int, stop_step: int, *, rank: int = 0, world: int = 1, accumulation: int = 1
    ) -> Iterator[Part]:
        """Yield what a rank reads from one step to another; see `passerby.shards.plan.Plan.parts`. No person is split.

        Raises:
            ValueError: P is no multiple of ranks and passes.
        """
        pieces = world * accumulation
        if self.people % pieces:
            raise ValueError(
                f"{self.people} people a batch cannot be shared by {world} ranks of {accumulation} passes; set loop.batch_size to"
                f" a multiple of {pieces * self.images}"
            )
        yield from share_batches(
            self.batches,
            self.steps_an_epoch,
            range(start_step, stop_step),
            rank=rank,
            world=world,
            accumulation=accumulation,
        )

    @cached_property
    def _positions(self) -> list[NDArray[np.int64]]:
        """Give the positions of each person."""
        order = np.argsort(self.person_numbers, kind="stable")
        starts = np.flatnonzero(np.diff(self.person_numbers[order])) + 1
        return np.split(order, starts) if len(order) else []

    def _groups(self, positions: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Cut the shuffled images of a person into groups: Int64 (groups, K)."""
        if len(positions) < self.images:
            return generator.choice(positions, (1, self.images))
        count = len(positions) // self.images
        return generator.permutation(positions)[: count * self.images].reshape(count, self.images)
