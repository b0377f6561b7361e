"""Contact sheets: samples of a data set as one picture, each image beside its caption."""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from passerby.images import decode_rgb

IMAGE_HEIGHT, TEXT_WIDTH, MARGIN, FONT_SIZE, LINE_HEIGHT = 256, 560, 14, 16, 21
"""Pixels."""
CHARACTERS_A_LINE = 66
PAPER, INK, FAINT = (250, 249, 246), (28, 28, 30), (120, 120, 124)


@dataclass(frozen=True, slots=True)
class Captioned:
    """One entry of a sheet."""

    key: str
    image: bytes
    """An encoded image."""
    caption: str
    """Lines are wrapped; a newline begins another paragraph."""


def draw_contact_sheet(entries: Sequence[Captioned], *, columns: int = 1) -> bytes:
    """Draw the entries row by row and give the sheet as PNG.

    Raises:
        ValueError: there is nothing to draw, or an image cannot be decoded.
    """
    if not entries:
        raise ValueError("a contact sheet needs at least one sample; got none")
    pictures = [_scaled(entry.image) for entry in entries]
    image_width = max(picture.width for picture in pictures)
    cell_width = image_width + TEXT_WIDTH + 3 * MARGIN
    cell_height = IMAGE_HEIGHT + MARGIN
    rows = -(-len(entries) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    text_font, key_font = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(FONT_SIZE - 4)
    for place, (entry, picture) in enumerate(zip(entries, pictures, strict=True)):
        left, top = place % columns * cell_width + MARGIN, place // columns * cell_height + MARGIN
        sheet.paste(picture, (left, top))
        left += image_width + MARGIN
        draw.text((left, top), entry.key, fill=FAINT, font=key_font)
        lines = [line for text in entry.caption.split("\n") for line in textwrap.wrap(text, CHARACTERS_A_LINE)]
        for line, text in enumerate(lines, start=1):
            draw.text((left, top + line * LINE_HEIGHT), text, fill=INK, font=text_font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _scaled(encoded: bytes) -> Image.Image:
    image = Image.fromarray(decode_rgb(encoded))
    width = max(1, round(image.width * IMAGE_HEIGHT / image.height))
    return image.resize((width, IMAGE_HEIGHT), Image.Resampling.LANCZOS)
