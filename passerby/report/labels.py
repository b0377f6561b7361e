"""Labels that people gave, and what of a data set they can be compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import yaml

from passerby.columnar import naming_damage
from passerby.untrusted import read_json

if TYPE_CHECKING:
    import pandas as pd

_MATCHERS: Mapping[str, Literal["key", "person_id"]] = {"key": "key", "person_id": "person_id", "id": "person_id"}
"""Columns by which rows find their images; `id` is what attribute tables of Re-ID call the person."""

YES, NO = frozenset({"yes", "true", "1"}), frozenset({"no", "none", "false", "0"})


@dataclass(frozen=True)
class Labels:
    """A table of labels: one row an image or a person."""

    name: str
    """Of the file."""

    matched_by: Literal["key", "person_id"]
    ids: pa.Array
    columns: Mapping[str, pa.Array]
    """Words as they stand in the table, "" where nobody said."""

    attributes: Mapping[str, str]
    """The attribute that each column is compared with."""

    words: Mapping[str, Mapping[str, str]]
    """What the data set calls a label's words, for each column, where the user has said so."""


@dataclass(frozen=True)
class LabelMap:
    """How a user's columns and words are called in the data set."""

    attributes: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_labels(path: Path, label_map: LabelMap) -> Labels:
    """Read labels from CSV, Parquet, or JSON (a list of objects).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, has no column to match by or no label, or two rows for one image or person.
    """
    table = _read_table(path)
    matcher = next((name for name in _MATCHERS if name in table.columns), None)
    if matcher is None:
        raise ValueError(
            f"{path} has no column {' or '.join(_MATCHERS)} to match by; it has {', '.join(table.columns):.300}"
        )
    ids = table.pop(matcher)
    if (twice := ids[ids.duplicated()]).size:
        raise ValueError(f"{path} has two rows for {matcher} {twice.iloc[0]!r}; leave one")
    labels = [name for name in table.columns if name not in _MATCHERS]
    if unknown := sorted((label_map.attributes.keys() | label_map.words.keys()) - set(labels)):
        raise ValueError(f"the label map names {', '.join(unknown)}; {path} has the columns {', '.join(labels)}")
    return Labels(
        path.name,
        _MATCHERS[matcher],
        pa.array(ids.tolist(), pa.string()),
        {name: pa.array(table[name].tolist(), pa.string()) for name in labels},
        {name: label_map.attributes.get(name, name) for name in labels},
        {name: label_map.words.get(name, {}) for name in labels},
    )


def read_label_map(path: Path) -> LabelMap:
    """Read what labels are called in the data set, from YAML: for each column a table of words, and the name `attribute`.

    `upper_color: {attribute: upper_clothes, gray: grey}` compares the column upper_color with the attribute upper_clothes, in
    which the label gray is called grey. A word that stands here is compared even if no image has such a value, as one the
    model never chose; a word that neither stands here nor occurs is left out and counted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table.
    """
    try:
        stored = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  (strings only: no is no)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(stored, dict) or not all(
        isinstance(words, dict) and all(isinstance(word, str) for word in words.values()) for words in stored.values()
    ):
        raise ValueError(f"{path} is no label map; a line reads COLUMN: {{attribute: NAME, LABEL: WORD}}")
    attributes = {column: words["attribute"] for column, words in stored.items() if "attribute" in words}
    words = {
        column: {label: word for label, word in words.items() if label != "attribute"}
        for column, words in stored.items()
    }
    return LabelMap(attributes, words)


def names_value(label: str, value: str, attribute: str) -> bool:
    """Say whether a label names a value: both are equal, or the label is a part of the value's id, or says that there is none.

    >>> names_value("t-shirt", "upper_clothes.black.pure.t-shirt", "upper_clothes")
    True
    """
    if value == "":
        return label in NO
    first, *parts = value.split(".")
    if first != attribute:
        return label == value
    return label in (value, ".".join(parts), *parts)


def _read_table(path: Path) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415  (slow to load, and most reports have no labels)

    try:
        match path.suffix.lower():
            case ".csv":
                table = pd.read_csv(path, dtype=str, keep_default_na=False)
            case ".parquet":
                with naming_damage(path):
                    table = pd.read_parquet(path)
            case ".json":
                table = pd.DataFrame(_read_json(path))
            case suffix:
                raise ValueError(f"labels end in .csv, .parquet or .json, not {suffix!r}")
    except (ValueError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read as labels: {' '.join(str(error).split())}") from None
    return table.map(_word).rename(columns=str)


def _read_json(path: Path) -> list[dict[str, Any]]:
    stored = read_json(path)
    if not isinstance(stored, list) or not all(isinstance(row, dict) for row in stored):
        raise ValueError("a list of objects is read, one for each image or person")
    return stored


def _word(value: object) -> str:
    """Write a cell as its word: what is missing as "", whole numbers without a point, truth as yes and no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value != value:  # noqa: PLR0124  (only NaN differs from itself)
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
