"""One example of each fault that hostile files and failing machines have shown; tests beside the readers hold more."""

import io
import json
import pickle
import resource
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from captioning.attributes import read_attributes
from captioning.families import FAMILIES, load_families
from captioning.refine import read_probabilities
from captioning.synonyms import load_synonyms
from captioning.wording import variables
from passerby.checkpoint import load_checkpoint, load_encoder, save_checkpoint, save_encoder
from passerby.config import read_table
from passerby.contact_sheet import Captioned, draw_contact_sheet
from passerby.images import ImageProblem, decode_rgb
from passerby.nets.parser import read_parts_table
from passerby.readers.caption_files import open_caption_files
from passerby.readers.luperson import read_names
from passerby.readers.pedes import read_cuhk_pedes
from passerby.runtime import atomic_file
from passerby.shards.manifest import read_manifest


def rows_of(path):
    files = open_caption_files(str(path))
    return [row for table in files.batches(0) for row in table.to_pylist()]


# --- images


def bomb(width, height):
    """A PNG of one colour: a few bytes for each million pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compressobj(9)
    pixels = b"".join(rows.compress(bytes(1 + width * 3)) for _ in range(height)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def twofold(inner, outer):
    """A JPEG whose first header says one size, and whose second, which decoders believe, another."""
    file = io.BytesIO()
    Image.new("RGB", inner).save(file, "JPEG")
    frame = b"\xff\xc0" + struct.pack(">HBHHB9x", 17, 8, *outer[::-1], 3)
    return file.getvalue()[:2] + frame + file.getvalue()[2:]


def webp(width, height):
    """The header of a WebP of the largest size there is, of many frames."""
    body = (
        b"WEBPVP8X"
        + struct.pack("<IB3x", 10, 2)
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("image", [bomb(9_000, 9_000), twofold((9, 9), (60_000, 60_000)), webp(60_000, 60_000)])
def test_pixels_are_counted_wherever_an_image_is_decoded(image):
    with pytest.raises(ImageProblem):
        decode_rgb(image)
    with pytest.raises(ImageProblem):
        draw_contact_sheet([Captioned("a", image, "A man.")])


# --- pickles


@pytest.mark.parametrize("put", [b"r" + struct.pack("<I", 0x7FFFFFFF), b"p2147483647\n"])
def test_a_pickle_cannot_ask_for_memory_by_numbers(tmp_path, put):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x02]" + put + b".")
    with pytest.raises(ValueError, match=r"a\.pkl is no pickle of plain data: it numbers an object 2,147,483,647"):
        read_names(tmp_path / "a.pkl")


def test_a_name_that_looks_like_such_a_number_is_a_name(tmp_path):
    names = ["r~~~~.jpg", "p99999999\n"]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(names, 2))
    assert read_names(tmp_path / "a.pkl")["name"].to_pylist() == names


def test_a_pickle_cannot_ask_for_memory_by_empty_arrays(tmp_path):
    empty = pickle.dumps({"keys": np.empty((10**9, 0), "U1")})
    assert len(empty) < 400
    (tmp_path / "a.pkl").write_bytes(empty)
    with pytest.raises(ValueError, match=r"array of the shape \(1000000000, 0\), which has no content"):
        read_names(tmp_path / "a.pkl")


# --- texts


DEEP = "[" * 5000


@pytest.mark.parametrize(
    ("name", "text", "read"),
    [
        ("manifest.json", DEEP, lambda path: read_manifest(path.parent)),
        ("a.json", DEEP, read_attributes),
        ("a.json", DEEP, rows_of),
        ("a.json", "{", read_probabilities),
        ("a.json", '[{"captions": ["\\ud800"], "file_path": "a"}]', rows_of),
        ("a.json", json.dumps([{"captions": ["x"], "file_path": "a", "id": {"a": 1}}]), rows_of),
        ("a.csv", f'id,hat\n1,"{"x" * 200_000}"\n', read_attributes),
        ("a.toml", f"a = {DEEP}", read_table),
        ("a.yaml", DEEP, read_parts_table),
        ("a.yaml", DEEP, load_synonyms),
        ("encoder.toml", "= 3", lambda path: load_encoder(path.parent)),
    ],
)
def test_what_no_parser_takes_is_one_line_that_names_the_file(tmp_path, name, text, read):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=name) as caught:
        read(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


def test_a_number_beyond_all_columns_is_kept_as_text(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"captions": ["x"], "file_path": "a", "id": 10**30}]))
    assert [row["person_id"] for row in rows_of(tmp_path / "a.json")] == [str(10**30)]


def test_the_lists_of_pedes_quote_no_page_of_text(tmp_path):
    (tmp_path / "imgs").mkdir()
    entry = {"split": "x" * 9000, "captions": ["A man."], "file_path": "a.png", "id": 1}
    (tmp_path / "reid_raw.json").write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match="entry 0 has the split 'xxx") as caught:
        read_cuhk_pedes(tmp_path)
    assert len(str(caught.value)) < 500


def test_odd_ends_of_lines_do_not_shift_the_lines_of_a_family(tmp_path):
    (tmp_path / "f01.j2").write_bytes(b"# one \x0c two\n" + (FAMILIES / "f01.j2").read_bytes())
    families = load_families(tmp_path, variables=variables(load_synonyms()))
    whole = load_families(FAMILIES, variables=variables(load_synonyms()))
    assert [each.source for each in families.templates] == [
        each.source for each in whole.templates if each.id[:3] == "f01"
    ]


# --- tensors


@pytest.mark.parametrize("data", [b"\x80\x02.", b"\x80\x02X\xff\xff\xff\x7f", b"\x80\x02h\x05.", b"\x80\x02K\x01a."])
def test_a_checkpoint_that_breaks_its_reader_is_named(tmp_path, data):
    (tmp_path / "a.pt").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.pt is no checkpoint, or a damaged one"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_checkpoint_of_something_else_is_named(tmp_path):
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt is no checkpoint: it holds list"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_damaged_encoder_is_named(tmp_path):
    save_encoder(tmp_path, torch.nn.Linear(2, 2), {"architecture": "resnet50"})
    (tmp_path / "encoder.safetensors").write_bytes(b"\xff" * 99)
    with pytest.raises(ValueError, match=r"encoder\.safetensors holds no weights, or is damaged"):
        load_encoder(tmp_path)


# --- disks


def test_a_checkpoint_that_does_not_fit_says_so(tmp_path):
    path, (_, most) = tmp_path / "a.pt", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
    try:
        with pytest.raises(OSError, match=r"File too large \(the disk at /.* bytes free\); make room") as caught:
            save_checkpoint(path, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert caught.value.filename == str(path)
    assert [*tmp_path.iterdir()] == []


def test_other_errors_of_writing_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match="odd") as caught, atomic_file(tmp_path / "a"):
        raise OSError(5, "odd")
    assert caught.value.filename is None
