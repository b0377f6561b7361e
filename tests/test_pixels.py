import io

import numpy as np
import pytest
import torch
from PIL import Image

from passerby.images import ImageProblem, decode_rgb
from passerby.nets.pixels import bands, fit, interpolated_size

SIZE = 48


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth image with something in every corner."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


TALL, SQUARE = picture(128, 64), picture(64, 64, 1)


def fitted(pixels: np.ndarray, image_mode: str, height_width=(SIZE, SIZE)) -> np.ndarray:
    fill = torch.tensor([10, 20, 30], dtype=torch.uint8)
    return fit([pixels], height_width, image_mode, rows=2, fill=fill).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("size", [(96, 48), (60, 200), (48, 48), (500, 51)])
def test_padding_shrinks_the_whole_crop_between_bars(size):
    pixels = picture(*size)
    scale = SIZE / max(size)
    height, width = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    canvas = Image.new("RGB", (SIZE, SIZE), (10, 20, 30))
    canvas.paste(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC),
        ((SIZE - width) // 2, (SIZE - height) // 2),
    )
    found, plain = fitted(pixels, "pad")
    assert np.abs(found.astype(int) - np.asarray(canvas)).max() <= 2
    assert (plain == [10, 20, 30]).all()


def test_squashing_loses_neither_head_nor_shoes():
    pixels = np.full((192, 64, 3), 128, np.uint8)
    pixels[:16], pixels[-16:] = 255, 0
    squashed, centred = fitted(pixels, "squash")[0], fitted(pixels, "center")[0]
    assert squashed.max() > 250
    assert squashed.min() < 5
    assert (centred == 128).all()


def test_sizes_are_height_then_width():
    assert fitted(TALL, "squash", (96, 32)).shape == (2, 96, 32, 3)


def test_bands_of_a_square_are_the_square():
    assert all((band == SQUARE).all() for band in bands(SQUARE))


def test_interpolated_size_reads_height_first():
    assert interpolated_size("interp:384x192") == (384, 192)
    assert interpolated_size("pad") is None


def encoded(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_decoding_gives_pillows_pixels(format):
    data = encoded(Image.fromarray(TALL), format)
    assert (decode_rgb(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


@pytest.mark.parametrize(
    ("mode", "format"), [("L", "JPEG"), ("CMYK", "JPEG"), ("1", "PNG"), ("P", "PNG"), ("RGBA", "PNG"), ("LA", "PNG")]
)
def test_every_colour_space_becomes_rgb(mode, format):
    image = Image.fromarray(TALL).convert("L").convert("RGB").convert(mode)
    found = decode_rgb(encoded(image, format))
    assert (found.shape, found.dtype) == (TALL.shape, np.uint8)
    assert np.abs(found.astype(int) - np.asarray(image.convert("RGB"))).mean() < 4


def test_an_image_is_turned_upright():
    image = Image.fromarray(TALL)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    found = decode_rgb(encoded(image, "PNG", exif=exif))
    assert (found == np.rot90(TALL, -1)).all()


def test_a_large_jpeg_is_decoded_small_but_not_too_small():
    image = Image.fromarray(picture(2000, 1000))
    assert decode_rgb(encoded(image)).shape == (1000, 500, 3)
    assert decode_rgb(encoded(image.resize((895, 2000)))).shape == (2000, 895, 3)


@pytest.mark.parametrize("damage", [lambda data: data[:900], lambda data: b"GIF89a" + data, lambda data: b""])
def test_damage_is_an_image_problem(damage):
    with pytest.raises(ImageProblem, match="cannot be decoded"):
        decode_rgb(damage(encoded(Image.fromarray(TALL))))
