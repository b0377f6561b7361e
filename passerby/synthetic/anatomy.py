"""Flesh on the joints: trunk sections, limbs, hands, head, and hair."""

import numpy as np
from numpy.typing import ArrayLike

from passerby.synthetic.body import ANKLE, LEFT, Points, Skeleton
from passerby.synthetic.look import Look
from passerby.synthetic.mesh import Floats, Part, Surface, along_path, angles, resample, smooth_path, tube, unit
from passerby.synthetic.paint import FACE, HAIR, LEFT_ARM, LEFT_LEG, face, flat, hair, skin

# Share of a limb's length, radius as a share of the stature.
_ARM = ((0.0, 0.024), (0.14, 0.0315), (0.24, 0.0305), (0.55, 0.0235), (0.68, 0.0245), (0.93, 0.0165), (1.0, 0.0155))
_LEG = (
    (0.0, 0.038),
    (0.07, 0.050),
    (0.15, 0.0505),
    (0.4, 0.0375),
    (0.5, 0.0335),
    (0.62, 0.0335),
    (0.75, 0.030),
    (0.93, 0.021),
    (1.0, 0.021),
)

# Height above the chin, half width, front, back; shares of the head's height, the ears at depth 0.
_HEAD = (
    *((0.0, 0.10, 0.30, 0.06), (0.035, 0.165, 0.365, 0.06), (0.10, 0.235, 0.385, 0.10), (0.20, 0.283, 0.385, 0.20)),
    *((0.32, 0.312, 0.385, 0.30), (0.45, 0.332, 0.385, 0.37), (0.55, 0.338, 0.378, 0.41), (0.65, 0.342, 0.39, 0.43)),
    *((0.76, 0.332, 0.37, 0.425), (0.86, 0.292, 0.315, 0.375), (0.94, 0.21, 0.225, 0.275), (0.985, 0.10, 0.11, 0.145)),
    (1.0, 0.02, 0.02, 0.04),
)
_HEAD_COLUMNS, _HAIR_COLUMNS = 20, 32


def trunk_section(look: Look, levels: ArrayLike) -> tuple[Points, Points, Points]:
    """Give half width, front and back of the bare trunk at levels, metres."""
    b = look.body
    neck = 0.031 * b.stature * b.limb**0.5
    belly, seat = b.belly, 1.0 if not look.is_female else 1.12
    table = (
        (0.44, b.hip * 0.92, b.depth * 0.72, b.depth * 0.92),
        (0.48, b.hip * 0.98, b.depth * 0.80, b.depth * 1.02 * seat),
        (0.515, b.hip, b.depth * 0.86 + 0.4 * belly, b.depth * 1.04 * seat),
        (0.56, 0.6 * b.hip + 0.4 * b.waist, b.depth * 0.88 + 0.9 * belly, b.depth * 0.88),
        (0.615, b.waist, b.depth * 0.86 + belly, b.depth * 0.76),
        (0.66, 0.5 * (b.waist + b.chest), b.depth * 0.90 + 0.7 * belly + 0.4 * b.bust, b.depth * 0.82),
        (0.715, b.chest, b.depth * 0.98 + b.bust + 0.3 * belly, b.depth * 0.94),
        (0.755, b.chest * 1.0, b.depth * 0.93 + 0.5 * b.bust, b.depth * 0.97),
        (0.785, b.shoulder * 0.86, b.depth * 0.74, b.depth * 0.90),
        (0.806, b.shoulder * 0.72, b.depth * 0.60, b.depth * 0.78),
        (0.822, b.shoulder * 0.47, b.depth * 0.53, b.depth * 0.66),
        (0.834, neck * 1.32, neck * 0.98, neck * 1.14),
        (0.85, neck * 1.06, neck * 0.92, neck * 1.04),
        (0.89, neck, neck * 0.95, neck),
    )
    width, front, back = resample(table, levels)
    return width, front, back


def trunk_tube(look: Look, skeleton: Skeleton, levels: ArrayLike, ease: ArrayLike = 0.0, columns: int = 24) -> Floats:
    """Loft the trunk between levels, grown by `ease` metres, as the pose bends it."""
    shares = np.asarray(levels, np.float64)
    width, front, back = trunk_section(look, shares)
    grown = np.asarray(ease)
    centres = np.stack([np.zeros_like(shares), skeleton.trunk.level(shares), np.zeros_like(shares)], 1)
    points = tube(centres, width + grown, front + grown, back + grown, columns=columns, squareness=2.35)
    return skeleton.trunk.warp(points).astype(np.float32)


