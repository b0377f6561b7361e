"""Where a copy goes: a folder that fsspec reaches, and what lies there already."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from passerby.network import Retried, naming, retrying
from passerby.shards.manifest import MANIFEST_NAME
from passerby.shards.sums import hash_file
from passerby.storage import PART_BYTES, RemoteFolder

CLOSING = ("croissant.json", MANIFEST_NAME, "README.md")
"""What goes last, in this order: a copy without manifest is no data set, so nobody takes half of one for the whole."""

Done = Callable[["Upload"], None]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to hand on."""

    name: str
    """Its path in the copy."""
    path: Path
    """Where it lies here."""
    size_bytes: int


class Target(Protocol):
    """A place that takes files."""

    def names(self) -> Sequence[str]:
        """Name the files that are there."""
        ...

    def holds(self, upload: Upload) -> bool:
        """Say whether a file is there with these very bytes."""
        ...

    def send(self, uploads: Sequence[Upload], *, workers: int, on_retry: Retried, on_done: Done) -> None:
        """Bring files there, in an order that shows no half as the whole."""
        ...


@dataclass
class FolderTarget:
    """A bucket, a folder, or whatever fsspec writes to."""

    folder: RemoteFolder
    _found: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, init=False)

    def names(self) -> Sequence[str]:
        """Name the files that are there."""
        self._found = self.folder.files()
        return list(self._found)

    def holds(self, upload: Upload) -> bool:
        """Say whether a file is there with these very bytes.

        Size alone proves nothing. On S3 the ETag of an object that is not encrypted with a key of one's own tells its bytes:
        it is their MD5 or, of an object sent in parts, that of the MD5s of the parts; where it is the one that our upload
        gives, the bytes are the same. Elsewhere, and where it is not, the file is read back and hashed.
        """
        found = self._found.get(upload.name)
        if found is None or found["size"] != upload.size_bytes:
            return False
        if "ETag" in found and found["ETag"].strip('"') == _etag(upload.path):
            return True
        return self._digest(upload.name) == hash_file(upload.path)

    def send(self, uploads: Sequence[Upload], *, workers: int, on_retry: Retried, on_done: Done) -> None:
        """Bring files there: many at a time, then the closing ones one by one.

        Raises:
            OSError: the place does not take them, however often it was tried.
        """
        last = [upload for upload in uploads if upload.name in CLOSING]
        if MANIFEST_NAME in self._found and any(upload.name == MANIFEST_NAME for upload in uploads):
            self.folder.remove(MANIFEST_NAME, on_retry)
        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(self._put, each, on_retry) for each in uploads if each not in last]
            try:
                for future in futures:
                    on_done(future.result())
            finally:
                pool.shutdown(cancel_futures=True)
        for upload in last:
            on_done(self._put(upload, on_retry))

    def _put(self, upload: Upload, on_retry: Retried) -> Upload:
        self.folder.upload(upload.name, upload.path, on_retry)
        return upload

    def _digest(self, name: str) -> str:
        system, folder = self.folder.open()

        def digest() -> str:
            with closing(system.open(f"{folder}/{name}", "rb", block_size=PART_BYTES)) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        with naming(f"{self.folder.url}/{name}"):
            return retrying(digest)


def _etag(path: Path) -> str:
    """Give the ETag that S3 gives to a file as `FolderTarget` sends it."""
    md5 = partial(hashlib.md5, usedforsecurity=False)
    with path.open("rb") as file:
        if path.stat().st_size < 2 * PART_BYTES:
            return hashlib.file_digest(file, md5).hexdigest()
        parts = [md5(part) for part in iter(partial(file.read, PART_BYTES), b"")]
    together = md5(b"".join(part.digest() for part in parts))
    return f"{together.hexdigest()}-{len(parts)}"
