"""The one primitive: a grid of points wrapped round an axis. Every body part, garment shell, hat and bag is one.

Units are metres. x points to the person's left, y up, z where the person faces.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]
"""float32 where there are many, float64 for joints and outlines."""
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Coat:
    """What a surface looks like at some of its points."""

    color: Floats
    """Float (points, 3), linear reflectance in 0…1."""
    lip: Bytes | int
    """LIP class, one for all points or Uint8 (points,)."""
    bump: Floats | None = None
    """Float (points, 2), slopes of the folds round and along the axis."""


Paint = Callable[[Floats, Floats], Coat]
"""Paints points given their angle round the axis (radians, 0 in front) and their place along it."""


@dataclass(frozen=True, slots=True)
class Surface:
    """A paint, what it belongs to, and how it shines."""

    feature: str
    """What a viewer would call it: `upper`, `bag`, `glasses`, …; visibility is counted by it."""
    paint: Paint
    gloss: float = 0.0
    """Strength of the highlight, 0…1."""


@dataclass(frozen=True, slots=True)
class Part:
    """A wrapped grid in space."""

    points: Floats
    """Float (rows, columns, 3); the first and the last column meet."""
    along: Floats
    """Float (rows,), the second coordinate given to the paint."""
    surface: Surface


@dataclass(frozen=True, slots=True)
class Mesh:
    """All parts of a figure as one triangle list."""

    vertices: Floats
    """Float (vertices, 3)."""
    normals: Floats
    """Float (vertices, 3), unit, pointing outward."""
    coordinates: Floats
    """Float (vertices, 2), angle round the axis and place along it."""
    triangles: NDArray[np.intp]
    """Int (triangles, 3)."""
    owners: NDArray[np.uint8]
    """Uint8 (triangles,), index into `surfaces`."""
    surfaces: tuple[Surface, ...]


def tube(
    centres: ArrayLike,
    width: ArrayLike,
    front: ArrayLike,
    back: ArrayLike | None = None,
    *,
    hint: ArrayLike = (0.0, 0.0, 1.0),
    columns: int = 12,
    squareness: ArrayLike = 2.0,
) -> Floats:
    """Loft superellipses along a line of centres.

    Args:
        centres: (rows, 3).
        width: Half the extent across the hint, (rows,) or a number.
        front: Extent towards the hint.
        back: Extent away from it; as `front` where not given.
        hint: The direction of angle 0 at the first row; later rows turn with the line, without twist.
        columns: Number of faces round the axis.
        squareness: Exponent of the superellipse: 2 is an ellipse, 4 nearly a box.

    Returns:
        Float (rows, columns + 1, 3).
    """
    line = np.asarray(centres, np.float64)
    across, towards = _frames(line, np.asarray(hint, np.float64))
    rows = len(line)
    sine, cosine = _circle(columns)
    power = 2.0 / np.broadcast_to(np.asarray(squareness, np.float64), (rows,))[:, None]
    # shape of each factor: (rows, columns + 1)
    x = np.broadcast_to(np.asarray(width, np.float64), (rows,))[:, None] * _signed_power(sine, power)
    ahead = np.broadcast_to(np.asarray(front, np.float64), (rows,))[:, None]
    behind = ahead if back is None else np.broadcast_to(np.asarray(back, np.float64), (rows,))[:, None]
    z = np.where(cosine > 0, ahead, behind) * _signed_power(cosine, power)
    points = line[:, None] + x[..., None] * across[:, None] + z[..., None] * towards[:, None]
    return points.astype(np.float32)


def angles(columns: int) -> Floats:
    """Give the angle of each column of a grid, −π…π."""
    return np.linspace(-np.pi, np.pi, columns + 1, dtype=np.float32)


def resample(keys: Sequence[Sequence[float]], places: ArrayLike) -> NDArray[np.float64]:
    """Interpolate a table of (place, value, …) rows, sorted by place, smoothly at `places`.

    Returns:
        Float (values, places).
    """
    table = np.asarray(keys, np.float64)
    spots = np.asarray(places, np.float64)
    # Monotone cubic segments: slopes are zero at extremes, so that a profile never overshoots its table.
    x = table[:, 0]
    index = np.clip(np.searchsorted(x, spots) - 1, 0, len(x) - 2)
    t = np.clip((spots - x[index]) / (x[index + 1] - x[index]), 0, 1)
    return _hermite(x, table[:, 1:].T, index, t)


def smooth_path(joints: ArrayLike, rows: int, softness: float = 0.12) -> NDArray[np.float64]:
    """Sample a chain of joints evenly, its corners rounded over `softness` of its length.

    Returns:
        Float (rows, 3).
    """
    chain = np.asarray(joints, np.float64)
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(chain, axis=0), axis=1))]
    even = np.linspace(0, lengths[-1], 49)
    dense = along_path(chain, even, lengths).T
    reach = max(1, round(softness * 24))
    # Mirroring the ends keeps them in place.
    padded = np.concatenate(
        [2 * dense[:, :1] - dense[:, reach:0:-1], dense, 2 * dense[:, -1:] - dense[:, -2 : -reach - 2 : -1]], axis=1
    )
    window = np.hanning(2 * reach + 3)[1:-1]
    soft = np.stack([np.convolve(axis, window / window.sum(), "valid") for axis in padded], 1)
    return along_path(soft, np.linspace(0, 48, rows), np.arange(49))


def along_path(
    path: ArrayLike, spots: Floats, ticks: NDArray[np.floating[Any] | np.integer[Any]]
) -> NDArray[np.float64]:
    """Interpolate points (rows, 3) that stand at `ticks` (rows,) at `spots`: Float (spots, 3)."""
    x, y, z = np.asarray(path, np.float64).T
    return np.stack([np.interp(spots, ticks, x), np.interp(spots, ticks, y), np.interp(spots, ticks, z)], 1)


def build_mesh(parts: Sequence[Part]) -> Mesh:
    """Join parts into one mesh with outward normals."""
    surfaces: dict[int, tuple[int, Surface]] = {}
    vertices, normals, coordinates, triangles, owners = [], [], [], [], []
    offset = 0
    for part in parts:
        rows, columns = part.points.shape[:2]
        place, _ = surfaces.setdefault(id(part.surface), (len(surfaces), part.surface))
        faces = _faces(rows, columns)
        vertices.append(part.points.reshape(-1, 3))
        normals.append(_normals(part.points).reshape(-1, 3))
        grid = np.empty((rows, columns, 2), np.float32)
        grid[..., 0], grid[..., 1] = angles(columns - 1), part.along[:, None]
        coordinates.append(grid.reshape(-1, 2))
        triangles.append(faces + offset)
        owners.append(np.full(len(faces), place, np.uint8))
        offset += rows * columns
    return Mesh(
        np.concatenate(vertices),
        np.concatenate(normals),
        np.concatenate(coordinates),
        np.concatenate(triangles),
        np.concatenate(owners),
        tuple(surface for _, surface in surfaces.values()),
    )


def unit(vector: ArrayLike) -> NDArray[np.float64]:
    """Scale vectors (…, 3) to length 1."""
    values = np.asarray(vector, np.float64)
    scaled: NDArray[np.float64] = values / np.maximum(np.sqrt((values * values).sum(-1, keepdims=True)), 1e-12)
    return scaled


def _frames(line: NDArray[np.float64], hint: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Carry the hint along the line: give the directions across and towards it at every row, (rows, 3) each."""
    axis = np.empty_like(line)
    axis[1:-1] = line[2:] - line[:-2]
    axis[0], axis[-1] = line[1] - line[0], line[-1] - line[-2]
    axis = unit(axis)
    towards = np.empty_like(axis)
    x, y, z = hint.tolist()
    # Plain floats: numpy's overhead on vectors of three would dominate the whole mesh.
    for row, (a, b, c) in enumerate(axis.tolist()):
        dot = x * a + y * b + z * c
        x, y, z = x - dot * a, y - dot * b, z - dot * c
        length = (x * x + y * y + z * z) ** 0.5 or 1.0
        x, y, z = x / length, y / length, z / length
        towards[row] = x, y, z
    return _cross(axis, towards), towards


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply vectors (…, 3) crosswise, several times faster than `np.cross`."""
    result = np.empty(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        np.subtract(a[..., j] * b[..., k], a[..., k] * b[..., j], out=result[..., i])
    return result


def _normals(points: Floats) -> Floats:
    grid = points.astype(np.float64)
    around = np.empty_like(grid)
    around[:, 1:-1] = grid[:, 2:] - grid[:, :-2]
    around[:, 0] = around[:, -1] = grid[:, 1] - grid[:, -2]
    along = np.empty_like(grid)
    along[1:-1] = grid[2:] - grid[:-2]
    along[0], along[-1] = grid[1] - grid[0], grid[-1] - grid[-2]
    return unit(_cross(around, along)).astype(np.float32)


def _signed_power(values: NDArray[np.float64], power: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.all(power == 1.0):
        return values
    return np.sign(values) * np.abs(values) ** power


def _hermite(
    x: NDArray[np.float64], y: NDArray[np.float64], index: NDArray[np.intp], t: NDArray[np.float64]
) -> NDArray[np.float64]:
    step = np.diff(x)
    slope = np.diff(y, axis=1) / step
    tangent = np.zeros_like(y)
    before, after = slope[:, :-1], slope[:, 1:]
    inner = before * after
    tangent[:, 1:-1] = np.where(inner > 0, 2 * inner / np.where(inner > 0, before + after, 1), 0)
    tangent[:, 0], tangent[:, -1] = slope[:, 0], slope[:, -1]
    width, low, high = step[index], y[:, index], y[:, index + 1]
    start, stop = width * tangent[:, index], width * tangent[:, index + 1]
    a = 2 * (low - high) + start + stop
    b = 3 * (high - low) - 2 * start - stop
    result: NDArray[np.float64] = ((a * t + b) * t + start) * t + low
    return result


@lru_cache(maxsize=64)
def _circle(columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    theta = np.linspace(-np.pi, np.pi, columns + 1)
    return np.sin(theta), np.cos(theta)


@lru_cache(maxsize=256)
def _faces(rows: int, columns: int) -> NDArray[np.intp]:
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, below = corner + 1, corner + columns
    return np.concatenate([np.stack([corner, right, below], 1), np.stack([right, below + 1, below], 1)])
