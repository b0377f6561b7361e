"""The processes of one run: alone, or as many as torchrun starts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

PATIENCE = timedelta(hours=3)
"""How long ranks wait for the first one, which validates alone."""


@dataclass(frozen=True)
class Ranks:
    """One process among those of a run."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def mean(self, value: Tensor) -> float:
        """Give the mean of a number over all ranks. All must ask."""
        if self.world == 1:
            return float(value)
        total = value.detach().float().clone()
        distributed.all_reduce(total)
        return float(total) / self.world

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Say of each flag whether some rank raised it. All must ask."""
        if self.world == 1:
            return flags
        raised = torch.tensor(flags, dtype=torch.int32, device=self.device)
        distributed.all_reduce(raised, distributed.ReduceOp.MAX)
        return tuple(map(bool, raised.tolist()))

    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if it did; leave them when the outermost such block ends.

    Args:
        device: `auto`, `cpu`, `cuda` (torchrun: the one of the local rank) or `cuda:1`.

    Raises:
        ValueError: there is no such device.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    found = find_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1 or distributed.is_initialized():
        yield Ranks(rank, world, found)
        return
    distributed.init_process_group("nccl" if found.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank, world, found)
    finally:
        distributed.destroy_process_group()


def find_device(name: str, *, local_rank: int = 0) -> torch.device:
    """Turn a name into a device that is there.

    Raises:
        ValueError: there is none of this name.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is no device; allowed are auto, cpu, cuda, cuda:0, …") from None
    if device.type == "cuda":
        device = torch.device("cuda", local_rank if device.index is None else device.index)
        if (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"there is no {device}: this machine has {torch.cuda.device_count()} GPUs; use --device cpu"
            )
        torch.cuda.set_device(device)
    return device
