"""Pack an official Re-ID data set into shards: its splits, its captions where it has any, and parsing maps.

Follow one image: its reader gives a row of `ReidInputs`, `hold_out` may move its person from `train` to `val`, and `run_unit`
hands image, fields and map to the shard writer.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from passerby import __version__
from passerby.config import config_hash
from passerby.generate import SYNTHETIC, image_fields, slice_of, source_name
from passerby.images import ImageProblem, read_image
from passerby.pack.maps import MEMBER, map_path
from passerby.readers.official import ReidInputs, sort_by_split
from passerby.runtime import draw
from passerby.sample import JsonValue, Rejected, Sample
from passerby.shards.write import ShardRecord, shard_names, write_shard

RECIPE = "pack"
TRAIN, VAL = "train", "val"
VAL_SHARE = 0.1
"""Of the training people, where a data set has no validation split."""

_CAPTIONS = [("caption", pa.string()), ("captions", pa.list_(pa.string()))]
_NO_CAPTION = "no caption"


def hold_out(inputs: ReidInputs, *, share: float | None = None, people: int | None = None, seed: int = 0) -> ReidInputs:
    """Move some people, with all their images, from `train` to `val`; a data set that comes with a `val` stays as it is.

    Who goes depends on names and seed alone.

    Args:
        inputs: The data set.
        share: Of the training people; 0 leaves all to training.
        people: How many, instead of a share.
        seed: Draws who.

    Raises:
        ValueError: nobody would be left for one of the two, the data set has a `val` and another one is asked for, or both
            a share and a number are.
    """
    if share is not None and people is not None:
        raise ValueError(f"both a val share of {share:g} and {people:,} people for val are asked for; give one of them")
    if VAL in (*inputs.facts.counts, *inputs.table["split"].unique().to_pylist()):
        if share is not None or people is not None:
            raise ValueError(f"{inputs.facts.title} has a val split; leave --val-share and --val-people away")
        return inputs
    is_train = pc.equal(inputs.table["split"], TRAIN)
    names = inputs.table["person_id"].filter(is_train).unique().to_pylist()
    share = VAL_SHARE if share is None else share
    count = round(share * len(names)) if people is None else people
    if people is None and share == 0:
        return inputs
    if not 0 < count < len(names):
        wanted = f"a val share of {share:g}" if people is None else f"{people:,} people for val"
        raise ValueError(
            f"{inputs.facts.title} has {len(names):,} people to train on, and {wanted} leaves nobody for"
            f" {VAL if count < 1 else TRAIN}; give --val-people from 1 to {len(names) - 1}, or --val-share 0 for no val"
        )
    chosen = sorted(names, key=lambda name: draw(seed, name, purpose="validation"))[:count]
    is_val = pc.and_(is_train, pc.is_in(inputs.table["person_id"], pa.array(chosen)))
    splits = pc.if_else(is_val, VAL, inputs.table["split"])
    column = inputs.table.schema.get_field_index("split")
    return replace(inputs, table=sort_by_split(inputs.table.set_column(column, "split", splits)))


def images_by_split(table: pa.Table) -> dict[str, int]:
    """Count the images of each split, in the order of the table."""
    return {row["values"]: row["counts"] for row in pc.value_counts(table["split"]).to_pylist()}


@dataclass(frozen=True)
class Pack:
    """The recipe of a packed data set. See `passerby.generate.Recipe`.

    Of an image with captions, the field `caption`, which is its text, is the first, and the list `captions` holds all, since
    their number differs from image to image and the fields of a data set's samples do not.
    """

    root: Path
    name: str
    """That a user types."""
    inputs: ReidInputs
    splits: Mapping[str, int]
    seed: int = 0
    parsing: Path | None = None
    """Folder of parsing maps; they become `KEY.parsing.png`."""
    mapped: tuple[str, ...] = ()
    """The splits whose images all have a map in `parsing`."""

    @cached_property
    def columns(self) -> pa.Schema:
        """The fields of a sample's JSON."""
        return pa.schema(
            [
                ("key", pa.string()),
                *(_CAPTIONS if self.has_captions else ()),
                *((name, pa.int32()) for name in ("width", "height")),
                *((name, pa.string()) for name in ("sha256", "source", "path", "person_id")),
                ("camera_id", pa.int16()),
                ("split", pa.string()),
            ]
        )

    @cached_property
    def has_captions(self) -> bool:
        """Say whether any image has a caption."""
        return bool(pc.any(pc.greater(pc.list_value_length(self.inputs.table["captions"]), 0)).as_py())

    @cached_property
    def source(self) -> str:
        """Name what the images are from; our own renders are always called so."""
        return source_name(self.inputs.root, self.inputs.facts.title)

    @property
    def inputs_count(self) -> int:
        """How many images there are."""
        return len(self.inputs.table)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Everything that decides the bytes of the shards; no paths, so that equal inputs elsewhere give equal bytes."""
        digest = hashlib.sha256()
        for column in self.inputs.table.itercolumns():
            digest.update(json.dumps(column.to_pylist()).encode())
        return {
            "recipe": RECIPE,
            "version": __version__,
            "dataset": self.name,
            "source": self.source,
            "splits": dict(self.splits),
            "seed": self.seed,
            "parsing": list(self.mapped),
            "inputs_sha256": digest.hexdigest(),
        }

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index` from its slice of its split."""
        return write_shard(
            self.root,
            shard_names(self.splits)[index],
            self._entries(index),
            columns=self.columns,
            config_hash=config_hash(self.config),
        )

    def describe(self) -> dict[str, Any]:
        """Give the manifest's entries on how the data set was made."""
        facts = self.inputs.facts
        is_synthetic = self.source == SYNTHETIC
        told = {"collection": f"{facts.source}.", "licence": facts.licence, "notice": facts.notice}
        title = f"Synthetic pedestrians in the layout of {facts.title}" if is_synthetic else facts.title
        return {
            "title": f"{title}, packed",
            "card": "pack",
            "source": self.source,
            "is_synthetic": is_synthetic,
            "has_captions": self.has_captions,
            "annotated_by": "found",
            "about": {} if is_synthetic else {name: text for name, text in told.items() if text},
            "dropped": dict(self.inputs.dropped),
            "published": [*facts.counts],
            "columns": {field.name: str(field.type) for field in self.columns},
        }

    def _entries(self, index: int) -> Iterator[Sample | Rejected]:
        split, number, *_ = shard_names(self.splits)[index].split("-")
        table = self.inputs.table.filter(pc.equal(self.inputs.table["split"], split))
        yield from map(self._entry, slice_of(table, int(number), self.splits[split]).to_pylist())

    def _entry(self, row: Mapping[str, Any]) -> Sample | Rejected:
        captions = row["captions"]
        if self.has_captions and not captions:
            return Rejected(row["path"], _NO_CAPTION, "every other image has one", row["key"])
        try:
            data, info = read_image(self.inputs.root / row["path"])
            extras = {}
            if self.parsing and row["split"] in self.mapped:
                extras[MEMBER] = read_image(self.parsing / map_path(row["path"]))[0]
        except ImageProblem as problem:
            return Rejected(row["path"], problem.reason, str(problem), row["key"])
        caption = captions[0] if captions else ""
        known: dict[str, JsonValue] = {**row, "caption": caption, "source": self.source, **image_fields(data, info)}
        fields = {name: known[name] for name in self.columns.names}
        return Sample(row["key"], data, info.extension, fields, caption, extras)
