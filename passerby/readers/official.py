"""Official Re-ID data sets, whichever they are: where one lies, what is published about it, and the table its reader gives."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.inputs import IMAGE_SUFFIXES, stem_keys
from passerby.sample import KEY_PATTERN

SPLITS = ("train", "val", "query", "gallery", "test")
"""In the order of the table. Image Re-ID has no `test`, and `val` is carved out of `train` later; captions have no query."""

_EXTENSIONS = rf"(\.(?i:{'|'.join(suffix[1:] for suffix in IMAGE_SUFFIXES)}))+$"
"""Some copies repeat it: `0001_c1s1_001051_00.jpg.jpg`."""

_FOLDERS = r"^.*/"
_SHOWN = 3
"""Names in an error."""


@dataclass(frozen=True)
class Counts:
    """The size of a split."""

    images: int
    people: int
    captions: int = 0

    def __str__(self) -> str:
        captions = f" with {self.captions:,} captions" if self.captions else ""
        return f"{self.images:,} images of {self.people:,} people{captions}"


@dataclass(frozen=True)
class Facts:
    """What is known about a data set before it is read."""

    title: str
    counts: Mapping[str, Counts]
    """The published size of each split, which a whole copy has; Market-1501's distractors count as one person."""
    source: str
    """Where it comes from, as a card says it."""
    licence: str
    notice: str = ""
    """What whoever packs it, and whoever reads the card, has to be told."""


