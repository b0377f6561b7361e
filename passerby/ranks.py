"""The processes of one run: alone, or as many as torchrun starts."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store  # whose public name, torch.distributed.Store, checkers do not know

PATIENCE = timedelta(hours=3)
"""How long ranks wait for the first one, which validates alone."""

ROLL_CALL_SECONDS = 3.0
"""How long those who are left wait for each other's answer; torchrun leaves them 30 seconds after it asked them to end."""


class RankLost(RuntimeError):  # noqa: N818  (it says what has happened)
    """Another process of the run has ended before its time."""


@dataclass(frozen=True)
class Ranks:
    """One process among those of a run."""

    rank: int
    world: int
    device: torch.device
    store: "Store | None" = None
    """Where ranks leave notes for each other; outlives them where torchrun keeps it."""

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def check_several(self) -> None:
        """Make sure that there is somebody to share a method with.

        Raises:
            ValueError: there is nobody.
        """
        if self.world == 1:
            raise ValueError("--fsdp shares a method among ranks, and this is one process; start several with torchrun")

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
    def naming_the_lost(self) -> Iterator[None]:
        """Within the block, a connection that breaks is told as what it is: the end of another rank.

        Raises:
            RankLost: it says which, where it ran, and what to do.
        """
        try:
            yield
        except RuntimeError as error:
            if self.store is None or not _is_of_connection(error):
                raise
            lost = self._call_the_roll(self.store)
            who = "; ".join(lost) or "some connection between ranks broke, though all of them live"
            raise RankLost(
                f"{who}; its own output, or torchrun's below, says why. Run again with --resume: any number of ranks will do"
            ) from error

    def _call_the_roll(self, store: "Store") -> list[str]:
        """Tell the others that this rank lives; give those who do not tell, as texts."""
        missing = [*range(self.world)]
        until = time.monotonic() + ROLL_CALL_SECONDS
        try:
            store.set(f"alive/{self.rank}", "")
            while missing and time.monotonic() < until:
                missing = [rank for rank in missing if not store.check([f"alive/{rank}"])]
                time.sleep(0.1)
            return [f"rank {rank} of {self.world} is gone ({store.get(f'place/{rank}').decode()})" for rank in missing]
        except distributed.DistError:
            return [f"the store of the run is gone, and with it rank 0 of {self.world} or its launcher"]


@contextmanager
def join_ranks(device: str) -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if it did; leave them when the outermost such block ends.

    Args:
        device: `auto`, `cpu`, `cuda` (torchrun: the one of the local rank) or `cuda:1`.

    Raises:
        ValueError: there is no such device.
        RankLost: another process ended before its time.
    """
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    found = find_device(device, local_rank=int(os.environ.get("LOCAL_RANK", "0")))
    if world == 1 or distributed.is_initialized():
        yield Ranks(rank, world, found)
        return
    store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
    store.set(f"place/{rank}", f"process {os.getpid()} on {socket.gethostname()}")
    backend = "nccl" if found.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=world)
    ranks = Ranks(rank, world, found, store)
    is_whole = True
    try:
        with ranks.naming_the_lost():
            yield ranks
    except RankLost:
        is_whole = False  # nobody to take leave of, and some backends would wait
        raise
    finally:
        if is_whole:
            distributed.destroy_process_group()


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether a collective operation failed. Gloo has no error of its own."""
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


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
