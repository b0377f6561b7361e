"""What making a data set of images will need: counted where it can be counted, measured where it takes time.

Whatever is worked out from a measurement is an estimate, and named so.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from passerby.images import ImageProblem, decode_rgb, inspect_image
from passerby.readers.luperson import Source
from passerby.shards.begin import BYTES_BESIDE_IMAGE, count_shards

BAD_SHARE = 0.01
"""Of the inputs; a run stops above it, unless --max-bad says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """A place to write to."""

    needed_bytes: int
    """An estimate."""

    free_bytes: int

    @property
    def warnings(self) -> Iterator[str]:
        """Say whether it will do."""
        if self.needed_bytes > self.free_bytes:
            yield f"the disk is too small: about {size_text(self.needed_bytes)} are needed, {size_text(self.free_bytes)} are free"


@dataclass(frozen=True, kw_only=True)
class ImagesForecast:
    """What a data set made of images will need."""

    images: int
    shards: int
    workers: int
    cores: int
    """Of this machine, as far as this process may use them."""

    room: Room
    tried: int
    """Images that were read for the measurements below, evenly spaced."""

    bad: Mapping[str, int]
    """Of those, the ones that cannot be used, by reason."""

    mean_bytes: float
    checks_a_second: float
    """Images that one core reads and checks: all that captions from attributes need."""

    decodes_a_second: float
    """Images that one core reads, checks and decodes: what captions by CLIP need on the CPU."""

    def hours(self, rate: float) -> float:
        """Estimate how long all images take at so many a second of each worker, cores permitting."""
        return self.images / (rate * min(self.workers, self.cores)) / 3600 if rate else float("inf")

    @property
    def estimates(self) -> dict[str, float]:
        """Give what follows from the measurements."""
        return {
            "hours_by_attributes": self.hours(self.checks_a_second),
            "hours_by_clip_on_the_cpu": self.hours(self.decodes_a_second),
        }

    @property
    def warnings(self) -> list[str]:
        """What a person should think of beforehand."""
        found = [*self.room.warnings]
        count = sum(self.bad.values())
        if count > BAD_SHARE * self.tried:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.bad.items())
            found.append(
                f"{count:,} of {self.tried:,} images tried cannot be used ({reasons}); a run stops above {BAD_SHARE:.0%},"
                " unless --max-bad allows more"
            )
        if self.workers > self.cores:
            found.append(f"{self.workers} workers share {self.cores} cores; more workers than cores gain nothing")
        return found


def forecast_images(source: Source, *, out: Path, workers: int, shard_size: int, seconds: float) -> ImagesForecast:
    """Count images, and read some of them for so many seconds.

    Args:
        source: The images.
        out: Where the data set is to be; it need not exist.
        workers: Processes that will make it.
        shard_size: Images a shard; 0 for the usual sizes.
        seconds: How long to measure; at least one image is read, at most all of them once.
    """
    images = len(source.inputs)
    trial = _try(source, seconds)
    good = len(trial.sizes)
    mean_bytes = sum(trial.sizes) / max(1, good)
    return ImagesForecast(
        images=images,
        shards=count_shards(images, mean_bytes, shard_size),
        workers=workers,
        cores=count_cores(),
        room=Room(needed_bytes=round(images * (mean_bytes + BYTES_BESIDE_IMAGE)), free_bytes=free_bytes(out)),
        tried=good + trial.bad.total(),
        bad=dict(trial.bad),
        mean_bytes=mean_bytes,
        checks_a_second=good / trial.checking_seconds if good else 0.0,
        decodes_a_second=good / (trial.checking_seconds + trial.decoding_seconds) if good else 0.0,
    )


@dataclass
class _Trial:
    """What reading some images has told."""

    sizes: list[int] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    checking_seconds: float = 0.0
    decoding_seconds: float = 0.0


def _try(source: Source, seconds: float) -> _Trial:
    """Read, check and decode images from all over a source, as a run does."""
    trial = _Trial()
    until = time.perf_counter() + seconds
    for place in spread(len(source.inputs)):
        row = source.inputs.slice(place, 1).to_pylist()[0]
        started_at = time.perf_counter()
        try:
            data = source.read(row)
            inspect_image(data)
            checked_at = time.perf_counter()
            decode_rgb(data)
        except ImageProblem as problem:
            trial.bad[problem.reason] += 1
        else:
            trial.checking_seconds += checked_at - started_at
            trial.decoding_seconds += time.perf_counter() - checked_at
            trial.sizes.append(len(data))
        if time.perf_counter() > until:
            break
    return trial


def spread(count: int) -> Iterator[int]:
    """Give all places from 0 to `count` once, so that those begun with lie all over.

    >>> [*spread(5)]
    [0, 3, 1, 4, 2]
    """
    stride = max(1, round(count * (np.sqrt(5) - 1) / 2))
    while np.gcd(stride, count) > 1:
        stride += 1
    return (place * stride % count for place in range(count))


def streaming_warning(shards: int, *, world: int, workers: int) -> Iterator[str]:
    """Say whether clients that stream whole shards could give one to every worker; our own reader needs none."""
    readers = world * max(1, workers)
    if shards < readers:
        yield (
            f"too few shards ({shards}) for {readers} readers (ranks x workers), if a client that streams shards is to read them"
            " (webdataset, open_clip, datasets): some would go without; our own reader, by index, does not mind"
        )


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(place: Path) -> int:
    """Say how much may be written to a place that need not exist yet."""
    here = place.absolute()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def size_text(size_bytes: float) -> str:
    """Word a size.

    >>> size_text(3_200_000)
    '3.2 MB'
    """
    for unit in ("bytes", "KB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def to_plain(forecast: Any) -> dict[str, Any]:  # noqa: ANN401  (a dataclass of this kind)
    """Give a forecast for machines, its warnings with it."""
    return {**asdict(forecast), "estimates": forecast.estimates, "warnings": forecast.warnings}
