"""Read a data set by index or key, straight from its tars: nothing is extracted."""

import json
import mmap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from passerby.shards.manifest import hash_keys, read_keys, read_manifest
from passerby.shards.table import layout_of, read_rows
from passerby.shards.tar import BLOCK
from passerby.shards.write import meta_path, tar_path

MAX_OPEN_TARS = 256
"""Each takes a file descriptor, of which a process has 1024 on many systems."""


class ShardDataset:
    """The samples of a data set, in order; usable as a map-style data set of PyTorch.

    A sample is a dict: `__key__`, the image's bytes under its extension (`jpg`), the fields under `json`, the
    caption under `txt`, and the bytes of further members under their extensions (`parsing.png`). Memory is 24
    bytes a sample of the shards touched; processes that fork share it, and a pickle carries none of it.

    Raises:
        FileNotFoundError: `root` is no data set.
        ValueError: its manifest is malformed or, when a sample is read, its files are not the manifest's.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.manifest = read_manifest(self.root)
        self._starts = [0, *accumulate(record.kept for record in self.manifest.shards)]
        self._members: dict[int, tuple[list[str], np.ndarray]] = {}
        self._maps: dict[int, mmap.mmap] = {}
        self._key_index: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int | str) -> dict[str, Any]:
        shard, row = self._place(self._find(index) if isinstance(index, str) else index)
        names, places = self._members_of(shard)
        tar = self._map_of(shard)
        (image_start, image_end), *others = places[row].tolist()
        key, _, image_extension = _member_name(tar, image_start).partition(".")
        sample: dict[str, Any] = {"__key__": key, image_extension: tar[image_start:image_end]}
        for name, (start, end) in zip(names[1:], others, strict=True):
            sample[name] = tar[start:end]
        sample["json"] = json.loads(sample["json"])
        sample["txt"] = sample["txt"].decode()
        return sample

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self.__getitem__, range(len(self)))

    def __reduce__(self) -> tuple[type["ShardDataset"], tuple[Path]]:
        return type(self), (self.root,)

    def metadata(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read fields of all samples, in their order, without touching a tar.

        Args:
            columns: such as `["key", "person_id"]`; without it, everything in `meta/`.

        Raises:
            ValueError: there is no such column.
        """
        tables = [read_rows(meta_path(self.root, record.name), "kept", columns) for record in self.manifest.shards]
        return pa.concat_tables(tables, promote_options="default")

    def _place(self, index: int) -> tuple[int, int]:
        """Give the shard of sample `index`, and its row among the shard's samples."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there is no sample {index}; {self.root} has {len(self)}")
        shard = bisect_right(self._starts, position) - 1
        return shard, position - self._starts[shard]

    def _find(self, key: str) -> int:
        if self._key_index is None:
            names = [record.name for record in self.manifest.shards]
            hashes = np.concatenate([hash_keys(read_keys(self.root, name)) for name in names])
            order = np.argsort(hashes, kind="stable")
            self._key_index = hashes[order], order
        hashes, order = self._key_index
        for place in range(int(np.searchsorted(hashes, hash(key))), len(order)):
            if hashes[place] != hash(key):
                break
            index = int(order[place])
            shard, row = self._place(index)
            image_start = int(self._members_of(shard)[1][row, 0, 0])
            if _member_name(self._map_of(shard), image_start).partition(".")[0] == key:
                return index
        raise KeyError(key)

    def _members_of(self, shard: int) -> tuple[list[str], np.ndarray]:
        """Give the names of a shard's members, and start and end of each: UInt (samples, members, 2)."""
        if shard not in self._members:
            record = self.manifest.shards[shard]
            path = meta_path(self.root, record.name)
            _, names = layout_of(pq.read_schema(path))
            table = read_rows(path, "kept", [f"{name}_{what}" for name in names for what in ("offset", "size")])
            if len(table) != record.kept:
                raise ValueError(f"{path} has {len(table)} samples, not {record.kept}; run passerby verify")
            # shape: (members, 2, samples)
            places = np.stack([column.to_numpy() for column in table.columns]).reshape(len(names), 2, len(table))
            places[:, 1] += places[:, 0]
            narrow = np.uint32 if record.size_bytes < 1 << 32 else np.uint64
            # shape: (samples, members, 2)
            self._members[shard] = names, np.ascontiguousarray(places.transpose(2, 0, 1), dtype=narrow)
        return self._members[shard]

    def _map_of(self, shard: int) -> mmap.mmap:
        tar = self._maps.pop(shard, None)
        if tar is None:
            record = self.manifest.shards[shard]
            path = tar_path(self.root, record.name)
            size_bytes = path.stat().st_size
            if size_bytes != record.size_bytes:
                raise ValueError(f"{path} has {size_bytes} bytes, not {record.size_bytes}; run passerby verify")
            with path.open("rb") as file:
                tar = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if len(self._maps) >= MAX_OPEN_TARS:
                del self._maps[next(iter(self._maps))]
        self._maps[shard] = tar  # the last one used comes last
        return tar


def _member_name(tar: mmap.mmap, start: int) -> str:
    """Read the name in the header before the content that begins at `start`."""
    return tar[start - BLOCK : start - BLOCK + 100].rstrip(b"\0").decode()
