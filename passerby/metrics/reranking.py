"""Re-ranking by k-reciprocal neighbours, in memory that grows with the images and not with their square.

Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, and the code of the authors. We
depart in what is stored: of each image its nearest and the few entries of V that are not zero, in fp32 (there fp16).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from passerby.metrics.distances import CHUNK_BYTES, Block, Distance, Features, distance_blocks, matching, nearest

_ROWS = 256
"""Images whose neighbours' neighbours are looked up at a time: 6 MB for k1 = 50."""


def rerank(
    query_features: Features,
    gallery_features: Features,
    *,
    distance: Distance,
    k1: int = 20,
    k2: int = 6,
    lambda_: float = 0.3,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[Block]:
    """Give the re-ranked distances of all queries in order, a block at a time, as `distance_blocks` does.

    Args:
        query_features: Float (queries, width).
        gallery_features: Float (gallery, width).
        distance: As in `distance_blocks`.
        k1: Nearest images, among which two must have each other.
        k2: Nearest images, itself among them, over which an image's encoding is averaged; 1 leaves it as it is.
        lambda_: Share of the distance as it was; the rest is that of the neighbours (Jaccard).
        chunk_bytes: Of distances at a time.

    Raises:
        ValueError: `distance`, `k1`, `k2` or `lambda_` is not allowed, or features are not as `distance_blocks` wants them.
    """
    if not 1 <= k2 <= k1:
        raise ValueError(f"k1 is {k1} and k2 {k2}; must be 1 <= k2 <= k1, such as 20 and 6")
    if not 0 <= lambda_ <= 1:
        raise ValueError(f"lambda_ is {lambda_}; must be 0 (neighbours alone) to 1 (distances alone)")
    queries, gallery = matching(query_features, gallery_features, distance)
    # shape: (queries + gallery, width)
    images = torch.cat([queries, gallery])
    if distance == "cosine":  # half the squared distance of unit vectors, and the halves cancel out below
        images = functional.normalize(images)
    neighbours, farthest = _neighbours(images, k1 + 1, chunk_bytes)
    encoding = _encode(images.cpu().numpy(), neighbours, farthest, k1)
    encoding = Sparse.of(encoding.mean(nearest_few) for nearest_few in neighbours[:, :k2])
    blocks = distance_blocks(
        images[: len(queries)], images[len(queries) :], distance="euclidean", chunk_bytes=chunk_bytes
    )
    return _mixed(blocks, encoding, farthest, lambda_)


@dataclass(frozen=True)
class Sparse:
    """A matrix of few entries, row by row."""

    starts: NDArray[np.int64]
    """Where each row begins, and where the last one ends: Int64 (rows + 1,)."""

    columns: NDArray[np.int32]
    """Of the entries, Int32 (entries,)."""

    values: NDArray[np.float32]
    """Of the entries, Float32 (entries,)."""

    @classmethod
    def of(cls, rows: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> Self:
        """Put together rows of columns and values."""
        columns, values = zip(*((c.astype(np.int32), v.astype(np.float32)) for c, v in rows), strict=True)
        return cls(np.cumsum([0, *map(len, columns)]), np.concatenate(columns), np.concatenate(values))

    def row(self, number: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Give columns and values of a row."""
        entries = slice(self.starts[number], self.starts[number + 1])
        return self.columns[entries], self.values[entries]

    def mean(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Give columns and values of the mean of some rows."""
        columns, values = (np.concatenate(parts) for parts in zip(*map(self.row, numbers), strict=True))
        different, places = np.unique(columns, return_inverse=True)
        return different, np.bincount(places, values, len(different)) / len(numbers)

    def transposed(self, first_row: int) -> "Sparse":
        """Give rows from the first on as columns, numbered from 0."""
        start = self.starts[first_row]
        columns = self.columns[start:]
        order = np.argsort(columns, kind="stable")
        rows = np.repeat(np.arange(len(self.starts) - 1 - first_row, dtype=np.int32), np.diff(self.starts[first_row:]))
        starts = np.searchsorted(columns, np.arange(len(self.starts)), sorter=order)
        return Sparse(starts, rows[order], self.values[start:][order])


def _neighbours(images: torch.Tensor, count: int, chunk_bytes: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Give the nearest of each image, itself among them, and the distance of the farthest: (images, count) and (images,)."""
    count = min(count, len(images))
    neighbours, farthest = np.empty((len(images), count), np.int64), np.empty(len(images))
    for start, block in distance_blocks(images, images, distance="euclidean", chunk_bytes=chunk_bytes):
        for image, distances in enumerate(block, start=start):
            neighbours[image] = nearest(distances, count)
            farthest[image] = distances.max()
    return neighbours, np.maximum(farthest, np.finfo(np.float32).tiny)  # where all are equal, none is far


def _encode(images: NDArray[Any], neighbours: NDArray[np.int64], farthest: NDArray[Any], k1: int) -> Sparse:
    """Give V: of each image a weight for each of its k-reciprocal neighbours, rows of sum 1."""
    near, half = neighbours[:, : k1 + 1], neighbours[:, : round(k1 / 2) + 1]
    is_mutual, is_half_mutual = _is_mutual(near), _is_mutual(half)

    def row(image: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
        mutual = near[image, is_mutual[image]]
        members = _expanded(mutual, half[mutual], is_half_mutual[mutual])
        differences = images[members] - images[image]
        weights = np.exp(-np.einsum("ij,ij->i", differences, differences) / farthest[image])
        return members, weights / weights.sum()

    return Sparse.of(map(row, range(len(images))))


def _is_mutual(neighbours: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say of which neighbours an image is a neighbour: Bool (images, count)."""
    is_mutual = np.empty(neighbours.shape, bool)
    for start in range(0, len(neighbours), _ROWS):
        part = neighbours[start : start + _ROWS]
        images = np.arange(start, start + len(part))
        # shape: (images, count, count)
        theirs = neighbours[part]
        is_mutual[start : start + _ROWS] = (theirs == images[:, None, None]).any(axis=2)
    return is_mutual


def _expanded(mutual: NDArray[np.int64], theirs: NDArray[np.int64], is_theirs: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Add the neighbours' own sets where more than two thirds of them are known already (their equation 4).

    Args:
        mutual: k-reciprocal neighbours of an image: Int64 (members,).
        theirs: Nearest k1 / 2 of each: Int64 (members, half).
        is_theirs: Which of these are k1 / 2-reciprocal: Bool (members, half).
    """
    is_known = (theirs[:, :, None] == mutual).any(axis=2) & is_theirs
    joins = 3 * is_known.sum(axis=1) > 2 * is_theirs.sum(axis=1)
    return np.union1d(mutual, theirs[joins][is_theirs[joins]])


def _mixed(blocks: Iterator[Block], encoding: Sparse, farthest: NDArray[Any], lambda_: float) -> Iterator[Block]:
    """Mix distances with the Jaccard distances of encodings (their equations 10 and 12)."""
    by_column = None
    for start, block in blocks:
        by_column = by_column or encoding.transposed(len(farthest) - block.shape[1])
        for row, query in enumerate(range(start, start + len(block))):
            shared = np.zeros(block.shape[1])
            for column, value in zip(*encoding.row(query), strict=True):
                images, values = by_column.row(column)
                shared[images] += np.minimum(values, value)
            jaccard = 1 - shared / (2 - shared)
            block[row] = (1 - lambda_) * jaccard + lambda_ * block[row] / farthest[query]
        yield start, block
