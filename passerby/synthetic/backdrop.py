"""The picture behind and around the figure: sky, surroundings, ground with the cast shadow, fog and snow."""

import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from passerby.synthetic.mesh import Floats, Mesh
from passerby.synthetic.paint import noise_table
from passerby.synthetic.panorama import ABOVE, BELOW, HEIGHT, TILE_METRES, WIDTH, place
from passerby.synthetic.scene import SNOW, Camera, Light

_SHADOW_CELLS, _SHADOW_METRES = 128, 5.0
_FAR = 32.0
"""Metres to what the panorama shows."""


def paint_backdrop(mesh: Mesh, camera: Camera, light: Light, scene: int, *, height: int, width: int) -> Floats:
    """Paint everything but the figure, Float (height, width, 3), linear."""
    column = (np.arange(width, dtype=np.float32) + 0.5 - camera.column) / (camera.focal * camera.squeeze)
    slope = -(np.arange(height, dtype=np.float32) + 0.5 - camera.row) / camera.focal
    # Slopes seen from the eye: the row where camera.eye projects is the horizon.
    azimuth = camera.azimuth - np.arctan(column)
    surroundings = place(scene)
    picture = np.empty((height, width, 3), np.float32)
    horizon = int(np.clip(np.searchsorted(-slope, 0.0), 0, height))
    picture[:horizon] = _sky(light, azimuth, slope[:horizon])
    if horizon < height:
        picture[horizon:] = _ground(mesh, camera, light, surroundings.ground, column=column, slope=slope[horizon:])
    _stand_around(picture, surroundings.around, light, azimuth, slope)
    return picture


def fog_over(color: Floats, distance: Floats | float, light: Light) -> Floats:
    """Dim colours (…, 3) by the air between them and the camera."""
    if light.fog == 0:
        return color
    clear = np.exp(-light.fog * np.asarray(distance, np.float32))[..., None]
    hazed: Floats = color * clear + light.horizon * (1 - clear)
    return hazed


def snow_fall(picture: Floats, light: Light, source: random.Random) -> Floats:
    """Let flakes fall in front of a picture (height, width, 3)."""
    if not light.flakes:
        return picture
    height, width = picture.shape[:2]
    layer = Image.new("L", (width * 2, height * 2), 0)
    brush = ImageDraw.Draw(layer)
    slant = source.uniform(-0.7, 0.7)
    for _ in range(light.flakes):
        x, y, radius = (
            source.uniform(0, 2 * width),
            source.uniform(0, 2 * height),
            height / 128 * source.choice((0.35, 0.5, 0.5, 0.7, 1.1)),
        )
        length = radius * light.streak
        brush.line((x, y, x + slant * length, y + length), source.randint(90, 200), max(1, round(2 * radius)))
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), source.randint(110, 230))
    soft = layer.resize((width, height), Image.Resampling.BOX)
    share = np.asarray(soft, np.float32)[..., None] / 255
    flake = SNOW * (light.sky + 0.4 * light.sun) * 1.15
    return picture + share * (flake - picture)


def _sky(light: Light, azimuth: Floats, slope: Floats) -> Floats:
    share = np.clip(slope / 0.35, 0, 1)[:, None, None] ** 0.7
    sky = light.horizon + share * (light.zenith - light.horizon)
    table = noise_table()
    rows = (slope * 420).astype(np.int32)[:, None] & 255
    columns = (azimuth * 200).astype(np.int32)[None, :] & 255
    cloud = np.clip(
        0.5 * table[rows, columns] + 0.5 * table[(rows * 2) & 255, (columns * 2) & 255] + light.clouds - 0.25, 0, 1
    )
    white = light.horizon.mean() * 1.12
    result: Floats = sky + (0.75 * cloud * (1 - 0.75 * (light.clouds > 0.9)))[..., None] * (white - sky)
    return result


def _stand_around(picture: Floats, around: Floats, light: Light, azimuth: Floats, slope: Floats) -> None:
    """Blend the panorama into the picture, in place, sampled between its pixels."""
    rows = np.flatnonzero((slope < ABOVE) & (slope > -BELOW))
    if len(rows) == 0:
        return
    y = np.clip((ABOVE - slope[rows]) / (ABOVE + BELOW) * HEIGHT - 0.5, 0, HEIGHT - 1.001)
    x = np.mod(azimuth / (2 * np.pi), 1.0) * WIDTH
    top, left = y.astype(np.int32), x.astype(np.int32)
    dy, dx = (y - top)[:, None, None], (x - left)[None, :, None]
    left, right = left % WIDTH, (left + 1) % WIDTH
    upper = around[top[:, None], left] * (1 - dx) + around[top[:, None], right] * dx
    lower = around[top[:, None] + 1, left] * (1 - dx) + around[top[:, None] + 1, right] * dx
    sample = upper * (1 - dy) + lower * dy
    lit = sample[..., :3] * (light.sky * 0.95 + light.sun * 0.45)
    lit = lit + 0.30 * light.snow * sample[..., :3].mean(-1, keepdims=True)
    lit = fog_over(lit, _FAR, light)
    warm = np.array([1.0, 0.74, 0.38], np.float32)
    lit = lit + (0.55 * light.glow * sample[..., 4])[..., None] * warm
    picture[rows] += sample[..., 3:4] * (lit - picture[rows])


