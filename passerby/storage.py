"""Folders that lie elsewhere: any place that fsspec reaches, by URL.

Credentials come from the environment, as the library of each place reads them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
`AWS_ENDPOINT_URL`, `HF_TOKEN`, …); a URL that holds any is refused, because URLs end up in logs.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fsspec.core import url_to_fs

from passerby.network import Retried, naming, retrying
from passerby.runtime import TEMPORARY_SUFFIX

REQUESTS_AT_ONCE = 16
"""Small requests in flight, of each process: at 50 ms each they are 300 a second, where one by one gives 20."""

PART_BYTES = 16 << 20
"""Objects of twice this size go to S3 in parts of it; the ETag of such an object depends on where it was cut."""

INSTALL = {
    **{"s3": "passerby[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"},
    **{"http": "aiohttp", "https": "aiohttp"},
}
"""What reaches a place whose library does not come with passerby."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    # our own attempts are counted and reported, the library's are not; and requests at once need a connection each
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}, "max_pool_connections": 2 * REQUESTS_AT_ONCE}},
    "file": {"auto_mkdir": True},
}

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "memory"})
"""Places where an upload shows when it is whole; elsewhere a file comes under another name, and is moved."""

_READ_ONLY = {
    **dict.fromkeys(("http", "https"), "nothing can be written there; give a bucket, such as s3://bucket/folder"),
    "hf": "a run cannot write to the Hub; write to a folder, and hand it on with passerby publish",
}


def is_url(location: Path | str) -> bool:
    """Say whether `location` is a URL, such as `s3://bucket/folder`, and not a path."""
    return isinstance(location, str) and "://" in location


def to_location(text: str) -> Path | str:
    """Tell a URL from a path, as a user types them: a `Path` would make one slash of two."""
    return text if is_url(text) else Path(text)


def read_location(location: Path | str) -> bytes:
    """Read a file, here or at a URL.

    Raises:
        FileNotFoundError: there is none.
    """
    if not is_url(location):
        return Path(location).read_bytes()
    folder, _, name = str(location).rpartition("/")
    return RemoteFolder(folder).read(name)


