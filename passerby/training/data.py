"""Captioned people, read by index straight from the shards, in worker processes.

What becomes of a sample depends on the seed, the epoch and its key, on nothing else: neither on the number of workers
nor on that of ranks. A sample that cannot be read ends the run, since shards are verified before they are trained on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from torch.utils.data import Dataset

from passerby.images import ImageProblem
from passerby.runtime import draw
from passerby.sample import CAPTION_FIELD
from passerby.shards.plan import Mode, Part, Plan
from passerby.shards.read import ShardDataset
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.batch import (
    BadSample,
    Captions,
    Example,
    Preparation,
    Reword,
    captions_of,
)
from passerby.training.reading import (
    DataConfig,
    Geometry,
    Loader,
    Share,
    build_preparation,
    make_tokenizer,
    note_cuts,
    read_batches,
)

MAX_CAPTIONS_READ = 100_000
"""For the vocabulary and the lengths; evenly spaced over the training samples."""


class People(Dataset[Example]):
    """Some samples of a data set as examples, by (position, epoch).

    Args:
        samples: The data set.
        indices: Which of its samples, Int64 (positions,); one may be there several times.
        preparation: What is done to each.
        person_numbers: Of all samples of the data set, Int64 (samples,).
        camera_ids: Of all samples, Int64 (samples,).
        caption_numbers: Which of its captions each position means, Int64 (positions,); without it, as `preparation` says.
    """

    def __init__(
        self,
        samples: ShardDataset,
        indices: NDArray[np.int64],
        preparation: Preparation,
        *,
        person_numbers: NDArray[np.int64],
        camera_ids: NDArray[np.int64],
        caption_numbers: NDArray[np.int64] | None = None,
    ) -> None:
        self.samples = samples
        self.indices = indices
        self.preparation = preparation
        self.person_numbers = person_numbers
        self.camera_ids = camera_ids
        self.caption_numbers = caption_numbers

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: tuple[int, int]) -> Example:
        position, epoch = place
        index = int(self.indices[position])
        sample = self.samples[index]
        caption_number = None if self.caption_numbers is None else int(self.caption_numbers[position])
        try:
            example = self.preparation(sample, epoch, caption_number)
        except ImageProblem as problem:
            raise BadSample(
                f"{self.samples.root}, shard {self._shard(index)}, sample {sample['__key__']}: {problem}; run passerby verify"
            ) from None
        return {**example, "person_id": int(self.person_numbers[index]), "camera_id": int(self.camera_ids[index])}

    def _shard(self, index: int) -> str:
        """Name the shard of a sample."""
        ends = np.cumsum([record.kept for record in self.samples.manifest.shards])
        return self.samples.manifest.shards[int(np.searchsorted(ends, index, side="right"))].name


@dataclass(frozen=True)
class IndexedData:
    """A data set of ours, split by person. See `TrainingData`."""

    tokenizer: Tokenizer
    """That of the captions."""

    train: People
    held_out: People | None
    """People that training never sees, unchanged by chance."""

    notes: tuple[str, ...]
    mode: Mode

    @property
    def state(self) -> Mapping[str, Any]:
        """Give the vocabulary, which a run that goes on must have again."""
        return {"tokenizer": self.tokenizer.to_json()}

    def steps_an_epoch(self, batch_size: int) -> int:
        """Say how many steps read everything once."""
        return self._plan(batch_size).steps_an_epoch

    def training(self, start_step: int, stop_step: int, share: Share) -> Loader:
        """Read the passes of a rank from one step to another, epoch after epoch."""
        parts = self._plan(share.batch_size).parts(
            start_step, stop_step, rank=share.rank, world=share.world, accumulation=share.accumulation
        )
        return build_loader(self.train, parts, share)

    def validation(self, share: Share) -> Loader | None:
        """Read all held-out samples once, on this rank alone."""
        if self.held_out is None:
            return None
        plan = Plan(samples=len(self.held_out), batch_size=share.pass_size)
        return build_loader(self.held_out, plan.parts(0, plan.steps_an_epoch), share)

    def _plan(self, batch_size: int) -> Plan:
        return Plan(samples=len(self.train), batch_size=batch_size, seed=self.train.preparation.seed, mode=self.mode)


def open_data(
    root: Path | str,
    config: DataConfig,
    augmentation: Augmentation,
    geometry: Geometry,
    *,
    seed: int,
    tokenizer: Tokenizer | None = None,
    reword: Reword | None = None,
) -> IndexedData:
    """Split a data set by person, make or load its vocabulary, and see how long its captions are.

    Args:
        root: Folder or URL of the data set.
        config: How it is read.
        augmentation: What is left to chance in training.
        geometry: Size of images and texts: the method's configuration.
        seed: Of everything that is left to chance.
        tokenizer: Of the run that goes on; without it one is made as `config` says.
        reword: Words captions anew, if `config` wants that.

    Raises:
        FileNotFoundError: there is no data set, or no vocabulary.
        ValueError: one of them is malformed, or nobody is left for training or validation.
    """
    samples = ShardDataset(root)
    if not samples.manifest.has_captions:
        raise ValueError(f"{root} has no captions to learn from; make some with gen-captions")
    keys, people, camera_ids = read_labels(samples)
    training, held_out = split_people(samples, keys, people, config.validation_share)
    captions = read_captions(samples, training[:: -(-len(training) // MAX_CAPTIONS_READ)], config.captions)
    tokenizer = tokenizer or make_tokenizer(config, captions)
    preparation = build_preparation(config, augmentation, geometry, tokenizer, seed=seed, reword=reword)
    unchanged = replace(preparation, how=Augmentation(), captions="first", reword=None)
    labels = {"person_numbers": number_people(people), "camera_ids": camera_ids}
    return IndexedData(
        tokenizer,
        People(samples, training, preparation, **labels),
        People(samples, held_out, unchanged, **labels) if len(held_out) else None,
        tuple(note_cuts(captions, tokenizer, geometry.text_length)),
        config.epoch,
    )


def is_held_out(keys: Sequence[str], people: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Say which samples are for validation: Bool (samples,). All images of a person are, or none.

    It depends on the person's name alone (of an unknown person's image: on its key), so that it stays the same when a
    data set grows.
    """
    names = [person or key for person, key in zip(people, keys, strict=True)]
    chosen = {name for name in set(names) if draw(0, name, purpose="validation") < share * 2**64}
    return np.array([name in chosen for name in names])


