"""LUPerson-T: from unlabelled person crops to captioned samples, by divide, conquer and combine.

Follow one image: `readers.luperson` finds it, the scorer gives its features, `conquer.match` picks a phrase of `divide`'s bank
for every attribute, `combine` words the picks, and `run_unit` hands image, captions and picks to the shard writer.

Source: UniPT, section 3.1.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from captioning.combine import Combiner, Policy, check_combiner, example_picks
from captioning.conquer import Matches, MatchOptions, Scorer, match, pool_by_person
from captioning.divide import PhraseBank
from captioning.embeddings import Embeddings, embeddings_path, write_embeddings
from captioning.generate import SYNTHETIC
from passerby import __version__
from passerby.config import config_hash
from passerby.images import ImageProblem, decode_rgb, inspect_image
from passerby.readers.luperson import Source
from passerby.sample import JsonValue, Rejected, Sample
from passerby.shards.stored import Stored
from passerby.shards.write import ShardRecord, shard_name, write_shard

RECIPE = "luperson-t"
CONFIDENCE_DIGITS = 6
"""Decimal places of stored confidences and margins: what 32 bits tell of a number below 1."""


@dataclass(frozen=True)
class Options:
    """What a user may choose about the text; everything here decides bytes, and nothing here is a path."""

    match: MatchOptions = field(default_factory=MatchOptions)
    """How phrases are chosen."""
    seed: int = 0
    """Seeds the choice of templates and synonyms."""
    captions: int = 1
    """Captions an image, each from another template; the first is the sample's text."""
    policy: Policy = "conditional"
    """Whether every selected optional attribute is named, or what a template's fixed blanks say; see `Combiner`."""
    is_neutral: bool = False
    """Say nothing of age and gender."""
    use_synonyms: bool = True
    """Draw synonyms; otherwise keep the bank's words."""
    is_voted: bool = False
    """Let the images of a person, where known, decide together what does not depend on the view."""
    source: str = "LUPerson"
    """The name of the image data set, as written into samples and cards."""