def arm_radius(look: Look, shares: ArrayLike) -> Points:
    """Give the radius of the arm at shares of its path, metres."""
    radius: Points = resample(_ARM, shares)[0] * look.body.stature * look.body.limb
    return radius


def leg_radius(look: Look, shares: ArrayLike) -> Points:
    """Give the radius of the leg at shares of its path, metres."""
    plump = 1.06 if look.is_female else 1.0
    radius: Points = resample(_LEG, shares)[0] * look.body.stature * look.body.limb * plump
    return radius


def path_length(path: Points) -> float:
    """Measure a path (rows, 3), metres."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def limb(
    path: Points, shares: ArrayLike, radius: ArrayLike, surface: Surface, *, columns: int, hint: ArrayLike
) -> Part:
    """Loft a stretch of an arm or a leg; the paint's second coordinate is metres from the path's start."""
    spots = np.asarray(shares, np.float64)
    centres = along_path(path, spots, np.linspace(0, 1, len(path)))
    length = path_length(path)
    return Part(
        tube(centres, radius, radius, hint=hint, columns=columns),
        np.float32(length) * spots.astype(np.float32),
        surface,
    )


def bare_arm(look: Look, skeleton: Skeleton, side: int, start: float) -> list[Part]:
    """Build the skin of an arm from a share of its path down to the wrist."""
    shares = np.linspace(start, 1.0, max(4, round(14 * (1 - start))))
    surface = Surface("skin", skin(look, LEFT_ARM + side), 0.06)
    return [limb(skeleton.arms[side], shares, arm_radius(look, shares), surface, columns=10, hint=(0, 1, 0))]


def bare_leg(look: Look, skeleton: Skeleton, side: int, start: float) -> list[Part]:
    """Build the skin of a leg from a share of its path down to the ankle."""
    shares = np.linspace(start, 1.0, max(4, round(14 * (1 - start))))
    surface = Surface("skin", skin(look, LEFT_LEG + side), 0.06)
    return [limb(skeleton.legs[side], shares, leg_radius(look, shares), surface, columns=12, hint=(0, 0, 1))]


def foot_frame(skeleton: Skeleton, side: int) -> tuple[Points, Points, Points]:
    """Give the place on the sole under the ankle, and the foot's directions forward and up."""
    pitch, sign = skeleton.foot_pitch[side], 1.0 if side == LEFT else -1.0
    forward = unit([sign * 0.16 * np.cos(pitch), np.sin(pitch), np.cos(pitch)])
    up = unit(np.array([0.0, 1.0, 0.0]) - forward[1] * forward)
    return skeleton.ankles[side] - ANKLE * skeleton.trunk.body.stature * up, forward, up


def hand(look: Look, skeleton: Skeleton, side: int, surface: Surface, *, task: str, thick: float = 1.0) -> list[Part]:
    """Build palm, thumb and four fingers at the wrist, relaxed or gripping."""
    wrist, size = skeleton.wrists[side], 0.105 * look.body.stature * look.body.limb**0.5
    along = unit(wrist - skeleton.elbows[side])
    thumbward = np.array([0.0, 1.0, -0.1]) if task in ("talk", "look", "hold") else np.array([0.0, 0.25, 1.0])
    thumbward = unit(thumbward - (thumbward @ along) * along)
    inward = np.array([-1.0 if side == LEFT else 1.0, 0.0, 0.0])
    inward = unit(inward - (inward @ along) * along - (inward @ thumbward) * thumbward)
    curl = {"swing": 0.55, "hang": 1.5}.get(task, 1.35)
    reach = np.array([-0.12, 0.06, 0.28, 0.52])
    palm = wrist + size * (reach[:, None] * along + 0.04 * (reach**2)[:, None] * inward)
    wide = np.array([0.145, 0.17, 0.225, 0.215]) * size * thick
    deep = np.array([0.115, 0.10, 0.092, 0.075]) * size * thick
    parts = [Part(tube(palm, deep, wide, hint=thumbward, columns=8, squareness=2.4), reach.astype(np.float32), surface)]
    for finger, length in ((-1.5, 0.36), (-0.5, 0.44), (0.5, 0.46), (1.5, 0.42)):
        root = palm[-1] + size * 0.105 * finger * thumbward - 0.02 * size * along
        bends = np.array([0.0, 0.5, 1.0]) * curl
        steps = np.cos(bends)[:, None] * along + np.sin(bends)[:, None] * inward
        joints = root + size * length * np.r_[np.zeros((1, 3)), np.cumsum(steps, 0) / 3]
        girth = np.array([0.056, 0.055, 0.05, 0.03]) * size * thick
        parts.append(Part(tube(joints, girth, girth, hint=thumbward, columns=5), np.zeros(4, np.float32), surface))
    base = palm[1] + 0.12 * size * thumbward
    tip = size * (0.22 * along + 0.16 * thumbward + 0.10 * inward)
    thumb = np.stack([base, base + 0.6 * tip, base + tip + 0.14 * size * along])
    girth = np.array([0.075, 0.062, 0.032]) * size * thick
    parts.append(Part(tube(thumb, girth, girth, hint=inward, columns=5), np.zeros(3, np.float32), surface))
    return parts


