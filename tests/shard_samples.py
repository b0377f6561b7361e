"""A small data set of real images, of which the tests of shards make use."""

import hashlib
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from passerby.sample import Rejected, Sample
from passerby.shards.manifest import finalise
from passerby.shards.write import shard_name, write_shard

HERE = str(Path(__file__).parent)
SHARDS, INPUTS_A_SHARD = 3, 20
NAMES = [f"train-{index:05d}-of-{SHARDS:05d}" for index in range(SHARDS)]
COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        ("width", pa.int32()),
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("confidence", pa.float64()),
        ("is_adult", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
    ]
)


def encode(pixels, name):
    file = BytesIO()
    Image.fromarray(pixels).save(file, name)
    return file.getvalue()


def make_sample(number, **changes):
    pixels = np.random.default_rng(number).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    key, image = f"{number:04d}_c1", encode(pixels, "JPEG")
    fields = {
        "key": key,
        "caption": f"A «person», number {number}.",
        "width": 16,
        "sha256": hashlib.sha256(image).hexdigest(),
        "path": f"images/{number}.jpg",
        "confidence": number / 7,
        "is_adult": number % 2 == 0,
        "tags": ["a", "ö"][: number % 3],
        "scores": [0.1, 1.0, -2.5e-9][: number % 4],
        **changes,
    }
    return Sample(key, image, "jpg", fields, fields["caption"], {"parsing.png": encode(pixels[..., 0] // 16, "PNG")})


def make_entry(number):
    if number % 7 == 3:
        return Rejected(f"images/{number}\udce9.jpg", "truncated", "ends early", f"{number:04d}_c1")
    return make_sample(number)


def numbers_of(index):
    return range(index * INPUTS_A_SHARD, (index + 1) * INPUTS_A_SHARD)


def write(root, index, entries=None, config="config"):
    entries = map(make_entry, numbers_of(index)) if entries is None else entries
    return write_shard(root, shard_name("train", index, SHARDS), entries, columns=COLUMNS, config_hash=config)


def rewrite(root, index, entries):
    table_of(root, index).unlink()
    return write(root, index, entries)


def write_all(root):
    for index in range(SHARDS):
        write(root, index)
    finalise(root, {"train": SHARDS}, {"seed": 1})
    return root


def tar_of(root, index=1):
    return root / "data" / f"{NAMES[index]}.tar"


def table_of(root, index=1):
    return root / "meta" / f"{NAMES[index]}.parquet"


def visible(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name[0] != ".")


def hidden(root):
    return sorted(path.name for path in root.rglob(".*"))


def edit_manifest(root, edit):
    path = root / "manifest.json"
    stored = json.loads(path.read_bytes())
    edit(stored)
    path.write_text(json.dumps(stored))
