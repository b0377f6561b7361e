"""Where units of work run. The local engine: a pool of processes, results in order, a bounded number in flight."""

import mmap
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PickleBuffer
from tempfile import NamedTemporaryFile
from typing import Any, Protocol, TypeVar

from passerby.runtime import follow_parent

Result_co = TypeVar("Result_co", covariant=True)

_ALIGNED_TO = 64
"""Bytes, as Arrow and vector instructions like it."""


class Job(Protocol[Result_co]):
    """Work cut into numbered units. It is pickled; a unit's result must not depend on the worker."""

    def run_unit(self, index: int) -> Result_co:
        """Do unit `index`."""
        ...


class Engine(Protocol):
    """Runs units somewhere: in this process, in others, on other machines (`passerby.engine_ray`)."""

    def __call__(self, job: Job[Result_co], indices: Sequence[int], /) -> Iterator[Result_co]:
        """Yield the results of the units in the order of `indices`."""
        ...


@dataclass(frozen=True, slots=True)
class LocalEngine:
    """Runs units on this machine; see `run_units`."""

    workers: int
    """Processes."""

    def __call__(self, job: Job[Result_co], indices: Sequence[int], /) -> Iterator[Result_co]:
        """Yield the results of the units in the order of `indices`."""
        return run_units(job, indices, workers=self.workers)


def run_units(job: Job[Result_co], indices: Iterable[int], *, workers: int) -> Iterator[Result_co]:
    """Yield the results of the units in the order of `indices`; with one worker, in this process.

    Raises:
        ValueError: `workers` is below 1.
        RuntimeError: a worker process died (killed, or out of memory).
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    if workers == 1:
        yield from map(job.run_unit, indices)
        return
    _share_cores(workers)
    with _written(job) as (path, places):
        pool = ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(path, places)
        )
        try:
            yield from _in_order(pool, iter(indices), in_flight=4 * workers)
        except BrokenProcessPool as error:
            raise RuntimeError("a worker process died, perhaps for want of memory; run again to go on") from error
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _written(job: Job[object]) -> Iterator[tuple[Path, list[slice]]]:
    """Write a job where its workers find it: the file, and where in it the pickle lies, and the arrays of the job.

    The pool itself would send it through a pipe; and should a worker die before it has read all of a large job, Python would
    wait for ever for somebody to read the rest. The arrays lie apart (PEP 574), so that workers read them in the file, whose
    pages they share, instead of each holding a copy.
    """
    arrays: list[PickleBuffer] = []
    with NamedTemporaryFile(prefix="passerby-job-") as file:
        ForkingPickler(file, 5, True, arrays.append).dump(job)
        places = [slice(0, file.tell())]
        for array in arrays:
            file.write(bytes(-file.tell() % _ALIGNED_TO))
            start = file.tell()
            file.write(array.raw())
            places.append(slice(start, file.tell()))
        file.flush()
        yield Path(file.name), places


def _share_cores(workers: int) -> None:
    """Let the numeric libraries of all workers together use each core once, unless the user has said otherwise.

    By default each worker's would use all cores, and wait for each other at every small product.
    """
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)


def _in_order(pool: ProcessPoolExecutor, indices: Iterator[int], in_flight: int) -> Iterator[Result_co]:
    pending: deque[Future[Result_co]] = deque(
        pool.submit(_run_in_worker, index) for index in islice(indices, in_flight)
    )
    while pending:
        yield pending.popleft().result()
        pending.extend(pool.submit(_run_in_worker, index) for index in islice(indices, 1))


_run_unit: Callable[[int], object]


def _start_worker(path: Path, places: Sequence[slice]) -> None:
    global _run_unit  # noqa: PLW0603  (the one place where a pool's worker can keep its job)
    follow_parent(leaving=path)
    with path.open("rb") as file:
        whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    pickled, *arrays = (whole[place] for place in places)
    job: Job[object] = ForkingPickler.loads(pickled, buffers=arrays)
    _run_unit = job.run_unit


def _run_in_worker(index: int) -> Any:  # noqa: ANN401  (whatever the job gives)
    return _run_unit(index)
