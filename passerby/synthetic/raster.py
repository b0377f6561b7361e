"""Which triangle each sample of the picture sees: scan lines, spans, and a z-buffer, in numpy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passerby.synthetic.mesh import Floats


@dataclass(frozen=True, slots=True)
class Hits:
    """The samples that see the figure, in row-major order."""

    samples: NDArray[np.intp]
    """Int (hits,), row · width + column."""
    triangles: NDArray[np.intp]
    """Int (hits,), the nearest triangle."""
    weights: Floats
    """Float (hits, 3), how much each corner of the triangle counts."""
    depth: Floats
    """Float (hits,), distance from the camera in metres."""


def rasterize(screen: Floats, depth: Floats, triangles: NDArray[np.intp], *, height: int, width: int) -> Hits:
    """Find the nearest front-facing triangle at every sample.

    Args:
        screen: Float (vertices, 2), column and row; sample (row, column) sits at (column + 0.5, row + 0.5).
        depth: Float (vertices,), distance in metres.
        triangles: Int (triangles, 3), counter-clockwise as seen from outside with y up.
        height: Rows of samples.
        width: Columns of samples.
    """
    corners = screen.astype(np.float64)[triangles]
    x, y = corners[..., 0], corners[..., 1]
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    front = np.flatnonzero(area < -1e-9)  # rows grow downwards, so counter-clockwise has a negative area
    x, y, area = x[front], y[front], area[front]
    planes = _edges(x, y) / area[:, None, None]
    plane = (planes * depth.astype(np.float64)[triangles[front]][..., None]).sum(1)

    lines, owner = _scan_lines(y, height)
    start, stop = _spans(planes, lines, owner, width)
    counts = np.maximum(stop - start, 0)
    span = np.repeat(np.arange(len(counts)), counts)
    column = np.arange(len(span)) - np.repeat(np.cumsum(counts) - counts - start, counts)
    pixel, face = lines[span] * width + column, owner[span]
    base = plane[owner, 1] * (lines + 0.5) + plane[owner, 2] + plane[owner, 0] * 0.5
    # float32 before the comparison, or the winner of a tie would depend on rounding; positive floats sort as integers.
    distance = (base[span] + plane[face, 0] * column).astype(np.float32)
    key = (distance.view(np.int32).astype(np.int64) << 24) | face
    nearest = np.full(height * width, np.iinfo(np.int64).max)
    np.minimum.at(nearest, pixel, key)

    samples = np.flatnonzero(nearest != np.iinfo(np.int64).max)
    winner = nearest[samples] & 0xFFFFFF
    column_row = np.stack([samples % width + 0.5, samples // width + 0.5, np.ones(len(samples))], 1)
    weights = (planes[winner] * column_row[:, None]).sum(-1)
    far = (nearest[samples] >> 24).astype(np.int32).view(np.float32)
    return Hits(samples, front[winner], weights.astype(np.float32), far)


def _edges(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the barycentric planes, times the area: Float (triangles, corner, (per column, per row, constant))."""
    following, previous = [1, 2, 0], [2, 0, 1]
    x1, y1, x2, y2 = x[:, following], y[:, following], x[:, previous], y[:, previous]
    return np.stack([y1 - y2, x2 - x1, x1 * y2 - x2 * y1], -1)


def _scan_lines(y: NDArray[np.float64], height: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """List the sample rows that each triangle crosses: the row and the triangle, one entry a crossing."""
    first = np.clip(np.ceil(y.min(1) - 0.5), 0, height).astype(np.intp)
    last = np.clip(np.ceil(y.max(1) - 0.5), 0, height).astype(np.intp)
    counts = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(counts)), counts)
    line = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    return line, owner


def _spans(
    planes: NDArray[np.float64], lines: NDArray[np.intp], owner: NDArray[np.intp], width: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Give the columns [start, stop) inside each triangle on each of its scan lines."""
    slope = planes[owner, :, 0]
    level = planes[owner, :, 1] * (lines + 0.5)[:, None] + planes[owner, :, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -level / slope - 0.5
    low = np.where(slope > 0, crossing, -np.inf).max(1)
    high = np.where(slope < 0, crossing, np.inf).min(1)
    start = np.ceil(np.clip(low, 0, width)).astype(np.intp)
    stop = np.ceil(np.clip(high, 0, width)).astype(np.intp)
    return start, stop
