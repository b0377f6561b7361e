"""MSMT17: four lists beside two folders of images, in version 1 or with masked faces in version 2.

A line of `list_train.txt` reads `0000/0000_000_01_0303morning_0008_0.jpg 0`: a path in `train/`, and a person. The people of
`test/` are numbered from 0 again and are others; they are told apart here as `train-0000` and `test-0000`.

Source: Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-Identification" (CVPR 2018).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.inputs import walk_images
from passerby.readers.official import (
    Counts,
    Facts,
    ReidInputs,
    build_reid_table,
    find_root,
    parse_names,
    require_present,
    sort_by_split,
)

Version = Literal["v1", "v2"]

IMAGE_FOLDERS = {"v1": {"train": "train", "test": "test"}, "v2": {"train": "mask_train_v2", "test": "mask_test_v2"}}
LISTS = {"train": "train", "val": "train", "query": "test", "gallery": "test"}
"""Each list, and the half of the images it is about."""

NAME_PATTERN = r"^[0-9]{4}_[0-9]{3}_(?P<camera_id>[0-9]{2})_[0-9]{4}(?:morning|noon|afternoon)_[0-9]+_[0-9]+"
_EXAMPLE = "0000_000_01_0303morning_0008_0.jpg"
_LINE_PATTERN = r"^(?P<path>.*\S)\s+(?P<number>[0-9]{1,8})$"

_TEST = {"query": Counts(11_659, 3_060), "gallery": Counts(82_161, 3_060)}


def msmt17_facts(version: Version, *, use_val: bool) -> Facts:
    """Say what is published: the list of validation images belongs to the people of `train`."""
    faces = " with masked faces" if version == "v2" else ""
    train = Counts(32_621, 1_041) if use_val else Counts(30_248, 1_041)
    return Facts(
        f"MSMT17 {version.upper()}{' (train and val)' if use_val else ''}",
        {"train": train, **_TEST},
        f"MSMT17, version {version[1:]}{faces} (Wei et al., CVPR 2018): 15 cameras on a campus, boxes of a detector",
        "Its release agreement: non-commercial research, no redistribution.",
    )


def read_msmt17(folder: Path, *, version: Version, use_val: bool, allow_missing: bool = False) -> ReidInputs:
    """Read MSMT17; see `Reader`.

    Args:
        folder: The user's copy.
        version: 1, or 2 with masked faces; scores on them are not comparable.
        use_val: Train on the validation list too, as CLIP-ReID does; torchreid and fast-reid leave it out.
        allow_missing: Leave out and count what is listed and missing.
    """
    names = ("msmt17_v1", "msmt17_v2", "msmt17")
    files = [f"list_{name}.txt" for name in LISTS]
    halves = IMAGE_FOLDERS[version]

    def holds(path: Path) -> bool:
        return (path / files[0]).is_file() and all((path / half).is_dir() for half in halves.values())

    root = find_root(folder, names, holds, wanted=f"{', '.join(files)} and the folders {' and '.join(halves.values())}")
    facts = msmt17_facts(version, use_val=use_val)
    present = [path for half in halves.values() for path in walk_images(str(root / half), f"{half}/")]
    listed = pa.concat_tables(_read_list(root, name, halves) for name in LISTS)
    paths = listed["path"].combine_chunks()
    fields = parse_names(paths, NAME_PATTERN, facts, where=root, example=_EXAMPLE)
    cameras = pc.struct_field(fields, "camera_id").cast(pa.int16())
    table = build_reid_table(paths, listed["split"], listed["person_id"], cameras)
    is_there = require_present(table["path"], present, listed_in=root, root=root, allow_missing=allow_missing)
    kept = table.filter(is_there)
    dropped = {"listed, but missing": len(table) - len(kept), "in no list": len(present) - len(kept)}
    is_val = pc.equal(kept["split"], "val")
    if use_val:
        splits = pc.if_else(is_val, "train", kept["split"])
        kept = sort_by_split(kept.set_column(kept.schema.get_field_index("split"), "split", splits))
    else:
        dropped["in the validation list"] = pc.sum(is_val).as_py() or 0
        kept = kept.filter(pc.invert(is_val))
    return ReidInputs(facts, root, kept, {reason: count for reason, count in dropped.items() if count})


read_v1 = partial(read_msmt17, version="v1", use_val=False)
read_v1_trainval = partial(read_msmt17, version="v1", use_val=True)
read_v2 = partial(read_msmt17, version="v2", use_val=False)
read_v2_trainval = partial(read_msmt17, version="v2", use_val=True)


def _read_list(root: Path, name: str, folders: Mapping[str, str]) -> pa.Table:
    path, half = root / f"list_{name}.txt", LISTS[name]
    lines = pc.utf8_trim_whitespace(pa.array(path.read_text(encoding="utf-8").split("\n"), pa.string()))
    fields = pc.extract_regex(lines, _LINE_PATTERN)
    wrong = pc.and_(fields.is_null(), pc.not_equal(lines, ""))
    place = pc.index(wrong, value=True).as_py()
    if place >= 0:
        raise ValueError(f"{path}: line {place + 1} is {lines[place].as_py()[:80]!r}; a line reads '0000/{_EXAMPLE} 0'")
    fields = fields.drop_null()
    numbers = pc.utf8_lpad(pc.struct_field(fields, "number"), 4, "0")
    return pa.table(
        {
            "path": pc.binary_join_element_wise(folders[half], pc.struct_field(fields, "path"), "/"),
            "split": pa.array([name] * len(fields), pa.string()),
            "person_id": pc.binary_join_element_wise(half, numbers, "-"),
        }
    )
