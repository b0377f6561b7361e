"""Shards that others made: WebDataset tars without a manifest, read as an endless stream by the `webdataset` library.

There is no index, so nothing is promised about who sees what: every worker of every rank draws shards with replacement,
so that any number of shards feeds any number of ranks, and mixes samples in a buffer. A run that goes on draws anew.
"""

import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import webdataset
from torch.utils.data import get_worker_info

from passerby.images import ImageProblem
from passerby.runtime import draw
from passerby.storage import is_url
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.batch import BadSample, Example, Preparation
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
from passerby.untrusted import parse_json

SHUFFLED_SAMPLES = 2000
"""Buffer of a worker: some tens of megabytes of person crops."""

CAPTIONS_READ = 10_000
"""For the vocabulary and the lengths, from the start of the first tars."""


def is_stream(root: str) -> bool:
    """Say whether a name means tars rather than the folder of a data set of ours: `shards/{00000..00099}.tar`."""
    return root.endswith(".tar")


@dataclass(frozen=True)
class StreamedData:
    """An endless stream without validation. See `passerby.training.reading.TrainingData`."""

    tokenizer: Tokenizer
    """That of the captions."""

    paths: tuple[str, ...]
    preparation: Preparation
    notes: tuple[str, ...]

    @property
    def state(self) -> Mapping[str, Any]:
        """Give the vocabulary, which a run that goes on must have again."""
        return {"tokenizer": self.tokenizer.to_json()}

    def steps_an_epoch(self, batch_size: int) -> int:
        """Give 0: nobody has counted the samples."""
        return 0

    def training(self, start_step: int, stop_step: int, share: Share) -> Loader:
        """Read for ever; a run that goes on draws other shards than at its start."""
        seed = draw(self.preparation.seed, str(share.rank), start_step, "stream")
        examples = webdataset.DataPipeline(
            webdataset.ResampledShards([*self.paths], seed=seed, worker_seed=_worker_number, deterministic=True),
            webdataset.tarfile_to_samples(),
            webdataset.detshuffle(SHUFFLED_SAMPLES, seed=seed),
            _Prepare(self.preparation),
        )
        return read_batches(examples, self.preparation.pad_id, share, batch_size=share.pass_size)

    def validation(self, share: Share) -> None:
        """Give nothing: people of a stream cannot be held out, since their names are not known."""
        return


def open_stream(
    urls: str,
    config: DataConfig,
    augmentation: Augmentation,
    geometry: Geometry,
    *,
    seed: int,
    tokenizer: Tokenizer | None = None,
) -> StreamedData:
    """Find tars, and make or load their vocabulary; see `passerby.training.data.open_data`.

    Raises:
        FileNotFoundError: a tar is missing.
        BadSample: a sample has no caption, or a tar is damaged.
    """
    paths = expand(urls)
    captions = _read_captions(paths)
    tokenizer = tokenizer or make_tokenizer(config, captions)
    preparation = build_preparation(config, augmentation, geometry, tokenizer, seed=seed, reword=None)
    return StreamedData(
        tokenizer, tuple(paths), preparation, tuple(note_cuts(captions, tokenizer, geometry.text_length))
    )


def expand(urls: str) -> list[str]:
    """List the tars that a pattern means, in order.

    Raises:
        FileNotFoundError: there is none, or one is missing.
        ValueError: it is a command; the library would run it in a shell.
    """
    paths = [path for each in webdataset.shardlists.expand_urls(urls) for path in _match(each)]
    if commands := [path for path in paths if path.startswith("pipe:")]:
        raise ValueError(f"{commands[0]} is a command to run, and no place of a tar; give a path or a URL")
    if missing := [path for path in paths if not is_url(path) and not Path(path).is_file()]:
        raise FileNotFoundError(f"there is no {missing[0]} ({len(missing)} of {len(paths)} tars are missing)")
    if not paths:
        raise FileNotFoundError(f"{urls} matches no tar")
    return paths


@dataclass(frozen=True)
class _Prepare:
    """The last stage of the pipeline; numbers the samples of a worker, so that one drawn twice is augmented anew."""

    preparation: Preparation

    def __call__(self, samples: Iterable[Mapping[str, Any]]) -> Iterator[Example]:
        for number, sample in enumerate(_sound(samples)):
            try:
                yield self.preparation(_as_ours(sample), number)
            except ImageProblem as problem:
                raise BadSample(f"{sample['__url__']}, sample {sample['__key__']}: {problem}") from None


def _read_captions(paths: list[str]) -> list[str]:
    """Read the first captions, from as many tars as it takes."""
    samples = webdataset.DataPipeline(
        webdataset.SimpleShardList(paths), webdataset.tarfile_to_samples(), webdataset.slice(CAPTIONS_READ)
    )
    return [_as_ours(sample)["txt"] for sample in _sound(samples)]


def _sound(samples: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Pass samples on; of a tar that is damaged, say which it is.

    Raises:
        BadSample: the library, which puts the tar's name beside its own words, stumbles over a tar.
    """
    try:
        yield from samples
    except tarfile.TarError as error:
        told = ": ".join(part for part in reversed(error.args) if isinstance(part, str))
        raise BadSample(f"{told}; fetch it again") from None


def _match(path: str) -> list[str]:
    return sorted(glob(path)) if "*" in path and not is_url(path) else [path]  # noqa: PTH207  (of a text, not a folder)


def _as_ours(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Decode what `passerby.shards.read.ShardDataset` gives decoded."""
    place = f"{sample['__url__']}, sample {sample['__key__']}"
    if "txt" not in sample:
        raise BadSample(f"{place}: has no caption; its members are {[*sample]}")
    try:
        caption = " ".join(sample["txt"].decode().split())
        fields = parse_json(sample.get("json", b"{}"), "its .json")
    except ValueError as error:
        raise BadSample(f"{place}: {error}") from None
    if not isinstance(fields, dict):
        raise BadSample(f"{place}: its .json holds {type(fields).__name__}, and no object")
    return {**sample, "txt": caption, "json": {"caption": caption, **fields}}


def _worker_number() -> int:
    worker = get_worker_info()
    return worker.id if worker else 0
