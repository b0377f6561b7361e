"""Walking through tars, held to Python's own library where that can be believed, and to reason where it cannot."""

import io
import struct
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passerby.readers.tar_members import Member, walk_members

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write(members, kind="pax", **fields):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[kind]) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def walk(data):
    return [*walk_members(io.BytesIO(data), "a.tar")]


def with_header(data, place, change):
    """Change the header at a byte, and make its checksum right."""
    header = bytearray(data[place : place + 512])
    change(header)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[0]
    return data[:place] + bytes(header) + data[place + 512 :]


def put(start, content):
    def change(header):
        header[start : start + len(content)] = content

    return change


names = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40).map(str.strip).filter(bool)
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([*FORMATS]), st.lists(st.tuples(names, st.binary(max_size=1300)), max_size=4), st.integers(0, 4))
def test_members_lie_where_the_library_finds_them(kind, members, folders):
    members = [("x" * 60 + "/") * (folders if kind != "ustar" else 0) + name for name, _ in members], members
    data = write([(name, content) for name, (_, content) in zip(*members, strict=True)], kind)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        expected = [Member(member.name, member.offset_data, member.size) for member in tar]
    assert walk(data) == expected


def test_a_prefix_comes_before_the_name():
    name = "folder/" * 20 + "a.jpg"
    assert [member.name for member in walk(write([(name, b"x")], "ustar"))] == [name]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../a.jpg", "a/../../b.jpg"])
def test_a_name_is_told_as_it_is(name):
    assert [member.name for member in walk(write([(name, b"x")]))] == [name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_what_is_no_file_is_passed_over(kind):
    header = write([("a.jpg", b"")], type=kind, linkname="/etc/passwd")[:512]
    assert [member.name for member in walk(header + write([("b.jpg", b"content")]))] == ["b.jpg"]


def test_a_damaged_header_in_the_middle_is_no_end():
    data = write([("a.jpg", b"1" * 600), ("b.jpg", b"2"), ("c.jpg", b"3")], "ustar")
    assert len(walk(data)) == 3
    damaged = bytearray(data)
    damaged[512 + 1024] ^= 1  # the header of b.jpg
    with tarfile.open(fileobj=io.BytesIO(damaged)) as tar:
        assert len(tar.getmembers()) == 1, "the library drops what follows, and says nothing"
    with pytest.raises(
        ValueError, match=r"a\.tar cannot be read as a plain tar \(the header at byte 1,536 is damaged\)"
    ):
        walk(bytes(damaged))


BASE = write([("a.jpg", b"1" * 600)], "ustar")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x1f\x8b" + bytes(600), "it begins with no header"),
        (b"short", "it begins with no header"),
        (BASE[:900], "ends inside the member at byte 0"),
        (with_header(BASE, 0, put(124, b"77777777777\0")), "ends inside the member at byte 0"),
        (with_header(BASE, 0, put(124, b"\x80" + b"\xff" * 11)), "ends inside the member at byte 0"),
        (with_header(BASE, 0, put(124, b"\xff" * 12)), "is no number in octal digits"),
        (with_header(BASE, 0, put(124, b"-0000000001\0")), "is no number in octal digits"),
        (with_header(BASE, 0, put(156, b"S")), "is a sparse file"),
        (write([("a", b"x")], pax_headers={"GNU.sparse.major": "1"}), "it holds a sparse file"),
        (write([("a", b"x")], pax_headers={"size": "-1"}), "has the size b'-1'"),
        (write([("a", b"x")], pax_headers={"size": "9" * 30}), "ends inside the member"),
        (write([("a", b"x")], pax_headers={"comment": "x" * 1_100_000}), "bytes long"),
        (write([("a", b"x" * 99)], type=b"x"), "an extended header is damaged"),
        (write([("a", b"0 a=b\n")], type=b"x"), "an extended header is damaged"),
    ],
)
def test_what_is_no_sound_tar_is_refused(data, message):
    with pytest.raises(ValueError, match=rf"a\.tar cannot be read as a plain tar \(.*{message}"):
        walk(data)


def test_endless_chains_of_extended_headers_end():
    chain = b"".join(write([("a", b"12 path=abc\n")], type=b"x")[:1024] for _ in range(5000))
    assert walk(chain + BASE)[0].name == "abc"


def test_a_checksum_of_signed_bytes_is_one():
    header = bytearray(BASE[:512])
    header[0:6] = "é.jpg".encode()
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header))[1]
    assert walk(bytes(header) + BASE[512:])[0].name == "é.jpg"


def test_a_large_size_may_be_written_as_a_number():
    data = with_header(BASE, 0, put(124, b"\x80" + struct.pack(">3xQ", 600)))
    assert walk(data) == [Member("a.jpg", 512, 600)]