def in_head(skeleton: Skeleton, points: ArrayLike) -> Floats:
    """Carry points given in head heights (chin at height 0, ears at depth 0) into space."""
    size = skeleton.trunk.body.head
    pivot = np.array([0.0, 0.22, -0.12])
    neck = skeleton.trunk.warp([0.0, float(skeleton.trunk.level(0.868)) + 0.22 * size, -0.004])
    turned: Floats = ((np.asarray(points, np.float64) - pivot) * size) @ skeleton.head_turn.T + neck
    return turned.astype(np.float32)


def head_section(heights: ArrayLike) -> tuple[Points, Points, Points]:
    """Give half width, front and back of the bare head, all in head heights."""
    width, front, back = resample(_HEAD, heights)
    return width, front, back


def head(look: Look, skeleton: Skeleton) -> list[Part]:
    """Build head, nose, ears and neck."""
    heights = np.array([row[0] for row in _HEAD])
    width, front, back = head_section(heights)
    middle = (front - back) / 2
    centres = np.stack([np.zeros_like(heights), heights, middle], 1)
    skull = tube(centres, width, (front + back) / 2, columns=_HEAD_COLUMNS, squareness=2.15)
    flesh = Surface("face", skin(look, FACE), 0.08)
    parts = [Part(in_head(skeleton, skull), heights.astype(np.float32), Surface("face", face(look), 0.1))]
    bridge = np.array([[0, 0.56, 0.37], [0, 0.45, 0.405], [0, 0.34, 0.44], [0, 0.30, 0.42], [0, 0.29, 0.37]])
    girth = np.array([0.028, 0.038, 0.062, 0.062, 0.03])
    nose = tube(bridge, girth, girth * 0.8, hint=(0, 0, 1), columns=8)
    parts.append(Part(in_head(skeleton, nose), np.zeros(5, np.float32), flesh))
    for sign in (1.0, -1.0):
        lobe = np.array(
            [[0.325, 0.35, 0.0], [0.345, 0.40, -0.01], [0.375, 0.50, -0.03], [0.375, 0.57, -0.04], [0.33, 0.60, -0.02]]
        )
        lobe[:, 0] *= sign
        girth = np.array([0.02, 0.05, 0.075, 0.07, 0.02])
        ear = tube(lobe, girth * 0.45, girth, columns=8)
        parts.append(Part(in_head(skeleton, ear), np.zeros(5, np.float32), flesh))
    low, top = (
        skeleton.trunk.warp([0.0, float(skeleton.trunk.level(0.815)), -0.015]),
        in_head(skeleton, [0.0, 0.24, -0.12]),
    )
    neck = trunk_section(look, 0.89)[0] * np.array([1.15, 1.0, 0.98, 1.0])
    path = np.linspace(low, top, 4)
    parts.append(Part(tube(path, neck, neck, columns=12), np.linspace(0, 0.15, 4, dtype=np.float32), flesh))
    return parts


def scalp(
    look: Look, skeleton: Skeleton, edges: ArrayLike, lift: ArrayLike, *, rows: int, columns: int
) -> tuple[Floats, Floats]:
    """Lay a shell on the head from the crown down to `edges`.

    Args:
        look: Whose head.
        skeleton: Where it is.
        edges: Height of the lower edge at each column, head heights; below the jaw it falls straight.
        lift: How far it stands off, (rows, 1), (columns + 1,) or both, head heights.
        rows: Of the grid.
        columns: Of the grid, less one.

    Returns:
        The grid, and for each row how far down it lies, 0…1.
    """
    theta = angles(columns).astype(np.float64)
    low = np.broadcast_to(np.asarray(edges, np.float64), theta.shape)
    share = np.linspace(0.02, 1.0, rows)[:, None] ** 1.35
    height = 1.0 - share * (1.0 - low)
    held = np.maximum(height, 0.36)
    width, front, back = (side.reshape(held.shape) for side in head_section(held.ravel()))
    stand = np.broadcast_to(np.asarray(lift, np.float64), held.shape)
    middle, deep = (front - back) / 2, (front + back) / 2
    x, z = (width + stand) * np.sin(theta), middle + (deep + stand) * np.cos(theta)
    falling = np.maximum(0.36 - height, 0)
    z = z - falling * 0.22 * (1 - np.cos(theta)) / 2
    y = height + stand * np.clip((height - 0.7) / 0.3, 0, 1) ** 2
    # Rows run from the crown down: mirrored angles keep the outside outside.
    grid = np.stack([-x, y, z], -1)
    return in_head(skeleton, grid), share[:, 0].astype(np.float32)


