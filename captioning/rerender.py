"""New captions from stored attributes: no image is decoded, no model loaded, only words are drawn again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from captioning.attributes import SLOTS
from captioning.finegpr_c import COLUMNS, Captioner
from captioning.words import Words, compose, file_fields
from passerby import __version__
from passerby.config import config_hash
from passerby.sample import JsonValue, Rejected, Sample
from passerby.shards.manifest import Manifest
from passerby.shards.stored import Stored, read_stored
from passerby.shards.write import ShardRecord, write_shard


class Voice(Protocol):
    """What words a stored sample anew; one for each recipe."""

    @property
    def columns(self) -> pa.Schema:
        """The fields of the new samples."""
        ...

    def config(self) -> dict[str, Any]:
        """Give what decides the text."""
        ...

    def rephrase(self, sample: Stored) -> Sample | Rejected:
        """Make the new sample."""
        ...


@dataclass(frozen=True)
class FineGprVoice:
    """Words samples of FineGPR-C: other patterns, another λ."""

    captioner: Captioner

    @property
    def columns(self) -> pa.Schema:
        """The fields of FineGPR-C."""
        return COLUMNS

    def config(self) -> dict[str, Any]:
        """Give what decides the text."""
        return self.captioner.config()

    def rephrase(self, sample: Stored) -> Sample | Rejected:
        """Caption the stored words again."""
        words = {slot: sample.fields[slot] for slot in SLOTS if sample.fields[slot]}
        fields = self.captioner.say(sample.fields, words)
        if isinstance(fields, Rejected):
            return fields
        pixels = file_fields(sample)
        ordered: dict[str, JsonValue] = {
            name: pixels[name] if name in pixels else fields[name] for name in COLUMNS.names
        }
        return Sample(
            str(fields["key"]), sample.image, sample.image_extension, ordered, str(fields["caption"]), sample.extras
        )


@dataclass(frozen=True)
class LUPersonVoice:
    """Words samples of LUPerson-T: other templates and synonyms for the picks that were made."""

    words: Words

    @property
    def columns(self) -> pa.Schema:
        """The fields of LUPerson-T, for as many captions as are wanted now."""
        return self.words.columns

    def config(self) -> dict[str, Any]:
        """Give what decides the text."""
        return self.words.config()

    def rephrase(self, sample: Stored) -> Sample:
        """Caption the stored picks again."""
        picks = {name: sample.fields[name] for name in self.words.pick_columns.names}
        made = compose(
            self.words, sample.fields, file_fields(sample), picks, image=sample.image, extension=sample.image_extension
        )
        return replace(made, extras=sample.extras)


@dataclass(frozen=True)
class Rerender:
    """The recipe of a data set with another's images and attributes, and new words. See `passerby.generate.Recipe`."""

    root: Path
    old_root: Path
    old: Manifest
    voice: Voice
    told: Mapping[str, Any]
    """Entries of the old manifest that the new text changes."""

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
        """The old configuration with what decides the new text, and which shards it was made from."""
        made_from = config_hash({"shards": [record.sha256 for record in self.old.shards]})
        return {
            **self.old.header["config"],
            **self.voice.config(),
            "version": __version__,
            "made_from_sha256": made_from,
        }

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` from the old one."""
        name = self.old.shards[index].name
        return write_shard(
            self.root,
            name,
            self._entries(name),
            columns=self.voice.columns,
            config_hash=config_hash(self.config),
        )

    def describe(self) -> dict[str, Any]:
        """Give the old manifest's entries, with what the new text changes."""
        kept = {name: value for name, value in self.old.header.items() if name not in ("config", "versions")}
        columns = {column.name: str(column.type) for column in self.voice.columns}
        return {**kept, **self.told, "columns": columns}

    def _entries(self, name: str) -> Iterator[Sample | Rejected]:
        for entry in read_stored(self.old_root, name):
            yield entry if isinstance(entry, Rejected) else self.voice.rephrase(entry)
