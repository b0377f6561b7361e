"""Where the time of a run goes, and what a person wants to see of it."""

import time
from dataclasses import dataclass

FADING = 0.95
"""Of the running means that are shown: some 20 steps count."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a person wants to see while it lasts."""

    step: int
    """Steps done."""

    steps: int
    loss: float
    samples_a_second: float
    """Over all ranks."""

    waiting_share: float
    """Of the time, for data; much of it asks for more workers."""

    seconds_left: float


class Clock:
    """Where the time goes, as running means."""

    def __init__(self) -> None:
        self._samples = self._waited = self._elapsed = self._steps = 0.0
        self._started_at = self._ready_at = 0.0

    def start(self) -> None:
        """Begin a step."""
        self._started_at = time.perf_counter()

    def data_is_here(self) -> None:
        """End the wait for data."""
        self._ready_at = time.perf_counter()

    def stop(self, samples: int) -> None:
        """End a step that took so many samples."""
        self._samples = FADING * self._samples + samples
        self._waited = FADING * self._waited + self._ready_at - self._started_at
        self._elapsed = FADING * self._elapsed + time.perf_counter() - self._started_at
        self._steps = FADING * self._steps + 1

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self._samples / self._elapsed

    @property
    def waiting_share(self) -> float:
        """Part of the time that went into waiting for data."""
        return self._waited / self._elapsed

    def progress(self, step: int, steps: int, loss: float) -> Progress:
        """Say how far it is, and how long it will take at this pace."""
        return Progress(step, steps, loss, self.rate, self.waiting_share, (steps - step) * self._elapsed / self._steps)
