"""LUPerson-T: from unlabelled person crops to captioned samples, by divide, conquer and combine.

Follow one image: `readers.luperson` finds it, the scorer gives its features, `conquer.match` picks a phrase of `divide`'s bank
for every attribute, `combine` words the picks, and `run_unit` hands image, captions and picks to the shard writer.

Source: UniPT, section 3.1.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from captioning.conquer import Matcher, Scorer
from captioning.words import Words, base_config, compose, describe, match_images
from passerby.columnar import rows_of, spool
from passerby.config import config_hash
from passerby.generate import image_fields
from passerby.images import ImageProblem, decode_rgb, inspect_image
from passerby.readers.files import Content
from passerby.readers.inputs import hash_names
from passerby.readers.luperson import Source
from passerby.sample import JsonValue, Rejected, Sample
from passerby.shards.embeddings import Embeddings, embeddings_path, write_embeddings
from passerby.shards.write import ShardRecord, shard_name, write_shard

_THREADS_BESIDE_GPU = 4
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """An input that is an image."""

    row: Mapping[str, Any]
    data: bytes
    fields: Mapping[str, JsonValue]
    """What the file itself tells: width, height, sha256."""
    extension: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class LUPersonT:
    """The recipe of a LUPerson-T data set: its shards, from person crops. See `passerby.generate.Recipe`."""

    root: Path
    source: Source
    inputs: pa.Table
    """Those of the source, in the order wanted."""
    words: Words
    scorer: Scorer
    text_features: NDArray[np.floating]
    """(prompts, width), of `conquer.prompts_of(bank)`."""
    bounds: Sequence[int]
    """First row of each unit among the inputs, and the end of the last."""
    split: str = "train"
    batch_size: int = 64
    """Images that are decoded together and encoded in one call; changes no result."""
    threads: int = 0
    """Threads that read and decode while a batch is encoded; 0 for 4 beside a GPU, and none where a CPU does both."""
    keeps_embeddings: bool = False
    """Keep the features under `ROOT/embeddings`."""

    @property
    def splits(self) -> dict[str, int]:
        """The one split, and how many shards there will be."""
        return {self.split: len(self.bounds) - 1}

    @property
    def inputs_count(self) -> int:
        """How many images there are to caption."""
        return len(self.inputs)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that decides the bytes of the shards; no paths."""
        return {
            **base_config(self.words, self.scorer.identity, self.splits),
            "has_embeddings": self.keeps_embeddings,
            "keys_sha256": hash_names(self.inputs["key"]),
        }

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` from its slice of the inputs."""
        return write_shard(
            self.root,
            self._name(index),
            self._entries(index),
            columns=self.words.columns,
            config_hash=config_hash(self.config),
        )

    def describe(self) -> dict[str, Any]:
        """Give the manifest's entries on how the data set was made."""
        return describe(self.words, dict(self.scorer.identity))

    @cached_property
    def _matcher(self) -> Matcher:
        return Matcher(self.text_features, self.words.bank, self.words.options.match)

    def _name(self, unit: int) -> str:
        return shard_name(self.split, unit, self.splits[self.split])

    def _entries(self, unit: int) -> Iterator[Sample | Rejected]:
        start, stop = self.bounds[unit], self.bounds[unit + 1]
        keys: list[str] = []
        features: list[NDArray[np.float16]] = []
        for batch in self._read(rows_of(self.inputs.slice(start, stop - start).to_batches(_ROWS_AT_ONCE))):
            seen = [entry for entry in batch if isinstance(entry, Seen)]
            found = self.scorer.encode_images([image.pixels for image in seen]).astype(np.float16)
            keys += [image.row["key"] for image in seen]
            features.append(found)
            samples = iter(self._samples(seen, found))
            for entry in batch:
                yield entry if isinstance(entry, Rejected) else next(samples)
        if self.keeps_embeddings:
            width = self.text_features.shape[1]
            stacked = np.concatenate(features) if features else np.empty((0, width), np.float16)
            path = embeddings_path(self.root, self._name(unit))
            write_embeddings(path, Embeddings(tuple(keys), stacked), self.scorer.identity)

    def _samples(self, seen: Sequence[Seen], features: NDArray[np.float16]) -> list[Sample]:
        people = [image.row["person_id"] for image in seen]
        picked = match_images(features, people, self._matcher, self.words)
        return [
            compose(self.words, image.row, image.fields, picks, image=image.data, extension=image.extension)
            for image, picks in zip(seen, picked, strict=True)
        ]

    def _read(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Seen | Rejected]]:
        """Yield batches of decoded inputs."""
        batches = batches_of(rows, self.batch_size, by_person=self.words.options.is_voted)
        threads = self.threads or (_THREADS_BESIDE_GPU if self.scorer.on_gpu else 0)
        # On a CPU that is busy anyway, threads that wait for each other's Python cost a quarter of the images a second.
        return self._read_ahead(batches, threads) if threads else map(self._see_all, batches)

    def _read_ahead(self, batches: Iterator[list[Mapping[str, Any]]], threads: int) -> Iterator[list[Seen | Rejected]]:
        """Decode the next batch while one is encoded."""
        with ThreadPoolExecutor(threads) as pool:
            ahead: list[Future[list[Seen | Rejected]]] = []
            for batch in batches:
                share = -(-len(batch) // threads)  # a task a thread, since a task an image takes 8 µs
                shares = [batch[start : start + share] for start in range(0, len(batch), share)]
                submitted = [pool.submit(self._see_all, share) for share in shares]
                if ahead:
                    yield [entry for future in ahead for entry in future.result()]
                ahead = submitted
            yield [entry for future in ahead for entry in future.result()]

    def _see_all(self, rows: Sequence[Mapping[str, Any]]) -> list[Seen | Rejected]:
        return [_see(row, content) for row, content in zip(rows, self.source.read_all(rows), strict=True)]


def _see(row: Mapping[str, Any], content: Content) -> Seen | Rejected:
    if isinstance(content, ImageProblem):
        return Rejected(row["path"], content.reason, str(content), row["key"])
    try:
        info = inspect_image(content)
        pixels = decode_rgb(content)
    except ImageProblem as problem:
        return Rejected(row["path"], problem.reason, str(problem), row["key"])
    return Seen(row, content, image_fields(content, info), info.extension, pixels)


def unit_bounds(inputs: pa.Table, units: int, *, by_person: bool) -> list[int]:
    """Cut the inputs into `units` slices of about one size; by person, no slice parts a person's images.

    Args:
        inputs: The table of a source, sorted by person where `by_person`.
        units: How many slices.
        by_person: Move every bound to the start of the next person.
    """
    bounds = [len(inputs) * index // units for index in range(units + 1)]
    if by_person:
        starts = [0, *(1 + np.flatnonzero(_changes(inputs["person_id"]))).tolist(), len(inputs)]
        bounds = [starts[int(np.searchsorted(starts, bound))] for bound in bounds]
    return bounds


def mean_size(source: Source) -> float:
    """Give the mean size in bytes of at most 200 images, evenly spaced; those that cannot be read count nothing."""
    rows = source.inputs.take(pa.array(range(0, len(source.inputs), 1 + len(source.inputs) // 200))).to_pylist()
    # a problem is counted and explained when the run comes to it
    sizes = [len(content) for content in source.read_all(rows) if isinstance(content, bytes)]
    return sum(sizes) / max(len(sizes), 1)


def sort_by_person(inputs: pa.Table) -> pa.Table:
    """Bring the images of each person together, so that they can vote; keys stay sorted within a person."""
    return spool([inputs.sort_by([("person_id", "ascending"), ("key", "ascending")])])


def batches_of(rows: Iterable[Mapping[str, Any]], size: int, *, by_person: bool) -> Iterator[list[Mapping[str, Any]]]:
    """Cut rows into batches of `size`; by person, of at least `size` and whole persons (unknown ones count singly)."""
    groups = (list(group) for _, group in groupby(enumerate(rows), key=lambda pair: _group(pair, by_person=by_person)))
    batch: list[Mapping[str, Any]] = []
    for group in groups:
        batch += [row for _, row in group]
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _group(pair: tuple[int, Mapping[str, Any]], *, by_person: bool) -> object:
    place, row = pair
    return row["person_id"] if by_person and row["person_id"] else place


def _changes(people: pa.ChunkedArray) -> NDArray[np.bool_]:
    codes = people.combine_chunks().dictionary_encode()
    names = np.asarray(codes.indices)
    is_unknown = np.asarray([not name for name in codes.dictionary.to_pylist()])[names]
    changes: NDArray[np.bool_] = (names[1:] != names[:-1]) | is_unknown[1:]
    return changes
