"""Captions without images: attribute table in, one Parquet file of captions out, for those who hold the images already."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captioning.attributes import SLOTS
from captioning.finegpr_c import COLUMNS, RECIPE, Captioner, Told
from passerby.engine import run_units
from passerby.generate import NOTHING_TO_MENTION, slice_of
from passerby.readers.finegpr import CODES
from passerby.runtime import atomic_file

ROWS_A_UNIT = 50_000
PIXEL_COLUMNS = ("width", "height", "sha256")
"""What only an image can tell; a captions file goes without."""

DISTINCT_COLUMNS = ("key", "caption", "path")
"""Columns with another value in nearly every row, for which Parquet need not look for repetitions."""

SCHEMA = pa.schema([COLUMNS.field(name) for name in COLUMNS.names if name not in PIXEL_COLUMNS])


@dataclass(frozen=True)
class TextJob:
    """The captions of an image table, cut into units. See `passerby.engine.Job`."""

    images: pa.Table
    captioner: Captioner
    units: int

    def run_unit(self, index: int) -> tuple[pa.Table, Counter[str]]:
        """Caption slice `index`; give the rows, and how many images have no caption, by reason."""
        rows = slice_of(self.images, index, self.units)
        told: list[Told | None] = []
        rejected: Counter[str] = Counter()
        names = ("key", "person_id", *CODES)
        for key, person_id, *codes in zip(*(rows[name].to_pylist() for name in names), strict=True):
            refusal = self.captioner.refuse(person_id)
            words = None if refusal else self.captioner.words(person_id, codes)
            told.append(None if words is None else self.captioner.tell(key, person_id, words))
            if told[-1] is None:
                rejected[refusal[0] if refusal else NOTHING_TO_MENTION] += 1
        if rejected:
            rows = rows.filter(pa.array([entry is not None for entry in told]))
        return self._table(rows, [entry for entry in told if entry is not None]), rejected

    def _table(self, rows: pa.Table, told: list[Told]) -> pa.Table:
        """Put what was told beside the columns that the images have already."""
        columns: dict[str, object] = {name: rows[name] for name in rows.column_names}
        columns |= {
            "source": pa.repeat(self.captioner.options.source, len(told)),
            "recipe": pa.repeat(RECIPE, len(told)),
        }
        columns |= {name: [getattr(entry, name) for entry in told] for name in ("caption", "template", "mentioned")}
        columns |= {slot: [entry.slots[slot] for entry in told] for slot in SLOTS}
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def write_captions(
    images: pa.Table,
    captioner: Captioner,
    out: Path,
    *,
    workers: int,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> tuple[int, Counter[str]]:
    """Write one row an image, in the order of the table, as Parquet; the same bytes for any number of workers.

    Returns:
        Rows written, and how many images have no caption, by reason.

    Raises:
        ValueError: `out` does not end in `.parquet`.
    """
    if out.suffix != ".parquet":
        raise ValueError(
            f"--text-only writes one Parquet file, but --out is {out}; give it a name that ends in .parquet"
        )
    job = TextJob(images, captioner, units=-(-images.num_rows // ROWS_A_UNIT))
    rejected: Counter[str] = Counter()
    written = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    repeating = [name for name in SCHEMA.names if name not in DISTINCT_COLUMNS]
    with (
        atomic_file(out) as file,
        pq.ParquetWriter(file, SCHEMA, compression="zstd", use_dictionary=repeating) as writer,
    ):
        for rows, missing in run_units(job, range(job.units), workers=workers):
            writer.write_table(rows)
            rejected += missing
            written += rows.num_rows
            on_progress(written + rejected.total())
    return written, rejected
