"""CUHK-PEDES, ICFG-PEDES and RSTPReid: one JSON list of captioned images each, beside a folder of images.

`{"split": "train", "captions": ["A pedestrian with dark hair …", …], "file_path": "CUHK01/0363004.png", "id": 1, …}`: the split and
the person come from the fields, never from the path (ICFG-PEDES trains on images in `test/`), the words from `captions`.

Source: Li et al., "Person Search with Natural Language Description" (CVPR 2017); Ding et al., "Semantically Self-Aligned Network"
(2021); Zhu et al., "DSSL: Deep Surroundings-person Separation Learning" (ACM MM 2021).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.inputs import walk_images
from passerby.readers.official import Counts, Facts, ReidInputs, build_reid_table, find_root, require_present, shown
from passerby.sample import printable
from passerby.untrusted import read_json

SPLITS = ("train", "val", "test")
UNKNOWN = -1
"""A camera that the file name does not tell: CUHK-PEDES mixes five data sets."""


@dataclass(frozen=True)
class Layout:
    """Where a data set keeps what."""

    facts: Facts
    folders: tuple[str, ...]
    """Names under which it is known, in lower case."""
    lists: tuple[str, ...]
    """Spellings of the JSON list."""
    images: tuple[str, ...]
    """Spellings of the image folder."""
    path_field: str
    camera_pattern: str | None = None
    """Of file names, where they name the camera; has the group `camera_id`."""


CUHK_PEDES = Layout(
    Facts(
        "CUHK-PEDES",
        {
            "train": Counts(34_054, 11_003, 68_126),
            "val": Counts(3_078, 1_000, 6_158),
            "test": Counts(3_074, 1_000, 6_156),
        },
        "CUHK-PEDES (Li et al., CVPR 2017): images of five Re-ID data sets, captions by crowd workers",
        "On request, for academic research only; no redistribution.",
    ),
    ("cuhk-pedes", "cuhk_pedes"),
    ("reid_raw.json",),
    ("imgs",),
    "file_path",
)
ICFG_PEDES = Layout(
    Facts(
        "ICFG-PEDES",
        # 34,674 records to train on, one path among them twice
        {"train": Counts(34_673, 3_102, 34_674), "test": Counts(19_848, 1_000, 19_848)},
        "ICFG-PEDES (Ding et al., 2021): images of MSMT17, captions by annotators",
        "On request, for academic research only; the images are MSMT17's, whose agreement forbids redistribution.",
    ),
    ("icfg-pedes", "icfg_pedes"),
    ("ICFG-PEDES.json", "ICFG_PEDES.json"),
    ("imgs", "ICFG_PEDES"),
    "file_path",
    r"^[0-9]+_[0-9]+_(?P<camera_id>[0-9]{2})_",
)
RSTPREID = Layout(
    Facts(
        "RSTPReid",
        {
            "train": Counts(18_505, 3_701, 37_010),
            "val": Counts(1_000, 200, 2_000),
            "test": Counts(1_000, 200, 2_000),
        },
        "RSTPReid (Zhu et al., ACM MM 2021): images of MSMT17, two captions each by annotators",
        "For academic research only; the images are MSMT17's, whose agreement forbids redistribution.",
    ),
    ("rstpreid",),
    ("data_captions.json",),
    ("imgs",),
    "img_path",
    r"^[0-9]+_c(?P<camera_id>[0-9]{1,2})_",
)


@dataclass
class _Image:
    split: str
    person_id: str
    captions: list[str]


def read_pedes(folder: Path, *, layout: Layout, allow_missing: bool = False) -> ReidInputs:
    """Read one of the three; see `Reader`. White space in captions becomes single spaces; an empty one is dropped and counted."""

    def list_in(path: Path) -> Path | None:
        return next((path / name for name in layout.lists if (path / name).is_file()), None)

    root = find_root(folder, layout.folders, lambda path: list_in(path) is not None, wanted=" or ".join(layout.lists))
    listed_in = list_in(root)
    assert listed_in is not None
    images = next((name for name in layout.images if (root / name).is_dir()), None)
    if images is None:
        raise FileNotFoundError(f"{root} has no folder {' or '.join(layout.images)} for the images of {listed_in.name}")
    dropped: Counter[str] = Counter()
    found = _by_path(listed_in, layout, dropped)
    _check_people(listed_in, found)
    paths = pa.array([f"{images}/{path}" for path in found], pa.string())
    present = list(walk_images(str(root / images), f"{images}/"))
    is_there = require_present(paths, present, listed_in=listed_in, root=root, allow_missing=allow_missing)
    table = build_reid_table(
        paths,
        pa.array([image.split for image in found.values()], pa.string()),
        pa.array([image.person_id for image in found.values()], pa.string()),
        _cameras(paths, layout.camera_pattern),
        captions=pa.array([image.captions for image in found.values()], pa.list_(pa.string())),
    )
    kept = table.filter(pc.is_in(table["path"], paths.filter(is_there)))
    dropped["listed, but missing"] += len(table) - len(kept)
    dropped["in no list"] += len(present) - len(kept)
    return ReidInputs(layout.facts, root, kept, {reason: count for reason, count in dropped.items() if count})


read_cuhk_pedes = partial(read_pedes, layout=CUHK_PEDES)
read_icfg_pedes = partial(read_pedes, layout=ICFG_PEDES)
read_rstpreid = partial(read_pedes, layout=RSTPREID)


def _cameras(paths: pa.Array, pattern: str | None) -> pa.Array:
    if pattern is None:
        return pa.array([UNKNOWN] * len(paths), pa.int16())
    names = pc.replace_substring_regex(paths, r"^.*/", "")
    cameras = pc.struct_field(pc.extract_regex(names, pattern), "camera_id")
    return pc.fill_null(cameras.cast(pa.int16()), UNKNOWN)


def _by_path(listed_in: Path, layout: Layout, dropped: Counter[str]) -> dict[str, _Image]:
    """Bring records to one an image: a path that is listed twice gets the captions of both."""
    found: dict[str, _Image] = {}
    for number, path, image in _records(listed_in, layout):
        captions = [caption for caption in image.captions if caption]
        dropped["empty caption"] += len(image.captions) - len(captions)
        first = found.setdefault(path, _Image(image.split, image.person_id, []))
        if (first.split, first.person_id) != (image.split, image.person_id):
            raise ValueError(
                f"{listed_in}: entry {number} says that {path} shows person {image.person_id} of {image.split}, an entry before it "
                f"person {first.person_id} of {first.split}; correct one"
            )
        dropped["listed twice, captions joined"] += bool(first.captions)
        first.captions += captions
    if not found:
        raise ValueError(f"{listed_in} lists no image")
    return found


def _records(listed_in: Path, layout: Layout) -> Iterator[tuple[int, str, _Image]]:
    entries = read_json(listed_in)
    if not isinstance(entries, list):
        raise ValueError(f"{listed_in} holds {type(entries).__name__}; {layout.facts.title} is a list of records")
    for number, entry in enumerate(entries):
        record = entry if isinstance(entry, dict) else {}
        if fault := _fault(record, layout.path_field):
            raise ValueError(f"{listed_in}: entry {number} {fault}: {str(entry)[:80]}")
        captions = [" ".join(caption.split()) for caption in record["captions"]]
        image = _Image(record["split"].lower(), str(record["id"]), captions)
        yield number, printable(record[layout.path_field]), image


def _fault(record: dict[str, Any], path_field: str) -> str:
    """Say what is wrong with a record, or nothing."""
    captions, split, person = record.get("captions"), record.get("split"), record.get("id")
    if not isinstance(record.get(path_field), str):
        return f"has no {path_field}"
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return "has no captions (a list of texts)"
    if not isinstance(split, str) or split.lower() not in SPLITS:
        return f"has the split {split!r:.80}; known are {', '.join(SPLITS)}"
    if isinstance(person, bool) or not isinstance(person, int | str) or str(person) in ("", "-1"):
        return f"has the id {person!r:.80}; it must be the number of a person"
    return ""


def _check_people(listed_in: Path, found: dict[str, _Image]) -> None:
    """See that no person is in two splits: they would be tested on what they were trained on."""
    splits: dict[str, str] = {}
    shared = {
        image.person_id for image in found.values() if splits.setdefault(image.person_id, image.split) != image.split
    }
    if shared:
        raise ValueError(
            f"{listed_in}: {len(shared):,} people are in more than one split: {shown(sorted(shared))}; a person belongs to one"
        )
