"""Captions that others wrote: WebDataset tars, the lists of text-to-image Re-ID data sets, UniPT's Arrow files, plain lines.

Every reader gives tables with one row an image: `key` (a path where there is no better name), `captions` (a list of strings),
`person_id` ("" where unknown), perhaps `split`, `sha256`, `width`, `height`, and whatever else is known, each in its column.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.columnar import map_arrow, naming_damage, open_parquet
from passerby.readers.caption_tars import image_facts, read_samples
from passerby.readers.inputs import NAME_PATTERN
from passerby.untrusted import read_json

Kind = Literal["webdataset", "parquet", "arrow", "json", "lines"]

KINDS: Mapping[str, Kind] = {
    ".tar": "webdataset",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".json": "json",
    ".txt": "lines",
}
"""What a file's suffix says. In a folder, the first of these that any file has is read; lists and lines must be named."""

BATCH_ROWS = 8192

_PATHS = ("file_path", "img_path", "image_path", "image", "image_id", "path", "key")
"""What lists call the image: CUHK-PEDES and ICFG-PEDES the first, RSTPReid the second."""

_CAPTIONS = ("captions", "caption")
_PEOPLE = ("person_id", "id")
_NEVER_TEXT = frozenset({"processed_tokens"})  # ICFG-PEDES, one level deeper in its test records
_NUMBERED = re.compile(r"caption_[0-9]+")
_LINE = re.compile(r"\s*ImageName:\s*(?P<name>.+?)\s*,\s*the caption is:\s*(?P<caption>.*?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class CaptionFiles:
    """Files of one kind, read one by one."""

    kind: Kind
    files: tuple[Path, ...]
    name: str
    """What the user called them, without the folders before it."""

    def __len__(self) -> int:
        return len(self.files)

    def describe(self) -> dict[str, Any]:
        """Say in the words of a report what this is."""
        return {"kind": self.kind, "name": self.name, "title": None, "manifest_sha256": None, "files": len(self)}

    def batches(self, index: int) -> Iterator[pa.Table]:
        """Yield the rows of one file; memory is bounded, but for JSON, which is parsed whole.

        Raises:
            ValueError: the file is damaged or not of its kind.
        """
        path = self.files[index]
        match self.kind:
            case "webdataset":
                yield from map(partial(_from_rows, path), _chunks(read_samples(path)))
            case "json":
                yield from map(partial(_from_rows, path), _chunks(_read_list(path)))
            case "lines":
                yield from map(partial(_from_rows, path), _chunks(_read_lines(path)))
            case "parquet" | "arrow":
                for table in _read_columns(path, self.kind):
                    yield one_row_an_image(_with_image_facts(table), path)


def open_caption_files(name: str) -> CaptionFiles:
    """Find caption files: one, those in a folder, or those that a pattern matches; in sorted order.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the suffix is of no kind that can be read, or the pattern matches several kinds.
    """
    path = Path(name)
    if path.is_dir():
        return _in_folder(path)
    files = (path,) if path.exists() else tuple(sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor)))))
    if not files:
        raise FileNotFoundError(f"there is no file or folder {name}, and as a pattern it matches none")
    suffixes = sorted({file.suffix.lower() for file in files})
    if len(suffixes) > 1 or suffixes[0] not in KINDS:
        raise ValueError(f"{name} is of the kind {' and '.join(map(repr, suffixes))}; read are {', '.join(KINDS)}")
    return CaptionFiles(KINDS[suffixes[0]], files, path.name)


def one_row_an_image(table: pa.Table, path: Path) -> pa.Table:
    """Bring the columns of a table to the names above; `caption`, `caption_1`, … become one list.

    Raises:
        ValueError: there is no column of captions, or of images' names.
    """
    names = table.column_names
    key = next((name for name in ("key", *_PATHS) if name in names and _is_text(table[name].type)), None)
    captions = next((name for name in _CAPTIONS if name in names), None)
    if captions is None or key is None:
        wanted = "captions (captions, caption)" if captions is None else f"image names ({', '.join(_PATHS)})"
        raise ValueError(f"{path} has no column of {wanted}; it has {', '.join(names)}")
    numbered = sorted((name for name in names if _NUMBERED.fullmatch(name)), key=lambda name: int(name[8:]))
    people = next((name for name in _PEOPLE if name in names), None)
    with naming_damage(path):  # of types that are no text and cannot be made one
        lists = table[captions] if pa.types.is_list(table[captions].type) else _as_lists(table, [captions, *numbered])
        keys = table[key].cast(pa.string())
        columns = {
            "key": keys,
            "captions": lists.cast(pa.list_(pa.string())),
            "person_id": pc.fill_null(table[people].cast(pa.string()), "") if people else _people_in(keys),
        }
    taken = {key, captions, people, *numbered, *columns}
    others = {name: table[name] for name in names if name not in taken and _is_as_named(name, table[name].type)}
    return pa.table({**columns, **others})


