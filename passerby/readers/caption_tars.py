"""Captioned images in WebDataset tars of any maker, one after the other, each with what its image's bytes say."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from passerby.images import MAX_BYTES, ImageProblem, inspect_image
from passerby.readers.inputs import IMAGE_SUFFIXES
from passerby.sample import printable


def read_samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of a plain tar: their `key`, `captions`, the image's `sha256`, `width`, `height`, and the JSON's fields.

    The caption is the `.txt`; where there is none, `captions` or `caption` of the `.json`. An image that is damaged or of
    another format keeps its row and has no width.

    Raises:
        ValueError: the tar is compressed or damaged, or a text is no UTF-8 or a `.json` no object.
    """
    key, row = "", dict[str, Any]()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # the library would keep them all
                content = tar.extractfile(member)
                if content is None:
                    continue
                folder, _, name = printable(member.name).removeprefix("./").rpartition("/")
                stem, _, extension = name.partition(".")
                this = f"{folder}/{stem}" if folder else stem
                if this != key and row:
                    yield _finished(key, row)
                    row = {}
                key = this
                _take(row, f".{extension.lower()}", content, f"{path}: {member.name}")
    except tarfile.TarError as error:
        raise ValueError(f"{path} cannot be read as a plain tar ({error}); fetch it again, or unpack it") from error
    if row:
        yield _finished(key, row)


def image_facts(data: bytes) -> dict[str, Any]:
    """Give `sha256`, `width` and `height` of an encoded image; the hash alone where it is damaged or of another format."""
    facts = {"sha256": hashlib.sha256(data).hexdigest()}
    try:
        info = inspect_image(data)
    except ImageProblem:
        return facts
    return {**facts, "width": info.width, "height": info.height}


def _take(row: dict[str, Any], extension: str, content: IO[bytes], place: str) -> None:
    try:
        if extension == ".txt":
            row["txt"] = content.read().decode().strip()
        elif extension == ".json":
            fields = json.loads(content.read())
            if not isinstance(fields, dict):
                raise ValueError(f"it holds {type(fields).__name__}, not an object")
            row["json"] = fields
        elif extension in IMAGE_SUFFIXES:
            row["image"] = image_facts(content.read(MAX_BYTES))
    except ValueError as error:
        raise ValueError(f"{place} cannot be read: {error}") from None


def _finished(key: str, row: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in row.get("json", {}).items() if name not in ("key", "caption", "captions")}
    stored = row.get("json", {}).get("captions", row.get("json", {}).get("caption", []))
    captions = [row["txt"]] if "txt" in row else stored if isinstance(stored, list) else [stored]
    texts = [caption for caption in captions if isinstance(caption, str)]
    return {**fields, "key": key, "captions": texts, **row.get("image", {})}
