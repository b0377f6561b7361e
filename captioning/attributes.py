"""FineGPR's attributes: their slots, the words of their values, and the codes that the files use.

Source: FineGPR (JeremyXSC/FineGPR), attribute and viewpoint figures; `01`, `02`, … are the codes of its file names and tables.
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import pyarrow.parquet as pq

from passerby.columnar import naming_damage
from passerby.storage import read_location
from passerby.untrusted import parse_json

IDENTITY_SLOTS: dict[str, tuple[str, ...]] = {
    "gender": ("male", "female"),
    "hair": ("long", "short"),
    "age": ("teenager", "adult", "older"),
    "glasses": ("yes", "no"),
    "sleeve": ("short", "long"),
    "top_length": ("long", "short"),
    "dress": ("yes", "no"),
    "boots": ("yes", "no"),
    "hat": ("yes", "no"),
    "bag": ("yes", "no"),
    "shoes": ("dark", "light"),
    "upper_color": ("black", "white", "red", "purple", "gray", "yellow", "blue", "green", "brown"),
    "lower_color": ("black", "white", "red", "purple", "gray", "yellow", "blue", "green", "brown"),
}
"""Slots that belong to a person, with the word of code 01, 02, … in that order."""

IMAGE_SLOTS: dict[str, tuple[str, ...]] = {
    "view": ("front", "right", "back", "left"),
    "weather": ("sunny", "cloudy", "overcast", "foggy", "neutral", "blizzard", "snowlight"),
    "illumination": ("midnight", "dawn", "forenoon", "noon", "afternoon", "dusk", "night"),
}
"""Slots that belong to an image; weather and illumination in the order of their codes, view derived from the camera."""

SLOTS: dict[str, tuple[str, ...]] = IDENTITY_SLOTS | IMAGE_SLOTS
"""Every slot a caption can name, with its value words."""

Level = Literal["identity", "image"]

UNKNOWN_WORDS = frozenset({"", "nan", "none", "null", "unknown", "n/a", "na", "-", "-1", "?"})
"""Spellings of "not annotated" in a table; such a value is never mentioned, not even as "no"."""

WORD_ALIASES = {
    "grey": "gray",
    "man": "male",
    "woman": "female",
    "teen": "teenager",
    "old": "older",
    "y": "yes",
    "true": "yes",
    "with": "yes",
    "n": "no",
    "false": "no",
    "without": "no",
}
"""Other spellings of value words, after lower-casing."""

COLUMN_ALIASES = {
    "hair_length": "hair",
    "glass": "glasses",
    "short_sleeve": "sleeve",
    "sleeve_length": "sleeve",
    "upper_length": "top_length",
    "top": "top_length",
    "boot": "boots",
    "shoe": "shoes",
    "shoes_color": "shoes",
    "upper": "upper_color",
    "upper_body_color": "upper_color",
    "upper_clothes_color": "upper_color",
    "lower": "lower_color",
    "lower_body_color": "lower_color",
    "lower_clothes_color": "lower_color",
}
"""Other spellings of column names, after lower-casing, "colour" to "color", and every run of other signs to "_"."""

_CODES = [str(code) for code in range(1, 1 + max(map(len, IDENTITY_SLOTS.values())))]
"""How codes are written, but for zeros before them."""

IDENTITY_COLUMNS = ("id", "person_id", "identity", "pid")
FORMATS = (".csv", ".parquet", ".json")


@dataclass(frozen=True, slots=True)
class InputProblem:
    """One thing in the input that could not be used, and where."""

    file: str
    line: int
    """Counted from 1; 0 where the file itself is meant."""
    message: str

    def __str__(self) -> str:
        """Give `file:line: message`."""
        return f"{self.file}:{self.line}: {self.message}" if self.line else f"{self.file}: {self.message}"


@dataclass(frozen=True, slots=True)
class AttributeTable:
    """What is known of each person: words by slot, unknown slots missing."""

    people: Mapping[str, Mapping[str, str]]
    """Person id (four digits or more) to {slot: word}."""
    file: str
    """Name of the file."""
    lines: Mapping[str, int]
    """Person id to its line (CSV) or record number (Parquet, JSON), counted from 1 as an editor does."""
    problems: tuple[InputProblem, ...]
    """What was left out, in the order of the file."""
    digest: str
    """SHA-256 of the file's bytes."""


