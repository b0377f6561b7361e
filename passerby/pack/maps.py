"""Parsing maps beside a data set: `PARSING/PATH.png` says of each pixel of the image `PATH.jpg` which part of a person it is.

Every map is looked at before a run begins, so that the one that does not fit is named at once and not after an hour.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.engine import run_units
from passerby.images import ImageProblem, opened, read_image

MEMBER = "parsing.png"
CLASSES = 20
"""Of LIP (Gong et al., "Look into Person", CVPR 2017): background, 18 parts and garments on them, and a second shoe."""
IGNORED = 255
"""A pixel that nobody labelled."""
ALWAYS_MAPPED = ("train", "val")
"""Splits that need a map for every image where maps are given at all: what is trained on, and what training is watched by."""

_IMAGES_A_UNIT = 512
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Maps:
    """What there is."""

    splits: tuple[str, ...]
    """Those whose images all have a map."""
    empty: tuple[str, ...] = ()
    """Paths of maps that show nobody: background everywhere."""
    lacking: Mapping[str, int] = field(default_factory=dict)
    """Images without a map in the other splits, by split."""


def map_path(path: str) -> str:
    """Say where the map of an image lies, relative to the folder of the maps.

    >>> map_path("query/0002_c1s1_000451_03.jpg")
    'query/0002_c1s1_000451_03.png'
    """
    return PurePosixPath(path).with_suffix(".png").as_posix()


def find_maps(root: Path, parsing: Path, table: pa.Table, *, workers: int) -> Maps:
    """Look at all maps of a data set.

    Args:
        root: What the images' paths are relative to.
        parsing: Folder of the maps.
        table: Of images, with `split` and `path`.
        workers: Processes.

    Raises:
        FileNotFoundError: there is no such folder, or images to train on have no map.
        ValueError: a map is no picture of classes, or not of its image's size.
    """
    if not parsing.is_dir():
        raise FileNotFoundError(f"{parsing} is no folder; give the one that holds the parsing maps")
    is_there = np.array([(parsing / map_path(path)).is_file() for path in table["path"].to_pylist()], bool)
    splits = np.array(table["split"].to_pylist())
    _require(parsing, table["path"].filter(pa.array(~is_there & np.isin(splits, ALWAYS_MAPPED))).to_pylist())
    lacking = Counter(splits[~is_there].tolist())
    mapped = tuple(split for split in dict.fromkeys(splits.tolist()) if not lacking[split])
    paths = table["path"].filter(pc.is_in(table["split"], pa.array(mapped))).to_pylist()
    look = Look(root, parsing, paths)
    units = -(-len(paths) // _IMAGES_A_UNIT)
    empty: list[str] = []
    for found in run_units(look, range(units), workers=max(1, min(workers, units))):
        empty += found
    return Maps(mapped, tuple(empty), {split: count for split, count in lacking.items() if count})


@dataclass(frozen=True)
class Look:
    """The job of looking at maps. See `passerby.engine.Job`."""

    root: Path
    parsing: Path
    paths: Sequence[str]

    def run_unit(self, index: int) -> list[str]:
        """Check some maps, and name those that show nobody."""
        paths = self.paths[index * _IMAGES_A_UNIT : (index + 1) * _IMAGES_A_UNIT]
        return [map_path(path) for path in paths if not self._check(path).any()]

    def _check(self, path: str) -> np.ndarray:
        """Give the classes of a map, UInt8 (height, width)."""
        place = self.parsing / map_path(path)
        try:
            classes = _decode(place)
        except ImageProblem as problem:
            raise ValueError(f"{place} {problem}; write it anew as a PNG of one byte a pixel") from None
        allowed = [*range(CLASSES), IGNORED]
        if strange := sorted(set(np.unique(classes).tolist()).difference(allowed)):
            raise ValueError(
                f"{place} holds the value {strange[0]}; allowed are 0 to {CLASSES - 1}, the classes of LIP, and {IGNORED} for"
                " pixels without label; map your classes to these"
            )
        try:
            info = read_image(self.root / path)[1]
        except ImageProblem:
            return classes  # the run counts the image as bad, and its map with it
        if classes.shape != (info.height, info.width):
            size = f"{classes.shape[1]}x{classes.shape[0]}"
            raise ValueError(
                f"{place} is {size} pixels, its image {info.width}x{info.height}; resize the map by nearest neighbour"
            )
        return classes


def _decode(path: Path) -> np.ndarray:
    data, info = read_image(path)
    if info.extension != "png":
        raise ImageProblem("unsupported format", f"is a {info.extension}, which changes classes")
    with opened(data, formats=("PNG",)) as picture:
        if picture.mode not in ("P", "L"):
            raise ImageProblem("unsupported format", f"is of mode {picture.mode}; it must be P or L")
        return np.asarray(picture)


def _require(parsing: Path, lacking: Sequence[str]) -> None:
    if lacking:
        shown = ", ".join(map(map_path, lacking[:_SHOWN])) + (", …" if len(lacking) > _SHOWN else "")
        raise FileNotFoundError(
            f"{parsing} lacks {len(lacking):,} maps of images to train on: {shown}; make them, or pack without --parsing"
        )
