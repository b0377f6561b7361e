"""Image files: format, size and wholeness without decoding; and the pixels, for whoever needs them."""

import math
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000
"""More than any camera of a person data set gives; decoded it is 150 MB."""

MAX_ASPECT = 10.0
"""Long side over short side. People are about 2 to 4; beyond 10 a detector has gone wrong."""

MAX_BYTES = 1 << 28
"""256 MiB, more than `MAX_PIXELS` take without compression; a larger file is not even read."""

DECODED_AT_LEAST = 448
"""A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as its short side keeps so many pixels: twice the
usual input of a tower, so that nothing is lost."""

_JPEG_SIZE_MARKERS = frozenset({0xC0, 0xC1, 0xC2})
"""Start of frame: baseline, extended, progressive."""

_JPEG_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
"""Lossless, hierarchical and arithmetic frames, which common decoders do not read."""

_UNSUPPORTED = {b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF", b"\0\0\1\0": "ICO"}


class ImageProblem(ValueError):  # noqa: N818  (a fact about a file, counted more often than raised)
    """A file that cannot serve as an image; the text says what is wrong with it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        """One of few words to count by: missing, empty, truncated, not an image, …"""

    def __reduce__(self) -> tuple[type["ImageProblem"], tuple[str, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What the header of an image says."""

    width: int
    """Pixels."""

    height: int
    """Pixels."""

    extension: str
    """`jpg`, `png` or `webp`, by the bytes and not by the name."""


def read_image(
    path: Path | str, *, max_pixels: int = MAX_PIXELS, max_aspect: float = MAX_ASPECT, decode: bool = False
) -> tuple[bytes, ImageInfo]:
    """Read an image file and inspect it; see `inspect_image`.

    Raises:
        ImageProblem: the file is missing, unreadable or no regular file, or its content is no usable image.
    """
    data = read_file(path)
    return data, inspect_image(data, max_pixels=max_pixels, max_aspect=max_aspect, decode=decode)


def read_file(path: Path | str) -> bytes:
    """Read a file that may be an image, whatever it holds.

    Raises:
        ImageProblem: the file is missing, unreadable, no regular file, or of an absurd size.
    """
    try:
        return _read_regular(path)
    except FileNotFoundError:
        dangling = Path(path).is_symlink()
        raise ImageProblem("missing", "a link to nowhere" if dangling else "no such file") from None
    except OSError as error:
        raise ImageProblem("unreadable", f"cannot be read: {error.strerror}") from None


def inspect_image(
    data: bytes, *, max_pixels: int = MAX_PIXELS, max_aspect: float = MAX_ASPECT, decode: bool = False
) -> ImageInfo:
    """Check the structure of a JPEG, PNG or WebP file and read its size in pixels.

    Costs microseconds and decodes no pixel. With `decode`, every pixel is decoded once header and size are
    found in order, which also finds damage in the middle.

    Raises:
        ImageProblem: the bytes are no whole image of these formats, or its size is beyond the limits.
    """
    if not data:
        raise ImageProblem("empty", "has no bytes")
    extension, measure = _recognise(data)
    try:
        width, height = measure(data)
    except (struct.error, IndexError):
        raise ImageProblem("truncated", f"ends inside its header, after {len(data)} bytes") from None
    short, long = sorted((width, height))
    if short == 0:
        raise ImageProblem("unreadable", f"says it is {width}x{height} pixels")
    if width * height > max_pixels:
        raise ImageProblem("too many pixels", f"is {width}x{height}, more than {max_pixels:,} pixels")
    if long > max_aspect * short:
        raise ImageProblem("absurd aspect", f"is {width}x{height}, a ratio beyond {max_aspect:g}")
    info = ImageInfo(width, height, extension)
    if decode:
        _decode(data, info)
    return info


def decode_rgb(data: bytes, *, at_least: int = DECODED_AT_LEAST) -> NDArray[np.uint8]:
    """Decode a JPEG, PNG or WebP, upright as its EXIF says, whatever its colour space.

    Args:
        data: The file.
        at_least: Pixels that the short side of a large JPEG keeps.

    Returns:
        RGB uint8 (height, width, 3), the caller's own.

    Raises:
        ImageProblem: the pixels cannot be decoded, or are too many.
    """
    pixels = _decode_plain_jpeg(data, at_least)
    if pixels is not None:
        return pixels
    from PIL import ImageOps  # noqa: PLC0415  (slow to load, and most runs decode nothing)

    with opened(data) as image:
        image.draft("RGB", (at_least, at_least))
        ImageOps.exif_transpose(image, in_place=True)
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _decode_plain_jpeg(data: bytes, at_least: int) -> NDArray[np.uint8] | None:
    """Decode the JPEG that most person crops are, in half of Pillow's time and to the same pixels; None for any other file.

    Pillow judges whatever is turned, large, of other colours or in any way irregular. It reads JPEGs with libjpeg-turbo, too.
    """
    import simplejpeg  # noqa: PLC0415  (most runs decode nothing)

    if not data.startswith(b"\xff\xd8\xff") or b"Exif\0" in data:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if min(height, width) >= 2 * at_least or height * width > MAX_PIXELS or colours not in ("YCbCr", "Gray"):
            return None
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data)
    except ValueError:
        return None
    return pixels


