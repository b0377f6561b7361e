"""Near-duplicates: perceptual hashes of images, and all pairs of hashes or of features that are near each other.

Frames of one video are near-duplicates by nature, and a person data set is made of them; whether that is a fault
depends on what the data are for. What is found here is a fact about pixels, not a judgement.
"""

from collections.abc import Iterator
from itertools import combinations, groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from passerby.images import decode_rgb

HASH_BITS = 64
MAX_DISTANCE = 8
"""Beyond it the search would take hours on a million images, and most of what it found would be other people."""

_SIDE, _WAVES = 32, 8
_TRANSFORM = np.cos(np.pi * np.arange(1, _WAVES + 1)[:, None] * (2 * np.arange(_SIDE) + 1) / (2 * _SIDE))
"""Rows 1…8 of the discrete cosine transform (type II), without the constant one: Float64 (8, 32)."""

_ROWS_A_BLOCK = 4096
_ROUNDING = 1e-3
"""More than a product of float32 vectors of unit length can be off by, in whatever order it is summed."""


def perceptual_hash(image: bytes) -> int:
    """Give 64 bits that change little when an image is scaled, recompressed or brightened, and much with what it shows.

    The image is shrunk to 32x32 grey pixels; a bit says whether one of the 64 lowest cosine waves is above their median.

    Raises:
        ImageProblem: the pixels cannot be decoded.

    Source: C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1, with
    pixel means in place of a 7x7 mean filter and sampling.
    """
    from PIL import Image  # noqa: PLC0415  (slow to load)

    grey = Image.fromarray(decode_rgb(image, at_least=_SIDE)).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    waves = _TRANSFORM @ np.asarray(grey, np.float64) @ _TRANSFORM.T
    return int.from_bytes(np.packbits(waves > np.median(waves)).tobytes(), "big")


def near_pairs(hashes: NDArray[np.uint64], distance: int, sides: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Find all pairs of hashes that differ in at most `distance` bits: exactly, without comparing all with all.

    Cut into `distance` + 2 bands of bits, two hashes so near have two bands in common at least. So it is enough to
    compare, for each two bands, those hashes that agree in both.

    Args:
        hashes: UInt64 (hashes,). Many equal ones give a pair for every two of them; hand in distinct ones.
        distance: 0 … `MAX_DISTANCE`.
        sides: Bool (hashes,); with it, only pairs of a hash on one side and one on the other.

    Returns:
        Int64 (pairs, 2), the lower index first, sorted.

    Source: multi-index hashing, M. Norouzi et al., "Fast Search in Hamming Space with Multi-Index Hashing" (CVPR 2012),
    with pairs of bands as in G. S. Manku et al., "Detecting Near-Duplicates for Web Crawling" (WWW 2007).
    """
    if not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"hash distance is {distance}; it must be 0 to {MAX_DISTANCE} of {HASH_BITS} bits")
    found = [np.empty((0, 2), np.int64)]
    for mask in _band_masks(distance + 2):
        order = np.argsort(hashes & mask, kind="stable")
        bands, ordered = (hashes & mask)[order], hashes[order]
        gap, starts = 1, np.arange(len(hashes) - 1)
        while len(starts := starts[bands[starts] == bands[starts + gap]]):
            is_near = np.bitwise_count(ordered[starts] ^ ordered[starts + gap]) <= distance
            if sides is not None:
                is_near &= sides[order[starts]] != sides[order[starts + gap]]
            near = starts[is_near]
            found.append(np.sort(np.stack([order[near], order[near + gap]], axis=1), axis=1))
            gap += 1
            starts = starts[starts + gap < len(hashes)]
    return np.unique(np.concatenate(found), axis=0)


def similar_pairs(
    features: NDArray[np.float16], threshold: float, others: NDArray[np.float16] | None = None
) -> NDArray[np.int64]:
    """Find all pairs of features whose cosine is at least `threshold`, by comparing all with all in blocks.

    The work grows with the square of their number: on one core 100,000 features of width 512 take minutes, a million
    take hours. A pair is judged by its own cosine in double precision, so that blocks and cores change nothing.

    Args:
        features: Float16 (images, width), of any length but zero.
        threshold: above 0 up to 1.
        others: Float16 (others, width); with it, only pairs of a feature and one of the others.

    Returns:
        Int64 (pairs, 2), sorted: places in `features` and in `others`; without others, the lower place first.
    """
    right = features if others is None else others
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(features), _ROWS_A_BLOCK):
        block = _units(features[start : start + _ROWS_A_BLOCK])
        for other in range(0 if others is not None else start, len(right), _ROWS_A_BLOCK):
            near = block @ _units(right[other : other + _ROWS_A_BLOCK]).T >= threshold - _ROUNDING
            pairs = np.argwhere(near) + np.array([start, other])
            if others is None:
                pairs = pairs[pairs[:, 0] < pairs[:, 1]]
            found.append(pairs[cosines(features[pairs[:, 0]], right[pairs[:, 1]]) >= threshold])
    return np.unique(np.concatenate(found), axis=0)


def cosines(left: NDArray[np.float16], right: NDArray[np.float16]) -> NDArray[np.float64]:
    """Give the cosine of each row of `left` and that of `right`, rounded to six digits: Float64 (rows,)."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosine: NDArray[np.float64] = np.round((left * right).sum(axis=1) / lengths, 6)
    return cosine


def repeated(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Say what each of `count` things repeats: Int64 (count,), -1 for what stays.

    In order, a thing that is near one that stays repeats the first such; any other stays. So no two that stay are
    near each other, and whatever goes is near one that stays: chains of small steps take nothing away.

    Args:
        count: how many things there are.
        pairs: Int64 (pairs, 2), the lower index first: which are near each other.

    >>> repeated(3, np.array([[0, 1], [1, 2]])).tolist()
    [-1, 0, -1]
    """
    repeats = np.full(count, -1, np.int64)
    by_later = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    for later, group in groupby(by_later.tolist(), key=lambda pair: pair[1]):
        repeats[later] = next((earlier for earlier, _ in group if repeats[earlier] < 0), -1)
    return repeats


def _band_masks(bands: int) -> Iterator[np.uint64]:
    """Yield a mask for each two of the bands that 64 bits are cut into."""
    bounds = [HASH_BITS * band // bands for band in range(bands + 1)]
    masks = [(1 << end) - (1 << start) for start, end in pairwise(bounds)]
    for first, second in combinations(masks, 2):
        yield np.uint64(first | second)


def _units(features: NDArray[np.float16]) -> NDArray[np.float32]:
    single = features.astype(np.float32)
    units: NDArray[np.float32] = single / np.linalg.norm(single, axis=1, keepdims=True)
    return units
