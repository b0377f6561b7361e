"""One image, with a caption or without, the key that names it, and its fields as JSON."""

import posixpath
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite

import orjson

KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]{1,80}")
"""No dot (it ends the key for WebDataset), no slash (never a path), short enough for one USTAR header."""

CAPTION_FIELD = re.compile(r"caption(_\d+)?")
"""The fields that hold a caption each; where the number of captions differs between images, `captions` is a list of them all."""

JsonValue = str | int | float | bool | list[str] | list[int] | list[float]
"""What a field may hold: flat and never null, since libraries infer types from the first samples."""

_SCALARS = frozenset({str, int, bool, float})
"""Types that can stand in JSON; floats when they are finite."""

_HASH_BYTES = 6
"""48 bits: of a million files that share one slug, two have one key with a chance of 1 in 500."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its caption, where it has one, and what is known about it."""

    key: str
    """Unique over the whole data set; see `key_from_path`."""

    image: bytes
    """The source file as it is, never re-encoded; empty, and so is its extension, in a captions-only copy."""

    image_extension: str
    """`jpg`, `png` or `webp`, as `passerby.images.inspect_image` names the format found in the bytes."""

    fields: Mapping[str, JsonValue]
    """Everything else that is known, the same names and types in every sample of a data set."""

    caption: str
    """One line of text, which is also the field `caption`; empty where there is no such field, and then no `txt` either."""

    extras: Mapping[str, bytes] = field(default_factory=dict)
    """Further members by extension, such as `parsing.png`."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """An input that does not enter the data set, and why."""

    path: str
    reason: str
    """One of few words to count by, such as `truncated`."""

    detail: str
    """The sentence for whoever mends it."""

    key: str = ""


def key_from_path(relative_path: str) -> str:
    """Name a sample after its file, so that neither order nor number of the files matters.

    The stem of a `.jpg` that is a key already is taken as it is. Any other path becomes its slug, cut from
    the left, and a hash of the whole path, so that distinct paths have distinct keys.

    >>> key_from_path("0002_c1s1_000451_03.jpg")
    '0002_c1s1_000451_03'
    >>> key_from_path("query/0002_c1s1_000451_03.jpg")
    'query-0002_c1s1_000451_03-7d752a32e2d2'
    """
    stem = relative_path.removesuffix(".jpg")
    if stem != relative_path and KEY_PATTERN.fullmatch(stem):
        return stem
    digest = blake2b(relative_path.encode("utf-8", "surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
    folded = unicodedata.normalize("NFKD", posixpath.splitext(relative_path)[0]).encode("ascii", "ignore")
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", folded.decode())[-(79 - len(digest)) :].strip("-")
    return f"{slug}-{digest}" if slug else digest


def encode_json(fields: Mapping[str, JsonValue]) -> bytes:
    """Encode `fields` as compact UTF-8 JSON, in their order.

    Raises:
        ValueError: a value is null, not a number, nested, an integer beyond 64 bits, or text that UTF-8 cannot hold.
    """
    scalars = [value for value in fields.values() if type(value) is not list]
    if not (_are_scalars(scalars) and all(_are_scalars(value) for value in fields.values() if type(value) is list)):
        name = next(
            name for name, value in fields.items() if not _are_scalars(value if type(value) is list else [value])
        )
        raise ValueError(f"field {name} is {fields[name]!r}; allowed are text, finite numbers, booleans, lists of them")
    try:
        return orjson.dumps(dict(fields))
    except orjson.JSONEncodeError as error:
        raise ValueError(f"cannot encode {dict(fields)!r} as JSON: {error}") from error


def printable(text: str) -> str:
    r"""Escape what UTF-8 cannot hold: a file name in another encoding reads `caf\udce9.jpg`."""
    return text.encode("utf-8", "backslashreplace").decode()


def _are_scalars(values: Collection[object]) -> bool:
    floats = [value for value in values if type(value) is float]
    return _SCALARS.issuperset(map(type, values)) and all(map(isfinite, floats))
