"""Damage to a file: what hypothesis draws of flipped bytes, cuts, splices, false lengths, and words of attack."""

import json
import struct
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

TAR_BLOCK = 512
EDITS_COUNTS = (1, 1, 1, 2, 2, 3, 6)

LENGTHS = (
    0,
    1,
    0x7F,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
)
"""Numbers on which readers of lengths and offsets stumble."""


JSON_WORDS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b"9" * 25, b"9" * 5000),
    *(b'"\\ud800"', b"[" * 3000, b'{"a":' * 3000),
)
YAML_WORDS = (
    *(b"&a [*a, *a]", b"*b", b"<<: ", b"? ", b"\\ud800", b"- " * 300, b"[" * 1500),
    b"!!python/object/apply:os.system [id]",
)
TOML_WORDS = (b"[" * 1500, b"{a=" * 800, b"= inf", b"= nan", b"= 9" + b"9" * 5000, b"[[loop]]", b"= 1979-05-27")
PATTERN_WORDS = (
    *(b"{{", b"}}", b"{%", b"%}", b"|as('~')", b"|attr('__class__')", b"\x0c"),
    *(b"{% if view %}", b"{% raw %}", b"{{ self }}", b"{{ view() }}"),
)
PICKLE_WORDS = (
    *(b"cos\nsystem\n", b"\x8d" + b"\xff" * 8, b"r\xff\xff\xff\x07", b"(" * 3000),
    *(b"]\x94" * 2000 + b"a" * 2000, b"2" * 100),
)
LINE_WORDS = (b"\n", b"\0", b"../", b"\r", b"\xff", b'"', b"9" * 5000, b"9" * 200_000)

WORDS = {
    **dict.fromkeys((".json", ".jsonl", ".safetensors", ".arrow"), JSON_WORDS),
    **dict.fromkeys((".pkl", ".pt", ".bin"), PICKLE_WORDS),
    **dict.fromkeys((".txt", ".csv", ".tar"), LINE_WORDS),
    ".yaml": YAML_WORDS,
    ".toml": TOML_WORDS,
    ".j2": PATTERN_WORDS,
}
"""What to put in here and there, by the suffix of the file: the vocabulary of attacks on its format."""

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**63, 2**64, 10**30, -(2**63) - 1, float("nan"), float("inf"), 1e300, "\ud800"])
    | st.floats()
    | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
"""Everything JSON can say, lone surrogates and what is beyond its standard among it."""


@st.composite
def damaged(draw: st.DrawFn, sound: bytes, suffix: str) -> bytes:
    """Draw sound content with one to six edits; where there are checksums, they are made right again half of the time."""
    data, words = sound, WORDS.get(suffix, ())
    edits = [
        *EDITS,
        *([_put_word] if words else []),
        *([_replace_value] * len(EDITS) if sound[:1] in (b"{", b"[") else []),
    ]
    for _ in range(draw(st.sampled_from(EDITS_COUNTS))):
        data = draw(st.sampled_from(edits))(draw, data, words)
    return with_checksums(data, suffix) if draw(st.booleans()) else data


def _place(draw: st.DrawFn, data: bytes) -> int:
    return draw(st.integers(0, len(data)))


def _flip(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    place = _place(draw, data)
    return data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]


def _cut_end(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    return data[: _place(draw, data)]


def _cut_out(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    place = _place(draw, data)
    return data[:place] + data[place + draw(st.integers(1, 64)) :]


def _splice(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put a piece of the file where another was, or between."""
    start, place = _place(draw, data), _place(draw, data)
    piece = data[start : start + draw(st.sampled_from([1, 8, 64, TAR_BLOCK]))]
    return data[:place] + piece + data[place + draw(st.sampled_from([0, len(piece)])) :]


def _set_length(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    form = draw(st.sampled_from(["<B", "<H", ">H", "<I", ">I", "<Q", ">Q"]))
    size = struct.calcsize(form)
    place = _place(draw, data) // 4 * 4 if draw(st.booleans()) else _place(draw, data)
    return (
        data[:place] + struct.pack(form, draw(st.sampled_from(LENGTHS)) & ((1 << 8 * size) - 1)) + data[place + size :]
    )


def _put_word(draw: st.DrawFn, data: bytes, words: Sequence[bytes]) -> bytes:
    word, place = draw(st.sampled_from(words)), _place(draw, data)
    return data[:place] + word + data[place + draw(st.sampled_from([0, len(word)])) :]


def _replace_value(draw: st.DrawFn, data: bytes, _: Sequence[bytes]) -> bytes:
    """Put another value into JSON that is still whole, or leave it out."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return json.dumps(_replaced(draw, value)).encode()


def _replaced(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or draw(st.integers(0, 3)) == 0:
        return draw(json_values)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place = draw(st.sampled_from(places))
    if draw(st.integers(0, 9)) == 0:
        del value[place]
    else:
        value[place] = _replaced(draw, value[place])
    return value


EDITS = (_flip, _cut_end, _cut_out, _splice, _set_length)


def with_checksums(data: bytes, suffix: str) -> bytes:
    """Make the checksums of a format that has some right again, so that the damage gets past them."""
    repair = {".tar": _tar_with_checksums, ".png": _png_with_checksums}.get(suffix, bytes)
    return repair(data)


def _tar_with_checksums(data: bytes) -> bytes:
    """Give every block that says it is a header of a tar the checksum that it should have."""
    blocks = [data[place : place + TAR_BLOCK] for place in range(0, len(data), TAR_BLOCK)]
    return b"".join(_header_with_checksum(block) if b"ustar" in block[257:263] else block for block in blocks)


def _header_with_checksum(block: bytes) -> bytes:
    if len(block) < TAR_BLOCK:
        return block
    return block[:148] + b"%06o\0 " % tarfile.calc_chksums(block)[0] + block[156:]


def _png_with_checksums(data: bytes) -> bytes:
    """Give every chunk of a PNG the checksum that it should have, as far as the chunks can be followed."""
    place, whole = 8, bytearray(data)
    while place + 12 <= len(whole):
        end = place + 8 + int.from_bytes(whole[place : place + 4], "big")
        if end + 4 > len(whole):
            break
        whole[end : end + 4] = zlib.crc32(whole[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return bytes(whole)
