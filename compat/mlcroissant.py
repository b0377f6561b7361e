"""`croissant.json` describes the files; `mlcroissant` unpacks the tars and decodes every image.

The record set `samples` joins each image with its row of `meta/`; further members, such as parsing maps, are record sets of
their own. Names come as RECORD_SET/FIELD, text as bytes. All images of a record set are held in memory: it is for looking in
and for checking a description, not for training. Pictures come decoded: the comparison is of their pixels.

Give every data set a cache of its own: `CROISSANT_CACHE=FOLDER` in the environment. `mlcroissant` 1.1.1 names what it has unpacked
after the path in `croissant.json`, not after the data set or the hash: of a second data set with as many shards, or of the same one
made again, it would give the images of the first.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mlcroissant import Dataset, Records
from PIL import Image

from compat.oracle import Sample, run_client
from compat.pixels import Picture, hash_pixels, pictures


def read(root: Path, record_set: str = "samples") -> Records:
    """Read the records of one set."""
    return Dataset(jsonld=root / "croissant.json").records(record_set)


def samples(root: Path) -> Iterator[Sample]:
    """Put together what the record sets tell of each sample, and the file of each picture whose pixels came."""
    files = {(picture.key, picture.extension): picture for picture in pictures(root)}
    extras = sorted({extension for _, extension in files if "." in extension})  # such as parsing.png
    others = {name: dict(_pictures_by_key(root, name.partition(".")[0])) for name in extras}
    for record in read(root):
        image = record.pop("samples/image", None)
        fields = {name.partition("/")[2]: _plain(value) for name, value in record.items()}
        key = str(fields["key"])
        extension = next((name for name in ("jpg", "png", "webp") if (key, name) in files), "image")
        found = {extension: image, **{name: by_key[key] for name, by_key in others.items() if key in by_key}}
        members = {name: _file_of(files.get((key, name)), picture) for name, picture in found.items() if picture}
        yield {"__key__": key, "json": fields, "txt": fields.get("caption"), **members}


def _pictures_by_key(root: Path, record_set: str) -> Iterator[tuple[object, Image.Image]]:
    for record in read(root, record_set):
        yield _plain(record[f"{record_set}/key"]), record[f"{record_set}/image"]


def _plain(value: object) -> object:
    """Give text for bytes, and Python's numbers for NumPy's."""
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value


def _file_of(file: Picture | None, picture: Image.Image) -> bytes:
    """Give the bytes of the file if it has the pixels of the picture that came."""
    if file is None or hash_pixels(picture.convert("RGB").tobytes()) != file.pixels:
        return b"a picture with other pixels"
    return file.data


if __name__ == "__main__":
    run_client("mlcroissant", {"records": samples})