@dataclass(frozen=True)
class ReidInputs:
    """One data set as it lies on a disk."""

    facts: Facts
    root: Path
    """What the paths are relative to."""
    table: pa.Table
    """One row an image, by split and key: `split`, `key` (unique over all splits), `path` (relative, printable), `person_id`
    (text, of one person over all splits; Market-1501's distractors are 0000), `camera_id` (int16, from 1; -1 unknown),
    `captions` (list of text, empty for image Re-ID)."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """What was left out: reason, and how many files or records."""


class Reader(Protocol):
    """Reads one data set."""

    def __call__(self, folder: Path, *, allow_missing: bool = False) -> ReidInputs:
        """Read the data set in `folder`, or in a folder inside it.

        Args:
            folder: The user's copy.
            allow_missing: Leave out and count what a list of the data set names and the folder lacks.

        Raises:
            FileNotFoundError: the data set is not there, or images that it lists are missing.
            ValueError: it is damaged, or another data set.
        """
        ...


def count_splits(table: pa.Table) -> dict[str, Counts]:
    """Count images, people and captions of each split that has any."""
    counted = table.append_column("caption_count", pc.list_value_length(table["captions"])).group_by("split")
    rows = counted.aggregate([("key", "count"), ("person_id", "count_distinct"), ("caption_count", "sum")]).to_pylist()
    found = {
        row["split"]: Counts(row["key_count"], row["person_id_count_distinct"], row["caption_count_sum"])
        for row in rows
    }
    return {split: found[split] for split in SPLITS if split in found}


def check_counts(inputs: ReidInputs, *, allow_mismatch: bool) -> list[str]:
    """Hold the sizes of the splits against the published ones, and give the differences, a sentence each.

    Raises:
        ValueError: they differ, and `allow_mismatch` is false.
    """
    published, found = inputs.facts.counts, count_splits(inputs.table)
    none = Counts(0, 0)
    differences = [
        f"{split} has {found.get(split, none)}, published are {published.get(split, none)}"
        for split in SPLITS
        if found.get(split, none) != published.get(split, none)
    ]
    if differences and not allow_mismatch:
        raise ValueError(
            f"{inputs.root} is no whole {inputs.facts.title}: {'; '.join(differences)}; "
            "complete the copy, or pass --allow-count-mismatch"
        )
    return differences


def build_reid_table(
    paths: pa.Array,
    splits: pa.Array,
    person_ids: pa.Array,
    camera_ids: pa.Array,
    *,
    captions: pa.Array | None = None,
    names: pa.Array | None = None,
) -> pa.Table:
    """Make the table of `ReidInputs`: add keys (the stem where it is one and occurs once), and sort.

    Args:
        paths: Strings, relative and printable.
        splits: Strings.
        person_ids: Strings.
        camera_ids: Whole numbers.
        captions: Lists of strings; by default empty ones.
        names: Paths to make keys of instead, for an image that is in two splits.

    Raises:
        ValueError: an image is listed twice.
    """
    named = paths if names is None else names
    stems = _stems(named)
    keys = stem_keys(named, stems, pc.match_substring_regex(stems, f"^{KEY_PATTERN.pattern}$"))
    table = pa.table(
        {
            "split": splits,
            "key": keys,
            "path": paths,
            "person_id": person_ids,
            "camera_id": camera_ids.cast(pa.int16()),
            "captions": _no_captions(len(paths)) if captions is None else captions,
        }
    )
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        raise ValueError(
            f"{len(repeated):,} images are listed more than once: {shown(repeated)}; list each of them once"
        )
    return sort_by_split(table)


def sort_by_split(table: pa.Table) -> pa.Table:
    """Bring rows into the order of `SPLITS`, then of keys."""
    ranked = table.append_column("rank", pc.index_in(table["split"], pa.array(SPLITS)))
    return table.take(pc.sort_indices(ranked, [("rank", "ascending"), ("key", "ascending")]))


def _no_captions(images: int) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.zeros(images + 1, np.int32)), pa.array([], pa.string()))


def _stems(paths: pa.Array) -> pa.Array:
    """Cut folders and extensions, repeated ones too, off paths."""
    return pc.replace_substring_regex(pc.replace_substring_regex(paths, _FOLDERS, ""), _EXTENSIONS, "")


def parse_names(paths: pa.Array, pattern: str, facts: Facts, *, where: Path, example: str) -> pa.StructArray:
    """Read the named groups of a pattern out of file names, never out of the folders before them.

    Raises:
        ValueError: a name does not fit.
    """
    fields = pc.extract_regex(pc.replace_substring_regex(paths, _FOLDERS, ""), pattern)
    strange = paths.filter(fields.is_null())
    if len(strange):
        raise ValueError(
            f"{where}: {len(strange):,} file names are none of {facts.title}: {shown(strange.to_pylist())}; they read like "
            f"{example}. Move these files away, or give the name of the data set that this is"
        )
    return fields


def find_root(folder: Path, names: Sequence[str], holds: Callable[[Path], bool], *, wanted: str) -> Path:
    """Find a data set: it is `folder`, or lies in it.

    Args:
        folder: The user's.
        names: Folder names under which the data set is known, in lower case, to tell it from others beside it.
        holds: Says whether the data set lies right in a folder.
        wanted: What it needs, for the error.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: several folders in `folder` may be it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give the one that holds {wanted}")
    if holds(folder):
        return folder
    with os.scandir(folder) as entries:
        inside = sorted(entry.name for entry in entries if entry.is_dir())
    found = [name for name in inside if holds(folder / name)]
    known = [name for name in found if name.lower() in names] or found
    if not known:
        raise FileNotFoundError(
            f"{folder} does not hold {wanted}, and no folder right in it does; give the one that does"
        )
    if len(known) > 1:
        raise ValueError(f"{folder} holds several folders with {wanted}: {', '.join(known)}; give one of them")
    return folder / known[0]


def require_present(
    paths: pa.Array, present: Iterable[str], *, listed_in: Path, root: Path, allow_missing: bool
) -> pa.Array:
    """Say of each listed path whether its file is there, bool (paths,).

    Args:
        paths: Strings, relative to `root`.
        present: The files there are.
        listed_in: The list.
        root: What paths are relative to.
        allow_missing: Whether any may be missing.

    Raises:
        FileNotFoundError: files are missing, and `allow_missing` is false.
    """
    is_present = pc.is_in(paths, pa.array(present, pa.string()))
    missing = paths.filter(pc.invert(is_present))
    if len(missing) and not allow_missing:
        raise FileNotFoundError(
            f"{listed_in} lists {len(paths):,} images, of which {len(missing):,} are not in {root}: "
            f"{shown(missing.to_pylist())}; complete the copy, or pass --allow-missing"
        )
    return is_present


def shown(names: Sequence[str]) -> str:
    """Name the first few of many."""
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
