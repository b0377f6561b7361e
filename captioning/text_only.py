"""Captions without images: attribute table in, one Parquet file of captions out, for those who hold the images already."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from captioning.finegpr_c import COLUMNS, Captioner, slice_of
from passerby.engine import run_units
from passerby.runtime import atomic_file
from passerby.sample import Rejected

ROWS_A_UNIT = 50_000
PIXEL_COLUMNS = ("width", "height", "sha256")
"""What only an image can tell; a captions file goes without."""

SCHEMA = pa.schema([COLUMNS.field(name) for name in COLUMNS.names if name not in PIXEL_COLUMNS])


@dataclass(frozen=True)
class TextJob:
    """The captions of an image table, cut into units. See `passerby.engine.Job`."""

    images: pa.Table
    captioner: Captioner
    units: int

    def run_unit(self, index: int) -> tuple[pa.Table, Counter[str]]:
        """Caption slice `index`; give the rows, and how many images have no caption, by reason."""
        described = [self.captioner.describe(image) for image in slice_of(self.images, index, self.units).to_pylist()]
        rows = [fields for fields in described if not isinstance(fields, Rejected)]
        rejected = Counter(fields.reason for fields in described if isinstance(fields, Rejected))
        columns = [pa.array([row[name] for row in rows], SCHEMA.field(name).type) for name in SCHEMA.names]
        return pa.table(columns, schema=SCHEMA), rejected


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
    with atomic_file(out) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for rows, missing in run_units(job, range(job.units), workers=workers):
            writer.write_table(rows)
            rejected += missing
            written += rows.num_rows
            on_progress(written + rejected.total())
    return written, rejected
