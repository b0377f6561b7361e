"""The shards of a data set at a URL: manifest and tables are fetched once, samples by ranges of bytes."""

import hashlib
from pathlib import Path
from typing import Protocol

from passerby.network import read_ahead
from passerby.runtime import write_atomically
from passerby.shards.manifest import MANIFEST_NAME, QUARANTINE_NAME, Manifest, read_manifest
from passerby.shards.sums import FULL, is_inside
from passerby.shards.write import ShardRecord, meta_path
from passerby.storage import RemoteFolder, cache_folder

BLOCK_BYTES = 8 << 20
"""How much one request of a pass over all samples asks for: enough that its latency, some 50 ms, is a small part."""

READS_AHEAD = 4
"""Requests in flight; one connection to an object store gives some 100 MB/s, and the reader holds so many blocks."""


class View(Protocol):
    """Something to slice by places in a tar: a map of all of it, or a window."""

    def __getitem__(self, place: slice, /) -> bytes:
        """Give the bytes of a place."""
        ...


class Window:
    """The bytes of a tar from `start` on, sliced by their places in the tar."""

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start

    def __getitem__(self, place: slice, /) -> bytes:
        return self._data[place.start - self._start : place.stop - self._start]


class RemoteTars:
    """The tars of a data set at a URL, and its tables, which are cached by the hash of the manifest that vouches for them.

    The cache, `$XDG_CACHE_HOME/passerby/` or `~/.cache/passerby/`, may be deleted at any time.

    Raises:
        FileNotFoundError: there is no data set at the URL.
    """

    def __init__(self, url: str) -> None:
        self._folder = RemoteFolder(url)
        try:
            stored = self._folder.read(MANIFEST_NAME)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{url} is no data set: it has no {MANIFEST_NAME}; if it is being published, wait for the end"
            ) from None
        self.root = cache_folder() / hashlib.sha256(stored).hexdigest()[:32]
        (self.root / "meta").mkdir(parents=True, exist_ok=True)
        write_atomically(self.root / MANIFEST_NAME, stored)
        self.manifest: Manifest = read_manifest(self.root)
        self._has_checked_size: set[str] = set()

    def table(self, name: str) -> Path:
        """Give the table of a shard, fetched if it was not.

        Raises:
            ValueError: it is not the one that the manifest knows.
        """
        path = meta_path(self.root, name)
        if not path.is_file():
            data = self._folder.read(f"meta/{path.name}")
            if hashlib.sha256(data).hexdigest() != self.manifest.tables[name]:
                url = f"{self._folder.url}/meta/{path.name}"
                raise ValueError(f"{url} is not the one the manifest knows; run passerby verify {self._folder.url}")
            write_atomically(path, data)
        return path

    def view(self, record: ShardRecord, start: int, end: int) -> Window:
        """Read the bytes of a tar from `start` to `end`.

        Raises:
            ValueError: the tar has not the size that the manifest says.
        """
        name = f"data/{record.name}.tar"
        if name not in self._has_checked_size:
            size_bytes = self._folder.size(name)
            if size_bytes != record.size_bytes:
                url = f"{self._folder.url}/{name}"
                raise ValueError(f"{url} has {size_bytes} bytes, not {record.size_bytes}; run passerby verify")
            self._has_checked_size.add(name)
        return Window(self._folder.read(name, start, end), start)


def mirror(folder: RemoteFolder, root: Path) -> None:
    """Make `root` look like a data set at a URL, to be checked: all that `verify` reads but the tars, which stand empty."""
    wanted = []
    for name in filter(is_inside, folder.files()):
        top = name.partition("/")[0]
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name in (MANIFEST_NAME, QUARANTINE_NAME, "data/sizes.json") or top in ("meta", FULL):
            wanted.append(name)
        elif top == "data":
            (root / name).touch()
    for _ in read_ahead(lambda name: folder.download(name, root / name), wanted, at_once=READS_AHEAD):
        pass  # several at a time
