"""LUPerson-T again from kept features: other phrases, thresholds and templates, with no image decoded and no image encoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captioning.conquer import Matcher
from captioning.words import Words, base_config, compose, describe, file_fields, match_images
from passerby.config import config_hash
from passerby.sample import Rejected, Sample
from passerby.shards.embeddings import embeddings_path, read_embeddings
from passerby.shards.manifest import Manifest
from passerby.shards.stored import Stored, read_stored
from passerby.shards.write import ShardRecord, write_shard

BATCH_SIZE = 256
"""Images matched together; changes no result."""


@dataclass(frozen=True)
class Rematch:
    """The recipe of a data set from another's images and features, shard by shard. See `passerby.generate.Recipe`."""

    root: Path
    old_root: Path
    old: Manifest
    words: Words
    text_features: NDArray[np.floating]
    """(prompts, width), of `conquer.prompts_of(bank)`, by the model that made the kept features."""

    def __post_init__(self) -> None:
        """Refuse to vote where the shards part a person's images."""
        if self.words.options.is_voted and not self.old.header["config"]["is_voted"]:
            raise ValueError(
                f"{self.old_root} was made without --vote, so a person's images lie in several shards; make it with"
            )

    @property
    def splits(self) -> dict[str, int]:
        """Those of the old data set, with a unit for each of its shards."""
        return self.old.shard_counts

    @property
    def inputs_count(self) -> int:
        """All inputs of the old data set."""
        return self.old.seen

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that decides the bytes of the shards."""
        made_from = [record.sha256 for record in self.old.shards]
        shared = base_config(self.words, self.old.header["scorer"], self.splits)
        return {**shared, "made_from_sha256": config_hash({"shards": made_from})}

    @cached_property
    def _matcher(self) -> Matcher:
        return Matcher(self.text_features, self.words.bank, self.words.options.match)

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` from the old one."""
        name = self.old.shards[index].name
        return write_shard(
            self.root,
            name,
            self._entries(name),
            columns=self.words.columns,
            config_hash=config_hash(self.config),
        )

    def describe(self) -> dict[str, Any]:
        """Give the manifest's entries on how the data set was made."""
        return describe(self.words, self.old.header["scorer"])

    def _entries(self, name: str) -> Iterator[Sample | Rejected]:
        kept = read_embeddings(embeddings_path(self.old_root, name), self.old.header["scorer"])
        place = {key: row for row, key in enumerate(kept.keys)}
        samples: list[Stored] = []
        for entry in read_stored(self.old_root, name):
            if isinstance(entry, Rejected):
                yield entry
                continue
            is_same_person = bool(samples) and samples[-1].fields["person_id"] == entry.fields["person_id"] != ""
            if len(samples) >= BATCH_SIZE and not (self.words.options.is_voted and is_same_person):
                yield from self._match(samples, kept.features[[place[sample.fields["key"]] for sample in samples]])
                samples = []
            samples.append(entry)
        if samples:
            yield from self._match(samples, kept.features[[place[sample.fields["key"]] for sample in samples]])

    def _match(self, samples: Sequence[Stored], features: NDArray[np.float16]) -> Iterator[Sample]:
        people = [sample.fields["person_id"] for sample in samples]
        for sample, picks in zip(samples, match_images(features, people, self._matcher, self.words), strict=True):
            made = compose(
                self.words,
                sample.fields,
                file_fields(sample),
                picks,
                image=sample.image,
                extension=sample.image_extension,
            )
            yield replace(made, extras=sample.extras)
