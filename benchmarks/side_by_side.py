"""What all benchmarks share: methods take turns in one run, medians count, and rates stand beside those of rivals."""

import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Row:
    """One thing that was measured."""

    task: str
    rate: float
    """Ours, in `unit`; more is better."""

    unit: str
    rival: str = ""
    """What does the same; empty where nothing that can be installed does."""

    rival_rate: float = 0.0
    memory_mib: float = 0.0
    """At most, of all our processes together or of the largest, as the task says; 0 where it was not measured."""

    @property
    def ratio(self) -> float | None:
        """How many times as fast ours is."""
        return self.rate / self.rival_rate if self.rival_rate else None

    def cells(self) -> tuple[str, str, str, str, str]:
        """Give task, rate, ratio, rival and memory as texts."""
        ratio = "" if self.ratio is None else f"{self.ratio:,.2f}"
        rival = f"{self.rival}: {number(self.rival_rate)}" if self.rival else ""
        memory = f"{self.memory_mib:,.0f} MiB" if self.memory_mib else ""
        return self.task, f"{number(self.rate)} {self.unit}", ratio, rival, memory


def number(value: float) -> str:
    """Write a rate with three digits, or all that stand before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(rows: Iterable[Row]) -> None:
    """Print rows as they come."""
    for row in rows:
        task, rate, ratio, rival, memory = row.cells()
        beside = f"  {ratio:>6} x  {rival}" if ratio else ""
        print(f"{task:<58}{rate:>24}{beside}{f'  {memory}' if memory else ''}", flush=True)


def seconds_of(method: Callable[[], object]) -> float:
    """Time one call."""
    started_at = time.perf_counter()
    method()
    return time.perf_counter() - started_at


def rates(
    methods: Mapping[str, Callable[[], object]],
    work: float,
    repeats: int,
    *,
    of: Callable[[Iterable[float]], float] = statistics.median,
) -> dict[str, float]:
    """Give each method's rate: `work` (samples, bytes) over the median of its seconds, or `of` them.

    Every other time they take turns the other way round, since each leaves its disk and caches to the next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(repeats):
        for name in [*methods][:: -1 if turn % 2 else 1]:
            seconds[name].append(seconds_of(methods[name]))
    return {name: work / of(values) for name, values in seconds.items()}


def forget(folder: Path) -> None:
    """Drop the files of a folder from the page cache."""
    os.sync()  # or else what is still to be written would stay
    for path in (path for path in folder.rglob("*") if path.is_file()):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def memory_mib(process_id: int) -> float:
    """Give the memory of a process and its children, pages that they share divided among them (Linux only)."""
    listing = Path(f"/proc/{process_id}/task/{process_id}/children")
    try:
        children = [int(child) for child in listing.read_text().split()]
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{process_id}/smaps_rollup").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return (int(found[1]) / 1024 if found else 0) + sum(map(memory_mib, children))


def watch(command: Sequence[str]) -> tuple[float, float]:
    """Run a command; give the most memory of all its processes, asked for every half second, in MiB, and its seconds.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    started_at = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    most = 0.0
    while process.poll() is None:
        most = max(most, memory_mib(process.pid))
        time.sleep(0.5)
    seconds = time.perf_counter() - started_at
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return most, seconds