def _in_folder(folder: Path) -> CaptionFiles:
    for suffix in (".tar", ".arrow", ".parquet"):
        if files := tuple(sorted(folder.rglob(f"[!.]*{suffix}"))):
            return CaptionFiles(KINDS[suffix], files, folder.resolve().name)
    raise FileNotFoundError(
        f"{folder} is no data set (no manifest.json) and has no .tar, .arrow or .parquet; name the caption file itself"
    )


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    remaining = iter(rows)
    while chunk := list(islice(remaining, BATCH_ROWS)):
        yield chunk


def _from_rows(path: Path, rows: list[Mapping[str, Any]]) -> pa.Table:
    names = {name: None for row in rows for name in row}
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return one_row_an_image(pa.table(columns), path)


def _read_list(path: Path) -> Iterator[dict[str, Any]]:
    entries = read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} holds {type(entries).__name__}; a list of {{captions, file_path, id, split}} is read")
    for number, entry in enumerate(entries):
        found = entry if isinstance(entry, dict) else {}
        captions = next((found[name] for name in _CAPTIONS if name in found), None)
        texts = [captions] if isinstance(captions, str) else captions
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path}: entry {number} has no captions (a text or a list of them): {str(entry)[:80]}")
        others = {name: value for name, value in found.items() if name not in {*_CAPTIONS, *_NEVER_TEXT}}
        yield {**others, "captions": texts}


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for name, group in groupby(_pairs(path, file), key=itemgetter(0)):
            yield {"key": name, "captions": [caption for _, caption in group]}


def _pairs(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    try:
        for number, line in enumerate(lines, start=1):
            if found := _LINE.fullmatch(line):
                yield found["name"], found["caption"]
            elif line.strip():
                form = "ImageName: NAME, the caption is: CAPTION"
                raise ValueError(f"{path}: line {number} is {line.strip()[:80]!r}; a line reads {form!r}")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}") from None


def _read_columns(path: Path, kind: Kind) -> Iterator[pa.Table]:
    if kind == "parquet":
        with open_parquet(path) as file:
            for batch in file.iter_batches(BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    else:
        table = map_arrow(path)
        for start in range(0, len(table), BATCH_ROWS):
            yield table.slice(start, BATCH_ROWS)


def _with_image_facts(table: pa.Table) -> pa.Table:
    """Put what an image's bytes say where UniPT has the bytes."""
    if "image" not in table.column_names or not pa.types.is_binary(table["image"].type):
        return table
    facts = [image_facts(data.as_py()) if data.is_valid else {} for chunk in table["image"].chunks for data in chunk]
    types = {"sha256": pa.string(), "width": pa.int32(), "height": pa.int32()}
    columns = {name: pa.array([fact.get(name) for fact in facts], kind) for name, kind in types.items()}
    others = {name: table[name] for name in table.column_names if name not in {"image", *columns}}
    return pa.table({**others, **columns})


def _as_lists(table: pa.Table, names: list[str]) -> pa.Array:
    """Put columns of text beside each other: of each row the list of those that are not null."""
    columns = pa.concat_arrays([table[name].combine_chunks().cast(pa.string()) for name in names])
    # shape: (rows * names,): all of the first row, then all of the second
    order = np.arange(len(columns)).reshape(len(names), -1).T.ravel()
    texts = columns.take(pa.array(order))
    is_there = np.asarray(texts.is_valid()).reshape(-1, len(names))
    offsets = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts.drop_null())


def _people_in(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read the person out of names such as `0002_c1s1_000451_03.jpg`."""
    return pc.fill_null(pc.struct_field(pc.extract_regex(keys, NAME_PATTERN), "person_id"), "")


def _is_as_named(name: str, kind: pa.DataType) -> bool:
    """Say whether a column that others know by its name holds what they expect."""
    if name in ("split", "sha256"):
        return bool(pa.types.is_string(kind))
    return name not in ("width", "height") or bool(pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind))
