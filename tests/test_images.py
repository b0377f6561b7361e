import os
import pickle
import random
import struct
import time
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from passerby.images import ImageInfo, ImageProblem, decode_rgb, inspect_image, opened, read_image

FORMATS = {
    "jpg": ("JPEG", {}),
    "jpg progressive": ("JPEG", {"progressive": True}),
    "jpg grey": ("JPEG", {"mode": "L"}),
    "jpg cmyk": ("JPEG", {"mode": "CMYK"}),
    "jpg exif": ("JPEG", {"exif": b"Exif\0\0" + b"\xff\xd9" * 100}),
    "png": ("PNG", {}),
    "png palette": ("PNG", {"mode": "P"}),
    "png 16 bits": ("PNG", {"mode": "I;16"}),
    "webp lossy": ("WEBP", {}),
    "webp lossless": ("WEBP", {"lossless": True}),
    "webp extended": ("WEBP", {"exif": b"Exif\0\0x"}),
}


def draw(width, height, name, mode="RGB", **options):
    coarse = np.random.default_rng(0).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    file = BytesIO()
    (picture.convert("L") if mode == "I;16" else picture).convert(mode).save(file, name, **options)
    return file.getvalue()


@pytest.fixture(params=FORMATS)
def kind(request):
    return request.param


@pytest.fixture
def image(kind):
    name, options = FORMATS[kind]
    return draw(37, 91, name, **options)


def png_header(width, height):
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return header + bytes(4) + b"IEND\xaeB`\x82"


@pytest.mark.parametrize("decode", [False, True])
def test_size_and_format_are_found(kind, image, decode):
    assert inspect_image(image, decode=decode) == ImageInfo(37, 91, kind.split()[0])


@pytest.mark.parametrize(("name", "size"), [("JPEG", 60_000), ("PNG", 60_000), ("WEBP", 16_383)])
def test_the_largest_sizes_are_read_in_full(name, size):
    assert inspect_image(draw(size, 2, name), max_aspect=1e6).width == size


def decoded_by_pillow(data, at_least=448):
    with opened(data) as picture:
        picture.draft("RGB", (at_least, at_least))
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "YCbCr"])
@pytest.mark.parametrize("options", [{"quality": 30}, {"quality": 95, "subsampling": 0}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("size", [(1, 1), (37, 91), (128, 256), (897, 900)])
def test_every_jpeg_is_decoded_to_the_pixels_of_pillow(size, options, mode):
    data = draw(*size, "JPEG", mode=mode, **options)
    assert np.array_equal(decode_rgb(data), decoded_by_pillow(data))
    assert np.array_equal(decode_rgb(data, at_least=16), decoded_by_pillow(data, at_least=16))


@pytest.mark.parametrize("kind", ["jpg", "jpg cmyk", "png", "webp lossy"], indirect=True)
def test_pixels_are_the_caller_s_own(image):
    assert decode_rgb(image).flags.writeable


def test_a_jpeg_that_is_turned_is_decoded_upright():
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decode_rgb(draw(37, 91, "JPEG", exif=turned.tobytes())).shape == (37, 91, 3)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind.startswith("jpg")], indirect=True)
def test_a_damaged_jpeg_is_decoded_as_pillow_does_or_refused_as_it_does(image):
    generator = random.Random(1)
    decoded = 0
    for _ in range(300):
        damaged = bytearray(image)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(generator.choice([40, len(image)]))] = generator.randrange(256)
        try:
            expected = decoded_by_pillow(bytes(damaged))
        except ImageProblem:
            with pytest.raises(ImageProblem):
                decode_rgb(bytes(damaged))
        else:
            assert np.array_equal(decode_rgb(bytes(damaged)), expected)
            decoded += 1
    assert decoded > 10


def test_any_cut_is_found(image):
    for size in range(len(image)):
        with pytest.raises(ImageProblem) as caught:
            inspect_image(image[:size])
        assert caught.value.reason in ({"truncated"} if size >= 12 else {"empty", "not an image", "truncated"})


def test_bytes_after_the_end_do_no_harm(kind, image):
    assert inspect_image(image + bytes(10_000), decode=True).extension == kind.split()[0]


def test_damage_raises_nothing_but_image_problems(image):
    generator = random.Random(0)
    reasons = set()
    for _ in range(200):
        damaged = bytearray(image)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(generator.choice([40, len(image)]))] = generator.randrange(256)
        try:
            inspect_image(bytes(damaged), decode=True)
        except ImageProblem as problem:
            reasons.add(problem.reason)
    assert "unreadable" in reasons


def test_decoding_finds_damage_that_header_and_end_do_not_show():
    data = draw(37, 91, "PNG")
    middle = len(data) // 2
    damaged = data[:middle] + bytes(20) + data[middle + 20 :]
    inspect_image(damaged)
    with pytest.raises(ImageProblem, match="cannot be decoded") as caught:
        inspect_image(damaged, decode=True)
    assert caught.value.reason == "unreadable"


