"""FineGPR-C: from FineGPR's image names and attribute table to captioned samples, after refined selecting.

Follow one image: `readers.finegpr` reads its name, `attributes` knows its person, `refine` says which values are worth a
mention, `sentence` words them, and `run_unit` hands image, caption and attributes to the shard writer.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from captioning.attributes import SLOTS
from captioning.finegpr_inputs import Inputs, Options, words_of_codes
from captioning.render import TemplateError, TemplateSet, check_templates, load_templates
from captioning.sentence import VARIABLES, caption, examples, phrases
from passerby import __version__
from passerby.config import config_hash
from passerby.generate import NO_ATTRIBUTES, NOTHING_TO_MENTION, SYNTHETIC, image_fields, slice_of
from passerby.images import ImageProblem, inspect_image, read_image
from passerby.readers.files import Content, ImageFiles, read_each
from passerby.readers.finegpr import CODES
from passerby.readers.inputs import hash_names
from passerby.sample import JsonValue, Rejected, Sample
from passerby.shards.write import ShardRecord, shard_name, write_shard

RECIPE = "finegpr-c"
COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "caption")),
        *((name, pa.int32()) for name in ("width", "height")),
        *((name, pa.string()) for name in ("sha256", "source", "path", "person_id")),
        *((name, pa.int16()) for name in CODES),
        *((name, pa.string()) for name in SLOTS),
        ("mentioned", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("template", "recipe")),
    ]
)
"""The fields of a sample's JSON and, as columns, of `meta/*.parquet`."""