def _read_regular(path: Path | str) -> bytes:
    # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
            raise ImageProblem("unreadable", f"is {kind}, no file")
        if status.st_size > MAX_BYTES:
            raise ImageProblem("too many bytes", f"has {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        return os.read(descriptor, status.st_size)
    finally:
        os.close(descriptor)


def _recognise(data: bytes) -> tuple[str, Callable[[bytes], tuple[int, int]]]:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg", _measure_jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png", _measure_png
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp", _measure_webp
    for magic, name in _UNSUPPORTED.items():
        if data.startswith(magic):
            raise ImageProblem("unsupported format", f"is {name}; convert it to JPEG or PNG")
    if data[4:8] == b"ftyp":
        raise ImageProblem("unsupported format", "is HEIC, AVIF or a video; convert it to JPEG or PNG")
    raise ImageProblem("not an image", f"begins with {data[:8]!r}, which is no image format")


def _measure_jpeg(data: bytes) -> tuple[int, int]:
    """Walk the segments up to the start of frame (ITU-T T.81, annex B)."""
    position = 2
    while True:
        if data[position] != 0xFF:
            raise ImageProblem("unreadable", f"has no JPEG marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF:  # markers may be preceded by any number of fill bytes
            position += 1
            continue
        if marker in _JPEG_SIZE_MARKERS:
            break
        if marker in _JPEG_OTHER_FRAMES:
            raise ImageProblem("unsupported format", f"is a JPEG of frame type {marker:#x}; convert it")
        if marker in (0xD9, 0xDA):
            raise ImageProblem("unreadable", "is a JPEG without a frame header")
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    precision, height, width = struct.unpack_from(">BHH", data, position + 4)
    if precision != 8:
        raise ImageProblem("unsupported format", f"is a JPEG of {precision} bits a channel; convert it to 8")
    # In the compressed pixels FF is always followed by 00 or a restart marker, never by D9.
    if data.rfind(b"\xff\xd9", position) < 0:
        raise ImageProblem("truncated", f"is a JPEG without its end, after {len(data)} bytes")
    return width, height


def _measure_png(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">4x4xII", data, 8)
    if b"IEND\xaeB`\x82" not in data:
        raise ImageProblem("truncated", f"is a PNG without its end, after {len(data)} bytes")
    return width, height


def _measure_webp(data: bytes) -> tuple[int, int]:
    """Read the first chunk (RFC 9649): VP8 lossy, VP8L lossless, or VP8X extended."""
    (stated_size,) = struct.unpack_from("<I", data, 4)
    if stated_size + 8 > len(data):
        raise ImageProblem("truncated", f"is a WebP with {len(data)} of its {stated_size + 8} bytes")
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width_low, width_high, height_low, height_high = struct.unpack_from("<HBHB", data, 24)
        return (width_high << 16 | width_low) + 1, (height_high << 16 | height_low) + 1
    raise ImageProblem("unreadable", f"is a WebP with an unknown first chunk {kind!r}")


def _decode(data: bytes, info: ImageInfo) -> None:
    size = (info.width, info.height)
    with opened(data, max_pixels=max(MAX_PIXELS, math.prod(size))) as image:
        decoded_size = image.size
        if decoded_size == size:
            image.load()
    if decoded_size != size:
        raise ImageProblem("unreadable", f"says it is {size} and also {decoded_size} pixels")


@contextmanager
def opened(
    data: bytes, *, formats: tuple[str, ...] = ("JPEG", "PNG", "WEBP"), max_pixels: int = MAX_PIXELS
) -> Iterator["Image.Image"]:
    """Open an image with Pillow; no pixel is decoded before its size is held to the limit.

    Raises:
        ImageProblem: it has too many pixels, or whatever Pillow and its decoders stumble over, in the block too.
    """
    from PIL import Image  # noqa: PLC0415  (slow to load, and most runs decode nothing)

    try:
        with Image.open(BytesIO(data), formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise ImageProblem(
                    "too many pixels", f"is {image.width}x{image.height}, more than {max_pixels:,} pixels"
                )
            yield image
    except ImageProblem:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ImageProblem("unreadable", f"cannot be decoded: {error}") from None
