"""Parsing maps of images, by a network: what `passerby.pack.maps` looks for, `OUT/PATH.png` for the image `PATH.jpg`.

A run that is interrupted is begun again: maps that are there stay. `OUT/parsing.json` says what made them, and another network
or another table of labels is refused there.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from passerby.config import describe_difference
from passerby.images import MAX_PIXELS, ImageProblem, decode_rgb, inspect_image, read_file
from passerby.nets.parser import PersonParser
from passerby.nets.prompts import PART_NAMES
from passerby.pack.maps import map_path
from passerby.readers.inputs import walk_images
from passerby.runtime import write_atomically
from passerby.shards.read import ShardDataset
from passerby.synthetic.files import LIP_PALETTE

RECORD_NAME = "parsing.json"


@dataclass
class Parsed:
    """What a run did."""

    images: int = 0
    made: int = 0
    there: int = 0
    """Maps that were there already."""

    problems: dict[str, str] = field(default_factory=dict)
    """Images without a map: what is wrong with each, by path."""

    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    """Of the maps that were made: how many show each part."""

    def shares(self) -> dict[str, float]:
        """Give the share of pixels of each part, the largest first; none where nothing was made."""
        found = {part: int(self.pixels[place]) for place, part in enumerate(PART_NAMES)}
        total = max(1, int(self.pixels.sum()))
        return {part: count / total for part, count in sorted(found.items(), key=lambda each: -each[1]) if count}


Read = Callable[[], bytes]


def list_images(root: Path) -> list[tuple[str, Read]]:
    """List the images of a data set of ours, or of a folder: path, and what reads it.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no image.
    """
    if (root / "manifest.json").is_file():
        return [*_of_shards(ShardDataset(root))]
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; give a data set of ours, or a folder of images")
    paths = sorted(walk_images(str(root)))
    if not paths:
        raise ValueError(f"{root} holds no images")
    return [(path, lambda path=path: read_file(root / path)) for path in paths]  # type: ignore[misc]


def parse_images(
    images: list[tuple[str, Read]],
    out: Path,
    parser: PersonParser,
    record: Mapping[str, Any],
    *,
    batch_size: int,
    on_progress: Callable[[int, int], None],
) -> Parsed:
    """Write a map of each image.

    Args:
        images: Of `list_images`.
        out: Folder of the maps.
        parser: Makes them.
        record: What decides them, for those who go on in this folder.
        batch_size: Images at a time.
        on_progress: Told how many are done, of how many.

    Raises:
        ValueError: the folder holds maps that something else made.
    """
    _claim(out, record)
    parsed = Parsed(images=len(images))
    waiting = _decoded(images, out, parsed)
    while batch := [*islice(waiting, batch_size)]:
        for (path, _), labels in zip(batch, parser.parse([pixels for _, pixels in batch]), strict=True):
            place = out / map_path(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(place, encode_map(labels))
            parsed.pixels += np.bincount(labels.ravel(), minlength=256)
            parsed.made += 1
        done = parsed.made + parsed.there + len(parsed.problems)
        on_progress(done, len(images))
    return parsed


def encode_map(labels: NDArray[np.uint8]) -> bytes:
    """Write a map, Uint8 (height, width), as PNG, with LIP's usual colours for who looks at it."""
    picture = Image.frombytes("P", labels.shape[::-1], labels.tobytes())
    picture.putpalette([value for colour in LIP_PALETTE for value in colour])
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _of_shards(samples: ShardDataset) -> Iterator[tuple[str, Read]]:
    paths = samples.metadata(["path"])["path"].to_pylist()
    for number, path in enumerate(paths):
        yield path, lambda number=number: _image_of(samples[number])  # type: ignore[misc]


def _image_of(sample: Mapping[str, Any]) -> bytes:
    for name in ("jpg", "png", "webp"):
        if name in sample:
            return bytes(sample[name])
    raise ImageProblem("missing", "has no image; a captions-only copy is hydrated first")


def _decoded(images: Iterable[tuple[str, Read]], out: Path, parsed: Parsed) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the images that have no map yet; count the others, and note those that cannot be read."""
    for path, read in images:
        if (out / map_path(path)).is_file():
            parsed.there += 1
            continue
        try:
            data = read()
            inspect_image(data)
            yield path, decode_rgb(data, at_least=MAX_PIXELS)
        except ImageProblem as problem:
            parsed.problems[path] = str(problem)


def _claim(out: Path, record: Mapping[str, Any]) -> None:
    place = out / RECORD_NAME
    if place.is_file():
        if difference := describe_difference(json.loads(place.read_bytes()), record):
            raise ValueError(
                f"{out} holds maps that were made otherwise ({difference}); give another --out, or delete it"
            )
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no maps of ours; give --out a new or empty folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(place, (json.dumps(record, indent=1) + "\n").encode())
