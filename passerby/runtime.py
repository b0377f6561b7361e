"""What every run leans on: files that appear whole or not at all, and draws that depend on nothing else."""

import errno
import fcntl
import multiprocessing
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from multiprocessing.connection import wait
from pathlib import Path
from typing import BinaryIO

TEMPORARY_SUFFIX = ".passerby-part"
"""Ends the name of every unfinished file; a dot starts it, so that no glob over a data set sees it."""


def write_atomically(path: Path, data: bytes) -> None:
    """Make `path` hold `data`: after a crash it holds the old bytes or the new ones, never a part."""
    with atomic_file(path) as file:
        file.write(data)


def create_atomically(path: Path, data: bytes) -> bool:
    """Make `path` hold `data` unless it exists; of several processes that try, exactly one succeeds and hears true."""
    try:
        with atomic_file(path, is_new=True) as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing that tell no file: the disk is full, the user's share of it, or no file may be so large."""


@contextmanager
def atomic_file(path: Path, *, is_new: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` for writing, and give it that name when the block ends well.

    An exclusive lock marks the temporary as belonging to a living writer. When the block raises, the
    temporary is removed and `path` stays as it was.

    Args:
        path: the file to be.
        is_new: do not replace a file that is there when the block ends.

    Raises:
        FileNotFoundError: the folder of `path` does not exist.
        FileExistsError: with `is_new`, `path` exists.
        OSError: the disk is full; the text says which.
    """
    temporary, file = _open_temporary(path)
    try:
        with naming_full_disk(path), file:  # closing it writes once more
            yield file
            file.flush()
            os.fsync(file.fileno())
            if is_new:
                path.hardlink_to(temporary)  # unlike a rename, this fails where another was first
            else:
                temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Where the disk is full, say that it was `path` which could not be written, on which disk, and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:
            raise _name_disk(error, path) from None
        raise


def remove_stale_temporaries(folder: Path, *, only_of_this_machine: bool = False) -> int:
    """Remove the temporaries in `folder` whose writer is dead, and say how many.

    Files of living writers stay (two runs in one folder): they hold the lock. On a file system without locks
    nothing can be proven dead, so nothing is removed.

    Args:
        folder: Where to look; not below it.
        only_of_this_machine: Leave other machines' alone, whose locks a shared file system may not show.
    """
    removed = 0
    writer = f".*.{_machine()}-*" if only_of_this_machine else ".*"
    for path in sorted(folder.glob(f"{writer}{TEMPORARY_SUFFIX}")):
        # What vanishes meanwhile was finished or removed by another cleaner; what may not be opened is
        # another user's. Opened for writing, because NFS gives exclusive locks to writers only.
        with suppress(FileNotFoundError, PermissionError), path.open("r+b") as file:
            if _lock(file, wait=False) and _is_still_at(file, path):
                path.unlink()
                removed += 1
    return removed


def follow_parent(*, leaving: Path | None = None) -> None:
    """From now on, end this worker process when the one that started it is gone: a killed driver leaves no orphans at work.

    Args:
        leaving: A file of the driver's, which could not remove it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        if leaving is not None:
            leaving.unlink(missing_ok=True)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def draw(seed: int, key: str, index: int = 0, purpose: str = "", *, size: int = 8) -> int:
    """Draw a number that depends on the arguments only: the same on any machine, in any order of work.

    Args:
        seed: seed of the run.
        key: key of the sample.
        index: which caption of the sample.
        purpose: what is drawn, so that two decisions about one caption are independent.
        size: bytes of the number, 1…64.

    >>> draw(0, "0001_c1s1_000151_01", 2, "template") % 456
    292
    """
    name = f"{seed:d}\0{index:d}\0{purpose}\0{key}"
    return int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=size).digest(), "big")


def _name_disk(error: OSError, path: Path) -> OSError:
    """Say which file could not be written, on which disk, and what to do."""
    disk = next(folder for folder in path.resolve().parents if folder.is_mount())
    usage = shutil.disk_usage(disk)
    room = f"the disk at {disk} has {usage.free:,} of {usage.total:,} bytes free"
    return OSError(error.errno, f"{error.strerror} ({room}); make room, and run again to go on", str(path))


def _open_temporary(path: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = path.with_name(f".{path.name}.{_machine()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        with suppress(FileExistsError):
            file = temporary.open("xb")
            _lock(file, wait=True)
            # Between open and lock a cleaner may have taken the file for a dead writer's: then begin again.
            if _is_still_at(file, temporary):
                return temporary, file
            file.close()


def _machine() -> str:
    """Name this machine in 8 characters that may stand in a file name and a glob."""
    return blake2b(os.uname().nodename.encode(), digest_size=4).hexdigest()


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock `file` until it is closed; false where another holds it or the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
