"""Requests over a network that fails at times: made again, several at once, and in words that name the place."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

ATTEMPTS = 6
"""How often a request is made before its failure is believed."""

FIRST_WAIT_SECONDS = 0.2
"""The wait before the second attempt; each later one is twice as long, so that the last is made after 6 seconds in all."""

_NETWORK = frozenset({"BotoCoreError", "ClientError", "TransportError", "FSTimeoutError"})
"""Errors of network libraries (botocore, aiohttp, httpx, fsspec) that are no `OSError`, by name: importing none of them."""

_PASSING = frozenset({"HTTPClientError", "ConnectionError", "IncompleteReadError", "ClientPayloadError"}) | _NETWORK - {
    "BotoCoreError"  # most of these are mistakes of the caller's, such as credentials that are not set
}
_LASTING = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)

_CURES = {
    "NoCredentialsError": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "EndpointConnectionError": "look at AWS_ENDPOINT_URL, and at the network",
}
"""What a user may do about an error, by its name."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Retried = Callable[[Exception], None]


def retrying(call: Callable[[], Result], on_retry: Retried = lambda error: None) -> Result:
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


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item], *, at_once: int) -> Iterator[tuple[Item, Result]]:
    """Yield each item with what `read` makes of it, in order, while threads read the next `at_once`."""
    remaining = iter(items)
    pending: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(at_once)
    try:
        pending.extend((item, pool.submit(read, item)) for item in islice(remaining, at_once))
        while pending:
            item, future = pending.popleft()
            result = future.result()
            pending.extend((item, pool.submit(read, item)) for item in islice(remaining, 1))
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)


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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        cure = "".join(f"; {_CURES[name]}" for name in _names(error) & _CURES.keys())
        raise (PermissionError if isinstance(error, PermissionError) else OSError)(f"{url}: {reason}{cure}") from error


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