def read_attributes(path: Path | str) -> AttributeTable:
    """Read FineGPR's attribute table, one row a person: CSV, Parquet or JSON; values as codes (`01`, `1`) or words.

    It is a file here or at a URL. The JSON is a list of records, or {person id: record}. Columns may stand in any order and
    some may be missing: their slots are unknown. A value that is no code or word of its slot is reported and stays unknown;
    a second row of the same person is reported and left out.

    Raises:
        FileNotFoundError: `path` does not exist.
        ValueError: the format is not known, the file cannot be parsed, no column names the person, or no row is left.
    """
    data = read_location(path)
    file = PurePosixPath(str(path))
    if file.suffix.lower() not in FORMATS:
        raise ValueError(f"attribute table {path} ends in {file.suffix!r}; allowed are {', '.join(FORMATS)}")
    people: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    problems: list[InputProblem] = []
    slots = _slots_of_columns(file.name, problems)
    for line, record in _records(path, file.suffix.lower(), data):
        report = partial(InputProblem, file.name, line)
        named = {slots(name, line): value for name, value in record.items()}
        person_id = _person_id(named.pop("person_id", None))
        if person_id is None:
            problems.append(report(f"no person id: got {record!r:.200}; the row is left out"))
        elif person_id in people:
            problems.append(
                report(f"person {person_id} stands in line {lines[person_id]} already; the row is left out")
            )
        else:
            lines[person_id] = line
            people[person_id], faults = _words(named)
            problems += [report(f"person {person_id}: {fault}") for fault in faults]
    if not people:
        raise ValueError(
            f"attribute table {path} has no row with a person id; columns that name it: {IDENTITY_COLUMNS}"
        )
    return AttributeTable(people, file.name, lines, tuple(problems), hashlib.sha256(data).hexdigest())


def _records(path: Path | str, suffix: str, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line or record number, raw record), whatever the format."""
    if suffix == ".csv":
        reader = csv.DictReader(
            io.StringIO(data.decode("utf-8-sig", errors="replace"), newline=""), restkey="", restval=""
        )
        try:
            for row in reader:
                yield reader.line_num, {str(name): value for name, value in row.items() if name}
        except csv.Error as error:
            raise ValueError(f"attribute table {path} cannot be parsed: line {reader.line_num}: {error}") from None
        return
    if suffix == ".parquet":
        with naming_damage(f"attribute table {path}"):
            raw = pq.read_table(io.BytesIO(data)).to_pylist()
    else:
        raw = parse_json(data, f"attribute table {path}")
    if isinstance(raw, dict):
        raw = [{"person_id": name, **record} if isinstance(record, dict) else record for name, record in raw.items()]
    if not isinstance(raw, list) or not all(isinstance(record, dict) for record in raw):
        raise ValueError(f"attribute table {path} is not a list of records, nor a record for each person id")
    yield from enumerate(raw, start=1)


def _slots_of_columns(file: str, problems: list[InputProblem]) -> Callable[[str, int], str]:
    """Give a function from a column's name to its slot, "person_id", or "" (reported once a column)."""
    known: dict[str, str] = {}

    def slot(column: str, line: int) -> str:
        if column not in known:
            name = re.sub(r"[^a-z0-9]+", "_", column.strip().lower().replace("colour", "color")).strip("_")
            name = COLUMN_ALIASES.get(name, name)
            known[column] = "person_id" if name in IDENTITY_COLUMNS else name if name in IDENTITY_SLOTS else ""
            if not known[column]:
                allowed = ", ".join(IDENTITY_SLOTS)
                problems.append(InputProblem(file, line, f"column {column!r} is not used; known are {allowed}"))
        return known[column]

    return slot


def _person_id(value: object) -> str | None:
    text = str(value).strip().removesuffix(".0")
    return text.zfill(4) if text.isascii() and text.isdecimal() else None


def _words(named: Mapping[str, object]) -> tuple[dict[str, str], list[str]]:
    """Turn one person's values into words, with what could not be read."""
    words: dict[str, str] = {}
    faults: list[str] = []
    for slot, values in IDENTITY_SLOTS.items():
        text = str(named.get(slot, "")).strip().lower().removesuffix(".0")
        text = WORD_ALIASES.get(text, text)
        if text in values:
            words[slot] = text
        elif (code := text.lstrip("0")) in _CODES[: len(values)]:
            words[slot] = values[int(code) - 1]
        elif text not in UNKNOWN_WORDS:
            allowed = f"codes 1…{len(values)} or {', '.join(values)}"
            faults.append(f"{slot} is {named[slot]!r:.80}; allowed are {allowed}; it stays unknown")
    return words, faults
