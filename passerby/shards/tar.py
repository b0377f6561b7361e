"""The tars of a data set: plain USTAR, every byte of it decided by the members' names and contents."""

import hashlib
import re
from collections.abc import Iterable
from typing import BinaryIO

from passerby.sample import KEY_PATTERN

BLOCK = 512
"""Unit of a tar in bytes: a header takes one, and contents are padded to whole ones."""

END = bytes(2 * BLOCK)
"""Ends a tar."""

_MEMBER_PATTERN = re.compile(rf"{KEY_PATTERN.pattern}(\.[a-z0-9]{{1,9}}){{1,2}}")
"""KEY.EXTENSION, at most 100 characters: what fits one header, and can never be a path."""

_BUFFER_BYTES = 1 << 18  # fits the cache of a core, so that joining, hashing and writing do not go to memory
_PADDING = [bytes(size) for size in range(BLOCK)]

# A header is the name, and these around the size and the checksum (`tar.h` of POSIX.1-1988).
_OWNER = b"0000444\0" + 2 * b"0000000\0"  # mode, user, group
_TIME = b"\0" + b"00000000000\0"
_REST = b"0" + bytes(100) + b"ustar\0" + b"00" + bytes(64) + 2 * b"0000000\0" + bytes(155 + 12)
_CONSTANT_SUM = sum(_OWNER + _TIME + _REST + 8 * b" ")  # the checksum counts its own eight bytes as spaces


class TarWriter:
    """Write samples into a tar, and know its size and hash.

    By hand, because Python's `tarfile` takes six times as long, and WebDataset's writer stamps the time of
    writing into an extended header before every member.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.size_bytes = 0
        """Bytes added so far."""

        self._file = file
        self._sha256 = hashlib.sha256()
        self._pieces: list[bytes] = []
        self._written_bytes = 0

    def add(self, key: str, members: Iterable[tuple[str, bytes]]) -> list[tuple[int, int]]:
        """Add a sample as (extension, content) pairs; give (offset, size) in bytes of each content.

        Raises:
            ValueError: key or extension cannot stand in a shard (a slash, a dot too many, too long).
        """
        places = []
        position = self.size_bytes
        for extension, data in members:
            size = len(data)
            padding = padding_after(size)
            self._pieces += (tar_header(f"{key}.{extension}", size), data, padding)
            places.append((position + BLOCK, size))
            position += BLOCK + size + len(padding)
        self.size_bytes = position
        if position - self._written_bytes >= _BUFFER_BYTES:
            self._flush()
        return places

    def finish(self) -> None:
        """Write the end of the tar."""
        self._pieces.append(END)
        self.size_bytes += len(END)
        self._flush()

    @property
    def sha256(self) -> str:
        """Hash of the bytes written, in hexadecimal: of the whole tar, once it is finished."""
        return self._sha256.hexdigest()

    def _flush(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._sha256.update(data)
        self._file.write(data)
        self._written_bytes = self.size_bytes


def tar_header(name: str, size: int) -> bytes:
    """Make the header of a read-only file of nobody's, written at no time.

    Raises:
        ValueError: `name` is not KEY.EXTENSION.
    """
    if not _MEMBER_PATTERN.fullmatch(name):
        raise ValueError(f"{name!r} cannot stand in a shard; allowed is KEY.EXTENSION, KEY being {KEY_PATTERN.pattern}")
    encoded, octal_size = name.encode(), b"%011o" % size
    checksum = _CONSTANT_SUM + sum(encoded) + sum(octal_size)
    return b"%b%b%b%b%06o\0 %b" % (encoded.ljust(100, b"\0"), _OWNER, octal_size, _TIME, checksum, _REST)


def padding_after(size: int) -> bytes:
    """Give the zeros that follow a content of `size` bytes."""
    return _PADDING[-size % BLOCK]
