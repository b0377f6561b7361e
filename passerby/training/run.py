"""One run of training in its folder: begun or continued, interrupted in good order, its encoder exported."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar, cast

from torch import nn

from passerby.checkpoint import (
    BEST_NAME,
    checkpoint_path,
    latest_checkpoint,
    link_checkpoint,
    load_checkpoint,
    remove_old_checkpoints,
    save_checkpoint,
    save_encoder,
)
from passerby.config import Table, describe_difference, read_table, to_table, to_toml
from passerby.ranks import Ranks, join_ranks
from passerby.runtime import write_atomically
from passerby.training.batch import ToDevice
from passerby.training.clock import Progress
from passerby.training.journal import Journal
from passerby.training.loop import Loop
from passerby.training.method import LoopConfig, Method
from passerby.training.reading import TrainingData

CONFIG_NAME = "config.toml"

Data = TypeVar("Data", bound=TrainingData)


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a run is to do, known once its data are open."""

    method: nn.Module
    """With the weights that it begins with; see `passerby.training.method.Method`."""

    loop: LoopConfig
    factor: Callable[[int], float]
    """Part of its greatest value that every learning rate has, by the number of steps done."""

    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Job(Generic[Data]):
    """What is to be learnt, how, from what, and where the result goes."""

    name: str
    """Of the method."""

    sections: Mapping[str, Any]
    """Configurations (dataclasses) by section of `config.toml`: all that decides the result, besides the data."""

    open_data: Callable[[Mapping[str, Any]], Data]
    """Told the `TrainingData.state` of the run that goes on; nothing where a run begins."""

    begin: Callable[[Data], Course]

    run: Path
    """Folder of the run."""

    trained_on: str = ""
    """Folder or URL of the data set; the encoder's table says it."""

    workers: int = 0
    """Processes that read, for each rank."""

    device: str = "auto"

    @property
    def config(self) -> Table:
        """What `config.toml` holds."""
        return {"run": {"method": self.name}, **to_table(self.sections)}


def train(
    job: Job[Data],
    *,
    is_resumed: bool,
    is_sharded: bool = False,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
) -> bool:
    """Train; say whether the run reached its end, or was asked to stop (SIGTERM) and wrote a checkpoint.

    Args:
        job: What to do.
        is_resumed: Go on where the folder's newest checkpoint is; where there is none, begin.
        is_sharded: Every rank holds a part of the method only; see `passerby.training.sharded.Sharded`.
        on_progress: Told after every step, on the first rank.
        on_note: Told what a person should know, on the first rank.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: the folder holds another run, the data do not fit, or the method is at fault.
        RuntimeError: the loss is no longer a finite number.
    """
    with join_ranks(job.device) as ranks:
        if is_sharded:
            ranks.check_several()
        loop = _begin(job, ranks, is_resumed=is_resumed, is_sharded=is_sharded)
        journal = Journal(job.run, first_step=loop.step, on_note=on_note) if ranks.is_first else None
        closing_journal = closing(journal) if journal else nullcontext()
        with closing_journal, _termination() as is_asked_to_stop, ranks.naming_the_lost():
            if journal:
                _tell_begin(journal, job, loop)
            is_finished = loop.run(
                lambda state, is_best: _save(job, loop, state, is_best=is_best),
                journal,
                on_progress=on_progress if ranks.is_first else lambda progress: None,
                should_stop=is_asked_to_stop,
            )
            _end(journal, job, loop, is_finished=is_finished)
    return is_finished


def check_folder(job: Job[Data], *, is_resumed: bool) -> None:
    """Make sure that the folder of a run is empty or, if the run goes on, holds this one.

    Raises:
        ValueError: it holds another run, or something else.
    """
    path = job.run / CONFIG_NAME
    strangers = sorted(each.name for each in job.run.glob("[!.]*"))
    if strangers and not path.exists():
        raise ValueError(f"{job.run} holds {strangers[0]!r} and is no run of ours; give --out a new or empty folder")
    if strangers and not is_resumed:
        raise ValueError(f"{job.run} holds a run; go on with --resume, give another --out, or delete it")
    if strangers:
        _check_same(job, read_table(path))


