"""The options that say where a run's units are made: how many processes, on which machines, and which share of them."""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from passerby.engine import Engine
    from passerby.parts import Part
    from passerby.ray_run import Incident
    from passerby.shards.write import ShardRecord

EngineName = Literal["local", "ray"]
EngineOption = Annotated[EngineName, typer.Option(help="Where units run: processes here, or actors of Ray.")]
ActorCpus = Annotated[float, typer.Option(min=0, help="Ray: CPUs that each worker takes.")]
ActorGpus = Annotated[float, typer.Option(min=0, help="Ray: GPUs that each worker takes, such as 0.5.")]
RayAddress = Annotated[
    str, typer.Option(envvar="RAY_ADDRESS", help="Ray: the cluster, or 'auto'; by default this machine alone.")
]
Units = Annotated[
    str, typer.Option(help="Make only a part of the shards, such as 3/7; 'auto' in a Slurm array. Then finalise.")
]

RETRIES_NAME = "retries.jsonl"
"""The log, beside the shards, of units that had to be run again."""

SLURM_ARRAY = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT")
SLURM_STEP = "SLURM_ARRAY_TASK_STEP"


@dataclass(frozen=True, slots=True)
class Spread:
    """How a run is spread over processes and machines."""

    engine: EngineName
    workers: int
    actor_cpus: float
    actor_gpus: float
    ray_address: str
    part: "Part | None"
    """The share of the shards to make; `None` makes all, and the data set complete."""
    as_json: bool

    def build_engine(self, root: Path, names: list[str]) -> "Engine":
        """Give what runs the units whose shards are `names`; what goes amiss is told, and kept in `root`."""
        if self.engine == "local":
            from passerby.engine import LocalEngine

            return LocalEngine(self.workers)
        from passerby.engine_ray import RayEngine

        return RayEngine(
            workers=self.workers,
            cpus_each=self.actor_cpus,
            gpus_each=self.actor_gpus,
            address=self.ray_address,
            name_unit=names.__getitem__,
            on_incident=_keep_in(root / RETRIES_NAME),
        )

    def tell_part(self, out: str, records: "Sequence[ShardRecord]") -> None:
        """Say what a part has made, and what comes next."""
        kept = sum(record.kept for record in records)
        quarantined = sum(record.quarantined for record in records)
        if self.as_json:
            counts = {"shards": len(records), "kept": kept, "quarantined": quarantined}
            typer.echo(json.dumps({"out": out, "part": str(self.part), **counts}, ensure_ascii=False))
            return
        typer.echo(f"part {self.part} is done: shards {len(records):,}, kept {kept:,}, quarantined {quarantined:,}")
        typer.echo(f"when all parts are done: gen-captions finalise {shlex.quote(out)}")


def read_part(text: str, environment: Mapping[str, str] = os.environ) -> "Part | None":
    """Read `--units`: i/n, or `auto` for the share of this task of a Slurm array; `None` where nothing is said.

    Raises:
        ValueError: it is neither, there is no such part, or this is no task of an array that is numbered without gaps.
    """
    from passerby.parts import Part

    if not text:
        return None
    if text == "auto":
        return _slurm_part(environment)
    number, _, of = text.partition("/")
    try:
        return Part(int(number), int(of))
    except ValueError:
        raise ValueError(f"units is {text!r}; give i/n with i from 1 to n, such as 3/7, or auto") from None


def _slurm_part(environment: Mapping[str, str]) -> "Part":
    from passerby.parts import Part

    if missing := [name for name in SLURM_ARRAY if name not in environment]:
        raise ValueError(
            f"--units auto reads the variables of a Slurm array, and {', '.join(missing)} is not set; start it with"
            " sbatch --array=1-7, or give --units i/n"
        )
    task, first, count = (int(environment[name]) for name in SLURM_ARRAY)
    place, rest = divmod(task - first, int(environment.get(SLURM_STEP, "1")))
    if rest or not 0 <= place < count:
        raise ValueError(
            f"the Slurm array has {count} tasks from {first}, and {task} is one of them, so it has gaps; give --units i/n"
            " with the numbers of the whole array"
        )
    return Part(place + 1, count)


def _keep_in(path: Path) -> Callable[["Incident"], None]:
    def keep(incident: "Incident") -> None:
        typer.echo(f"warning: {incident.name} {incident.what}: {incident.reason}", err=True)
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(incident)}
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

    return keep
