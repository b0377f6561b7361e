"""One run of units on actors of Ray: who does what, what is done, what failed and runs again."""

import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Generic, Literal

from passerby.engine import Result_co

ATTEMPTS = 3
"""How often a unit is tried, and how often an actor is started that never gets ready, before the failure is believed."""

UNITS_AHEAD = 4
"""For each actor: how far units may be begun beyond the first that is not done, whose result all later ones wait for."""

STRAGGLER_FACTOR, STRAGGLER_SECONDS = 3.0, 10.0
"""A unit is late when it runs for so many times the median of those done, and for so many seconds."""

WAIT_SECONDS = 1.0
"""How long the driver sleeps where nothing happens; late units and new nodes are noticed then."""

GOODBYE_SECONDS = 5.0
"""How long an actor has to end by itself."""


_DEATH = re.compile(
    r"(?:The actor is dead|The actor died) because .*?(?:\.\s.*?Worker exit type: \w+|\.(?=\s|$)|$)", re.DOTALL
)
_PLACE = re.compile(r"^\s*ip: (\S+)", re.MULTILINE)

What = Literal["failed and runs again", "is set aside", "is late and runs twice", "did not start", "waits"]


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that went amiss, and what was done."""

    name: str
    """Of the unit; or what else it is about."""

    what: What
    reason: str


class _Actor:
    """What runs on the other side; it holds the job for as long as it lives."""

    def start(self, job: list[Any], folder: str) -> None:
        """Get ready, in the driver's folder where this machine has it, since a job may hold relative paths.

        Args:
            job: Ray's reference to it, in a list, so that it is read here and not before.
            folder: Where the driver is.
        """
        with suppress(FileNotFoundError):
            os.chdir(folder)
        import ray  # noqa: PLC0415  (optional)

        self._job = ray.get(job[0])

    def run_unit(self, index: int) -> object:
        """Do unit `index`."""
        return self._job.run_unit(index)

    def end(self) -> None:
        """End this process at once, in the middle of a unit; what it was writing has no name yet."""
        os._exit(0)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A unit on an actor."""

    place: int
    actor: Any
    started_at: float


