"""Folders that lie elsewhere: any place that fsspec reaches, by URL, with patience for a network that fails at times.

Credentials come from the environment, as the library of each place reads them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
`AWS_ENDPOINT_URL`, `HF_TOKEN`, …); a URL that holds any is refused, because URLs end up in logs.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from fsspec.core import url_to_fs

ATTEMPTS = 6
"""How often a request is made before its failure is believed."""

FIRST_WAIT_SECONDS = 0.2
"""The wait before the second attempt; each later one is twice as long, so that the last is made after 6 seconds in all."""

INSTALL = {
    **{"s3": "passerby[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"},
    **{"http": "aiohttp", "https": "aiohttp"},
}
"""What reaches a place whose library does not come with passerby."""

_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "s3": {"config_kwargs": {"retries": {"total_max_attempts": 1}}},  # ours are counted and reported, its own are not
    "file": {"auto_mkdir": True},
}

_NETWORK = frozenset({"BotoCoreError", "ClientError", "TransportError", "FSTimeoutError"})
"""Errors of network libraries (botocore, aiohttp, httpx, fsspec) that are no `OSError`, by name: importing none of them."""

_PASSING = frozenset({"HTTPClientError", "ConnectionError", "IncompleteReadError", "ClientPayloadError"}) | _NETWORK - {
    "BotoCoreError"  # most of these are mistakes of the caller's, such as credentials that are not set
}
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

Result = TypeVar("Result")


def is_url(location: Path | str) -> bool:
    """Say whether `location` is a URL, such as `s3://bucket/folder`, and not a path."""
    return isinstance(location, str) and "://" in location


def retrying(call: Callable[[], Result], on_retry: Callable[[Exception], None] = lambda error: None) -> Result:
    """Make a request, again and again while it fails in passing (503, a connection that drops), at most `ATTEMPTS` times.

    Args:
        call: The request; made again from its start.
        on_retry: Told of each failure after which another attempt is made.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except Exception as error:
            if not _is_passing(error):
                raise
            on_retry(error)
            time.sleep(FIRST_WAIT_SECONDS * 2**attempt)
    return call()


def _is_passing(error: Exception) -> bool:
    status = _status(error) or _status(error.__cause__)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError):
        return not isinstance(error, _LASTING)
    return bool(_names(error) & _PASSING)


def _status(error: BaseException | None) -> int | None:
    """Give the HTTP status that an error of httpx or botocore carries."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = getattr(response, "status_code", response)
    return status if isinstance(status, int) else None


def _names(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


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
            raise ValueError(
                f"{urlsplit(self.url).scheme}://…@…: a URL must hold no user or password; set the environment"
            )
        self.open()

    def open(self) -> tuple[Any, str]:
        """Give fsspec's file system, and the folder's path on it; cheap, for fsspec keeps one for each process."""
        scheme = urlsplit(self.url).scheme
        try:
            system, path = url_to_fs(self.url, **_OPTIONS.get(scheme, {}))
        except ImportError as error:
            wanted = INSTALL.get(scheme, f"what fsspec needs for it ({error})")
            raise ModuleNotFoundError(f"{scheme}:// needs a library that is not here; pip install {wanted}") from None
        except ValueError as error:
            raise ValueError(f"{self.url} cannot be reached: {error}") from None
        if scheme == "s3":
            system.retries = 1
        return system, path

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Read a file, or its bytes from `start` to `end`.

        Raises:
            FileNotFoundError: there is none.
        """
        system, folder = self.open()
        with naming(f"{self.url}/{name}"):
            data: bytes = retrying(lambda: system.cat_file(f"{folder}/{name}", start=start, end=end))
        return data

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
        """List all files, by name relative to the folder, with what the place tells of each (`size`, perhaps `ETag`)."""
        system, folder = self.open()
        system.invalidate_cache()
        with naming(self.url):
            try:
                found = retrying(lambda: system.find(folder, detail=True))
            except FileNotFoundError:
                return {}
        start = len(system._strip_protocol(folder)) + 1
        return {path[start:]: info for path, info in sorted(found.items())}


@contextmanager
def naming(url: str) -> Iterator[None]:
    """Turn what libraries raise while they reach `url` into one `OSError` that names it.

    Raises:
        FileNotFoundError: there is nothing at `url`.
    """
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{url} does not exist") from None
    except Exception as error:
        if not isinstance(error, OSError) and not _names(error) & _NETWORK:
            raise
        reason = str(error).splitlines() or [type(error).__name__]
        raise (PermissionError if isinstance(error, PermissionError) else OSError)(f"{url}: {reason[0]}") from error
