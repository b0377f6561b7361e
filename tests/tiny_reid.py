"""Small Re-ID data sets with all their splits, of people who wear two colours each, seen by cameras of other light.

`write_reid` writes one like Market-1501 (train, val, query, gallery), `write_pedes` one like CUHK-PEDES (train, val, test, two
captions an image). Person *n* is `PAIRS[n]`; people 0-5 are of train, 6 and 7 of val, 8-11 of the test.
"""

import hashlib
from io import BytesIO
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.write import shard_name, write_shard

COLOURS = {"red": (210, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 210), "white": (235, 235, 235)}
PAIRS = [*permutations(COLOURS, 2)]
TRAIN, VAL, TEST = range(6), range(6, 8), range(8, 12)
CAMERAS, IMAGES_A_CAMERA = (1, 2, 3), 2
DISTRACTOR = "0000"
HEIGHT, WIDTH = 64, 32
"""Pixels."""

_TEXTS = ("sha256", "source", "path", "person_id")
_FIELDS = [
    *((name, pa.int32()) for name in ("width", "height")),
    *((name, pa.string()) for name in _TEXTS),
    ("camera_id", pa.int16()),
    ("split", pa.string()),
]
COLUMNS = pa.schema([("key", pa.string()), *_FIELDS])
CAPTIONED = pa.schema([("key", pa.string()), ("caption", pa.string()), ("captions", pa.list_(pa.string())), *_FIELDS])


def write_reid(root: Path, *, shards: int = 2) -> Path:
    """Write Market-1501's splits: of each person of the test, the first image of each camera asks, the others are found.

    The gallery begins with two images of nobody in particular.
    """
    test = [each for person in TEST for each in _places(person)]
    splits = {
        "train": [_sample("train", *each) for person in TRAIN for each in _places(person)],
        "val": [_sample("val", *each) for person in VAL for each in _places(person)],
        "query": [_sample("query", *each) for each in test if each[2] == 0],
        "gallery": [
            *(_sample("gallery", None, camera, 0) for camera in CAMERAS[:2]),
            *(_sample("gallery", *each) for each in test if each[2] != 0),
        ],
    }
    return write_splits(root, splits, columns=COLUMNS, shards=shards)


def write_pedes(root: Path, *, shards: int = 2) -> Path:
    """Write CUHK-PEDES' splits: every image with two captions, in the fields `caption` (the first) and `captions`."""
    people = {"train": TRAIN, "val": VAL, "test": TEST}
    splits = {
        split: [_sample(split, *each, captioned=True) for person in those for each in _places(person)]
        for split, those in people.items()
    }
    return write_splits(root, splits, columns=CAPTIONED, shards=shards)


def write_splits(root: Path, splits: dict[str, list[Sample]], *, columns: pa.Schema, shards: int = 1) -> Path:
    for split, samples in splits.items():
        for index, part in enumerate(np.array_split(np.arange(len(samples)), shards)):
            chosen = [samples[place] for place in part]
            write_shard(root, shard_name(split, index, shards), chosen, columns=columns, config_hash="tiny")
    has_captions = "caption" in columns.names
    header = {"title": "Tiny people", "config": {"recipe": "tiny"}, "has_captions": has_captions}
    finalise(root, dict.fromkeys(splits, shards), header)
    return root


def figure(person: int | None, camera: int, image: int) -> np.ndarray:
    """Draw a person, or somebody grey: darker from camera to camera, at another place in each image."""
    generator = np.random.default_rng([99 if person is None else person, camera, image])
    pixels = generator.integers(90, 150, (HEIGHT, WIDTH, 3)).astype(float)
    upper, lower = ((128, 128, 128),) * 2 if person is None else (COLOURS[name] for name in PAIRS[person])
    left, top = generator.integers(4, 12), generator.integers(4, 10)
    pixels[top : top + 24, left : left + 16] = upper
    pixels[top + 24 : top + 48, left + 2 : left + 14] = lower
    return np.clip(pixels * (1.1 - 0.15 * camera), 0, 255).astype(np.uint8)


def captions_of(person: int) -> list[str]:
    upper, lower = PAIRS[person]
    return [f"A person in a {upper} shirt and {lower} trousers.", f"Someone wears {lower} trousers, and above {upper}."]


def _places(person: int) -> list[tuple[int, int, int]]:
    return [(person, camera, image) for camera in CAMERAS for image in range(IMAGES_A_CAMERA)]


def _sample(split: str, person: int | None, camera: int, image: int, *, captioned: bool = False) -> Sample:
    file = BytesIO()
    Image.fromarray(figure(person, camera, image)).save(file, "JPEG", quality=95)
    data = file.getvalue()
    person_id = DISTRACTOR if person is None else f"{person + 1:04d}"
    key = f"{person_id}_c{camera}_{image:02d}"
    captions = captions_of(person) if captioned and person is not None else []
    fields = {
        "key": key,
        **({"caption": captions[0], "captions": captions} if captioned else {}),
        "width": WIDTH,
        "height": HEIGHT,
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": "drawn for tests",
        "path": f"{split}/{key}.jpg",
        "person_id": person_id,
        "camera_id": camera,
        "split": split,
    }
    return Sample(key, data, "jpg", fields, captions[0] if captions else "")