def number_people(people: Sequence[str]) -> NDArray[np.int64]:
    """Number people in the order of their names: Int64 (samples,), -1 where the name is empty."""
    numbers = {person: number for number, person in enumerate(sorted({*people} - {""}))}
    return np.array([numbers.get(person, -1) for person in people], np.int64)


def build_loader(people: People, parts: Iterable[Part], share: Share) -> Loader:
    """Read parts of a plan in their order; see `passerby.training.reading.read_batches`."""
    batches = ([(int(position), part.epoch) for position in part.positions] for part in parts)
    return read_batches(people, people.preparation.pad_id, share, batch_sampler=batches)


def split_people(
    samples: ShardDataset, keys: Sequence[str], people: Sequence[str], share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the samples to learn from and those held out: Int64 (samples,) each. What is for tests is in neither."""
    splits = samples.manifest.splits
    if len(splits) > 1 and "train" not in splits:
        raise ValueError(f"{samples.root} has the splits {', '.join(splits)}; learning needs one called train")
    learnt = samples.split("train") if len(splits) > 1 else range(len(samples))
    if "val" in splits and len(splits) > 1:
        return np.array(learnt), np.array(samples.split("val") if share > 0 else [], np.int64)
    names = [people[index] for index in learnt]
    is_val = is_held_out([keys[index] for index in learnt], names, share)
    _check_split(is_val, f"{len({*names}):,} people of {samples.root}", share)
    return np.array(learnt)[~is_val], np.array(learnt)[is_val]


def _check_split(held_out: NDArray[np.bool_], whom: str, share: float) -> None:
    if held_out.all() or (share > 0 and not held_out.any()):
        purpose = "training" if held_out.all() else "validation"
        raise ValueError(
            f"of the {whom}, a data.validation_share of {share} leaves nobody for {purpose}; set another, or 0 for no validation"
        )


def read_labels(samples: ShardDataset) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Give key, person and camera of all samples; "" where the person is unknown, -1 where the camera is."""
    known = samples[0]["json"].keys()
    table = samples.metadata([name for name in ("key", "person_id", "camera_id") if name in known])
    count = len(samples)
    people = table["person_id"].to_pylist() if "person_id" in known else [""] * count
    camera_ids = table["camera_id"].to_numpy() if "camera_id" in known else np.full(count, -1)
    return table["key"].to_pylist(), [person or "" for person in people], camera_ids.astype(np.int64)


def count_captions(samples: ShardDataset) -> NDArray[np.int64]:
    """Count the captions of every sample: Int64 (samples,)."""
    fields = samples[0]["json"]
    if "captions" in fields:
        counts: NDArray[np.int64] = pc.list_value_length(samples.metadata(["captions"])["captions"]).to_numpy()
        return counts.astype(np.int64)
    return np.full(len(samples), len(captions_of(fields)), np.int64)


def read_captions(samples: ShardDataset, indices: NDArray[np.int64], captions: Captions) -> list[str]:
    """Give the first caption of some samples, or with `random` all that could be drawn."""
    fields = samples[0]["json"]
    if captions == "random" and "captions" in fields:
        several = samples.metadata(["captions"])["captions"].take(indices).to_pylist()
        return [caption for captions_of_one in several for caption in captions_of_one]
    names = ["caption"] if captions != "random" else [*filter(CAPTION_FIELD.fullmatch, fields)]
    table = samples.metadata(names).take(indices)
    return [caption for name in names for caption in table[name].to_pylist()]
