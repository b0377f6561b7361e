"""Read a data set by index or key, straight from its tars: nothing is extracted."""

import mmap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from passerby.network import read_ahead
from passerby.shards.manifest import hash_keys, read_manifest
from passerby.shards.remote import BLOCK_BYTES, READS_AHEAD, RemoteTars, View
from passerby.shards.table import layout_of, open_table, places_of, read_rows
from passerby.shards.tar import BLOCK
from passerby.shards.write import ShardRecord, meta_path, tar_path
from passerby.storage import is_url

MAX_OPEN_TARS = 256
"""Each takes a file descriptor, of which a process has 1024 on many systems."""


class ShardDataset:
    """The samples of a data set, in order; usable as a map-style data set of PyTorch.

    A sample is a dict: `__key__`, the image's bytes under its extension (`jpg`), the fields under `json`, the caption,
    where it has one, under `txt`, and the bytes of further members under their extensions (`parsing.png`); of a
    captions-only copy, JSON and caption alone. Memory is 24 bytes a sample of the shards touched; processes that fork
    share it, and a pickle carries none of it.

    Args:
        root: folder of the data set, or a URL that fsspec reaches (`s3://bucket/folder`, `hf://datasets/ORG/NAME`):
            then a sample is one request, and a pass over all is a few large ones, made ahead.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: its manifest is malformed or, when a sample is read, its files are not the manifest's.
    """

    def __init__(self, root: Path | str) -> None:
        self._location = root
        self._tars: LocalTars | RemoteTars = RemoteTars(str(root)) if is_url(root) else LocalTars(Path(root))
        self.root = self._tars.root
        self.manifest = self._tars.manifest
        self._starts = [0, *accumulate(record.kept for record in self.manifest.shards)]
        self._members: dict[int, tuple[list[str], np.ndarray]] = {}
        self._key_index: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int | str) -> dict[str, Any]:
        shard, row = self._place(self._find(index) if isinstance(index, str) else index)
        names, places = self._members_of(shard)
        place = places[row].tolist()
        view = self._tars.view(self.manifest.shards[shard], place[0][0] - BLOCK, place[-1][1])
        return _sample(view, self.manifest.shards[shard].name, names, place)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self))) if isinstance(self._tars, LocalTars) else self._stream()

    def __reduce__(self) -> tuple[type["ShardDataset"], tuple[Path | str]]:
        return type(self), (self._location,)

    def split(self, name: str) -> range:
        """Give the indices of the samples of a split.

        Raises:
            ValueError: there is no such split.
        """
        if name not in self.manifest.splits:
            raise ValueError(f"{self._location} has no split {name!r}; it has {', '.join(self.manifest.splits)}")
        shards = self.manifest.splits[name]
        return range(self._starts[shards.start], self._starts[shards.stop])

    def metadata(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read fields of all samples, in their order, without touching a tar.

        Args:
            columns: such as `["key", "person_id"]`; without it, everything in `meta/`.

        Raises:
            ValueError: there is no such column.
        """
        return pa.concat_tables(self.tables(columns), promote_options="default")

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Read the same shard by shard, for data sets that fit no memory."""
        return (read_rows(path, "kept", columns) for path in self._tables())

    def _tables(self) -> Iterator[Path]:
        """Give the tables of all shards, in order."""
        names = [record.name for record in self.manifest.shards]
        return (path for _, path in read_ahead(self._tars.table, names, at_once=READS_AHEAD))

    def _stream(self) -> Iterator[dict[str, Any]]:
        """Read all samples in order, in blocks, some blocks ahead of what is wanted."""
        for (shard, start, stop), view in read_ahead(self._read_block, self._blocks(), at_once=READS_AHEAD):
            names, places = self._members_of(shard)
            for place in places[start:stop].tolist():
                yield _sample(view, self.manifest.shards[shard].name, names, place)

    def _blocks(self) -> Iterator[tuple[int, int, int]]:
        """Cut the samples into blocks: shard, first row, and the row after the last."""
        for shard, record in enumerate(self.manifest.shards):
            ends = self._members_of(shard)[1][:, -1, 1]
            cuts = np.searchsorted(ends, np.arange(BLOCK_BYTES, record.size_bytes, BLOCK_BYTES), side="right")
            bounds = sorted({0, *cuts.tolist(), len(ends)})
            yield from ((shard, start, stop) for start, stop in pairwise(bounds))

    def _read_block(self, block: tuple[int, int, int]) -> View:
        shard, start, stop = block
        places = self._members_of(shard)[1]
        return self._tars.view(
            self.manifest.shards[shard], int(places[start, 0, 0]) - BLOCK, int(places[stop - 1, -1, 1])
        )

    def _place(self, index: int) -> tuple[int, int]:
        """Give the shard of sample `index`, and its row among the shard's samples."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there is no sample {index}; {self._location} has {len(self)}")
        shard = bisect_right(self._starts, position) - 1
        return shard, position - self._starts[shard]

    def _find(self, key: str) -> int:
        if self._key_index is None:
            keys = (read_rows(path, "kept", ["key"])["key"].to_pylist() for path in self._tables())
            hashes = np.concatenate([*map(hash_keys, keys)])
            order = np.argsort(hashes, kind="stable")
            self._key_index = hashes[order], order
        hashes, order = self._key_index
        for place in range(int(np.searchsorted(hashes, hash(key))), len(order)):
            if hashes[place] != hash(key):
                break
            index = int(order[place])
            shard, row = self._place(index)
            start = int(self._members_of(shard)[1][row, 0, 0])
            view = self._tars.view(self.manifest.shards[shard], start - BLOCK, start)
            if _member_name(view, start).partition(".")[0] == key:
                return index
        raise KeyError(key)

    def _members_of(self, shard: int) -> tuple[list[str], np.ndarray]:
        """Give the names of a shard's members, and start and end of each: UInt (samples, members, 2)."""
        if shard not in self._members:
            record = self.manifest.shards[shard]
            path = self._tars.table(record.name)
            with open_table(path) as file:
                names = layout_of(file.schema_arrow)[1]
            table = read_rows(path, "kept", places_of(names))
            if len(table) != record.kept:
                raise ValueError(f"{path} has {len(table)} samples, not {record.kept}; run passerby verify")
            # shape: (members, 2, samples)
            places = np.stack([column.to_numpy() for column in table.columns]).reshape(len(names), 2, len(table))
            _check_places(places, record.size_bytes, path)
            places[:, 1] += places[:, 0]
            narrow = np.uint32 if record.size_bytes < 1 << 32 else np.uint64
            # shape: (samples, members, 2)
            self._members[shard] = names, np.ascontiguousarray(places.transpose(2, 0, 1), dtype=narrow)
        return self._members[shard]


class LocalTars:
    """The tars of a data set in a folder, as memory maps that open when they are first used."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = read_manifest(root)
        self._maps: dict[str, mmap.mmap] = {}

    def table(self, name: str) -> Path:
        """Give the table of a shard."""
        return meta_path(self.root, name)

    def view(self, record: ShardRecord, start: int, end: int) -> mmap.mmap:
        """Give the map of a tar, for a reader who wants its bytes from `start` to `end`."""
        tar = self._maps.pop(record.name, None)
        if tar is None:
            path = tar_path(self.root, record.name)
            size_bytes = path.stat().st_size
            if size_bytes != record.size_bytes:
                raise ValueError(f"{path} has {size_bytes} bytes, not {record.size_bytes}; run passerby verify")
            with path.open("rb") as file:
                tar = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if len(self._maps) >= MAX_OPEN_TARS:
                del self._maps[next(iter(self._maps))]
        self._maps[record.name] = tar  # the last one used comes last
        return tar


def _check_places(places: np.ndarray, size_bytes: int, path: Path) -> None:
    """See that all members lie in their tar, each behind its header; `places` are (members, offset and size, samples)."""
    offsets, sizes = places[:, 0], places[:, 1]
    # a row without a place makes the numbers floats; and no sum of two such numbers can overflow
    is_inside = places.dtype == np.int64 and bool(np.all((offsets >= BLOCK) & (sizes >= 0) & (sizes <= size_bytes)))
    if not is_inside or not np.all(offsets <= size_bytes - sizes):
        raise ValueError(f"{path} places members outside their tar of {size_bytes:,} bytes; run passerby verify")


def _sample(tar: View, shard: str, names: Sequence[str], place: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Cut a sample out of the tar of a shard: `place` holds start and end of each of its members, which `names` names."""
    (first, end), *others = place
    try:
        key, _, extension = _member_name(tar, first).partition(".")  # of an image, its kind; else `json`
        sample: dict[str, Any] = {"__key__": key, extension: tar[first:end]}
        for name, (start, end) in zip(names[1:], others, strict=True):
            sample[name] = tar[start:end]
        sample["json"] = orjson.loads(sample["json"])
        if "txt" in sample:
            sample["txt"] = sample["txt"].decode()
    except ValueError as error:  # of names and texts that are no UTF-8, and JSON that is none
        raise ValueError(
            f"{shard}.tar: the sample at byte {first:,} is damaged ({error}); run passerby verify"
        ) from None
    return sample


def _member_name(tar: View, start: int) -> str:
    """Read the name in the header before the content that begins at `start`."""
    return tar[start - BLOCK : start - BLOCK + 100].rstrip(b"\0").decode()
