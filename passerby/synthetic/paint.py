"""What surfaces look like: fabrics and their folds, skin, faces, hair. Lengths in metres, colours linear."""

from functools import lru_cache

import numpy as np

from passerby.synthetic.look import Fabric, Look, linear
from passerby.synthetic.mesh import Coat, Floats, Paint

HAT, HAIR, GLOVE, SUNGLASSES, UPPER, DRESS, COAT, SOCKS, PANTS = 1, 2, 3, 4, 5, 6, 7, 8, 9
SKIRT, FACE, LEFT_ARM, LEFT_LEG, LEFT_SHOE = 12, 13, 14, 16, 18
"""Classes of LIP; those of the right arm, leg and shoe are one higher. What LIP does not know (bags) is background, 0."""

_NOISE_SIZE = 256
_WHITE = linear((240, 238, 232))
_INK = linear((24, 22, 24))


def flat(color: Floats, lip: int) -> Paint:
    """Paint everything in one colour."""

    def paint(angle: Floats, along: Floats) -> Coat:
        return Coat(np.broadcast_to(color, (len(angle), 3)), lip)

    return paint


def skin(look: Look, lip: int) -> Paint:
    """Paint bare skin, a little mottled."""

    def paint(angle: Floats, along: Floats) -> Coat:
        return Coat(look.skin * (1 + 0.05 * noise(angle * 0.1, along))[:, None], lip)

    return paint


def cloth(fabric: Fabric, lip: int, radius: float, folds: float = 0.3) -> Paint:
    """Paint a limb's cloth.

    Args:
        fabric: Colours and pattern.
        lip: LIP class.
        radius: Mean radius, which turns angles into metres.
        folds: Slope of the folds.
    """

    def paint(angle: Floats, along: Floats) -> Coat:
        across = angle * radius
        return Coat(weave(fabric, across, along), lip, crease(across, along, folds, fabric.phase))

    return paint


def weave(fabric: Fabric, across: Floats, along: Floats) -> Floats:
    """Give the colour of a fabric at places in metres, Float (points, 3)."""
    x, y = across / fabric.period, along / fabric.period + fabric.phase
    share: Floats
    if fabric.pattern == "striped":
        share = edge(np.abs(y - np.floor(y) - 0.5), 0.19, 0.05)
    elif fabric.pattern == "plaid":
        share = 0.5 * edge(np.abs(y - np.floor(y) - 0.5), 0.13, 0.05)
        share += 0.5 * edge(np.abs(x - np.floor(x) - 0.5), 0.13, 0.05)
        share = np.maximum(share, 0.8 * edge(np.abs(x - np.floor(x)), 0.04, 0.03))
    elif fabric.pattern == "printed":
        share = _motifs(x, y)
    else:
        grain = 1 + 0.06 * noise(across * 3, along * 3)
        return fabric.base * grain[:, None]
    return fabric.base + share[:, None] * (fabric.second - fabric.base)


def crease(across: Floats, along: Floats, strength: float, phase: float) -> Floats:
    """Give the slopes of soft folds that run mostly along the limb, Float (points, 2)."""
    rows = (along * 170 + phase * _NOISE_SIZE).astype(np.int32) & (_NOISE_SIZE - 1)
    columns = (across * 330 + phase * 97).astype(np.int32) & (_NOISE_SIZE - 1)
    slopes: Floats = _folds()[rows, columns] * np.float32(strength)
    return slopes


def noise(across: Floats, along: Floats) -> Floats:
    """Give smooth noise of −1…1 with features of about 5 cm, Float (points,)."""
    rows = (along * 400).astype(np.int32) & (_NOISE_SIZE - 1)
    columns = (across * 400).astype(np.int32) & (_NOISE_SIZE - 1)
    values: Floats = noise_table()[rows, columns]
    return values


def edge(distance: Floats, limit: float, softness: float) -> Floats:
    """Give 1 where `distance` is below `limit`, 0 above, and a ramp of width `softness` between."""
    share: Floats = np.clip((limit - distance) / softness + 0.5, 0, 1)
    return share


def blend(color: Floats, other: Floats, share: Floats) -> Floats:
    """Mix another colour into colours (points, 3) by shares (points,)."""
    return color + share[:, None] * (other - color)