def write_config(job: Job[Data]) -> None:
    """Make the folder of a run, with its configuration: it is begun."""
    job.run.mkdir(parents=True, exist_ok=True)
    write_atomically(job.run / CONFIG_NAME, to_toml(job.config).encode())


def _begin(job: Job[Data], ranks: Ranks, *, is_resumed: bool, is_sharded: bool) -> Loop:
    """Open folder and data, and build the method as it begins or as its checkpoint has it."""
    checkpoint = _find_checkpoint(job, is_resumed=is_resumed)
    data = job.open_data(checkpoint["data"] if checkpoint else {})
    course = job.begin(data)
    loop = Loop(
        course.method,
        course.loop,
        data,
        factor=course.factor,
        to_device=ToDevice(ranks.device, course.image_mean, course.image_std),
        ranks=ranks,
        workers=job.workers,
        is_sharded=is_sharded,
        checkpoint=checkpoint,
    )
    if ranks.is_first:  # the others have looked into the folder when `Loop` has brought all together
        write_config(job)
    return loop


def _find_checkpoint(job: Job[Data], *, is_resumed: bool) -> dict[str, Any] | None:
    """Find in the folder of the run what goes on, on the CPU; `None` where the run begins."""
    check_folder(job, is_resumed=is_resumed)
    newest = latest_checkpoint(job.run)
    return load_checkpoint(newest) if newest else None


def _check_same(job: Job[Data], before: Table) -> None:
    if difference := describe_difference(_flatten(before), _flatten(job.config)):
        raise ValueError(
            f"{job.run} was begun with another configuration ({difference}); go on with that, or give another --out"
        )


def _flatten(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, values in table.items() for name, value in values.items()}


def _tell_begin(journal: Journal, job: Job[Data], loop: Loop) -> None:
    parameters = sum(parameter.numel() for parameter in loop.module.parameters())
    journal.note(
        f"{job.name} with {parameters:,} parameters, {loop.ranks.world} x {loop.ranks.device}, from step {loop.step:,} to"
        f" {loop.config.steps:,}"
    )
    for note in loop.data.notes:
        journal.note(note)


def _save(job: Job[Data], loop: Loop, state: dict[str, Any], *, is_best: bool) -> None:
    """Write a checkpoint, and remove those that are too old."""
    path = checkpoint_path(job.run, state["step"])
    save_checkpoint(path, {"method": job.name, "config": job.config, "data": dict(loop.data.state), **state})
    if is_best:
        link_checkpoint(path, job.run / BEST_NAME)
    remove_old_checkpoints(job.run, loop.config.keep)


def _end(journal: Journal | None, job: Job[Data], loop: Loop, *, is_finished: bool) -> None:
    """Write the encoder of the best step, or of the last, if the run is at its end; say how it went. All ranks must ask."""
    if is_finished:
        with loop.parallel.whole() as method:
            if journal:
                _export(method, job, loop)
    if journal and is_finished:
        which = f", best at step {loop.best['step']:,} by {loop.config.best_by}" if loop.best else ""
        journal.note(f"finished after {loop.step:,} steps{which}")
    elif journal:
        journal.note(f"stopped after step {loop.step:,}; go on with --resume")


def _export(method: nn.Module, job: Job[Data], loop: Loop) -> None:
    if loop.best:
        method.load_state_dict(load_checkpoint(job.run / BEST_NAME)["model"])
    encoder, table = cast(Method, method).encoder()
    save_encoder(job.run, encoder, {**table, **({"trained_on": job.trained_on} if job.trained_on else {})})


@contextmanager
def _termination() -> Iterator[Callable[[], bool]]:
    """Within the block, SIGTERM is remembered instead of ending the process: give a function that tells of it."""
    is_asked = False

    def remember(signal_number: int, frame: FrameType | None) -> None:
        nonlocal is_asked
        is_asked = True

    before = signal.signal(signal.SIGTERM, remember)
    try:
        yield lambda: is_asked
    finally:
        signal.signal(signal.SIGTERM, before)