def test_two_headers_that_disagree_are_refused_before_pixels_are_decoded():
    data = draw(37, 91, "JPEG")
    other_frame = b"\xff\xc0" + struct.pack(">HBHHB9x", 17, 8, 10, 10, 3)
    data = data[:2] + other_frame + data[2:]
    assert inspect_image(data).width == 10
    with pytest.raises(ImageProblem, match=r"says it is \(10, 10\) and also \(37, 91\) pixels"):
        inspect_image(data, decode=True)


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "empty", "no bytes"),
        (b"<html>404</html>", "not an image", "<html>40"),
        (bytes(1000), "not an image", "begins with"),
        (draw(9, 9, "GIF", mode="P"), "unsupported format", "GIF"),
        (draw(9, 9, "BMP"), "unsupported format", "BMP"),
        (draw(9, 9, "TIFF"), "unsupported format", "TIFF"),
        (b"\0\0\0\x20ftypheic" + bytes(20), "unsupported format", "HEIC"),
        (b"\xff\xd8\xff\xc3" + bytes(20), "unsupported format", "0xc3"),
        (b"\xff\xd8\xff\xc0\x00\x11\x0c" + bytes(20) + b"\xff\xd9", "unsupported format", "12 bits"),
        (b"\xff\xd8\xff\xda" + bytes(20), "unreadable", "without a frame"),
        (b"\xff\xd8\xff\xfe\x00\x02junk", "unreadable", "no JPEG marker at byte 6"),
        (b"RIFF\x18\0\0\0WEBPVP9 " + bytes(20), "unreadable", "VP9"),
        (png_header(0, 5), "unreadable", "0x5"),
        (draw(20, 202, "PNG"), "absurd aspect", "20x202"),
        (draw(202, 20, "JPEG"), "absurd aspect", "202x20"),
        (png_header(8000, 8000), "too many pixels", "8000x8000"),
    ],
)
def test_what_is_no_usable_image_says_why(data, reason, message):
    with pytest.raises(ImageProblem, match=message) as caught:
        inspect_image(data)
    assert caught.value.reason == reason


def test_a_bomb_is_refused_before_it_is_decoded():
    started_at = time.process_time()
    with pytest.raises(ImageProblem, match="60000x60000"):
        inspect_image(png_header(60_000, 60_000), decode=True)
    assert time.process_time() - started_at < 0.1


def test_the_limits_can_be_moved():
    data = draw(20, 202, "PNG")
    assert inspect_image(data, max_aspect=10.1).height == 202
    with pytest.raises(ImageProblem, match="more than 4,039 pixels"):
        inspect_image(data, max_aspect=11, max_pixels=20 * 202 - 1)


def test_reading_gives_the_bytes_of_the_file(tmp_path, kind, image):
    (tmp_path / "any.name").write_bytes(image)
    assert read_image(tmp_path / "any.name") == (image, inspect_image(image))
    assert read_image(str(tmp_path / "any.name"), decode=True)[0] == image


def _make_link(path):
    path.symlink_to("nowhere")


def _make_large(path):
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)


@pytest.mark.parametrize(
    ("make", "reason", "message"),
    [
        (lambda path: None, "missing", "no such file"),
        (_make_link, "missing", "a link to nowhere"),
        (lambda path: path.mkdir(), "unreadable", "a folder"),
        (os.mkfifo, "unreadable", "a device or pipe"),
        (lambda path: path.touch(), "empty", "no bytes"),
        (lambda path: path.symlink_to(path), "unreadable", "symbolic links"),
        (_make_large, "too many bytes", "268,435,457"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path, make, reason, message):
    make(tmp_path / "a.jpg")
    with pytest.raises(ImageProblem, match=message) as caught:
        read_image(tmp_path / "a.jpg")
    assert caught.value.reason == reason


def test_a_file_that_may_not_be_read_says_so(tmp_path):
    (tmp_path / "a.jpg").touch(mode=0o000)
    user = os.geteuid()
    if user == 0:  # the superuser may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(ImageProblem, match="Permission denied"):
            read_image(tmp_path / "a.jpg")
    finally:
        os.seteuid(user)


def test_a_file_as_a_folder_is_a_problem_too(tmp_path):
    (tmp_path / "a").touch()
    with pytest.raises(ImageProblem, match="Not a directory"):
        read_image(tmp_path / "a" / "b.jpg")


def test_a_problem_survives_the_way_between_processes():
    problem = pickle.loads(pickle.dumps(ImageProblem("truncated", "is cut")))
    assert (problem.reason, str(problem)) == ("truncated", "is cut")