def hairdo(look: Look, skeleton: Skeleton, *, is_covered: bool, is_hooded: bool) -> list[Part]:
    """Build the hair; a hat presses it flat, and the hood of a top holds its ends."""
    is_curtain = look.hair_style in ("straight", "wavy")
    rows = 16 if is_curtain else 10
    edges = resample(_hairline(look, is_hooded=is_hooded), np.abs(angles(_HAIR_COLUMNS)))[0]
    lift = _volume(look, np.linspace(0, 1, rows)[:, None], pressed=0.65 if is_covered else 1.0)
    surface = Surface("hair", hair(look), 0.12)
    grid, share = scalp(look, skeleton, edges, lift, rows=rows, columns=_HAIR_COLUMNS)
    parts = [Part(grid, share, surface)]
    if is_curtain:
        # The inside of the curtain shows beside the neck; reversed columns turn a surface inside out.
        parts.append(Part(grid[4:, ::-1], share[4:], Surface("hair", flat(look.hair * 0.45, HAIR))))
    if look.hair_style == "ponytail":
        parts.append(_tail(skeleton, Surface("tail", surface.paint, surface.gloss)))
    return parts


def _hairline(look: Look, *, is_hooded: bool) -> tuple[tuple[float, float], ...]:
    """Give (angle from the front, height of the hair's lower edge in head heights)."""
    if look.hair_style in ("straight", "wavy"):
        end = -0.35 if is_hooded else -0.95 - 0.35 * look.variant
        return ((0, 0.86), (0.55, 0.83), (0.85, 0.72), (1.05, 0.1), (1.2, 0.65 * end), (1.5, end), (np.pi, end))
    if look.hair_style == "bob":
        return ((0, 0.80), (0.5, 0.79), (0.85, 0.68), (1.1, 0.22), (1.5, 0.08), (2.2, 0.06), (np.pi, 0.08))
    sides = ((0.95, 0.70), (1.2, 0.48), (1.42, 0.50), (1.75, 0.42))
    return ((0, 0.84), (0.6, 0.82), *sides, (2.2, 0.16), (np.pi, 0.10))


def _volume(look: Look, depth: Points, *, pressed: float) -> Points:
    """Give how far hair stands off, head heights, at shares of its fall (rows, 1)."""
    theta = angles(_HAIR_COLUMNS)
    full = {"crop": 0.025, "parted": 0.06, "tousled": 0.085, "bob": 0.085, "ponytail": 0.035}.get(
        look.hair_style, 0.075
    )
    if look.hair_style in ("straight", "wavy"):
        lift = 0.02 + full * (1 - 0.35 * depth) * pressed
    else:
        lift = 0.015 + full * (1 - 0.75 * depth**3) * pressed
    if look.hair_style == "wavy":
        lift = lift + 0.03 * np.sin(depth * 26 + np.abs(theta) * 3) * depth
    elif look.hair_style == "tousled":
        lift = lift + 0.022 * np.sin(depth * 17 + theta * 5) * np.sin(theta * 3 + 7 * look.variant)
    elif look.hair_style == "parted":
        lift = lift + 0.045 * np.clip(np.sin(theta + 0.9), 0, 1) * (1 - depth)
    return lift


def _tail(skeleton: Skeleton, surface: Surface) -> Part:
    """Hang a ponytail from the back of the head over the nape."""
    path = np.array(
        [[0, 0.72, -0.42], [0, 0.72, -0.56], [0, 0.45, -0.68], [0, 0.05, -0.66], [0, -0.45, -0.58], [0, -0.75, -0.54]]
    )
    girth = np.array([0.06, 0.10, 0.15, 0.15, 0.11, 0.02])
    tail = tube(
        smooth_path(path, 9, 0.1),
        *(np.interp(np.linspace(0, 5, 9), np.arange(6), girth) * f for f in (1.0, 0.8)),
        hint=(0, 1, 0),
    )
    return Part(in_head(skeleton, tail), np.linspace(0, 1, 9, dtype=np.float32), surface)
