"""A Re-ID data set of people of two colours each, in whatever light, with parsing maps: hair, upper clothes and pants."""

import hashlib
from io import BytesIO

import numpy as np
import pyarrow as pa
from PIL import Image
from tiny_reid import COLOURS, PAIRS, write_splits

from passerby.sample import Sample

COLUMNS = pa.schema(
    [*((name, pa.string()) for name in ("key", "sha256", "path", "person_id")), ("camera_id", pa.int16())]
)
HEIGHT, WIDTH = 64, 32
"""Pixels."""
BACKGROUND, HAIR, UPPER, PANTS = 0, 2, 5, 9
PARTS = (BACKGROUND, HAIR, UPPER, PANTS)


def draw_person(person, image):
    """Give a picture and its map."""
    generator = np.random.default_rng([person, image])
    left, top = generator.integers(4, 12), generator.integers(2, 8)
    classes = np.zeros((HEIGHT, WIDTH), np.uint8)
    for part, rows in (
        (HAIR, slice(top, top + 8)),
        (UPPER, slice(top + 8, top + 30)),
        (PANTS, slice(top + 30, top + 54)),
    ):
        classes[rows, left : left + 16] = part
    upper, lower = (COLOURS[name] for name in PAIRS[person])
    pixels = generator.integers(100, 140, (HEIGHT, WIDTH, 3))
    for part, colour in ((HAIR, (40, 25, 10)), (UPPER, upper), (PANTS, lower)):
        pixels[classes == part] = colour
    return np.clip(pixels * generator.uniform(0.5, 1.1), 0, 255).astype(np.uint8), classes


def encode(pixels, kind, **options):
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def make_sample(person, image, *, has_map=True, cameras=(1, 2)):
    pixels, classes = draw_person(person, image)
    data = encode(pixels, "JPEG", quality=95)
    key = f"{person:04d}_{image}"
    fields = {
        "key": key,
        "sha256": hashlib.sha256(data).hexdigest(),
        "path": f"{key}.jpg",
        "person_id": f"{person:04d}",
        "camera_id": cameras[image % 2],
    }
    return Sample(key, data, "jpg", fields, "", {"parsing.png": encode(classes, "PNG")} if has_map else {})


def write_parts(root, *, train=range(8), val=range(8, 10), images=4, has_map=True, val_cameras=(1, 2)):
    """Write the splits train and val."""
    splits = {"train": (train, (1, 2)), "val": (val, val_cameras)}
    return write_splits(
        root,
        {
            split: [
                make_sample(person, image, has_map=has_map, cameras=cameras)
                for person in people
                for image in range(images)
            ]
            for split, (people, cameras) in splits.items()
        },
        columns=COLUMNS,
    )
