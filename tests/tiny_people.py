"""A data set of people of one colour each, in the left half of their pictures; of which the tests of training make use."""

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.write import shard_name, write_shard

COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (240, 240, 240)}
TEXTS = ("key", "caption", "caption_1", "sha256", "path", "person_id")
COLUMNS = pa.schema([(name, pa.string()) for name in TEXTS])


def make_person(person: int, image: int, *, picture: bytes | None = None) -> Sample:
    color = [*COLORS][person % len(COLORS)]
    pixels = np.zeros((48, 24, 3), np.uint8)
    pixels[:, :12] = COLORS[color]
    classes = np.zeros((48, 24), np.uint8)
    classes[:24, :12], classes[24:, :12] = 14, 16  # left arm, left leg
    data = encode(pixels, "JPEG", quality=95) if picture is None else picture
    key, caption = f"{person:04d}_{image}", f"A person in bright {color}, number {person}, seen from the left."
    fields = {
        "key": key,
        "caption": caption,
        "caption_1": f"Someone wears {color}.",
        "sha256": hashlib.sha256(data).hexdigest(),
        "path": f"{key}.jpg",
        "person_id": f"{person:04d}",
    }
    return Sample(key, data, "jpg", fields, caption, {"parsing.png": encode(classes, "PNG")})


def encode(pixels, name, **options) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def write_people(root: Path, *, people: int = 16, images: int = 3, shards: int = 3) -> Path:
    everybody = [make_person(person, image) for person in range(people) for image in range(images)]
    return write_samples(root, everybody, shards=shards)


def write_samples(root: Path, samples: list[Sample], *, shards: int) -> Path:
    parts = np.array_split(np.arange(len(samples)), shards)
    for index, part in enumerate(parts):
        chosen = [samples[place] for place in part]
        write_shard(root, shard_name("train", index, shards), chosen, columns=COLUMNS, config_hash="tiny")
    finalise(root, {"train": shards}, {"config": {"recipe": "tiny"}})
    return root
