"""The nine places: for each a panorama of what stands around, and a texture of the ground. Drawn once a process."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from passerby.synthetic.look import Rgb, linear
from passerby.synthetic.mesh import Floats

WIDTH, HEIGHT = 3072, 256
"""Pixels of a panorama: all the way round, and from BELOW under the horizon to ABOVE over it."""
BELOW, ABOVE = 0.10, 0.40
"""Slopes (height over distance) of the lower and the upper edge."""
TILE, TILE_METRES = 512, 6.0
"""Pixels and metres of a ground texture, which repeats."""
_HORIZON = round(HEIGHT * ABOVE / (ABOVE + BELOW))


@dataclass(frozen=True, slots=True)
class Place:
    """Surroundings of a scene; colours linear."""

    around: Floats
    """Float (HEIGHT, WIDTH, 5): colour, cover (0 is sky or ground), and glow of lit windows."""
    ground: tuple[Floats, ...]
    """Float (side, side, 3) each, every one half as fine as the last."""


@dataclass(frozen=True, slots=True)
class _Sketch:
    """A panorama while it is drawn."""

    canvas: ImageDraw.ImageDraw
    lamps: ImageDraw.ImageDraw
    """Where light comes from at night."""
    source: random.Random


@lru_cache(maxsize=9)
def place(scene: int) -> Place:
    """Draw the place of a scene code, 1…9."""
    source = random.Random(scene)  # noqa: S311  (scenery, not secrets)
    picture = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    lamps = Image.new("L", (WIDTH, HEIGHT), 0)
    draw_around, draw_ground = _PLACES[scene - 1]
    draw_around(_Sketch(ImageDraw.Draw(picture), ImageDraw.Draw(lamps), source))
    # A lens focused on the person: blur in premultiplied colour, so that edges do not turn dark.
    lens = ImageFilter.GaussianBlur(1.1)
    rgba = np.asarray(picture.convert("RGBa").filter(lens).convert("RGBA"), np.float32)
    glow = np.asarray(lamps.filter(lens), np.float32)
    layers = np.concatenate([linear(rgba[..., :3]), rgba[..., 3:] / 255, glow[..., None] / 255], -1)
    tile = Image.new("RGB", (TILE, TILE))
    draw_ground(tile, source)
    return Place(layers, _pyramid(linear(np.asarray(tile, np.float32))))


def _pyramid(texture: Floats) -> tuple[Floats, ...]:
    levels = [texture]
    while len(levels) < 5:
        fine = levels[-1]
        half = len(fine) // 2
        levels.append(fine.reshape(half, 2, half, 2, 3).mean((1, 3)))
    return tuple(levels)


def _vary(source: random.Random, color: Rgb, reach: int) -> Rgb:
    shift = source.randint(-reach, reach)
    red, green, blue = (max(0, min(255, value + shift)) for value in color)
    return red, green, blue


def _buildings(
    sketch: _Sketch,
    walls: list[Rgb],
    *,
    tall: tuple[int, int],
    pane: tuple[int, int] = (9, 12),
) -> None:
    """Line the whole round with facades: windows, ledges, doors or shop fronts."""
    x = 0
    base = _HORIZON + 12
    while x < WIDTH:
        wide, high = sketch.source.randint(70, 170), sketch.source.randint(*tall)
        wall = _vary(sketch.source, sketch.source.choice(walls), 14)
        top = base - high
        sketch.canvas.rectangle((x, top, x + wide, base), wall)
        sketch.canvas.rectangle((x, top, x + wide, top + 4), _vary(sketch.source, (150, 146, 140), 30))
        glass = _vary(sketch.source, (64, 76, 92), 18)
        step_x, step_y = pane[0] + sketch.source.randint(5, 10), pane[1] + sketch.source.randint(7, 12)
        for wy in range(top + 10, base - 30, step_y):
            for wx in range(x + 7, x + wide - pane[0], step_x):
                box = (wx, wy, wx + pane[0], wy + pane[1])
                sketch.canvas.rectangle(box, _vary(sketch.source, glass, 14))
                if sketch.source.random() < 0.4:
                    sketch.lamps.rectangle(box, sketch.source.randint(90, 255))
        _shop_front(sketch, x, wide, base)
        x += wide + (sketch.source.randint(4, 26) if sketch.source.random() < 0.3 else 0)


def _shop_front(sketch: _Sketch, x: int, wide: int, base: int) -> None:
    sign = sketch.source.choice(((150, 60, 50), (52, 86, 96), (186, 160, 98), (70, 70, 76), (88, 110, 78)))
    sketch.canvas.rectangle((x + 4, base - 24, x + wide - 4, base - 3), (58, 62, 70))
    sketch.canvas.rectangle((x + 4, base - 29, x + wide - 4, base - 23), _vary(sketch.source, sign, 12))
    sketch.lamps.rectangle((x + 6, base - 22, x + wide - 6, base - 6), sketch.source.choice((0, 120, 220)))


def _trees(sketch: _Sketch, count: int, *, size: tuple[int, int], greens: list[Rgb]) -> None:
    for _ in range(count):
        x, high = sketch.source.randint(-20, WIDTH + 20), sketch.source.randint(*size)
        base = _HORIZON + sketch.source.randint(2, 14)
        sketch.canvas.rectangle(
            (x - high // 22, base - high, x + high // 22 + 1, base), _vary(sketch.source, (84, 66, 52), 12)
        )
        for _ in range(26):
            angle, reach = sketch.source.uniform(0, 6.3), sketch.source.random() ** 0.5
            cx = x + reach * 0.42 * high * np.cos(angle)
            cy = base - high * 0.82 + reach * 0.36 * high * np.sin(angle)
            r = high * sketch.source.uniform(0.07, 0.16)
            leaf = _vary(sketch.source, sketch.source.choice(greens), 16)
            sketch.canvas.ellipse((cx - r, cy - r, cx + r, cy + r), leaf)


def _hills(sketch: _Sketch, color: Rgb, high: float, *, jagged: float = 0.0) -> None:
    x = np.arange(0, WIDTH + 8, 8)
    turn = x / WIDTH * 2 * np.pi
    ridge: NDArray[np.float64] = np.zeros(len(x))
    for k in (2, 3, 5, 8, 13):
        ridge += sketch.source.uniform(0.3, 1) * np.sin(k * turn + sketch.source.uniform(0, 6.3)) / k**0.8
    for k in (9, 17, 31):
        ridge += jagged * np.abs(np.sin(k * turn + sketch.source.uniform(0, 6.3))) / 3
    top = _HORIZON - high * (0.6 + 0.35 * ridge)
    sketch.canvas.polygon(
        [(0, _HORIZON + 3), *zip(x.tolist(), top.tolist(), strict=True), (WIDTH, _HORIZON + 3)], color
    )


def _cars(sketch: _Sketch, count: int) -> None:
    paints: list[Rgb] = [(150, 36, 36), (40, 60, 96), (206, 206, 204), (44, 46, 50), (120, 124, 128), (92, 104, 84)]
    for _ in range(count):
        x, base = sketch.source.randint(0, WIDTH - 90), _HORIZON + sketch.source.randint(20, 30)
        color = sketch.source.choice(paints)
        sketch.canvas.rounded_rectangle((x, base - 22, x + 88, base - 5), 7, color)
        sketch.canvas.polygon(
            [(x + 14, base - 21), (x + 27, base - 37), (x + 62, base - 37), (x + 77, base - 21)], color
        )
        sketch.canvas.polygon(
            [(x + 20, base - 22), (x + 30, base - 34), (x + 59, base - 34), (x + 69, base - 22)], (52, 62, 74)
        )
        for wheel in (x + 18, x + 68):
            sketch.canvas.ellipse((wheel - 8, base - 15, wheel + 8, base + 1), (26, 26, 28))
        sketch.lamps.rectangle((x + 82, base - 18, x + 87, base - 14), 160)


def _posts(sketch: _Sketch, count: int) -> None:
    for index in range(count):
        x = int((index + sketch.source.uniform(-0.2, 0.2)) * WIDTH / count)
        sketch.canvas.rectangle((x - 1, _HORIZON - 118, x + 2, _HORIZON + 18), (60, 62, 66))
        sketch.canvas.ellipse((x - 6, _HORIZON - 124, x + 7, _HORIZON - 112), (220, 214, 196))
        sketch.lamps.ellipse((x - 8, _HORIZON - 126, x + 9, _HORIZON - 110), 255)


_STONE: list[Rgb] = [(176, 164, 146), (150, 142, 134), (190, 180, 166), (132, 110, 94), (164, 128, 108)]
_BRICK: list[Rgb] = [(138, 84, 66), (122, 78, 64), (150, 100, 78), (112, 86, 76)]
_GLASS: list[Rgb] = [(112, 126, 138), (134, 144, 150), (96, 108, 120), (150, 152, 152)]
_LEAVES: list[Rgb] = [(66, 92, 48), (82, 104, 54), (54, 78, 44), (96, 112, 60)]
_CONIFERS: list[Rgb] = [(44, 62, 42), (52, 72, 46), (60, 74, 44)]


def _street(sketch: _Sketch) -> None:
    _buildings(sketch, _STONE, tall=(90, 200))
    _cars(sketch, 16)
    _posts(sketch, 14)


def _plaza(sketch: _Sketch) -> None:
    _buildings(sketch, _GLASS + _STONE[:1], tall=(70, 150), pane=(14, 9))
    _trees(sketch, 26, size=(60, 95), greens=_LEAVES)
    _posts(sketch, 10)


def _meadow(sketch: _Sketch) -> None:
    _hills(sketch, (112, 128, 128), 52)
    _hills(sketch, (96, 116, 80), 30)
    _trees(sketch, 60, size=(26, 70), greens=_LEAVES)


def _lane(sketch: _Sketch) -> None:
    _buildings(sketch, _BRICK, tall=(120, 230), pane=(8, 14))
    _posts(sketch, 18)


def _dunes(sketch: _Sketch) -> None:
    _hills(sketch, (150, 132, 122), 64, jagged=0.9)
    _hills(sketch, (176, 146, 110), 34)
    _hills(sketch, (198, 170, 128), 14)


def _car_park(sketch: _Sketch) -> None:
    _buildings(sketch, _GLASS, tall=(50, 110), pane=(24, 7))
    _trees(sketch, 14, size=(40, 70), greens=_LEAVES)
    _cars(sketch, 34)


def _promenade(sketch: _Sketch) -> None:
    _buildings(sketch, _STONE + _BRICK[:2], tall=(55, 90))
    _trees(sketch, 44, size=(70, 120), greens=_LEAVES)


def _forest(sketch: _Sketch) -> None:
    _hills(sketch, (70, 88, 66), 70)
    _trees(sketch, 260, size=(90, 190), greens=_CONIFERS + _LEAVES[:2])


def _harbour(sketch: _Sketch) -> None:
    _hills(sketch, (120, 134, 142), 26)
    _buildings(
        sketch,
        [(128, 138, 144), (150, 96, 74), (166, 164, 158), (92, 112, 120)],
        tall=(36, 80),
        pane=(30, 6),
    )
    sketch.canvas.rectangle((0, _HORIZON + 8, WIDTH, _HORIZON + 10), (88, 92, 96))
    for x in range(0, WIDTH, 24):
        sketch.canvas.rectangle((x, _HORIZON + 8, x + 2, _HORIZON + 30), (88, 92, 96))


def _grain(tile: Image.Image, source: random.Random, color: Rgb, strength: float, *, blotch: float = 0.0) -> None:
    noise = np.random.default_rng(source.randrange(2**32))
    fine = noise.normal(0, strength, (TILE, TILE, 1))
    coarse = noise.normal(0, 1, (16, 16)).astype(np.float32)
    wide = np.asarray(
        Image.fromarray(np.pad(coarse, 1, mode="wrap")).resize((TILE + 64, TILE + 64), Image.Resampling.BICUBIC)
    )
    texture = np.array(color) + fine + blotch * wide[32:-32, 32:-32, None] * np.array([1.0, 0.9, 0.7])
    tile.paste(Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8)))


def _slabs(
    color: Rgb, joint: Rgb, across: int, down: int, *, is_bonded: bool = False
) -> Callable[[Image.Image, random.Random], None]:
    def draw_ground(tile: Image.Image, source: random.Random) -> None:
        _grain(tile, source, color, 7, blotch=7)
        shades = np.asarray(tile, np.int16).copy()
        wide, high = TILE // across, TILE // down
        for row in range(down):
            shift = wide // 2 if is_bonded and row % 2 else 0
            for column in range(across):
                xs = (np.arange(wide) + column * wide + shift) % TILE
                block = np.ix_(np.arange(row * high, (row + 1) * high), xs)
                shades[block] += source.randint(-11, 11)
                shades[np.ix_(np.arange(row * high, (row + 1) * high), xs[:2])] = joint
            shades[row * high : row * high + 2] = joint
        tile.paste(Image.fromarray(np.clip(shades, 0, 255).astype(np.uint8)))

    return draw_ground


def _bare(
    color: Rgb, strength: float, blotch: float, line: Rgb | None = None
) -> Callable[[Image.Image, random.Random], None]:
    def draw_ground(tile: Image.Image, source: random.Random) -> None:
        _grain(tile, source, color, strength, blotch=blotch)
        if line:
            ImageDraw.Draw(tile).rectangle((0, 60, TILE, 70), line)

    return draw_ground


_Around = Callable[[_Sketch], None]
_Ground = Callable[[Image.Image, random.Random], None]
_PLACES: tuple[tuple[_Around, _Ground], ...] = (
    (_street, _bare((98, 98, 100), 9, 5, (204, 202, 192))),
    (_plaza, _slabs((164, 158, 148), (122, 118, 112), 8, 8)),
    (_meadow, _bare((94, 112, 58), 16, 14)),
    (_lane, _slabs((128, 118, 110), (86, 80, 76), 22, 32, is_bonded=True)),
    (_dunes, _bare((196, 168, 124), 9, 11)),
    (_car_park, _bare((128, 128, 128), 8, 8, (222, 196, 96))),
    (_promenade, _slabs((152, 128, 112), (118, 102, 92), 16, 16, is_bonded=True)),
    (_forest, _bare((112, 92, 66), 17, 18)),
    (_harbour, _slabs((142, 144, 144), (104, 106, 108), 3, 3)),
)
