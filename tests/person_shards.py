"""A data set of a few people with near-duplicates among their images, of which the tests of curation make use."""

import hashlib
import json
import tarfile
from io import BytesIO

import numpy as np
import pyarrow as pa
from PIL import Image

from passerby.sample import Rejected, Sample
from passerby.shards.manifest import finalise
from passerby.shards.write import shard_name, write_shard

COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "caption", "sha256", "path", "person_id", "bag")),
        ("camera_id", pa.int16()),
        ("bag_confidence", pa.float64()),
        ("tags", pa.list_(pa.string())),
    ]
)
BAGS = ("", "backpack", "backpack", "handbag", "backpack", "", "handbag")
SHARDS, SAMPLES = 3, 48
NAMES = [f"train-{index:05d}-of-{SHARDS:05d}" for index in range(SHARDS)]


def picture(scene, quality=90, size=(48, 96)):
    """Encode scene `scene`, soft noise, as a camera of this quality would."""
    pixels = np.random.default_rng(scene).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    return file.getvalue()


def scene_of(number):
    """Every third sample shows what the one before it shows, and every tenth what number 1 shows."""
    return 1 if number % 10 == 9 else number - 1 if number % 3 == 2 else number


def make_sample(number, image=None):
    # keys do not come in the order of the rows
    key = f"{number * 7 % SAMPLES:04d}_c{number % 6 + 1}"
    image = picture(scene_of(number), quality=90 - number) if image is None else image
    fields = {
        "key": key,
        "caption": f"A person, number {number}.",
        "sha256": hashlib.sha256(image).hexdigest(),
        "path": f"images/{key}.jpg",
        "person_id": "" if number % 12 == 11 else f"{number // 6:04d}",
        "bag": BAGS[number % 7],
        "camera_id": number % 6 + 1,
        "bag_confidence": number % 10 / 10,
        "tags": ["a", "b"][: number % 3],
    }
    extras = {"parsing.png": f"map {number}".encode() * number}
    return Sample(key, image, "jpg", fields, fields["caption"], extras)


def write_people_shards(root, samples=None, of=SHARDS):
    """Write `samples` under `root`, an input that cannot be read before each shard's."""
    samples = list(map(make_sample, range(SAMPLES))) if samples is None else samples
    for index in range(of):
        part = samples[len(samples) * index // of : len(samples) * (index + 1) // of]
        entries = [Rejected(f"images/bad{index}.jpg", "truncated", "ends early", f"bad{index}"), *part]
        write_shard(root, shard_name("train", index, of), entries, columns=COLUMNS, config_hash="made")
    finalise(root, {"train": of}, {"title": "Some people", "config": {"recipe": "drawn", "seed": 5}})
    return root


def members_by_key(root):
    """Read every member of every sample by Python's own tarfile: {key: [(name, bytes), …]}, in order."""
    found = {}
    for path in sorted((root / "data").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                found.setdefault(member.name.partition(".")[0], []).append(
                    (member.name, tar.extractfile(member).read())
                )
    return found


def fields_of(root):
    """Read the JSON of every sample, in order, by Python's own tarfile."""
    return [json.loads(dict(members)[f"{key}.json"]) for key, members in members_by_key(root).items()]


def keys_of(root):
    return [*members_by_key(root)]