def face(look: Look) -> Paint:
    """Paint the head: eyes, brows, lips, beard. Along is the share of the head above the chin."""
    brow = look.hair * 0.6 if look.age != "older" else look.hair * 0.45
    lips = look.skin * np.array([0.82, 0.5, 0.52] if look.is_female else [0.78, 0.6, 0.58], np.float32)
    beard = {"none": 0.0, "stubble": 0.38, "full": 0.88}[look.beard]

    def paint(angle: Floats, along: Floats) -> Coat:
        # Offsets from the middle in head heights; the eye regions of both sides fold onto one.
        across = angle * np.float32(0.34)
        apart = np.abs(across)
        color = look.skin * (1 + 0.04 * noise(angle * 0.2, along * 0.3))[:, None]
        color *= (1 - 0.34 * _blob(apart - 0.145, along - 0.545, 0.085, 0.05))[:, None]
        color *= (1 - 0.30 * _blob(across, along - 0.30, 0.075, 0.03))[:, None]
        color *= (1 - 0.18 * _blob(across, along - 0.145, 0.09, 0.025))[:, None]
        if look.age == "older":
            color *= (1 - 0.16 * edge(np.abs(np.abs(along - 0.30) * 0.6 - apart + 0.13), 0.012, 0.02))[:, None]
        if beard:
            jaw = edge(along + 0.5 * np.maximum(0, 0.22 - apart), 0.34, 0.1) + _blob(across, along - 0.275, 0.12, 0.025)
            color = blend(color, look.hair, beard * np.clip(jaw, 0, 1) * edge(apart, 0.62, 0.1))
        color = blend(color, lips, _blob(across, along - 0.205, 0.085, 0.026))
        color = blend(color, lips * 0.5, 0.7 * _blob(across, along - 0.207, 0.085, 0.008))
        eye = np.hypot((apart - 0.145) / 0.068, (along - 0.52) / 0.034)
        color = blend(color, _WHITE * 0.85, edge(eye, 1.05, 0.4))
        color = blend(color, _INK, edge(np.hypot(apart - 0.143, along - 0.522), 0.034, 0.012))
        color = blend(color, _INK, 0.8 * _blob(apart - 0.147, along - 0.549, 0.074, 0.012))
        arch = along - 0.615 - 0.03 * np.cos((apart - 0.15) * 16)
        color = blend(color, brow, 0.85 * _blob(apart - 0.15, arch, 0.078, 0.016 if look.is_female else 0.022))
        scalp = edge(-along, -0.8, 0.05)
        return Coat(blend(color, look.hair, scalp), np.where(scalp > 0.5, HAIR, FACE).astype(np.uint8))

    return paint


def hair(look: Look) -> Paint:
    """Paint strands: streaks along the fall, bent with the locks."""
    strength = 0.5 if look.hair_style in ("wavy", "tousled") else 0.3

    def paint(angle: Floats, along: Floats) -> Coat:
        streak = noise(angle * 0.55 + 0.02 * np.sin(along * 40), along * 0.12)
        slope = np.stack([streak * strength, noise(angle * 0.3, along * 0.4) * 0.2], 1)
        return Coat(look.hair * (1 + 0.38 * streak)[:, None], HAIR, slope)

    return paint


@lru_cache(maxsize=1)
def noise_table() -> Floats:
    """Tile of smooth noise, Float (256, 256) in −1…1, the same in every process."""
    source = np.random.default_rng(5)
    total = np.zeros((_NOISE_SIZE, _NOISE_SIZE))
    y, x = np.mgrid[:_NOISE_SIZE, :_NOISE_SIZE] * (2 * np.pi / _NOISE_SIZE)
    for _ in range(60):
        fx, fy = source.integers(-14, 15, 2)
        total += np.cos(fx * x + fy * y + source.uniform(0, 2 * np.pi)) / (2 + np.hypot(fx, fy)) ** 0.5
    table: Floats = np.clip(total / (2.2 * total.std()), -1, 1).astype(np.float32)
    return table


@lru_cache(maxsize=1)
def _folds() -> Floats:
    """Slopes (round, along) of a tile of folds: ridges with sharp crests, Float (256, 256, 2)."""
    smooth = noise_table()
    ridges = 1 - np.abs(smooth + 0.5 * np.roll(smooth, 67, 1))
    slopes = np.stack([np.roll(ridges, -2, axis) - np.roll(ridges, 2, axis) for axis in (1, 0)], -1)
    table: Floats = np.clip(slopes / slopes.std(), -2.5, 2.5).astype(np.float32)
    return table


def _blob(x: Floats, y: Floats, width: float, height: float) -> Floats:
    share: Floats = np.exp(-np.square(x / width) - np.square(y / height))
    return share


def _motifs(x: Floats, y: Floats) -> Floats:
    """Scatter blossoms, one a cell, each moved and sized by a hash of its cell."""
    row = np.floor(y)
    column = np.floor(x + 0.5 * (row % 2))
    code = (row.astype(np.int32) * 7919 + column.astype(np.int32) * 104729) & 0xFFFF
    dx = x + 0.5 * (row % 2) - column - 0.5 + ((code & 31) - 15.5) / 110
    dy = y - row - 0.5 + ((code >> 5 & 31) - 15.5) / 110
    radius = np.hypot(dx, dy)
    petal = 0.27 + 0.08 * np.cos(5 * np.arctan2(dy, dx) + code) + ((code >> 10) & 7) / 100
    share: Floats = (edge(radius - petal, 0.0, 0.08) * (1 - 0.9 * edge(radius, 0.07, 0.05))).astype(np.float32)
    return share