class Run(Generic[Result_co]):
    """One run: who does what, what is done, what failed. Units go by their place among those asked for."""

    def __init__(
        self,
        ray: Any,  # noqa: ANN401  (a module without types)
        job: object,
        units: Sequence[int],
        *,
        workers: int,
        each: Mapping[str, float],
        name_unit: Callable[[int], str],
        on_incident: Callable[[Incident], None],
    ) -> None:
        """Put the job where actors find it.

        Args:
            ray: The module, connected to a cluster.
            job: See `passerby.engine.Job`.
            units: Which ones, in the order of their results.
            workers: Actors.
            each: What an actor takes: `num_cpus`, `num_gpus`.
            name_unit: What to call a unit.
            on_incident: Told of whatever goes amiss.
        """
        self._ray, self._units, self._workers = ray, units, workers
        self._name_unit, self._on_incident = name_unit, on_incident
        self._job = ray.put(job)
        self._actor_class = ray.remote(**each, max_concurrency=2)(_Actor)  # a unit, and `end`
        self._starting: dict[Any, Any] = {}  # actors, by the reference that is there when they are ready
        self._idle: list[Any] = []
        self._running: dict[Any, _Attempt] = {}
        self._failed_starts, self._start_failure = 0, ""
        self._todo = deque(range(len(units)))
        self._first = 0  # place of the first unit whose result has not been handed on
        self._done: dict[int, Result_co] = {}
        self._set_aside: dict[int, str] = {}
        self._failures: Counter[int] = Counter()
        self._seconds: list[float] = []

    def results(self) -> Iterator[Result_co]:
        """Yield the results in order; raise at the end, if units failed for good."""
        while self._first < len(self._units):
            while not self._is_settled(self._first):
                self._start_actors()
                self._give_out()
                self._collect()
            if self._first in self._done:
                yield self._done.pop(self._first)
            self._first += 1
        if self._set_aside:
            listed = "; ".join(f"{self._name(place)}: {reason}" for place, reason in sorted(self._set_aside.items()))
            raise RuntimeError(
                f"{len(self._set_aside):,} of {len(self._units):,} units failed, the others are done; mend this, and run"
                f" again to try only these: {listed}"
            )

    def end_actors(self) -> None:
        """End all actors, and wait until those that work are gone: nobody writes any more."""
        working = [*self._idle, *(attempt.actor for attempt in self._running.values())]
        farewells = [actor.end.remote() for actor in working]
        if farewells:
            self._ray.wait(farewells, num_returns=len(farewells), timeout=GOODBYE_SECONDS)
        for actor in (*working, *self._starting.values()):
            self._ray.kill(actor)

    def _start_actors(self) -> None:
        """Have as many actors as are of use, those that wait for room in the cluster included."""
        if self._failed_starts >= ATTEMPTS:
            return
        left = len(self._todo) + len(self._running)
        for _ in range(len(self._starting) + len(self._idle) + len(self._running), min(self._workers, left)):
            actor = self._actor_class.remote()
            self._starting[actor.start.remote([self._job], str(Path.cwd()))] = actor

    def _give_out(self) -> None:
        """Give idle actors what is to be done; what is late, once more, where that is all there is."""
        while self._idle and self._todo and self._todo[0] < self._first + UNITS_AHEAD * self._workers:
            self._run(self._todo.popleft(), self._idle.pop())
        late = deque(self._late_places())
        while self._idle and late:
            place = late.popleft()
            self._tell(place, "is late and runs twice", f"it takes more than {STRAGGLER_FACTOR:g} times the median")
            self._run(place, self._idle.pop())

    def _run(self, place: int, actor: Any) -> None:  # noqa: ANN401
        reference = actor.run_unit.remote(self._units[place])
        self._running[reference] = _Attempt(place, actor, time.monotonic())

    def _late_places(self) -> list[int]:
        """List the units that run for too long, and once only."""
        if not self._seconds:
            return []
        allowed = max(STRAGGLER_FACTOR * median(self._seconds), STRAGGLER_SECONDS)
        copies = Counter(attempt.place for attempt in self._running.values())
        begun_before = time.monotonic() - allowed
        return [
            attempt.place
            for attempt in self._running.values()
            if attempt.started_at < begun_before and copies[attempt.place] == 1 and not self._is_settled(attempt.place)
        ]

    def _collect(self) -> None:
        """Wait for an actor to get ready, or to end with a unit; see to whatever has happened."""
        awaited = [*self._starting, *self._running]
        if not awaited:
            raise RuntimeError(f"no worker of Ray could be started, {ATTEMPTS} times; {self._start_failure}")
        happened, _ = self._ray.wait(awaited, num_returns=1, timeout=WAIT_SECONDS)
        for reference in happened:
            if reference in self._starting:
                self._welcome(reference)
            else:
                self._settle(reference)

    def _welcome(self, reference: Any) -> None:  # noqa: ANN401
        """See whether an actor is ready."""
        actor = self._starting.pop(reference)
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._ray.kill(actor)
            self._failed_starts += 1
            self._start_failure = _reason(error)
            self._on_incident(Incident("a worker", "did not start", self._start_failure))
        else:
            self._failed_starts = 0
            self._idle.append(actor)

    def _settle(self, reference: Any) -> None:  # noqa: ANN401
        """See how a unit has ended."""
        attempt = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            result = self._ray.get(reference)
        except errors.RayTaskError as error:  # the unit raised; its actor lives
            self._idle.append(attempt.actor)
            self._fail(attempt.place, _reason(error), is_final=isinstance(error.cause, ValueError))
        except errors.RayError as error:
            self._ray.kill(attempt.actor)  # it may only be out of reach
            self._fail(attempt.place, _reason(error), is_final=False)
        else:
            self._idle.append(attempt.actor)
            self._seconds.append(time.monotonic() - attempt.started_at)
            if not self._is_settled(attempt.place):
                self._done[attempt.place] = result

    def _fail(self, place: int, reason: str, *, is_final: bool) -> None:
        """Run a unit again that failed, or set it aside."""
        self._failures[place] += 1
        if self._is_settled(place) or any(attempt.place == place for attempt in self._running.values()):
            return
        if is_final or self._failures[place] >= ATTEMPTS:
            self._set_aside[place] = reason
            self._tell(place, "is set aside", reason)
        else:
            self._todo.appendleft(place)
            self._tell(place, "failed and runs again", reason)

    def _is_settled(self, place: int) -> bool:
        return place < self._first or place in self._done or place in self._set_aside

    def _name(self, place: int) -> str:
        return self._name_unit(self._units[place])

    def _tell(self, place: int, what: What, reason: str) -> None:
        self._on_incident(Incident(self._name(place), what, reason))


def _reason(error: Any) -> str:  # noqa: ANN401  (an error of Ray's)
    """Say in a line why a unit or an actor failed: what was raised, or how the actor died."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, ValueError):
        return _one_line(str(cause))  # said for the user
    if cause is not None:
        text, _, _ = str(cause).partition("\ntraceback:")  # Ray's own errors tell all they know
        return _one_line(f"{type(cause).__name__}: {text}")
    text = str(error)
    found = _DEATH.search(text)
    place = _PLACE.search(text)
    return _one_line((found[0] if found else text) + (f" (on {place[1]})" if place else ""))


def _one_line(text: str) -> str:
    return " ".join(text.split())
