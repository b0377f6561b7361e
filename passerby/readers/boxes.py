"""Market-1501, and the data sets that took its form: a folder of boxes for each split, person and camera in the file names.

Source: Zheng et al., "Scalable Person Re-identification: A Benchmark" (2015), and the readme beside it: person -1 is junk (a
box that only touches a person), person 0000 a distractor, which stays in the gallery and matches no query.
"""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.inputs import IMAGE_SUFFIXES
from passerby.readers.official import (
    Counts,
    Facts,
    ReidInputs,
    build_reid_table,
    find_root,
    parse_names,
    require_present,
)
from passerby.sample import printable

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}

JUNK = "-1"
_WANTED = ", ".join(FOLDERS.values())
_LISTED = pa.schema([("path", pa.string()), ("split", pa.string()), ("name", pa.string())])


@dataclass(frozen=True)
class Naming:
    """How a data set names its files."""

    pattern: str
    """Of file names; has the groups `person_id` and `camera_id`."""
    example: str


MARKET1501 = Facts(
    "Market-1501",
    {"train": Counts(12_936, 751), "query": Counts(3_368, 750), "gallery": Counts(15_913, 751)},
    "Market-1501 (Zheng et al., ICCV 2015): 6 cameras on a campus, boxes of a detector",
    "No licence is stated; its authors offer it for academic research.",
)
MARKET1501_NAMES = Naming(
    r"^(?P<person_id>-1|[0-9]{4})_c(?P<camera_id>[1-6])s[0-9]_[0-9]{6}_[0-9]{2}\.", "0002_c1s1_000451_03.jpg"
)

_DUKE_LICENCE = "CC BY-NC-SA 4.0, until its authors withdrew the recordings; research only."
_DUKE_NOTICE = (
    "Duke University withdrew DukeMTMC and all data derived from it in June 2019, because people were recorded without the consent "
    "that was promised. Do not hand this data set on; prefer another one, and say so where results on it are compared."
)
DUKEMTMC_REID = Facts(
    "DukeMTMC-reID",
    {"train": Counts(16_522, 702), "query": Counts(2_228, 702), "gallery": Counts(17_661, 1_110)},
    "DukeMTMC-reID (Zheng et al., ICCV 2017), from DukeMTMC (Ristani et al., 2016): 8 cameras on a campus",
    _DUKE_LICENCE,
    _DUKE_NOTICE,
)
DUKEMTMC_NAMES = Naming(r"^(?P<person_id>[0-9]{4})_c(?P<camera_id>[1-8])_f[0-9]{7}\.", "0001_c2_f0046182.jpg")
OCCLUDED_DUKE = Facts(
    "Occluded-DukeMTMC",
    {"train": Counts(15_618, 702), "query": Counts(2_210, 519), "gallery": Counts(17_661, 1_110)},
    "Occluded-DukeMTMC (Miao et al., ICCV 2019): DukeMTMC-reID split anew, so that something hides a part of each query",
    _DUKE_LICENCE,
    _DUKE_NOTICE,
)

_DUKE_FOLDERS = ("dukemtmc-reid", "dukemtmcreid", "dukemtmc")
_OCCLUDED_FOLDERS = ("occluded_duke", "occluded-duke", "occluded-dukemtmc")


def read_market1501(folder: Path, *, allow_missing: bool = False) -> ReidInputs:
    """Read Market-1501; see `Reader`. Its folders list what is there: nothing can be missing."""
    names = ("market-1501-v15.09.15", "market1501", "market-1501")
    return read_boxes(find_root(folder, names, has_boxes, wanted=_WANTED), MARKET1501, MARKET1501_NAMES)


def read_dukemtmc_reid(folder: Path, *, allow_missing: bool = False) -> ReidInputs:
    """Read DukeMTMC-reID; see `Reader`. Its folders list what is there: nothing can be missing."""
    return read_boxes(find_root(folder, _DUKE_FOLDERS, has_boxes, wanted=_WANTED), DUKEMTMC_REID, DUKEMTMC_NAMES)


