"""Walk through a plain tar, header by header, trusting none of them.

Python's own library is made to unpack what one has packed: it follows links inside the tar, takes a damaged header for the
end, and releases of it loop for ever, or for hours, over crafted ones. Here a header has a right checksum, a size that fits
the file, or the tar is refused.

Source: the formats are POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU tar's long names.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from passerby.sample import printable

BLOCK = 512
MAX_EXTENDED_BYTES = 1 << 20
"""Of a long name, or of extended fields; a path has at most 4 KiB."""

_REGULAR = frozenset({b"0", b"\0", b"7"})
_SPARSE = b"S"
_LONG_NAME, _EXTENDED = b"L", b"x"


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar."""

    name: str
    """As it stands there: it may be absolute or lead out of any folder, and is never a path to us."""

    offset: int
    """Of its content, in bytes."""

    size: int
    """In bytes; the tar holds all of them."""


def walk_members(file: BinaryIO, told: str) -> Iterator[Member]:
    """Yield the regular files of a tar, in order; links, folders and devices are passed over.

    Args:
        file: The tar; seekable.
        told: Its name, for errors.

    Raises:
        ValueError: it is compressed, damaged, cut off, or holds a sparse file.
    """
    try:
        yield from _members(file, file.seek(0, os.SEEK_END))
    except ValueError as error:
        raise ValueError(
            f"{told} cannot be read as a plain tar ({error}); fetch it again, or unpack its compression"
        ) from None


def _members(file: BinaryIO, size_bytes: int) -> Iterator[Member]:
    position, name, size = 0, "", -1  # what an extended header tells of the next member
    while position < size_bytes:
        file.seek(position)
        header = file.read(BLOCK)
        if not any(header) and len(header) == BLOCK:
            return
        if len(header) < BLOCK or not _has_checksum(header):
            raise ValueError(f"the header at byte {position:,} is damaged" if position else "it begins with no header")
        kind, offset = header[156:157], position + BLOCK
        own_size = _number(header[124:136]) if size < 0 or kind in (_LONG_NAME, _EXTENDED) else size
        if offset + own_size > size_bytes:
            raise ValueError(f"it has {size_bytes:,} bytes and ends inside the member at byte {position:,}")
        position = offset + -(-own_size // BLOCK) * BLOCK
        if kind in (_LONG_NAME, _EXTENDED):
            if own_size > MAX_EXTENDED_BYTES:
                raise ValueError(f"the header before byte {offset:,} is {own_size:,} bytes long")
            content = file.read(own_size)
            name, size = (_text(content), size) if kind == _LONG_NAME else _extended(content)
            continue
        if kind == _SPARSE:
            raise ValueError(f"the member before byte {offset:,} is a sparse file")
        if kind in _REGULAR:
            yield Member(name or _name(header), offset, own_size)
        name, size = "", -1


def _has_checksum(header: bytes) -> bool:
    """Say whether the checksum is that of the header, in which it counts as eight spaces; some sum signed bytes."""
    counted = header[:148] + 8 * b" " + header[156:]
    stated, unsigned = _number(header[148:156]), sum(counted)
    return stated == unsigned or stated == unsigned - 256 * sum(byte > 127 for byte in counted)


def _number(field: bytes) -> int:
    """Read a number: octal digits, or after a byte 80 the number itself, as GNU writes large ones."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip()
    if digits.strip(b"01234567"):
        raise ValueError(f"{field!r} is no number in octal digits")
    return int(digits or b"0", 8)


def _name(header: bytes) -> str:
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{_text(header[:100])}" if prefix else _text(header[:100])


def _text(field: bytes) -> str:
    return printable(field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape"))


def _extended(content: bytes) -> tuple[str, int]:
    """Read name and size out of extended fields, `LENGTH NAME=VALUE` in each line; empty, and -1, where they do not stand."""
    name, size, start = "", -1, 0
    while start < len(content):
        digits, _, rest = content[start : start + 20].partition(b" ")
        length = int(digits) if digits.isdigit() and rest else 0
        record = content[start : start + length]
        if length <= len(digits) + 1 or not record.endswith(b"\n"):
            raise ValueError(f"an extended header is damaged: {content[start : start + 20]!r}")
        field, _, value = record[len(digits) + 1 : -1].partition(b"=")
        if field.startswith(b"GNU.sparse."):
            raise ValueError("it holds a sparse file")
        if field == b"path":
            name = _text(value)
        elif field == b"size":
            if not value.isdigit():
                raise ValueError(f"an extended header has the size {value[:20]!r}")
            size = int(value[:20])
        start += length
    return name, size
