"""Distances from queries to a gallery, some rows at a time, so that memory does not grow with the number of queries."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Distance = Literal["euclidean", "cosine"]
Features = NDArray[Any] | Tensor
Block = tuple[int, NDArray[Any]]
"""The number of the first query, and distances: Float (some queries, gallery)."""

CHUNK_BYTES = 64 << 20
"""Of distances at a time: a thousand queries of Market-1501, two hundred of MSMT17."""


def distance_blocks(
    query_features: Features, gallery_features: Features, *, distance: Distance, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Block]:
    """Yield the distances of all queries in order, a block at a time, as numpy arrays.

    Products are taken on the device of the gallery, in float64 if features are float64, else in float32: never in TF32, nor
    as autocast would have it.

    Args:
        query_features: Float (queries, width).
        gallery_features: Float (gallery, width).
        distance: `euclidean`, the squared Euclidean distance of the features as they are, or `cosine`, 1 - cosine.
        chunk_bytes: Size of a block, of one row at least.

    Raises:
        ValueError: an unknown distance, or features that are no float matrix, are empty, differ in width, or are not finite.
    """
    queries, gallery = matching(query_features, gallery_features, distance)
    return _blocks(queries, gallery, distance, rows=max(1, chunk_bytes // (gallery.element_size() * len(gallery))))


def matching(query_features: Features, gallery_features: Features, distance: Distance) -> tuple[Tensor, Tensor]:
    """Give features that can be compared, of one precision, where the gallery is: Float32 or Float64 (images, width).

    Raises:
        ValueError: as `distance_blocks`.
    """
    if distance not in _DISTANCES:
        raise ValueError(f"distance is {distance!r}; allowed are {', '.join(_DISTANCES)}")
    queries, gallery = _floats(query_features, "query_features"), _floats(gallery_features, "gallery_features")
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"query_features are {queries.shape[1]} wide, gallery_features {gallery.shape[1]}: not of one model"
        )
    precision = torch.promote_types(torch.promote_types(queries.dtype, gallery.dtype), torch.float32)
    return queries.to(gallery.device, precision), gallery.to(precision)


def nearest(distances: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Give the places of the smallest distances, nearest first, and of equal ones the earlier first: Int64 (count,).

    Args:
        distances: Float (gallery,).
        count: How many; all, if there are fewer.

    >>> nearest(np.array([0.5, 0.1, 0.5, 0.3]), 3).tolist()
    [1, 3, 0]
    """
    if count >= len(distances):
        return np.argsort(distances, kind="stable")
    limit = np.partition(distances, count - 1)[count - 1]
    within = np.flatnonzero(distances <= limit)
    return within[np.argsort(distances[within], kind="stable")[:count]]


def _floats(features: Features, name: str) -> Tensor:
    """Give features as a tensor, without a copy."""
    if isinstance(features, np.ndarray) and features.dtype.kind == "f":  # read-only or turned around, torch takes none
        features = torch.from_numpy(np.require(features, requirements=["C", "W"]))
    if not isinstance(features, Tensor) or not features.is_floating_point() or features.ndim != 2:
        found = f"{features.dtype} {tuple(features.shape)}" if hasattr(features, "shape") else type(features).__name__
        raise ValueError(f"{name} must be an array or a tensor of floats, (images, width), got {found}")
    if not features.numel():
        raise ValueError(f"{name} are of shape {tuple(features.shape)}: empty")
    lowest, highest = features.aminmax(dim=1)  # these pass NaN on, and need no second matrix
    is_finite = lowest.isfinite() & highest.isfinite()
    if not is_finite.all():
        row, rows = int(is_finite.int().argmin()), int((~is_finite).sum())
        raise ValueError(f"{name} hold NaN or infinity in {rows} of {len(features)} rows, first in row {row}")
    return features.detach()


def _blocks(queries: Tensor, gallery: Tensor, distance: Distance, *, rows: int) -> Iterator[Block]:
    measure = _DISTANCES[distance]
    with _full_precision(gallery.device):
        squares = _squares(gallery)
    for start in range(0, len(queries), rows):
        with _full_precision(gallery.device):
            # shape: (rows, gallery)
            block = measure(queries[start : start + rows], gallery, squares)
        yield start, block.cpu().numpy()


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Keep autocast and TF32 out of products, though the caller may train with them."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)


def _squared_euclidean(queries: Tensor, gallery: Tensor, gallery_squares: Tensor) -> Tensor:
    # One matrix, changed in place, is all the memory there is for it.
    return torch.addmm(gallery_squares, queries, gallery.T, alpha=-2).add_(_squares(queries)[:, None])


def _one_minus_cosine(queries: Tensor, gallery: Tensor, gallery_squares: Tensor) -> Tensor:
    lengths = gallery_squares.sqrt().clamp(min=torch.finfo(gallery.dtype).tiny)
    return (functional.normalize(queries) @ gallery.T).div_(-lengths).add_(1)


def _squares(features: Tensor) -> Tensor:
    """Give squared lengths, without a second matrix: Float (rows,)."""
    return torch.einsum("ij,ij->i", features, features)


_DISTANCES = {"euclidean": _squared_euclidean, "cosine": _one_minus_cosine}
