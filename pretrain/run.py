"""One run of pre-training in its folder: begun or continued, interrupted in good order, its encoder exported."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

from passerby.checkpoint import (
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
from passerby.tokens import Tokenizer
from pretrain.augment import Augmentation
from pretrain.batch import Reword, ToDevice
from pretrain.data import open_data
from pretrain.journal import Journal
from pretrain.loop import Loop, Progress
from pretrain.method import LoopConfig, Method, MethodModule
from pretrain.reading import DataConfig, TrainingData
from pretrain.stream import is_stream, open_stream

CONFIG_NAME = "config.toml"
BEST_NAME = "best.pt"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be learnt, how, from what, and where the result goes."""

    name: str
    """Of the method."""

    module: MethodModule
    method: Any
    """The method's own configuration."""

    loop: LoopConfig
    data: DataConfig
    augment: Augmentation
    root: str
    """A data set of ours, or a pattern of tars."""

    run: Path
    """Folder of the run."""

    workers: int = 0
    """Processes that read, for each rank."""

    device: str = "auto"

    @property
    def config(self) -> Table:
        """All that decides the result, as plain values, besides the data."""
        sections = {"method": self.method, "loop": self.loop, "data": self.data, "augment": self.augment}
        return {"run": {"method": self.name}, **to_table(sections)}


def pretrain(
    job: Job,
    *,
    is_resumed: bool,
    on_progress: Callable[[Progress], None],
    on_note: Callable[[str], None],
    reword: Reword | None = None,
) -> bool:
    """Train; say whether the run reached its end, or was asked to stop (SIGTERM) and wrote a checkpoint.

    Args:
        job: What to do.
        is_resumed: Go on where the folder's newest checkpoint is; where there is none, begin.
        on_progress: Told after every step, on the first rank.
        on_note: Told what a person should know, on the first rank.
        reword: Words captions anew; see `pretrain.batch.Reword`.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: the folder holds another run, the data do not fit, or the method is at fault.
        RuntimeError: the loss is no longer a finite number.
    """
    with join_ranks(job.device) as ranks:
        loop = _begin(job, ranks, is_resumed=is_resumed, reword=reword)
        journal = Journal(job.run, first_step=loop.step, on_note=on_note) if ranks.is_first else None
        with closing(journal) if journal else nullcontext(), _termination() as is_asked_to_stop:
            if journal:
                _tell_begin(journal, job, loop)
            is_finished = loop.run(
                lambda state, is_best: _save(job, loop.data.tokenizer, state, is_best=is_best),
                journal,
                on_progress=on_progress if ranks.is_first else lambda progress: None,
                should_stop=is_asked_to_stop,
            )
            if journal:
                _end(journal, job, loop, is_finished=is_finished)
    return is_finished


def _begin(job: Job, ranks: Ranks, *, is_resumed: bool, reword: Reword | None) -> Loop:
    """Open folder and data, and build the method as random or as its checkpoint has it."""
    checkpoint = _find_checkpoint(job, is_resumed=is_resumed)
    data = _open(job, checkpoint, reword)
    method = job.module.build(job.method, data.tokenizer, generator_seed=job.loop.seed)
    to_device = ToDevice(ranks.device, job.method.image_mean, job.method.image_std)
    loop = Loop(method, job.loop, data, to_device=to_device, ranks=ranks, workers=job.workers, checkpoint=checkpoint)
    if ranks.is_first:  # the others have looked into the folder when `Loop` has brought all together
        job.run.mkdir(parents=True, exist_ok=True)
        write_atomically(job.run / CONFIG_NAME, to_toml(job.config).encode())
    return loop


def _find_checkpoint(job: Job, *, is_resumed: bool) -> dict[str, Any] | None:
    """Find in the folder of the run what goes on, on the CPU; `None` where the run begins."""
    path = job.run / CONFIG_NAME
    strangers = sorted(each.name for each in job.run.glob("[!.]*"))
    if strangers and not path.exists():
        raise ValueError(f"{job.run} holds {strangers[0]!r} and is no run of ours; give --out a new or empty folder")
    if strangers and not is_resumed:
        raise ValueError(f"{job.run} holds a run; go on with --resume, give another --out, or delete it")
    if strangers:
        _check_same(job, read_table(path))
    newest = latest_checkpoint(job.run)
    return load_checkpoint(newest) if newest else None


def _check_same(job: Job, before: Table) -> None:
    if difference := describe_difference(_flatten(before), _flatten(job.config)):
        raise ValueError(
            f"{job.run} was begun with another configuration ({difference}); go on with that, or give another --out"
        )


def _flatten(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{section}.{name}": value for section, values in table.items() for name, value in values.items()}


def _open(job: Job, checkpoint: dict[str, Any] | None, reword: Reword | None) -> TrainingData:
    tokenizer = Tokenizer.from_json(checkpoint["tokenizer"]) if checkpoint else None
    sections = (job.data, job.augment, job.method)
    if is_stream(job.root):
        return open_stream(job.root, *sections, seed=job.loop.seed, tokenizer=tokenizer)
    return open_data(job.root, *sections, seed=job.loop.seed, tokenizer=tokenizer, reword=reword)


def _tell_begin(journal: Journal, job: Job, loop: Loop) -> None:
    parameters = sum(parameter.numel() for parameter in loop.module.parameters())
    journal.note(
        f"{job.name} with {parameters:,} parameters and {loop.data.tokenizer.size:,} word pieces, {loop.ranks.world} x"
        f" {loop.ranks.device}, from step {loop.step:,} to {job.loop.steps:,}"
    )
    for note in loop.data.notes:
        journal.note(note)


def _save(job: Job, tokenizer: Tokenizer, state: dict[str, Any], *, is_best: bool) -> None:
    """Write a checkpoint, and remove those that are too old."""
    path = checkpoint_path(job.run, state["step"])
    save_checkpoint(path, {"method": job.name, "config": job.config, "tokenizer": tokenizer.to_json(), **state})
    if is_best:
        link_checkpoint(path, job.run / BEST_NAME)
    remove_old_checkpoints(job.run, job.loop.keep)


def _end(journal: Journal, job: Job, loop: Loop, *, is_finished: bool) -> None:
    """Write the encoder of the best step, or of the last, if the run is at its end; say how it went."""
    if not is_finished:
        journal.note(f"stopped after step {loop.step:,}; go on with --resume")
        return
    if loop.best:
        loop.module.load_state_dict(load_checkpoint(job.run / BEST_NAME)["model"])
    save_encoder(job.run, *cast(Method, loop.module).encoder())
    which = f", best at step {loop.best['step']:,} by {job.loop.best_by}" if loop.best else ""
    journal.note(f"finished after {loop.step:,} steps{which}")


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