def cache_folder() -> Path:
    """Say where is kept what can be had again: `$XDG_CACHE_HOME/passerby` or `~/.cache/passerby`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "passerby"


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder at a URL. Holds no connection, so it may be pickled and may cross a fork.

    Raises:
        ValueError: the URL names no place that is known, or holds a password.
        ModuleNotFoundError: the library that reaches the place is not installed.
    """

    url: str

    def __post_init__(self) -> None:
        """Refuse what cannot be reached, at once."""
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if "@" in urlsplit(self.url).netloc:
            raise ValueError(f"{self.scheme}://…@…: a URL must hold no user or password; set the environment")
        self.open()

    @property
    def scheme(self) -> str:
        """What the URL begins with, such as `s3`."""
        return urlsplit(self.url).scheme

    def open(self) -> tuple[Any, str]:
        """Give fsspec's file system, and the folder's path on it; cheap, for fsspec keeps one for each process."""
        try:
            system, path = url_to_fs(self.url, **_OPTIONS.get(self.scheme, {}))
        except ImportError as error:
            wanted = INSTALL.get(self.scheme, f"what fsspec needs for it ({error})")
            raise ModuleNotFoundError(
                f"{self.scheme}:// needs a library that is not here; pip install {wanted}"
            ) from None
        except ValueError as error:
            raise ValueError(f"{self.url} cannot be reached: {error}") from None
        if self.scheme == "s3":
            system.retries = 1
        return system, path

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file, or its bytes from `start` to `end`.

        Raises:
            FileNotFoundError: there is none.
        """
        system, folder = self.open()
        options = {"max_concurrency": 1} if self.scheme == "s3" else {}  # otherwise it asks for the size first
        with naming(f"{self.url}/{name}"):
            data: bytes = retrying(lambda: system.cat_file(f"{folder}/{name}", start=start, end=end, **options))
        return data

    def is_folder(self) -> bool:
        """Say whether anything lies here."""
        system, folder = self.open()
        with naming(self.url):
            return bool(retrying(lambda: system.isdir(folder)))

    def exists(self, name: str) -> bool:
        """Say whether there is a file."""
        try:
            self.size(name)
        except FileNotFoundError:
            return False
        return True

    def size(self, name: str) -> int:
        """Say how many bytes a file has.

        Raises:
            FileNotFoundError: there is none.
        """
        system, folder = self.open()
        with naming(f"{self.url}/{name}"):
            return int(retrying(lambda: system.info(f"{folder}/{name}"))["size"])

    def download(self, name: str, path: Path) -> None:
        """Copy a file here.

        Raises:
            FileNotFoundError: there is none.
        """
        system, folder = self.open()
        with naming(f"{self.url}/{name}"):
            retrying(lambda: system.get_file(f"{folder}/{name}", str(path)))

    def files(self) -> dict[str, dict[str, Any]]:
        """List all files but hidden ones, by name relative to the folder, with what is told of each (`size`, perhaps `ETag`)."""
        return {name: told for name, told in self._all_files().items() if not name.startswith(".") and "/." not in name}

    def upload(self, name: str, path: Path, on_retry: Retried = lambda error: None) -> None:
        """Bring a file there; whoever sees it sees it whole.

        Raises:
            OSError: the place does not take it, however often it was tried.
            ValueError: nothing can be written there.
        """
        self.check_writable()
        system, folder = self.open()
        target = f"{folder}/{name}"
        inner, _, last = target.rpartition("/")
        unfinished = f"{inner}/.{last}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"

        def put() -> None:
            if self.scheme in _OBJECT_STORES:
                options = {"chunksize": PART_BYTES} if self.scheme == "s3" else {}
                system.put_file(str(path), target, **options)
            else:
                system.put_file(str(path), unfinished)
                system.mv(unfinished, target)

        with self._writing(name):
            retrying(put, on_retry)

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless it is there; false where another was first, as far as the place can tell."""
        self.check_writable()
        system, folder = self.open()
        with self._writing(name):
            try:
                retrying(lambda: system.pipe_file(f"{folder}/{name}", data, mode="create"))
            except FileExistsError:
                return False
        return True

    def remove(self, name: str, on_retry: Retried = lambda error: None) -> None:
        """Remove a file."""
        system, folder = self.open()
        with naming(f"{self.url}/{name}"):
            retrying(lambda: system.rm_file(f"{folder}/{name}"), on_retry)

    def remove_unfinished(self) -> None:
        """Remove what killed writers have left in a place that does not show an upload only when it is whole."""
        if self.scheme not in _OBJECT_STORES:
            for name in self._all_files():
                if name.endswith(TEMPORARY_SUFFIX) and name.rpartition("/")[2].startswith("."):
                    self.remove(name)

    def check_writable(self) -> None:
        """Refuse a place that takes no files.

        Raises:
            ValueError: with what to do instead.
        """
        if self.scheme in _READ_ONLY:
            raise ValueError(f"{self.url}: {_READ_ONLY[self.scheme]}")

    def _all_files(self) -> dict[str, dict[str, Any]]:
        system, folder = self.open()
        system.invalidate_cache()
        with naming(self.url):
            try:
                found = retrying(lambda: system.find(folder, detail=True))
            except FileNotFoundError:
                return {}
        system.invalidate_cache()  # of millions of objects it would hold each
        start = len(system._strip_protocol(folder)) + 1
        return {path[start:]: told for path, told in sorted(found.items()) if path[start:] and path[-1] != "/"}

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with naming(f"{self.url}/{name}"):
            try:
                yield
            except FileNotFoundError:
                raise OSError("there is no such bucket or folder; make it first") from None
