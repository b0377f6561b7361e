"""Sheets of pictures in rows, with words above and below and frames around: as one PNG, or as a page that needs nothing else."""

import base64
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import jinja2
from PIL import Image, ImageDraw, ImageFont, ImageOps

from templates import TEMPLATES

TILE_WIDTH, TILE_HEIGHT = 96, 192
FRAME, MARGIN, FONT_SIZE, LINE_HEIGHT = 4, 12, 13, 17
"""Pixels; and so are the tiles."""
CHARACTERS_A_TILE = 13
PAPER, INK, FAINT = (250, 249, 246), (28, 28, 30), (110, 110, 114)
FRAMES = {"right": (42, 125, 79), "wrong": (196, 54, 43)}
"""Colours; on the page, wrong ones are dashed besides."""

Frame = Literal["", "right", "wrong"]


@dataclass(frozen=True)
class Tile:
    """A picture with a word below."""

    picture: Image.Image
    label: str
    frame: Frame = ""


@dataclass(frozen=True)
class Row:
    """Pictures side by side."""

    title: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Sheet:
    """Rows below each other."""

    title: str
    note: str
    """For whoever looks at it: what it shows."""

    rows: Sequence[Row]


def draw_sheet(sheet: Sheet) -> bytes:
    """Draw a sheet and give it as PNG."""
    step = TILE_WIDTH + MARGIN
    width = MARGIN + step * max(len(row.tiles) for row in sheet.rows)
    height = MARGIN + sum(_height(row, width) for row in sheet.rows)
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(FONT_SIZE)
    top = MARGIN
    for row in sheet.rows:
        lines = _lines(row, width)
        for number, line in enumerate(lines):
            draw.text((MARGIN, top + number * LINE_HEIGHT), line, fill=INK, font=font)
        tiles_top = top + len(lines) * LINE_HEIGHT + FRAME
        for place, tile in enumerate(row.tiles):
            left = MARGIN + place * step
            box = (left, tiles_top, left + TILE_WIDTH - 1, tiles_top + TILE_HEIGHT - 1)
            canvas.paste(_fitted(tile.picture), box[:2])
            if tile.frame:
                draw.rectangle(box, outline=FRAMES[tile.frame], width=FRAME)
            for number, line in enumerate(textwrap.wrap(tile.label, CHARACTERS_A_TILE)[:2]):
                draw.text((left, tiles_top + TILE_HEIGHT + 2 + number * LINE_HEIGHT), line, fill=FAINT, font=font)
        top += _height(row, width)
    return _encode(canvas, "PNG", optimize=True)


def render_sheets(title: str, sheets: Sequence[Sheet]) -> str:
    """Give sheets as one page of HTML with all pictures in it; what comes from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES / "attend"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("page.html.j2").render(title=title, sheets=sheets)


def _lines(row: Row, width: int) -> list[str]:
    """Wrap a row's title."""
    return textwrap.wrap(row.title, max(20, (width - 2 * MARGIN) // (FONT_SIZE // 2 + 1)))


def _height(row: Row, width: int) -> int:
    """Say how much of a sheet a row takes: its title, its tiles, two lines below them."""
    return len(_lines(row, width)) * LINE_HEIGHT + FRAME + TILE_HEIGHT + 2 * LINE_HEIGHT + MARGIN


def _fitted(picture: Image.Image) -> Image.Image:
    """Give a picture the size of a tile, nothing of it cut."""
    size = (TILE_WIDTH, TILE_HEIGHT)
    return ImageOps.pad(picture.convert("RGB"), size, Image.Resampling.LANCZOS, color=PAPER)


def _data_uri(tile: Tile) -> str:
    encoded = base64.b64encode(_encode(_fitted(tile.picture), "JPEG", quality=88)).decode()
    return f"data:image/jpeg;base64,{encoded}"


def _encode(picture: Image.Image, name: str, **options: int) -> bytes:
    file = BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()
