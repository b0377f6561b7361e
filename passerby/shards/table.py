"""The table of a shard: a row for every input, samples and inputs left out alike, in the order they came."""

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from passerby.columnar import open_parquet
from passerby.sample import JsonValue, Rejected, Sample, encode_json, printable

REQUIRED_COLUMNS = ("key", "sha256", "path")
"""Fields of every data set: what `verify` checks a sample by, and the file it came from."""

STATUS_COLUMNS = [("status", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
"""`kept` or `rejected`; and for what was rejected, why."""

TEXT_MEMBERS = ("json", "txt")
"""The members that follow from the fields: `text_members` makes them."""

_ROWS_A_GROUP = 4096
_COLUMNS_OF_ONE_THREAD = 32
"""So few are read as fast by one thread, and in less memory, of which each thread keeps its own."""

_SCALARS: Mapping[Callable[[pa.DataType], bool], type] = {
    pa.types.is_string: str,
    pa.types.is_integer: int,
    pa.types.is_float64: float,
    pa.types.is_boolean: bool,
}


class TableWriter:
    """Take one row at a time, hold it to the columns, and write rows in groups.

    Args:
        file: where the Parquet goes.
        columns: names, order and types of every sample's fields.

    Raises:
        ValueError: a required column is missing, or a type would change values on their way to JSON and back.
    """

    def __init__(self, file: BinaryIO, columns: pa.Schema) -> None:
        for name in REQUIRED_COLUMNS:
            if name not in columns.names or columns.field(name).type != pa.string():
                raise ValueError(f"columns must hold {name} as a string; they are {columns.names}")
        if "caption" in columns.names and columns.field("caption").type != pa.string():
            raise ValueError(f"column caption is {columns.field('caption').type}; it must be a string")
        _schema(columns, _text_names(columns.names))
        self._file = file
        self._columns = columns
        self._names = tuple(columns.names)
        self._types = tuple(map(_python_type, columns))
        self._elements = {column.name: _element_type(column) for column in columns if pa.types.is_list(column.type)}
        self._members: tuple[str, ...] | None = None  # known from the first sample on
        self._rows: list[tuple[object, ...]] = []
        self._writer: pq.ParquetWriter | None = None

    def check(self, sample: Sample) -> None:
        """Refuse a sample whose fields do not fit the columns, or whose members are not those of the first.

        Raises:
            ValueError: a field is missing, too many, or of another type.
        """
        names, values = tuple(sample.fields), sample.fields.values()
        if names != self._names:
            raise ValueError(f"sample {sample.key} has the fields {names}; the columns are {self._names}")
        if tuple(map(type, values)) != self._types:
            for name, value, expected in zip(names, values, self._types, strict=True):
                if type(value) is not expected:
                    raise ValueError(f"sample {sample.key}: {name} is {value!r}; the column takes {expected.__name__}")
        for name, expected in self._elements.items():
            value = sample.fields[name]
            if isinstance(value, list) and {*map(type, value)} - {expected}:
                raise ValueError(f"sample {sample.key}: {name} is {value!r}; the column takes {expected.__name__}s")
        members = member_names(sample)
        if self._members is None:
            self._members = members
        elif members != self._members:
            raise ValueError(f"sample {sample.key} brings {[*members]}, the ones before it {[*self._members]}")

    def add_kept(self, sample: Sample, places: Sequence[tuple[int, int]]) -> None:
        """Add the row of a checked sample; `places` are (offset, size) of its members."""
        numbers = (number for place in places for number in place)
        hashes = (hashlib.sha256(content).hexdigest() for content in sample.extras.values())
        self._add(("kept", None, None, *sample.fields.values(), sample.image_extension, *numbers, *hashes))

    def add_rejected(self, rejected: Rejected) -> None:
        """Add the row of an input that is left out."""
        known = {"key": rejected.key or None, "path": printable(rejected.path)}
        self._add(("rejected", rejected.reason, printable(rejected.detail), *map(known.get, self._names)))

    def flush(self) -> None:
        """Write the rows that are left, after the last of all.

        Raises:
            ValueError: a number is too large for its column.
        """
        if self._rows or self._writer is None:
            self._write_rows()

    def finish(self, metadata: Mapping[bytes, bytes]) -> None:
        """Put `metadata` into the footer."""
        assert self._writer is not None, "flush comes first"
        self._writer.add_key_value_metadata(metadata)

    def close(self) -> None:
        """Write the footer, if anything was written."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS_A_GROUP and self._members is not None:
            self._write_rows()

    def _write_rows(self) -> None:
        if self._writer is None:
            schema = _schema(self._columns, self._members or ("image", *_text_names(self._names)))
            self._writer = pq.ParquetWriter(self._file, schema, compression="zstd")
        schema = self._writer.schema
        width = len(schema)
        rows = [row + (None,) * (width - len(row)) for row in self._rows]  # what is left out has no members
        columns = zip(*rows, strict=True) if rows else [()] * width
        try:
            arrays = [pa.array(values, kind) for values, kind in zip(columns, schema.types, strict=True)]
        except (pa.ArrowInvalid, OverflowError) as error:
            raise ValueError(f"a number is too large for its column: {error}") from error
        self._writer.write(pa.record_batch(arrays, schema=schema))
        self._rows.clear()


@contextmanager
def open_table(path: Path | pa.NativeFile, told: str = "") -> Iterator[pq.ParquetFile]:
    """Open the table of a shard; what is damaged in it is named, when it is read within the block too.

    Args:
        path: The file, or its bytes.
        told: Its name, for errors, where only its bytes are here.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it is damaged, or no shard's.
    """
    name = told or path
    with open_parquet(path, told) as file:
        if missing := sorted({"status", *REQUIRED_COLUMNS, "image_extension"} - {*file.schema_arrow.names}):
            raise ValueError(f"{name} is not the table of a shard: it has no column {', '.join(missing)}")
        for column in places_of(layout_of(file.schema_arrow)[1]):
            if column not in file.schema_arrow.names or file.schema_arrow.field(column).type != pa.int64():
                raise ValueError(f"{name} is not the table of a shard: it has no column {column} of int64")
        yield file


def read_rows(path: Path, status: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the rows of one status, `kept` or `rejected`, with some columns or all.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: the table is damaged, or lacks a column.
    """
    with open_parquet(path) as file:
        known = file.schema_arrow.names
        names = known if columns is None else columns
        if unknown := [name for name in ("status", *names) if name not in known]:
            raise ValueError(f"{path} has no columns {unknown}; it has {known}")
        return _rows_of(file, status, names)


def kept_rows(file: pq.ParquetFile, columns: Sequence[str]) -> pa.Table:
    """Read some columns of the samples of a table that is open, all of them there."""
    return _rows_of(file, "kept", columns)


def _rows_of(file: pq.ParquetFile, status: str, columns: Sequence[str]) -> pa.Table:
    names = list({"status": None, **dict.fromkeys(columns)})
    table = file.read(names, use_threads=len(names) > _COLUMNS_OF_ONE_THREAD)
    table.validate(full=True)  # Parquet's reader takes any bytes for text
    return table.filter(pc.equal(table["status"], status)).select(columns)


def member_names(sample: Sample) -> tuple[str, ...]:
    """Name the members of a sample in their order: `image` and `txt` where it has them, `json`, and extras."""
    image = ("image",) if sample.image_extension else ()
    return (*image, *_text_names(sample.fields), *sample.extras)


def text_members(fields: Mapping[str, JsonValue]) -> dict[str, bytes]:
    """Make the members that follow from a sample's fields: `json`, and `txt` where there is a caption.

    Raises:
        ValueError: the fields are no flat JSON.
    """
    texts = {"json": encode_json(fields), "txt": str(fields.get("caption", "")).encode()}
    return {name: texts[name] for name in _text_names(fields)}


def layout_of(schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Give the names of the samples' fields in a table, and of their members; see `member_names`."""
    names = schema.names
    middle = names.index("image_extension")
    members = [name.removesuffix("_offset") for name in names[middle + 1 :] if name.endswith("_offset")]
    return names[len(STATUS_COLUMNS) : middle], members


def places_of(members: Iterable[str]) -> list[str]:
    """Name the columns that say where members lie: offset and size of each in bytes."""
    return [f"{member}_{what}" for member in members for what in ("offset", "size")]


def columns_of(schema: pa.Schema) -> pa.Schema:
    """Give the columns that a table was written with: those of the samples' fields."""
    return pa.schema([schema.field(name) for name in layout_of(schema)[0]])


def hash_column(member: str) -> str:
    """Name the column with the sha256 of the image or of an extra; JSON and text need none, the table says them whole."""
    return "sha256" if member == "image" else f"{member}_sha256"


def _text_names(fields: Container[str]) -> tuple[str, ...]:
    return TEXT_MEMBERS if "caption" in fields else ("json",)


def _schema(columns: pa.Schema, members: Sequence[str]) -> pa.Schema:
    places = [(name, pa.int64()) for name in places_of(members)]
    hashes = [(hash_column(member), pa.string()) for member in members if member not in ("image", *TEXT_MEMBERS)]
    schema = pa.schema([*STATUS_COLUMNS, *columns, ("image_extension", pa.string()), *places, *hashes])
    if len(set(schema.names)) < len(schema.names):
        taken = sorted(name for name in set(schema.names) if schema.names.count(name) > 1)
        raise ValueError(f"the columns {taken} are there twice, or are the table's own; rename them")
    return schema


def _python_type(column: pa.Field) -> type:
    """Say what type of value a column takes, so that value, JSON and column tell the same."""
    return list if pa.types.is_list(column.type) else _scalar_type(column)


def _element_type(column: pa.Field) -> type:
    return _scalar_type(column.type.value_field.with_name(column.name))


def _scalar_type(column: pa.Field) -> type:
    for is_kind, kind in _SCALARS.items():
        if is_kind(column.type):
            return kind
    raise ValueError(
        f"column {column.name} is {column.type}; allowed are string, integers, double, bool, lists of these"
    )
