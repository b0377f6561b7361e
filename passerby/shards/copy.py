"""Copy samples from shards into another shard byte for byte: nothing is decoded, only moved.

The bytes of a sample are headers, contents and padding of its members, one after the other; so consecutive
samples are one slice of a tar, and a copy differs only in where they lie. Damage cannot hide in a copy: the rows
come along with their hashes, and `passerby verify` holds every byte to its row.
"""

import hashlib
import json
import mmap
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from passerby.runtime import atomic_file
from passerby.shards.table import layout_of
from passerby.shards.tar import BLOCK, END
from passerby.shards.write import RECORD_KEY, ShardRecord, begin_shard, meta_path, tar_path

SHARDS_AT_ONCE = 2
"""How many to copy in threads: writing and hashing leave Python free, and one is flushed while the next begins."""

_ROWS_A_GROUP = 4096
_PIECE_BYTES = 1 << 20
"""What is hashed and written in one go."""

_PIECES_BEHIND = 16
"""How many pieces hashing may be behind writing."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one shard that go into another."""

    tar: Path
    """Where the members of the kept rows lie."""

    rows: pa.Table
    """All columns of a shard's table. Rows that are rejected go along as they are, and no bytes with them."""

    @property
    def kept(self) -> pa.Table:
        """The rows that are samples."""
        return self.rows.filter(pc.equal(self.rows["status"], "kept"))


def copy_shard(root: Path, name: str, parts: Sequence[Part], *, config_hash: str) -> ShardRecord:
    """Write shard `name` under `root` from parts of other shards, in their order.

    A shard that this configuration has finished already is left as it is; see `passerby.shards.write.write_shard`.

    Args:
        root: folder of the data set.
        name: such as `train-00003-of-00064`.
        parts: what to copy; at least one, all with the same columns.
        config_hash: names the configuration that decides every byte.
    """
    if done := begin_shard(root, name, config_hash=config_hash):
        return done
    sha256 = copy_tar(tar_path(root, name), parts)
    return write_rows(root, name, moved_rows(parts), sha256=sha256, config_hash=config_hash)


def copy_tar(path: Path, parts: Iterable[Part]) -> str:
    """Write a tar of the kept rows of `parts`, in their order; give its sha256 in hexadecimal."""
    sha256 = hashlib.sha256()
    with atomic_file(path) as file, ThreadPoolExecutor(1) as hasher:
        hashing: deque[Future[None]] = deque()
        for piece in chain(_pieces(parts), [END]):
            hashing.append(hasher.submit(sha256.update, piece))  # takes longer than writing, and goes on beside it
            file.write(piece)
            if len(hashing) > _PIECES_BEHIND:
                hashing.popleft().result()
    return sha256.hexdigest()


def write_rows(root: Path, name: str, rows: pa.Table, *, sha256: str, config_hash: str) -> ShardRecord:
    """Write the table of shard `name`, whose tar has just been written, with the shard's record in its footer."""
    kept = rows.filter(pc.equal(rows["status"], "kept"))
    reasons = Counter(rows["reason"].drop_null().to_pylist())
    record = ShardRecord(
        name=name,
        kept=len(kept),
        reasons=dict(sorted(reasons.items())),
        first_key=kept["key"][0].as_py() if len(kept) else "",
        last_key=kept["key"][-1].as_py() if len(kept) else "",
        size_bytes=tar_size(rows),
        sha256=sha256,
        config_hash=config_hash,
    )
    with atomic_file(meta_path(root, name)) as file:
        _write_table(file, rows, record)
    return record


def moved_rows(parts: Sequence[Part]) -> pa.Table:
    """Give the rows of `parts` as one table, with the places that `copy_tar` gives their members."""
    rows = pa.concat_tables(part.rows for part in parts).replace_schema_metadata()
    starts, ends = spans_of(rows).T
    shifts = np.zeros(len(rows), np.int64)
    shifts[np.asarray(pc.equal(rows["status"], "kept"))] = np.cumsum(ends - starts) - ends
    for member in layout_of(rows.schema)[1]:
        column = rows.schema.get_field_index(f"{member}_offset")
        moved = pc.add(rows.column(column), pa.array(shifts))
        rows = rows.set_column(column, rows.schema.field(column), moved)
    return rows


def spans_of(rows: pa.Table) -> NDArray[np.int64]:
    """Say where each kept row's sample begins and ends in its tar: Int64 (kept rows, 2), bytes."""
    kept = rows.filter(pc.equal(rows["status"], "kept"))
    members = layout_of(rows.schema)[1]
    # shape: (members, rows)
    offsets, sizes = (
        np.stack([kept[f"{member}_{what}"].to_numpy() for member in members]) for what in ("offset", "size")
    )
    ends = offsets + -(-sizes // BLOCK) * BLOCK
    return np.stack([offsets.min(axis=0) - BLOCK, ends.max(axis=0)], axis=1)


def merge_spans(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join spans that touch: Int64 (spans, 2) in, as many or fewer out.

    >>> merge_spans(np.array([[0, 5], [5, 9], [12, 14]])).tolist()
    [[0, 9], [12, 14]]
    """
    breaks = np.flatnonzero(spans[1:, 0] != spans[:-1, 1])
    return np.stack([spans[np.r_[0, breaks + 1], 0], spans[np.r_[breaks, -1], 1]], axis=1) if len(spans) else spans


def tar_size(rows: pa.Table) -> int:
    """Say how many bytes the tar of a table's kept rows has."""
    return int(np.diff(spans_of(rows)).sum()) + len(END)


def reject(rows: pa.Table, is_left_out: NDArray[np.bool_], told: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """Turn some rows into rejected ones, which say nothing but what they are told to.

    Args:
        rows: all columns of a shard's table.
        is_left_out: Bool (rows,).
        told: by column, values of which the rows that are left out take theirs. Their other columns become null.
    """
    places = pa.array(np.arange(len(rows)), mask=is_left_out)
    emptied = rows.take(places)
    for name, values in {"status": pa.array(["rejected"] * len(rows), pa.string()), **told}.items():
        column = rows.schema.get_field_index(name)
        filled = pc.if_else(pa.array(is_left_out), values, emptied.column(column))
        emptied = emptied.set_column(column, rows.schema.field(column), filled)
    return emptied


def _pieces(parts: Iterable[Part]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of the kept rows, in pieces of a size that is cheap to hash and to write."""
    for part in parts:
        spans = merge_spans(spans_of(part.rows))
        if len(spans) == 0:
            continue
        with part.tar.open("rb") as file:
            tar = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closes with the last view of it
        tar.madvise(mmap.MADV_WILLNEED)
        view = memoryview(tar)
        slices: list[memoryview] = []
        size_bytes = 0
        for start, end in spans.tolist():
            for place in range(start, end, _PIECE_BYTES):
                slices.append(view[place : min(end, place + _PIECE_BYTES)])
                size_bytes += len(slices[-1])
                if size_bytes >= _PIECE_BYTES:
                    yield slices[0] if len(slices) == 1 else b"".join(slices)
                    slices, size_bytes = [], 0
        yield b"".join(slices)


def _write_table(file: BinaryIO, rows: pa.Table, record: ShardRecord) -> None:
    with closing(pq.ParquetWriter(file, rows.schema, compression="zstd")) as writer:
        writer.write_table(rows, row_group_size=_ROWS_A_GROUP)
        writer.add_key_value_metadata({RECORD_KEY: json.dumps(asdict(record)).encode()})
