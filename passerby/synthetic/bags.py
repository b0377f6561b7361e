"""Bags: worn on back, shoulder or across the chest, or hanging from a hand."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from passerby.synthetic.anatomy import trunk_section
from passerby.synthetic.body import LEFT, Points, Skeleton
from passerby.synthetic.look import Look, linear
from passerby.synthetic.mesh import Coat, Floats, Paint, Part, Surface, smooth_path, tube, unit
from passerby.synthetic.paint import edge, flat

_BLACK = linear((22, 22, 25))
_METAL = linear((170, 172, 176))
_BACKGROUND = 0
"""LIP has no class for bags, phones and umbrellas."""


def build_bag(look: Look, kind: str, skeleton: Skeleton, *, ease: float, side: int) -> list[Part]:
    """Build a bag.

    Args:
        look: Who carries it.
        kind: A word of `bag_kind`, but for `none`.
        skeleton: Where the carrier is.
        ease: How far the top stands off the body, metres.
        side: The hand that holds it, where a hand does.
    """
    if kind in _WORN:
        return _WORN[kind](look, skeleton, ease)
    return _HELD[kind](look, skeleton, side)


def _surface(color: Floats) -> Surface:
    return Surface("bag", flat(color, _BACKGROUND), 0.15)


def _rows(count: int) -> Floats:
    return np.linspace(0, 1, count, dtype=np.float32)


def _box(line: ArrayLike, wide: ArrayLike, deep: ArrayLike, surface: Surface, *, squareness: float = 4.0) -> Part:
    """Build a closed upright box with soft edges."""
    centres = np.asarray(line, np.float64)
    count = len(centres)
    # Two rows more at each end, a little further out and drawn in, round the edge and close the face.
    rows = np.r_[0, 0, np.arange(count), count - 1, count - 1]
    shrink = np.r_[0.05, 0.9, np.ones(count), 0.9, 0.05]
    padded = centres[rows]
    step = 0.012 * unit(centres[-1] - centres[0])
    padded[:2] -= step
    padded[-2:] += step
    widths, depths = np.broadcast_to(wide, count)[rows] * shrink, np.broadcast_to(deep, count)[rows] * shrink
    height = np.linalg.norm(centres - centres[0], axis=1)[rows]
    return Part(tube(padded, widths, depths, columns=20, squareness=squareness), height.astype(np.float32), surface)


def _bag_paint(look: Look, height: float) -> Paint:
    def paint(angle: Floats, along: Floats) -> Coat:
        color = look.bag * (1 - 0.45 * edge(np.abs(along - 0.62 * height), 0.006, 0.004))[:, None]
        buckle = (np.abs(angle) < 0.12) & (np.abs(along - 0.6 * height) < 0.02)
        color[buckle] = _METAL
        return Coat(color, _BACKGROUND)

    return paint


def _strap(points: ArrayLike, surface: Surface, *, hint: ArrayLike, half_width: float = 0.021, rows: int = 22) -> Part:
    line = smooth_path(points, rows, 0.05)
    return Part(tube(line, half_width, 0.006, hint=hint, columns=6), _rows(rows), surface)


def _on_trunk(look: Look, skeleton: Skeleton, x: float, level: float, *, front: bool, off: float) -> Points:
    """Give the place on the clothed trunk at an x and a level, in front or behind."""
    width, ahead, behind = (float(side) + off for side in trunk_section(look, level))
    arch = max(0.0, 1 - (abs(x) / width) ** 2.35) ** (1 / 2.35)
    return np.array([x, float(skeleton.trunk.level(level)), ahead * arch if front else -behind * arch])


def _backpack(look: Look, skeleton: Skeleton, ease: float) -> list[Part]:
    depth = look.body.depth + ease
    levels = np.array([0.575, 0.60, 0.66, 0.73, 0.785, 0.808])
    wide = np.array([0.135, 0.15, 0.155, 0.15, 0.125, 0.085])
    deep = np.array([0.070, 0.085, 0.09, 0.085, 0.066, 0.045])
    line = np.stack([np.zeros(6), skeleton.trunk.level(levels), -depth - deep * 0.95], 1)
    body = _box(line, wide, deep, Surface("bag", _bag_paint(look, 0.4), 0.05), squareness=3.0)
    pocket_line = np.stack([np.zeros(3), skeleton.trunk.level([0.59, 0.625, 0.66]), np.full(3, -depth - 0.165)], 1)
    pocket = _box(pocket_line, 0.105, 0.035, _surface(look.bag * 0.72), squareness=3.0)
    parts = [
        Part(skeleton.trunk.warp(part.points).astype(np.float32), part.along, part.surface) for part in (body, pocket)
    ]
    webbing, off = _surface(look.bag * 0.55), ease + 0.012
    # Under the arm, up the chest, over the shoulder, into the bag: share of x, level, in front or not.
    chest = ((1.62, 0.64), (1.3, 0.68), (1.1, 0.735), (1.0, 0.785), (0.95, 0.81))
    way = [(*place, True) for place in chest] + [(0.95, 0.813, False), (0.9, 0.78, False)]
    for x in (0.5 * look.body.shoulder, -0.5 * look.body.shoulder):
        places = [_on_trunk(look, skeleton, share * x, level, front=front, off=off) for share, level, front in way]
        parts.append(_strap(skeleton.trunk.warp(places), webbing, hint=(0, 0, 1)))
    return parts


def _shoulder_bag(look: Look, skeleton: Skeleton, ease: float) -> list[Part]:
    sign = 1.0 if look.side == LEFT else -1.0
    x = sign * (look.body.hip + ease + 0.085)
    line = np.stack([np.full(4, x), skeleton.trunk.level([0.50, 0.53, 0.58, 0.605]), np.full(4, -0.06)], 1)
    bag = _box(
        line,
        np.array([0.062, 0.066, 0.058, 0.045]),
        np.array([0.15, 0.155, 0.145, 0.13]),
        Surface("bag", _bag_paint(look, 0.18), 0.2),
    )
    off, shoulder = ease + 0.014, sign * look.body.shoulder * 0.74
    places = [np.array([x, float(skeleton.trunk.level(0.60)), 0.05])]
    places += [_on_trunk(look, skeleton, shoulder * 1.06, level, front=True, off=off) for level in (0.70, 0.76)]
    places += [
        _on_trunk(look, skeleton, shoulder, 0.806, front=True, off=off),
        _on_trunk(look, skeleton, shoulder, 0.808, front=False, off=off),
    ]
    places += [_on_trunk(look, skeleton, shoulder * 1.06, level, front=False, off=off) for level in (0.76, 0.70)]
    places += [np.array([x, float(skeleton.trunk.level(0.60)), -0.17])]
    strap = _strap(
        skeleton.trunk.warp(np.array(places)),
        _surface(look.bag * 0.6),
        hint=(sign * 0.3, 0, 1),
        half_width=0.019,
        rows=26,
    )
    return [bag, strap]


def _sling_bag(look: Look, skeleton: Skeleton, ease: float) -> list[Part]:
    sign, off = (1.0 if look.side == LEFT else -1.0), ease + 0.013
    hip = sign * (look.body.hip + ease) * 0.80
    line = np.stack([np.full(4, hip), skeleton.trunk.level([0.505, 0.53, 0.57, 0.59]), np.full(4, 0.09 + ease)], 1)
    bag = _box(line, np.array([0.10, 0.105, 0.10, 0.09]), 0.052, Surface("bag", _bag_paint(look, 0.14), 0.2))
    shares = np.linspace(0, 1, 9)
    shoulder = -sign * look.body.shoulder * 0.58
    xs, levels = hip + (shoulder - hip) * shares, 0.585 + (0.812 - 0.585) * shares
    front = [_on_trunk(look, skeleton, x, level, front=True, off=off) for x, level in zip(xs, levels, strict=True)]
    back = [_on_trunk(look, skeleton, x, level, front=False, off=off) for x, level in zip(xs, levels, strict=True)]
    strap = _strap(
        skeleton.trunk.warp(np.array(front + back[::-1])),
        _surface(look.bag * 0.55),
        hint=(0, 0, 1),
        half_width=0.023,
        rows=34,
    )
    return [bag, strap]


def _held(look: Look, skeleton: Skeleton, side: int) -> tuple[Points, float]:
    """Give the point in the fist from which a bag hangs, and the sign of its side."""
    wrist, sign = skeleton.wrists[side], 1.0 if side == LEFT else -1.0
    grip: Points = wrist + 0.052 * look.body.stature * unit(wrist - skeleton.elbows[side])
    return grip, sign


def _handles(grip: Points, top: Points, reach: float, surface: Surface) -> list[Part]:
    """Bow two handles from the rim of a bag through the fist."""
    parts = []
    for aside in (-0.02, 0.02):
        rim, fist = top + np.array([aside, 0, 0]), grip + np.array([0.5 * aside, 0, 0])
        back, out = np.array([0, 0, reach]), np.array([0, 0, 0.03])
        parts.append(_rod(smooth_path([rim - back, fist - out, fist + out, rim + back], 10, 0.1), 0.009, surface))
    return parts


def _rod(path: ArrayLike, radius: float, surface: Surface) -> Part:
    line = np.asarray(path, np.float64)
    return Part(tube(line, radius, radius, hint=(0.1, 0, 1), columns=7), np.zeros(len(line), np.float32), surface)


def _handbag(look: Look, skeleton: Skeleton, side: int) -> list[Part]:
    grip, sign = _held(look, skeleton, side)
    top = grip + np.array([sign * 0.03, -0.11, 0])
    line = top + np.array([-0.20, -0.17, -0.05, 0.0])[:, None] * np.array([0, 1, 0])
    bag = _box(
        line,
        np.array([0.066, 0.068, 0.056, 0.04]),
        np.array([0.155, 0.16, 0.14, 0.12]),
        Surface("bag", _bag_paint(look, 0.2), 0.35),
    )
    return [bag, *_handles(grip, top, 0.07, _surface(look.bag * 0.6))]


def _shopping_bag(look: Look, skeleton: Skeleton, side: int) -> list[Part]:
    def paper(angle: Floats, along: Floats) -> Coat:
        color = np.where((np.abs(along - 0.19) < 0.055)[:, None], look.bag, linear((232, 224, 208)))
        return Coat(color, _BACKGROUND)

    grip, sign = _held(look, skeleton, side)
    top = grip + np.array([sign * 0.05, -0.10, 0])
    line = top + np.array([-0.36, -0.24, -0.12, 0.0])[:, None] * np.array([0, 1, 0])
    bag = _box(
        line,
        np.array([0.075, 0.075, 0.07, 0.066]),
        np.array([0.15, 0.15, 0.155, 0.158]),
        Surface("bag", paper),
        squareness=9.0,
    )
    return [bag, *_handles(grip, top, 0.08, _surface(linear((150, 120, 84))))]


def _suitcase(look: Look, skeleton: Skeleton, side: int) -> list[Part]:
    def ridged(angle: Floats, along: Floats) -> Coat:
        return Coat(look.bag * (1 - 0.3 * (np.mod(along, 0.075) < 0.016))[:, None], _BACKGROUND)

    grip, sign = _held(look, skeleton, side)
    foot = np.array([grip[0] + sign * 0.09, 0.0, grip[2] - 0.22])
    line = foot + np.array([0.06, 0.2, 0.4, 0.58])[:, None] * np.array([0, 1, 0])
    case = _box(line, 0.125, 0.19, Surface("bag", ridged, 0.45), squareness=5.0)
    dark = _surface(_BLACK * 1.4)
    sideways, backwards = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    frame = foot + np.array([0, 0.55, 0])
    parts = [case, _rod([grip - 0.065 * sideways, grip + 0.065 * sideways], 0.017, dark)]
    parts += [_rod([frame + x * sideways, grip + x * sideways], 0.011, dark) for x in (-0.05, 0.05)]
    for x, z in ((-0.09, -0.14), (-0.09, 0.14), (0.09, -0.14), (0.09, 0.14)):
        axle = foot + np.array([x, 0.035, 0]) + z * backwards
        parts.append(_rod([axle - 0.02 * sideways, axle + 0.02 * sideways], 0.035, dark))
    return parts


_WORN: dict[str, Callable[[Look, Skeleton, float], list[Part]]] = {
    "backpack": _backpack,
    "shoulder-bag": _shoulder_bag,
    "sling-bag": _sling_bag,
}
_HELD: dict[str, Callable[[Look, Skeleton, int], list[Part]]] = {
    "handbag": _handbag,
    "shopping-bag": _shopping_bag,
    "suitcase": _suitcase,
}