@dataclass(frozen=True)
class Words:
    """Bank, templates and synonyms, and the options that turn picks into captions. Picklable."""

    bank: PhraseBank
    options: Options
    templates: Path | None = None
    """Folder of sentence families; the shipped ones if not given."""
    synonyms: Path | None = None
    """Synonym table; the shipped one if not given."""

    @cached_property
    def combiner(self) -> Combiner:
        """The templates, loaded once in each process."""
        return Combiner(
            self.bank,
            self.templates,
            self.synonyms,
            policy=self.options.policy,
            is_neutral=self.options.is_neutral,
            use_synonyms=self.options.use_synonyms,
            seed=self.options.seed,
        )

    def check(self) -> None:
        """Try the words before a run.

        Raises:
            ValueError: with every fault of every sentence.
        """
        if faults := check_combiner(self.combiner, example_picks(self.bank)):
            raise ValueError("\n".join(faults))

    @cached_property
    def columns(self) -> pa.Schema:
        """The fields of a sample's JSON and, as columns, of `meta/*.parquet`."""
        texts = ("caption", *(f"caption_{index}" for index in range(1, self.options.captions)))
        picks = [
            (f"{attribute.name}{suffix}", kind)
            for attribute in self.bank.attributes
            for suffix, kind in (("", pa.string()), ("_confidence", pa.float64()), ("_margin", pa.float64()))
        ]
        return pa.schema(
            [
                *((name, pa.string()) for name in ("key", *texts)),
                *((name, pa.int32()) for name in ("width", "height")),
                *((name, pa.string()) for name in ("sha256", "source", "path", "person_id")),
                ("camera_id", pa.int16()),
                *picks,
                ("runners_up", pa.list_(pa.string())),
                ("templates", pa.list_(pa.string())),
                ("synonyms", pa.list_(pa.string())),
                ("recipe", pa.string()),
            ]
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled templates behind when this goes to a worker."""
        return {name: value for name, value in self.__dict__.items() if name != "combiner"}

    def config(self) -> dict[str, Any]:
        """Give what decides the text, for the configuration of a data set."""
        options = asdict(self.options)
        chosen = {f"match_{name}": value for name, value in options.pop("match").items()}
        return {**options, **chosen, "phrases_sha256": self.bank.digest, "templates_sha256": self.combiner.digest}

    def picks(self, matches: Matches) -> Iterator[dict[str, JsonValue]]:
        """Turn matches into the fields that hold them, one dict an image."""
        names = [phrase.id for phrase in self.bank.phrases]
        for row in range(len(matches.index)):
            fields: dict[str, JsonValue] = {}
            runners_up: list[str] = []
            for place, attribute in enumerate(self.bank.attributes):
                chosen, rival = int(matches.index[row, place]), int(matches.runner_up[row, place])
                fields[attribute.name] = names[chosen] if chosen >= 0 else ""
                fields[f"{attribute.name}_confidence"] = round(float(matches.confidence[row, place]), CONFIDENCE_DIGITS)
                fields[f"{attribute.name}_margin"] = round(float(matches.margin[row, place]), CONFIDENCE_DIGITS)
                runners_up.append(names[rival] if 0 <= rival < len(names) else "")
            yield {**fields, "runners_up": runners_up}

    def caption(self, key: str, picks: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Word stored picks: the caption fields of a sample."""
        chosen = {
            attribute.name: str(picks[attribute.name]) for attribute in self.bank.attributes if picks[attribute.name]
        }
        choices = self.combiner.captions(chosen, key=key, count=self.options.captions)
        texts: dict[str, JsonValue] = {
            f"caption_{index}" if index else "caption": c.text for index, c in enumerate(choices)
        }
        synonyms = [f"{index}:{slot}={word}" for index, c in enumerate(choices) for slot, word in c.synonyms.items()]
        return {**texts, "templates": [choice.template for choice in choices], "synonyms": synonyms}


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
    """The recipe of a LUPerson-T data set: its shards, from person crops. See `captioning.generate.Recipe`."""

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
    threads: int = 1
    """Threads that read and decode, beside the one that encodes."""
    keeps_embeddings: bool = False
    """Keep the features under `ROOT/embeddings`."""

    @property
    def units(self) -> int:
        """How many shards there will be."""
        return len(self.bounds) - 1

    @property
    def inputs_count(self) -> int:
        """How many images there are to caption."""
        return len(self.inputs)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that decides the bytes of the shards; no paths."""
        keys = hashlib.sha256("\n".join(self.inputs["key"].to_pylist()).encode()).hexdigest()
        return {
            **base_config(self.words, self.scorer.identity, self.split, self.units),
            "has_embeddings": self.keeps_embeddings,
            "keys_sha256": keys,
        }

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` from its slice of the inputs."""
        return write_shard(
            self.root,
            self.split,
            index,
            self.units,
            self._entries(index),
            columns=self.words.columns,
            config_hash=config_hash(self.config),
        )

    def describe(self) -> dict[str, Any]:
        """Give the manifest's entries on how the data set was made."""
        return describe(self.words, dict(self.scorer.identity))

    def _entries(self, unit: int) -> Iterator[Sample | Rejected]:
        start, stop = self.bounds[unit], self.bounds[unit + 1]
        keys: list[str] = []
        features: list[NDArray[np.float16]] = []
        for batch in self._read(self.inputs.slice(start, stop - start).to_pylist()):
            seen = [entry for entry in batch if isinstance(entry, Seen)]
            yield from (entry for entry in batch if isinstance(entry, Rejected))
            if not seen:
                continue
            found = self.scorer.encode_images([image.pixels for image in seen]).astype(np.float16)
            keys += [image.row["key"] for image in seen]
            features.append(found)
            yield from self._samples(seen, found)
        if self.keeps_embeddings:
            width = self.text_features.shape[1]
            stacked = np.concatenate(features) if features else np.empty((0, width), np.float16)
            path = embeddings_path(self.root, shard_name(self.split, unit, self.units))
            write_embeddings(path, Embeddings(tuple(keys), stacked), self.scorer.identity)

    def _samples(self, seen: Sequence[Seen], features: NDArray[np.float16]) -> Iterator[Sample]:
        people = [image.row["person_id"] for image in seen]
        for image, picks in zip(seen, match_images(features, people, self.text_features, self.words), strict=True):
            yield compose(self.words, image.row, image.fields, picks, image=image.data, extension=image.extension)

    def _read(self, rows: list[dict[str, Any]]) -> Iterator[list[Seen | Rejected]]:
        """Yield batches of decoded inputs, the next one decoding while a batch is encoded."""
        batches = batches_of(rows, self.batch_size, by_person=self.words.options.is_voted)
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: list[Future[Seen | Rejected]] = []
            for batch in batches:
                submitted = [pool.submit(self._see, row) for row in batch]
                if ahead:
                    yield [future.result() for future in ahead]
                ahead = submitted
            yield [future.result() for future in ahead]

    def _see(self, row: Mapping[str, Any]) -> Seen | Rejected:
        try:
            data = self.source.read(row)
            info = inspect_image(data)
            pixels = decode_rgb(data)
        except ImageProblem as problem:
            return Rejected(row["path"], problem.reason, str(problem), row["key"])
        fields: dict[str, JsonValue] = {
            "width": info.width,
            "height": info.height,
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        return Seen(row, data, fields, info.extension, pixels)


def match_images(
    features: NDArray[np.float16], people: Sequence[str], text_features: NDArray[np.floating], words: Words
) -> Iterator[dict[str, JsonValue]]:
    """Match images and give the fields of their picks; whole persons at a time where persons vote."""
    pooled = pool_by_person(features, people) if words.options.is_voted else None
    return words.picks(match(features, text_features, words.bank, words.options.match, pooled_features=pooled))


def compose(
    words: Words,
    row: Mapping[str, Any],
    from_file: Mapping[str, JsonValue],
    picks: Mapping[str, JsonValue],
    *,
    image: bytes,
    extension: str,
) -> Sample:
    """Make a sample of an image and its picks.

    Args:
        words: What turns picks into captions.
        row: `key`, `path`, `person_id` and `camera_id`.
        from_file: `width`, `height` and `sha256`.
        picks: The fields of `Words.picks`.
        image: The encoded image.
        extension: Its kind.
    """
    own: dict[str, JsonValue] = {name: row[name] for name in ("key", "path", "person_id", "camera_id")}
    own |= {"source": words.options.source, "recipe": RECIPE}
    fields = {**own, **from_file, **picks, **words.caption(row["key"], picks)}
    ordered = {name: fields[name] for name in words.columns.names}
    return Sample(row["key"], image, extension, ordered, str(fields["caption"]))


def file_fields(sample: Stored) -> dict[str, JsonValue]:
    """Give what a stored sample says of its image file."""
    return {name: sample.fields[name] for name in ("width", "height", "sha256")}


def base_config(words: Words, scorer: Mapping[str, str], split: str, units: int) -> dict[str, Any]:
    """Give the configuration's entries that every way to LUPerson-T shares."""
    identity = {f"scorer_{name}": value for name, value in scorer.items()}
    return {"recipe": RECIPE, "version": __version__, **words.config(), **identity, "split": split, "shards": units}


def describe(words: Words, scorer: dict[str, str]) -> dict[str, Any]:
    """Give the manifest's entries on how captions were made."""
    return {
        "title": f"LUPerson-T captions of {words.options.source}",
        "card": "luperson_t",
        "source": words.options.source,
        "is_synthetic": words.options.source == SYNTHETIC,
        "scorer": scorer,
        "bank_version": words.bank.version,
        "columns": {column.name: str(column.type) for column in words.columns},
    }


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
    sizes = []
    for row in source.inputs.take(pa.array(range(0, len(source.inputs), 1 + len(source.inputs) // 200))).to_pylist():
        with suppress(ImageProblem):  # counted and explained when the run comes to it
            sizes.append(len(source.read(row)))
    return sum(sizes) / max(len(sizes), 1)


def sort_by_person(inputs: pa.Table) -> pa.Table:
    """Bring the images of each person together, so that they can vote; keys stay sorted within a person."""
    return inputs.sort_by([("person_id", "ascending"), ("key", "ascending")])


def batches_of(rows: Sequence[Mapping[str, Any]], size: int, *, by_person: bool) -> Iterator[list[Mapping[str, Any]]]:
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
