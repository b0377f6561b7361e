"""The images of a data set by their pixels, for clients that hand on decoded images only."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Picture:
    """An image in a tar, found there by Python's own `tarfile`."""

    key: str
    extension: str
    data: bytes
    pixels: str
    """Hash of the pixels as RGB."""


def pictures(root: Path) -> Iterator[Picture]:
    """Decode every image and further picture of a data set."""
    for path in sorted(root.glob("data/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and member.name.endswith((".jpg", ".png", ".webp")):
                    data = file.read()
                    key, _, extension = member.name.partition(".")
                    rgb = Image.open(io.BytesIO(data)).convert("RGB")
                    yield Picture(key, extension, data, hash_pixels(rgb.tobytes()))


def hash_pixels(rgb: bytes) -> str:
    """Hash pixels that stand row by row, three bytes each."""
    return hashlib.sha256(rgb).hexdigest()
