"""What the two ways of reading share: their configuration, their promise to the loop, and how text is prepared."""

import atexit
import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch.utils.data import DataLoader

from passerby.shards.plan import Mode
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.batch import BadSample, Captions, Collate, Preparation, Reword

PREFETCHED_BATCHES = 4
"""A worker."""


Loader = Iterable[dict[str, Any]]
"""Collated batches; see `passerby.training.batch.Collate`."""


class Geometry(Protocol):
    """What every method's configuration says of its input."""

    @property
    def image_height(self) -> int: ...  # noqa: D102
    @property
    def image_width(self) -> int: ...  # noqa: D102
    @property
    def image_mean(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def image_std(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def text_length(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How a data set is read for training."""

    validation_share: float = 0.01
    """Of the people (where they are unknown: of the images) that are held out for validation; 0 for none."""

    captions: Captions = "first"
    """`first`, `random` (of a sample that has several, another one in every epoch), or `rerender` (worded anew in every epoch
    from the attributes that are stored). Validation reads the first."""

    parsing: bool = False
    """Read the parsing maps too."""

    vocabulary: str = ""
    """A `vocab.txt` of an uncased BERT; empty to make a vocabulary of the training captions."""

    vocabulary_size: int = 10_000
    """Pieces at most of a vocabulary that is made."""

    epoch: Mode = "exactly-once"
    """Whether the last batch of an epoch is padded; see `passerby.shards.plan.Plan`."""

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share is {self.validation_share}; it must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of every batch a process reads, and how."""

    batch_size: int
    """Samples a step, over all ranks and passes."""

    accumulation: int
    """Forward passes of each rank that make up a step."""

    rank: int
    world: int
    workers: int
    """Processes that read ahead; 0 for none."""

    pin_memory: bool
    """For copies to a GPU."""

    @property
    def pass_size(self) -> int:
        """Samples of one forward pass of one rank, at most."""
        return -(-self.batch_size // (self.world * self.accumulation))


class TrainingData(Protocol):
    """What a run reads: shards of ours by index, or a stream of tars."""

    @property
    def state(self) -> Mapping[str, Any]:
        """Give what a checkpoint must hold for a run to go on with these data: plain values."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know, such as captions that are cut."""
        ...

    def steps_an_epoch(self, batch_size: int) -> int:
        """Say how many steps read everything once; 0 where that is unknown."""
        ...

    def training(self, start_step: int, stop_step: int, share: Share) -> Loader:
        """Read the passes of a rank from one step to another."""
        ...

    def validation(self, share: Share) -> Loader | None:
        """Read all held-out samples once, the same in the same order each time; `None` where there are none."""
        ...


def build_preparation(
    config: DataConfig,
    augmentation: Augmentation,
    geometry: Geometry,
    tokenizer: Tokenizer,
    *,
    seed: int,
    reword: Reword | None,
) -> Preparation:
    """Gather what is done to each sample.

    Raises:
        ValueError: captions are to be worded anew, and nothing is given that does.
    """
    if config.captions == "rerender" and reword is None:
        raise ValueError(
            "data.captions='rerender' needs a data set of ours, made by gen-captions; allowed here are first, random"
        )
    return Preparation(
        height_width=(geometry.image_height, geometry.image_width),
        text_length=geometry.text_length,
        tokenizer=tokenizer,
        how=augmentation,
        seed=seed,
        captions=config.captions,
        with_parsing=config.parsing,
        reword=reword,
    )


def make_tokenizer(config: DataConfig, captions: Sequence[str]) -> Tokenizer:
    """Load the vocabulary that is named, or make one of captions."""
    if config.vocabulary:
        return Tokenizer.from_file(Path(config.vocabulary))
    return Tokenizer.from_captions(captions, config.vocabulary_size)


def note_cuts(captions: Sequence[str], tokenizer: Tokenizer, text_length: int) -> Iterator[str]:
    """Say how many captions lose their end, and what would keep it."""
    lengths = np.array([tokenizer.count(caption) for caption in captions])
    if cut := int((lengths > text_length).sum()):
        yield (
            f"{cut:,} of {len(lengths):,} captions ({cut / len(lengths):.1%}) are longer than {text_length} tokens and lose their"
            f" end; method.text_length={lengths.max()} would keep them whole"
        )


def read_batches(examples: Any, pad_id: int, share: Share, **batching: Any) -> Loader:  # noqa: ANN401
    """Read examples in this process or, some batches ahead, in worker processes.

    Args:
        examples: A data set of `passerby.training.batch.Example`, by index or as a stream.
        pad_id: Fills up shorter texts.
        share: Says where to read, and to which memory.
        batching: What makes batches of them: `batch_sampler` or `batch_size` of PyTorch's `DataLoader`.

    Raises:
        BadSample: an example cannot be read.
    """
    if share.workers:
        atexit.unregister(_end_workers)  # or each reader of a long run would add one more
        atexit.register(_end_workers)
    loader: Loader = DataLoader(
        examples,
        num_workers=share.workers,
        collate_fn=Collate(pad_id),
        pin_memory=share.pin_memory,
        worker_init_fn=outlive_termination,
        prefetch_factor=PREFETCHED_BATCHES if share.workers else None,
        **batching,
    )
    return _Batches(loader)


class _Batches:
    """Passes batches on; of an error, without the frames of PyTorch's reader, which would keep its workers waiting."""

    def __init__(self, loader: Loader) -> None:
        self._batches = iter(loader)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        try:
            return next(self._batches)
        except BadSample as error:
            self._batches = iter(())
            raise error.with_traceback(None) from None


def outlive_termination(worker: int) -> None:
    """Let a worker read on after a SIGTERM that went to all processes of a run, until the step is done; a second one ends it."""
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def _end_workers() -> None:
    """End the workers of a program that ends in an error: Python would tell them by SIGTERM, and wait for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or PyTorch would raise another error over their end
    for process in multiprocessing.active_children():
        if process.daemon:
            process.kill()
