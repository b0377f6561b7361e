"""People with names, read straight from the shards: some to learn from, others to choose the best epoch by.

Those come from the split `val` where the data set has one; else some people of `train` are held out, by their names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from passerby.shards.plan import Part
from passerby.shards.read import ShardDataset
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.batch import Preparation
from passerby.training.data import People, build_loader, count_captions, read_captions, read_labels, split_people
from passerby.training.reading import Loader, Share, note_cuts

Positions = Literal["images", "captioned_images", "captions"]
"""What batches are made of: images without a text, images with the first caption of each, or captions, each with its image."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Who is learnt from."""

    validation_share: float = 0.1
    """Of the training people who are held out where the data set has no split `val`; 0 for no validation at all."""

    parsing: bool = False
    """Read the parsing maps too."""

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise ValueError(f"validation_share is {self.validation_share}; it must be at least 0 and below 1")


class Order(Protocol):
    """Which positions make up the batch of each step: `finetune.sampler.PersonPlan`, or `passerby.shards.plan.Plan`."""

    @property
    def steps_an_epoch(self) -> int: ...  # noqa: D102

    def parts(  # noqa: D102
        self, start_step: int, stop_step: int, *, rank: int = 0, world: int = 1, accumulation: int = 1
    ) -> Any: ...  # noqa: ANN401  (an iterator of Part)


@dataclass(frozen=True)
class NamedPeople:
    """What a run of fine-tuning reads; see `passerby.training.reading.TrainingData`."""

    train: People
    held_out: People | None
    order: Order
    people: tuple[str, ...]
    """Names of those who are learnt; a person's place is the label."""

    camera_count: int
    """One more than the greatest `camera_id` of the training images."""

    tokenizer: Tokenizer | None
    notes: tuple[str, ...]

    @property
    def state(self) -> Mapping[str, Any]:
        """Give who has which label, and the vocabulary."""
        tokenizer = {} if self.tokenizer is None else {"tokenizer": self.tokenizer.to_json()}
        return {"people": [*self.people], **tokenizer}

    def steps_an_epoch(self, batch_size: int) -> int:
        """Say how many steps an epoch has."""
        return self.order.steps_an_epoch

    def training(self, start_step: int, stop_step: int, share: Share) -> Loader:
        """Read the passes of a rank from one step to another, epoch after epoch."""
        parts = self.order.parts(
            start_step, stop_step, rank=share.rank, world=share.world, accumulation=share.accumulation
        )
        return build_loader(self.train, parts, share)

    def validation(self, share: Share) -> Loader | None:
        """Read everything of the people held out once, on this rank alone, unchanged by chance."""
        if self.held_out is None:
            return None
        return build_loader(self.held_out, in_order(len(self.held_out), share.pass_size), share)


def open_people(
    root: Path | str,
    config: DataConfig,
    augmentation: Augmentation,
    height_width: tuple[int, int],
    *,
    build_order: Callable[[NDArray[np.int64]], Order],
    seed: int,
    text_length: int = 0,
    make_tokenizer: Callable[[Sequence[str]], Tokenizer] | None = None,
    positions: Positions = "images",
    state: Mapping[str, Any],
) -> NamedPeople:
    """Find who is to be learnt, number them, and plan the batches.

    Args:
        root: Folder or URL of a data set with `person_id`.
        config: Who is learnt from.
        augmentation: What is left to chance in training.
        height_width: Of the images, pixels.
        build_order: Makes batches of positions, told the label of each, Int64 (positions,).
        seed: Of what is left to chance.
        text_length: Tokens at most, where text is read.
        make_tokenizer: Makes a vocabulary of the training captions, where text is read.
        positions: What batches are made of.
        state: `NamedPeople.state` of the run that goes on; empty where a run begins.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: it names no people, has no captions where they are wanted, or holds other people than the run began with.
    """
    samples = ShardDataset(root)
    keys, names, camera_ids = read_labels(samples)
    train, held_out = split_people(samples, keys, names, config.validation_share)
    people = tuple(sorted({names[index] for index in train}))
    if "" in people:
        raise ValueError(
            f"{root} does not say who is in its images: person_id is missing or empty; fine-tuning needs it"
        )
    if state and [*people] != state["people"]:
        raise ValueError(f"{root} has not the people that the run began with; resume it on the data set it began on")
    labels = {"person_numbers": _number(names, people), "camera_ids": camera_ids}
    captions = _read_captions(samples, train, positions)
    tokenizer = _tokenizer(captions, make_tokenizer, state)
    preparation = Preparation(
        height_width=height_width,
        text_length=text_length,
        tokenizer=tokenizer,
        how=augmentation,
        seed=seed,
        with_parsing=config.parsing,
    )
    unchanged = replace(preparation, how=Augmentation(), with_parsing=False)
    learnt = _people(samples, train, preparation, labels, positions)
    return NamedPeople(
        train=learnt,
        held_out=_people(samples, held_out, unchanged, labels, positions) if len(held_out) else None,
        order=build_order(learnt.person_numbers[learnt.indices]),
        people=people,
        camera_count=int(camera_ids[train].max()) + 1,
        tokenizer=tokenizer,
        notes=(_describe(names, train, held_out), *(note_cuts(captions, tokenizer, text_length) if tokenizer else ())),
    )


def in_order(count: int, batch_size: int) -> Sequence[Part]:
    """Give parts that read `count` positions once, in their order."""
    places = np.arange(count)
    return [
        Part(number, 0, places[start : start + batch_size]) for number, start in enumerate(range(0, count, batch_size))
    ]


def _number(names: Sequence[str], people: Sequence[str]) -> NDArray[np.int64]:
    """Number the people of all samples: those who are learnt by their place, the others after them."""
    known = {*people}
    ordered = [*people, *sorted({*names} - known)]
    numbers = {person: number for number, person in enumerate(ordered)}
    return np.array([numbers[name] for name in names], np.int64)


def _read_captions(samples: ShardDataset, indices: NDArray[np.int64], positions: Positions) -> list[str]:
    """Give the captions that are read of some samples."""
    if positions == "images":
        return []
    if "txt" not in samples[0]:
        raise ValueError(f"{samples.root} has no captions; pack a data set that has some, such as cuhk-pedes")
    return read_captions(samples, indices, "random" if positions == "captions" else "first")


def _tokenizer(
    captions: Sequence[str], make_tokenizer: Callable[[Sequence[str]], Tokenizer] | None, state: Mapping[str, Any]
) -> Tokenizer | None:
    if not captions or make_tokenizer is None:
        return None
    return Tokenizer.from_json(state["tokenizer"]) if "tokenizer" in state else make_tokenizer(captions)


def _people(
    samples: ShardDataset,
    indices: NDArray[np.int64],
    preparation: Preparation,
    labels: Mapping[str, NDArray[np.int64]],
    positions: Positions,
) -> People:
    """Give images as positions, or captions: every image with each that it has."""
    if positions != "captions":
        return People(samples, indices, preparation, **labels)
    counts = count_captions(samples)[indices]
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return People(samples, np.repeat(indices, counts), preparation, caption_numbers=numbers, **labels)


def _describe(names: Sequence[str], train: NDArray[np.int64], held_out: NDArray[np.int64]) -> str:
    counts = [f"{len(each):,} images of {len({names[index] for index in each}):,} people" for each in (train, held_out)]
    return f"learns from {counts[0]}, and validates on {counts[1] if len(held_out) else 'nobody'}"