def read_occluded_duke(folder: Path, *, allow_missing: bool = False) -> ReidInputs:
    """Read Occluded-DukeMTMC; see `Reader`.

    It is published as lists of names, `train.list`, `query.list` and `gallery.list`, whose images are DukeMTMC-reID's. They may lie
    beside the lists, in a folder there or in one beside that; a query may have come from Duke's gallery. Without lists the
    three folders that its script makes are read.
    """

    def has_lists(path: Path) -> bool:
        return all((path / f"{split}.list").is_file() for split in FOLDERS)

    wanted = f"{_WANTED}, or train.list, query.list, gallery.list"
    root = find_root(folder, _OCCLUDED_FOLDERS, lambda path: has_lists(path) or has_boxes(path), wanted=wanted)
    if not has_lists(root):
        return read_boxes(root, OCCLUDED_DUKE, DUKEMTMC_NAMES)
    try:
        images = find_root(root, _DUKE_FOLDERS, has_boxes, wanted=_WANTED)
    except FileNotFoundError:
        images = find_root(
            root.absolute().parent, _DUKE_FOLDERS, has_boxes, wanted=f"DukeMTMC-reID for the lists in {root}"
        )
    return _read_lists(root, images, allow_missing=allow_missing)


def has_boxes(path: Path) -> bool:
    """Say whether the three folders lie right in `path`."""
    return all((path / name).is_dir() for name in FOLDERS.values())


def read_boxes(root: Path, facts: Facts, naming: Naming, *, prefix: str = "") -> ReidInputs:
    """Read the three folders of boxes in `root`, or those in its folder `prefix` (which ends with a slash).

    Raises:
        ValueError: a folder has no image, or a file has a strange name.
    """
    paths: list[str] = []
    splits: list[str] = []
    dropped: Counter[str] = Counter()
    for split, name in FOLDERS.items():
        found = list(_list_images(root, f"{prefix}{name}/", dropped))
        if not found:
            raise ValueError(f"{root / prefix / name} holds no image; allowed are {', '.join(IMAGE_SUFFIXES)}")
        paths += found
        splits += [split] * len(found)
    return _build(root, facts, naming, pa.table({"path": paths, "split": splits, "name": paths}, _LISTED), dropped)


def _build(root: Path, facts: Facts, naming: Naming, listed: pa.Table, dropped: Mapping[str, int]) -> ReidInputs:
    """Make the inputs of `path`, `split` and `name`: persons and cameras are in the names, and junk is left out."""
    paths, splits, names = (listed[name].combine_chunks() for name in ("path", "split", "name"))
    fields = parse_names(paths, naming.pattern, facts, where=root, example=naming.example)
    person_ids, camera_ids = (pc.struct_field(fields, name) for name in ("person_id", "camera_id"))
    table = build_reid_table(paths, splits, person_ids, camera_ids.cast(pa.int16()), names=names)
    kept = table.filter(pc.not_equal(table["person_id"], JUNK))
    if len(kept) < len(table):
        dropped = {**dropped, "junk (person -1)": len(table) - len(kept)}
    return ReidInputs(facts, root, kept, dict(dropped))


def _list_images(root: Path, prefix: str, dropped: Counter[str]) -> list[str]:
    """List the images of a folder as paths relative to `root`; count what else is there, such as `Thumbs.db`."""
    with os.scandir(root / prefix) as entries:
        names = [entry.name for entry in entries]
    images = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")]
    if len(images) < len(names):
        dropped["not an image"] += len(names) - len(images)
    return [printable(prefix + name) for name in images]


def _read_lists(lists: Path, images: Path, *, allow_missing: bool) -> ReidInputs:
    present = {path for name in FOLDERS.values() for path in _list_images(images, f"{name}/", Counter())}
    tables = []
    missing = 0
    for split, folder in FOLDERS.items():
        listed_in = lists / f"{split}.list"
        lines = [line.strip() for line in listed_in.read_text(encoding="utf-8").splitlines()]
        # Where the data set's own script puts an image: its folders and its lists give the same keys.
        names = [f"{folder}/{line}" for line in lines if line]
        # What the folder of its split lacks comes from Duke's gallery; such a query may be in the gallery as well.
        paths = [name if name in present else name.replace(folder, FOLDERS["gallery"], 1) for name in names]
        listed = pa.table({"path": paths, "split": [split] * len(paths), "name": names}, _LISTED)
        is_there = require_present(
            listed["path"], present, listed_in=listed_in, root=images, allow_missing=allow_missing
        )
        tables.append(listed.filter(is_there))
        missing += len(listed) - len(tables[-1])
    dropped = {"listed, but missing": missing} if missing else {}
    return _build(images, OCCLUDED_DUKE, DUKEMTMC_NAMES, pa.concat_tables(tables), dropped)
