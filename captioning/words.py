"""What LUPerson-T says of an image: the user's options, the words, and how picks become captions and samples.

Shared by every way to a LUPerson-T data set: from images (`luperson_t`), from kept features (`rematch`), from kept picks
(`rerender`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from captioning.combine import CaptionChoice, Combiner, Policy, check_combiner, example_picks
from captioning.conquer import Matcher, Matches, MatchOptions, pool_by_person
from captioning.divide import PhraseBank
from passerby import __version__
from passerby.generate import SYNTHETIC
from passerby.sample import JsonValue, Sample
from passerby.shards.stored import Stored

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
        return pa.schema(
            [
                *((name, pa.string()) for name in ("key", *texts)),
                *((name, pa.int32()) for name in ("width", "height")),
                *((name, pa.string()) for name in ("sha256", "source", "path", "person_id")),
                ("camera_id", pa.int16()),
                *self.pick_columns,
                ("templates", pa.list_(pa.string())),
                ("synonyms", pa.list_(pa.string())),
                ("recipe", pa.string()),
            ]
        )

    @cached_property
    def pick_columns(self) -> pa.Schema:
        """The fields of `picks`."""
        kinds = (("", pa.string()), ("_confidence", pa.float64()), ("_margin", pa.float64()))
        decided = [(f"{each.name}{suffix}", kind) for each in self.bank.attributes for suffix, kind in kinds]
        return pa.schema([*decided, ("runners_up", pa.list_(pa.string()))])

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
        names = self.pick_columns.names
        # The last name is that of -1, which is none; the one before, of the neutral prompt.
        phrases = np.array([*(phrase.id for phrase in self.bank.phrases), "", ""], dtype=object)
        numbers = (matches.confidence, matches.margin)
        rounded = (each.astype(np.float64).round(CONFIDENCE_DIGITS).tolist() for each in numbers)
        for *decided, runners_up in zip(
            phrases[matches.index].tolist(), *rounded, phrases[matches.runner_up].tolist(), strict=True
        ):
            values = chain.from_iterable(
                zip(*decided, strict=True)
            )  # phrase, confidence, margin; of the next attribute
            yield dict(zip(names, [*values, runners_up], strict=True))

    def captions(self, key: str, picks: Mapping[str, JsonValue]) -> tuple[CaptionChoice, ...]:
        """Word stored picks."""
        chosen = {each.name: str(picks[each.name]) for each in self.bank.attributes if picks[each.name]}
        return self.combiner.captions(chosen, key=key, count=self.options.captions)


def match_images(
    features: NDArray[np.float16], people: Sequence[str], matcher: Matcher, words: Words
) -> Iterator[dict[str, JsonValue]]:
    """Match images and give the fields of their picks; whole persons at a time where persons vote."""
    pooled = pool_by_person(features, people) if words.options.is_voted else None
    return words.picks(matcher.match(features, pooled_features=pooled))


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
    choices = words.captions(row["key"], picks)
    fields: dict[str, JsonValue] = {  # in the order of `Words.columns`
        "key": row["key"],
        **{f"caption_{index}" if index else "caption": choice.text for index, choice in enumerate(choices)},
        **from_file,
        "source": words.options.source,
        "path": row["path"],
        "person_id": row["person_id"],
        "camera_id": row["camera_id"],
        **picks,
        "templates": [choice.template for choice in choices],
        "synonyms": [f"{index}:{slot}={word}" for index, c in enumerate(choices) for slot, word in c.synonyms.items()],
        "recipe": RECIPE,
    }
    return Sample(row["key"], image, extension, fields, choices[0].text)


def file_fields(sample: Stored) -> dict[str, JsonValue]:
    """Give what a stored sample says of its image file."""
    return {name: sample.fields[name] for name in ("width", "height", "sha256")}


def base_config(words: Words, scorer: Mapping[str, str], splits: Mapping[str, int]) -> dict[str, Any]:
    """Give the configuration's entries that every way to LUPerson-T shares."""
    identity = {f"scorer_{name}": value for name, value in scorer.items()}
    return {"recipe": RECIPE, "version": __version__, **words.config(), **identity, "splits": dict(splits)}


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