def _ground(
    mesh: Mesh, camera: Camera, light: Light, levels: tuple[Floats, ...], *, column: Floats, slope: Floats
) -> Floats:
    depth = np.minimum(camera.eye / np.maximum(-slope, 1e-3), 300.0)
    across = column[None, :] * depth[:, None]
    ahead = (camera.distance - depth)[:, None]
    # Ground points in the person's frame, then in the world's.
    x = across * camera.right[0] + ahead * camera.towards[0]
    z = across * camera.right[2] + ahead * camera.towards[2]
    sine, cosine = np.sin(camera.heading), np.cos(camera.heading)
    u, v = (x * cosine + z * sine) / TILE_METRES, (z * cosine - x * sine) / TILE_METRES
    # Metres of ground under a pixel, along the gaze, choose how fine a texture each row reads.
    footprint = depth**2 / (camera.eye * camera.focal)
    color = np.empty((*x.shape, 3), np.float32)
    level = np.clip(np.log2(np.maximum(footprint * len(levels[0]) / TILE_METRES, 1)), 0, len(levels) - 1).astype(
        np.int32
    )
    for index, texture in enumerate(levels):
        rows = np.flatnonzero(level == index)
        if len(rows):
            color[rows] = _sample(texture, u[rows], v[rows])
    if light.snow:
        table = noise_table()
        patches = table[(v * 700).astype(np.int32) & 255, (u * 700).astype(np.int32) & 255]
        share = np.clip(light.snow + 0.25 * patches - 0.05, 0, 0.97)[..., None]
        color += share * (SNOW * (1 + 0.05 * patches)[..., None] - color)
    sunlit, open_sky = _cast(mesh, light, x, z)
    level_sun = max(float(light.sun_direction[1]), 0.12) ** 0.6
    lit = color * (light.sun * level_sun * sunlit[..., None] + light.sky * open_sky[..., None])
    return fog_over(lit, depth[:, None], light)


def _sample(texture: Floats, u: Floats, v: Floats) -> Floats:
    """Read a repeating square texture (side, side, 3) between its pixels; 1 is once across."""
    side = len(texture)
    x, y = u * side, v * side
    left, top = np.floor(x), np.floor(y)
    dx, dy = (x - left)[..., None], (y - top)[..., None]
    # Sides are powers of two, so that a mask wraps, below zero too.
    left0, top0 = left.astype(np.int32) & (side - 1), top.astype(np.int32) & (side - 1)
    left1, top1 = (left0 + 1) & (side - 1), (top0 + 1) & (side - 1)
    upper = texture[top0, left0] * (1 - dx) + texture[top0, left1] * dx
    lower = texture[top1, left0] * (1 - dx) + texture[top1, left1] * dx
    blended: Floats = upper * (1 - dy) + lower * dy
    return blended


def _cast(mesh: Mesh, light: Light, x: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Say how much sun and how much sky reach ground points, 0…1 each."""
    points = mesh.vertices
    direction = light.sun_direction
    reach = points[:, 1] / max(float(direction[1]), 0.2)
    low = points[points[:, 1] < 0.16]
    shadow = _splat(points[:, 0] - reach * direction[0], points[:, 2] - reach * direction[2], 1.5)
    contact = _splat(low[:, 0], low[:, 2], 1.4)
    around = _splat(points[:, 0], points[:, 2], 6.0)
    u, v = x / _SHADOW_METRES + 0.5, z / _SHADOW_METRES + 0.5
    inside = (np.abs(u - 0.5) < 0.49) & (np.abs(v - 0.5) < 0.49)
    dark = _sample(np.stack([shadow, contact, around], -1), u - 0.5 / _SHADOW_CELLS, v - 0.5 / _SHADOW_CELLS)
    dark *= inside[..., None]
    return 1 - 0.92 * dark[..., 0], 1 - np.maximum(0.75 * dark[..., 1], 0.42 * dark[..., 2])


def _splat(x: Floats, z: Floats, blur: float) -> Floats:
    """Blacken the cells of the ground that points fall on, and blur them: Float (cells, cells), 0…1."""
    rows = ((z / _SHADOW_METRES + 0.5) * _SHADOW_CELLS).astype(np.int32)
    columns = ((x / _SHADOW_METRES + 0.5) * _SHADOW_CELLS).astype(np.int32)
    inside = (rows >= 0) & (rows < _SHADOW_CELLS) & (columns >= 0) & (columns < _SHADOW_CELLS)
    cells = np.zeros((_SHADOW_CELLS, _SHADOW_CELLS), np.uint8)
    cells[rows[inside], columns[inside]] = 255
    soft = Image.fromarray(cells).filter(ImageFilter.GaussianBlur(blur))
    dark: Floats = np.minimum(np.asarray(soft, np.float32) / 130, 1)
    return dark
