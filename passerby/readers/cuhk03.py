"""CUHK03 in its new protocol, CUHK03-NP: 767 people to train and 700 to test, boxes of a detector or drawn by hand.

`CUHK03-NP/detected/bounding_box_train/0001_c1_1.png`, as the protocol's authors hand it out; or `images_detected/1_001_1_01.png`
(camera pair, number, view, index), cut out of `cuhk-03.mat`, with `cuhk03_new_protocol_config_detected.mat` beside it.

Source: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding" (CVPR 2017).
"""

import zlib
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.boxes import Naming, has_boxes, read_boxes
from passerby.readers.inputs import walk_images
from passerby.readers.official import (
    Counts,
    Facts,
    ReidInputs,
    build_reid_table,
    find_root,
    parse_names,
    require_present,
)

Cut = Literal["detected", "labeled"]

_SOURCE = "CUHK03 (Li et al., CVPR 2014) in the new protocol (Zhong et al., CVPR 2017): 2 cameras, "
_LICENCE = "For academic research only."
FACTS = {
    "detected": Facts(
        "CUHK03-NP (detected)",
        {"train": Counts(7_365, 767), "query": Counts(1_400, 700), "gallery": Counts(5_332, 700)},
        f"{_SOURCE}boxes of a detector",
        _LICENCE,
    ),
    "labeled": Facts(
        "CUHK03-NP (labeled)",
        {"train": Counts(7_368, 767), "query": Counts(1_400, 700), "gallery": Counts(5_328, 700)},
        f"{_SOURCE}boxes drawn by hand",
        _LICENCE,
    ),
}
_NAMING = Naming(r"^(?P<person_id>[0-9]{4})_c(?P<camera_id>[12])(?:_[0-9]+)?\.", "0001_c1_1.png")
_CUT_PATTERN = r"^[1-9][0-9]*_[0-9]{3}_(?P<camera_id>[12])_[0-9]{2}\."
"""The first number is one of five pairs of cameras and no camera: the third says which of the two."""
_INDICES = {"train": "train_idx", "query": "query_idx", "gallery": "gallery_idx"}

_DAMAGE = (
    ArithmeticError,
    LookupError,
    MemoryError,
    NameError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What scipy raises on a damaged file: an `UnboundLocalError` is a NameError."""


def read_cuhk03(folder: Path, *, cut: Cut, allow_missing: bool = False) -> ReidInputs:
    """Read CUHK03-NP in either form; see `Reader`.

    Raises:
        ModuleNotFoundError: the protocol's file has to be read, and scipy is not installed.
    """

    def has_folders(path: Path) -> bool:
        return has_boxes(path / cut)

    def has_protocol(path: Path) -> bool:
        return _protocol(path, cut).is_file()

    wanted = f"{cut}/ with bounding_box_train, query and bounding_box_test, or {_protocol(Path(), cut)}"
    names = ("cuhk03-np", "cuhk03_np", "cuhk03")
    root = find_root(folder, names, lambda path: has_folders(path) or has_protocol(path), wanted=wanted)
    if has_folders(root):
        return read_boxes(root, FACTS[cut], _NAMING, prefix=f"{cut}/")
    return _read_protocol(root, cut, allow_missing=allow_missing)


read_detected = partial(read_cuhk03, cut="detected")
read_labeled = partial(read_cuhk03, cut="labeled")


def _protocol(root: Path, cut: Cut) -> Path:
    return root / f"cuhk03_new_protocol_config_{cut}.mat"


def _read_protocol(root: Path, cut: Cut, *, allow_missing: bool) -> ReidInputs:
    path, images = _protocol(root, cut), root / f"images_{cut}"
    if not images.is_dir():
        raise FileNotFoundError(
            f"{images} is missing, with the images that {path.name} divides; cut them out of cuhk-03.mat as torchreid does, or "
            "give the folder CUHK03-NP"
        )
    names, labels, places = _load(path)
    splits = [split for split, indices in places.items() for _ in indices]
    order = np.concatenate(list(places.values()))
    # the numbers of people run over both halves
    person_ids = pa.array([f"{label:04d}" for label in labels[order]])
    paths = pa.array([f"{images.name}/{names[index]}" for index in order])
    present = walk_images(str(images), f"{images.name}/")
    is_there = require_present(paths, present, listed_in=path, root=root, allow_missing=allow_missing)
    fields = parse_names(paths, _CUT_PATTERN, FACTS[cut], where=path, example="1_001_1_01.png")
    cameras = pc.struct_field(fields, "camera_id").cast(pa.int16())
    table = build_reid_table(paths, pa.array(splits), person_ids, cameras)
    kept = table.filter(pc.is_in(table["path"], paths.filter(is_there)))
    missing = len(table) - len(kept)
    return ReidInputs(FACTS[cut], root, kept, {"listed, but missing": missing} if missing else {})


def _load(path: Path) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Give the file names, the person of each, and the places of each split among them, from 0."""
    try:
        from scipy.io import loadmat  # noqa: PLC0415  (optional)
        from scipy.io.matlab import MatReadError  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{path} is read by scipy: pip install passerby[cuhk03]") from error
    try:
        content: dict[str, Any] = loadmat(str(path))
        names = [str(cell[0]) for cell in content["filelist"].ravel()]
        labels = content["labels"].ravel().astype(int)
        places = {split: content[name].ravel().astype(int) - 1 for split, name in _INDICES.items()}
    except (MatReadError, *_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the file system, and no damage
            raise
        raise ValueError(f"{path} is not the file of CUHK03's new protocol: {error or type(error).__name__}") from None
    order = np.concatenate(list(places.values()))
    if len(labels) != len(names) or len(order) == 0 or order.min() < 0 or order.max() >= len(names):
        raise ValueError(f"{path} points outside its own list of {len(names):,} names; download it again")
    return names, labels, places
