"""Captioned images in WebDataset tars of any maker, one after the other, each with what its image's bytes say."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from passerby.images import MAX_BYTES, ImageProblem, inspect_image
from passerby.readers.inputs import IMAGE_SUFFIXES
from passerby.readers.tar_members import walk_members
from passerby.untrusted import parse_json


def read_samples(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the samples of a plain tar: their `key`, `captions`, the image's `sha256`, `width`, `height`, and the JSON's fields.

    The caption is the `.txt`; where there is none, `captions` or `caption` of the `.json`. An image that is damaged or of
    another format keeps its row and has no width.

    Raises:
        ValueError: the tar is compressed or damaged, or a text is no UTF-8 or a `.json` no object.
    """
    key, row = "", dict[str, Any]()
    with path.open("rb") as headers, path.open("rb", buffering=0) as contents:
        for member in walk_members(headers, str(path)):
            folder, _, name = member.name.removeprefix("./").rpartition("/")
            stem, _, extension = name.partition(".")
            this = f"{folder}/{stem}" if folder else stem
            if this != key and row:
                yield _finished(key, row)
                row = {}
            key = this
            content = os.pread(contents.fileno(), min(member.size, MAX_BYTES), member.offset)
            _take(row, f".{extension.lower()}", content, f"{path}: {member.name}")
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


def _take(row: dict[str, Any], extension: str, content: bytes, place: str) -> None:
    try:
        if extension == ".txt":
            row["txt"] = content.decode().strip()
        elif extension == ".json":
            fields = parse_json(content, "it")
            if not isinstance(fields, dict):
                raise ValueError(f"it holds {type(fields).__name__}, not an object")
            row["json"] = fields
        elif extension in IMAGE_SUFFIXES:
            row["image"] = image_facts(content)
    except ValueError as error:
        raise ValueError(f"{place} cannot be read: {error}") from None


def _finished(key: str, row: dict[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in row.get("json", {}).items() if name not in ("key", "caption", "captions")}
    stored = row.get("json", {}).get("captions", row.get("json", {}).get("caption", []))
    captions = [row["txt"]] if "txt" in row else stored if isinstance(stored, list) else [stored]
    texts = [caption for caption in captions if isinstance(caption, str)]
    return {**fields, "key": key, "captions": texts, **row.get("image", {})}