@dataclass(frozen=True)
class Captioner:
    """Everything the text of a caption depends on. Picklable; templates are compiled once in each process."""

    options: Options
    people: Mapping[str, Mapping[str, str]]
    """The known words of each person."""
    mentioned: frozenset[tuple[str, str]]
    """The (slot, value) pairs that refined selecting keeps."""
    templates_folder: Path

    @cached_property
    def templates(self) -> TemplateSet:
        """The sentence patterns."""
        return load_templates(self.templates_folder, variables=VARIABLES)

    def config(self) -> dict[str, Any]:
        """Give what decides the text, for the configuration of a data set."""
        options = {name: _plain(value) for name, value in asdict(self.options).items()}
        return {
            "lambda": options.pop("threshold"),
            **options,
            "mentioned": sorted(f"{slot}={word}" for slot, word in self.mentioned),
            "templates_sha256": self.templates.digest,
        }

    def check_templates(self) -> None:
        """Try the sentence patterns before a run.

        Raises:
            TemplateError: with every fault of every pattern, by file and line.
        """
        faults = check_templates(self.templates, map(phrases, examples()))
        if faults:
            raise TemplateError(faults)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled patterns behind when this goes to a worker."""
        return {name: value for name, value in self.__dict__.items() if name != "templates"}

    def describe(self, image: Mapping[str, Any]) -> dict[str, JsonValue] | Rejected:
        """Turn one row of the image table into the fields of its sample, but for those of the pixels; or say why not."""
        if refusal := self.refuse(image["person_id"]):
            return Rejected(image["path"], *refusal, image["key"])
        return self.say(image, self.words(image["person_id"], [image[name] for name in CODES]))

    def say(self, image: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, JsonValue] | Rejected:
        """Caption one image by the known words of its slots: give the fields of its sample, but for those of the pixels."""
        told = self.tell(image["key"], image["person_id"], words)
        if told is None:
            return Rejected(image["path"], NOTHING_TO_MENTION, "no known value is rare enough for lambda", image["key"])
        return {
            "key": image["key"],
            "caption": told.caption,
            "source": self.options.source,
            "path": image["path"],
            "person_id": image["person_id"],
            **{name: image[name] for name in CODES},
            **told.slots,
            "mentioned": told.mentioned,
            "template": told.template,
            "recipe": RECIPE,
        }

    def refuse(self, person_id: str) -> tuple[str, str] | None:
        """Say why nothing can be said of a person: reason and detail; `None` where something can."""
        if not person_id:
            return "name does not parse", "expected ID_cNN_wNN_lNN_pNN"
        if person_id not in self.people:
            return NO_ATTRIBUTES, f"person {person_id} has no row in the attribute table"
        return None

    def words(self, person_id: str, codes: Iterable[int]) -> dict[str, str]:
        """Give the known word of every slot of one image, by its person and the codes of its name, in the order of `CODES`."""
        return {**self.people[person_id], **words_of_codes(*codes, bins=self.options.viewpoint_bins)}

    def tell(self, key: str, person_id: str, words: Mapping[str, str]) -> "Told | None":
        """Word one image; `None` where nothing is to be mentioned and such images are excluded."""
        mentioned, slots = _sift(tuple(words.items()), self.mentioned)
        if not mentioned and self.options.when_empty == "exclude":
            return None
        drawn_for = key if self.options.template_per == "image" else person_id
        text, template = caption(mentioned, key=drawn_for, seed=self.options.seed, templates=self.templates)
        return Told(text, template, list(mentioned), slots)


class Told(NamedTuple):
    """What was said of one image; a tuple, for there are millions."""

    caption: str
    template: str
    mentioned: list[str]
    """The slots that the caption names."""
    slots: Mapping[str, str]
    """The word of every slot, "" where unknown."""


@dataclass(frozen=True)
class FineGprC:
    """The recipe of a FineGPR-C data set: its shards, from images on disk. See `passerby.generate.Recipe`."""

    root: Path
    files: ImageFiles
    """Those of the folder that image paths are relative to."""
    inputs: Inputs
    captioner: Captioner
    units: int
    split: str = "train"
    is_decoded: bool = False
    """Decode every image fully, to find damage that leaves header and end intact."""
    parsing: Path | None = None
    """A folder of parsing maps, `PATH.png` for the image `PATH.jpg`; they become `KEY.parsing.png`."""

    @property
    def splits(self) -> dict[str, int]:
        """The one split, and how many shards there will be."""
        return {self.split: self.units}

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that decides the bytes of the shards; no paths, so that equal inputs elsewhere give equal bytes."""
        return {
            "recipe": RECIPE,
            "version": __version__,
            **self.captioner.config(),
            "splits": self.splits,
            "is_decoded": self.is_decoded,
            "has_parsing": self.parsing is not None,
            "images_sha256": hash_names(self.inputs.images["path"]),
            "people_sha256": config_hash(dict(self.inputs.people)),
        }

    @property
    def inputs_count(self) -> int:
        """How many images there are to caption."""
        return len(self.inputs.images)

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` from its slice of the sorted images."""
        return write_shard(
            self.root,
            shard_name(self.split, index, self.units),
            self._entries(index),
            columns=COLUMNS,
            config_hash=config_hash(self.config),
        )

    def describe(self) -> dict[str, Any]:
        """Give the manifest's entries on how the data set was made."""
        return {
            "title": f"FineGPR-C captions of {self.captioner.options.source}",
            "card": "finegpr_c",
            "source": self.captioner.options.source,
            "is_synthetic": self.captioner.options.source == SYNTHETIC,
            "left_out_by_image_fraction": self.inputs.left_out,
            "problems": len(self.inputs.problems),
            "columns": {field.name: str(field.type) for field in COLUMNS},
            "probabilities": self.inputs.probabilities.to_json(self.captioner.options.threshold),
        }

    def _entries(self, index: int) -> Iterator[Sample | Rejected]:
        rows = slice_of(self.inputs.images, index, self.units).to_pylist()
        told = ((row, self.captioner.describe(row)) for row in rows)
        for (_, fields), content in read_each(self._read, told, at_once=self.files.at_once):
            yield fields if isinstance(fields, Rejected) else self._sample(fields, content)

    def _read(self, told: tuple[Mapping[str, Any], Mapping[str, JsonValue] | Rejected]) -> bytes:
        row, fields = told
        return b"" if isinstance(fields, Rejected) else self.files.read(row)

    def _sample(self, fields: dict[str, JsonValue], content: Content) -> Sample | Rejected:
        key, path, text = (str(fields[name]) for name in ("key", "path", "caption"))
        if isinstance(content, ImageProblem):
            return Rejected(path, content.reason, str(content), key)
        try:
            info = inspect_image(content, decode=self.is_decoded)
            extras = {} if self.parsing is None else {"parsing.png": _read_parsing(self.parsing / path)}
        except ImageProblem as problem:
            return Rejected(path, problem.reason, str(problem), key)
        pixels = image_fields(content, info)
        ordered = {name: pixels[name] if name in pixels else fields[name] for name in COLUMNS.names}
        return Sample(key, content, info.extension, ordered, text, extras)


@lru_cache(maxsize=1024)  # the images of one person come together, and share 196 combinations of words
def _sift(
    words: tuple[tuple[str, str], ...], kept: frozenset[tuple[str, str]]
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Give the words to mention, and the words of all slots, "" where unknown."""
    known = dict(words)
    return {slot: word for slot, word in words if (slot, word) in kept}, {slot: known.get(slot, "") for slot in SLOTS}


def _read_parsing(path: Path) -> bytes:
    data, info = read_image(path.with_suffix(".png"))
    if info.extension != "png":
        raise ImageProblem("parsing map is no PNG", f"{path.name}: got {info.extension}")
    return data


def _plain(value: object) -> object:
    """Write an exact fraction as people do: 0.8, or 1/3 where decimals do not end."""
    if not isinstance(value, Fraction):
        return value
    decimal = f"{float(value):g}"
    return decimal if Fraction(decimal) == value else str(value)
