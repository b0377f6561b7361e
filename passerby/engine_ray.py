"""The Ray engine: runs the units of a job on a pool of actors, on this machine or on the nodes of a cluster.

Plain Ray Core. Each actor holds the job, with its model, and runs one unit at a time. A unit whose actor died, or that
raised, runs again; one that fails each time is set aside until all others are done. Nodes may come and go.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from passerby.engine import Job, Result_co
from passerby.ray_run import Incident, Run

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # deaths of actors are told here, and standard output is for results
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # actors that take no GPU may still see one, as processes do
}
"""What Ray reads from the environment when it is imported, unless the user has set it."""


CONNECT_SECONDS = 10.0
_NO_CLUSTER = "no Ray cluster answers at {}; start one with ray start --head, or give another address"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayEngine:
    """Runs units on actors of Ray; see `passerby.engine.Engine`."""

    workers: int
    """Actors, as soon as the cluster has room for them."""

    cpus_each: float = 1
    gpus_each: float = 0
    address: str = ""
    """Of the cluster; empty starts Ray on this machine, unless this process has connected to one already."""

    name_unit: Callable[[int], str] = str
    """What to call a unit."""

    on_incident: Callable[[Incident], None] = lambda incident: None
    """Told of whatever goes amiss, as it happens."""

    def __call__(self, job: Job[Result_co], indices: Sequence[int], /) -> Iterator[Result_co]:
        """Yield the results of the units in the order of `indices`.

        Raises:
            ValueError: `workers` is below 1.
            ModuleNotFoundError: Ray is not installed.
            ConnectionError: there is no cluster at the address.
            RuntimeError: units failed again and again; all others are done.
        """
        if self.workers < 1:
            raise ValueError(f"workers is {self.workers}; it must be at least 1")
        if not indices:
            return
        ray = _import_ray()
        with _connection(ray, self.address):
            _check_room(ray, self)
            run: Run[Result_co] = Run(
                ray,
                job,
                indices,
                workers=self.workers,
                each={"num_cpus": self.cpus_each, "num_gpus": self.gpus_each},
                name_unit=self.name_unit,
                on_incident=self.on_incident,
            )
            try:
                yield from run.results()
            finally:
                run.end_actors()


def _import_ray() -> Any:  # noqa: ANN401  (a module without types)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray  # noqa: PLC0415  (optional)
    except ModuleNotFoundError:
        raise ModuleNotFoundError("the engine ray needs Ray; pip install 'passerby[ray]'") from None
    return ray


@contextmanager
def _connection(ray: Any, address: str) -> Iterator[None]:  # noqa: ANN401
    """Connect to the cluster, or start Ray here; leave a connection alone that the caller has made."""
    if ray.is_initialized():
        yield
        return
    options = {} if address else {"include_dashboard": False}
    _check_address(address)
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except ConnectionError:
        raise ConnectionError(_NO_CLUSTER.format(address)) from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """See whether anybody listens at HOST:PORT, for Ray itself would try it for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(f"{_NO_CLUSTER.format(address)} ({error})") from None


def _check_room(ray: Any, engine: RayEngine) -> None:  # noqa: ANN401
    """Refuse, or say, that no node has what one actor takes."""
    wanted = {"CPU": engine.cpus_each, "GPU": engine.gpus_each}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= count for name, count in wanted.items()) for node in nodes):
        return
    asked = " and ".join(f"{count:g} {name}" for name, count in wanted.items() if count)
    most = ", ".join(f"{max(node.get(name, 0) for node in nodes):g} {name}" for name in wanted)
    if not engine.address:
        raise ValueError(f"a worker takes {asked}, and this machine has {most}; ask for less, or give a cluster")
    engine.on_incident(Incident("the run", "waits", f"a worker takes {asked}, and no node has more than {most}"))
