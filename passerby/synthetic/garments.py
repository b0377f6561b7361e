"""What people wear on trunk, arms, legs and feet, as shells over the body."""

import numpy as np

from passerby.synthetic.anatomy import (
    arm_radius,
    bare_arm,
    bare_leg,
    hand,
    leg_radius,
    limb,
    trunk_section,
    trunk_tube,
)
from passerby.synthetic.body import LEFT, RIGHT, Points, Pose, Skeleton
from passerby.synthetic.footwear import footwear
from passerby.synthetic.look import Look
from passerby.synthetic.mesh import Floats, Part, Surface, resample, tube
from passerby.synthetic.paint import (
    GLOVE,
    LEFT_ARM,
    PANTS,
    SKIRT,
    cloth,
    flat,
    skin,
)
from passerby.synthetic.people import Person
from passerby.synthetic.tailoring import CUTS, lower_paint, upper_paint

SHORT_HEM = 0.553
"""Level at which a short top ends."""
_TRUNK_EASE = ((0.74, 1.0), (0.785, 0.62), (0.82, 0.35), (0.85, 0.12))
"""Share of the ease by level: cloth rests on the shoulders."""
_SLEEVE_EASE = ((0.0, 0.2), (0.12, 0.4), (0.3, 1.0), (1.0, 1.0))
"""The same along an arm."""


def dress_up(look: Look, person: Person, pose: Pose, skeleton: Skeleton) -> list[Part]:
    """Build the clothes and the bare arms, hands and legs they leave."""
    words = person.attributes
    waist = SHORT_HEM if words["top_length"] == "short" else CUTS[words["upper_garment"]].long_hem
    parts = _upper(look, words["upper_garment"], words["sleeve"], words["top_length"], skeleton)
    parts += _lower(look, words["lower_garment"], skeleton, waist, is_booted=words["boots"] == "yes")
    for side in (LEFT, RIGHT):
        parts += footwear(look, skeleton, side, words)
        if words["gloves"] == "yes":
            surface = Surface("gloves", flat(look.gloves, GLOVE), 0.1)
            parts += hand(look, skeleton, side, surface, task=pose.arms[side], thick=1.22)
            cuff = np.array([0.0375, 0.041, 0.044, 0.045]) * look.body.limb
            wrist = skeleton.arms[side][::-1]
            parts.append(limb(wrist, np.linspace(0, 0.14, 4), cuff, surface, columns=10, hint=(0, 0, 1)))
        else:
            surface = Surface("hands", skin(look, LEFT_ARM + side), 0.06)
            parts += hand(look, skeleton, side, surface, task=pose.arms[side])
    return parts


def drape(look: Look, skeleton: Skeleton, levels: Points, ease: Points, *, clearance: float) -> Floats:
    """Hang cloth from the trunk over the legs, wherever they stand.

    Args:
        look: Who wears it.
        skeleton: Where the legs are.
        levels: From the hem up, (rows,).
        ease: Distance from the trunk, metres, (rows,).
        clearance: Distance kept from the legs, metres; less for what is worn under something else.
    """
    width, front, back = (side + ease for side in trunk_section(look, np.maximum(levels, 0.515)))
    heights = skeleton.trunk.level(levels)
    for side in (LEFT, RIGHT):
        x, z, radius = _leg_outline(look, skeleton.legs[side], heights)
        covered = heights < skeleton.hips[side][1]
        width = np.where(covered, np.maximum(width, np.abs(x) + radius + clearance), width)
        # At the leg's x the outline is closer in than at the middle.
        arch = (1 - np.minimum(np.abs(x) / width, 0.85) ** 2.3) ** (1 / 2.3)
        front = np.where(covered, np.maximum(front, (z + radius + clearance) / arch), front)
        back = np.where(covered, np.maximum(back, (radius + clearance - z) / arch), back)
    # Cloth never comes back in below the place that pushes it out.
    lowest = levels < 0.54
    for extent in (width, front, back):
        extent[lowest] = np.maximum.accumulate(extent[lowest][::-1])[::-1]
    centres = np.stack([np.zeros_like(levels), heights, np.zeros_like(levels)], 1)
    points = tube(centres, width, front, back, columns=28, squareness=2.3)
    return skeleton.trunk.warp(points).astype(np.float32)


def _leg_outline(look: Look, path: Points, heights: Points) -> tuple[Points, Points, Points]:
    """Say where a leg is at heights, and how far it reaches from there: x, z, reach, (heights,) each."""
    ticks = np.arange(len(path))
    falling = np.minimum.accumulate(path[:, 1])  # a raised shin counts as level
    at = np.interp(heights, falling[::-1], ticks[::-1])
    slope = np.gradient(path[:, 2]) / np.minimum(np.gradient(path[:, 1]), -1e-3)
    # A level cut through a slanting leg is longer than the leg is thick.
    longer = np.interp(at, ticks, np.minimum(np.sqrt(1 + slope**2), 2.5))
    radius = 1.08 * leg_radius(look, at / ticks[-1]) * longer
    return np.interp(at, ticks, path[:, 0]), np.interp(at, ticks, path[:, 2]), radius


def _upper(look: Look, kind: str, sleeve: str, top_length: str, skeleton: Skeleton) -> list[Part]:
    cut = CUTS[kind]
    hem = SHORT_HEM if top_length == "short" and kind != "dress" else cut.long_hem
    surface = Surface("upper", upper_paint(look, kind, hem), 0.12 if kind == "down-jacket" else 0.03)
    levels = np.r_[np.linspace(hem, 0.77, 13 if hem > 0.42 else 17), 0.785, 0.80, 0.81, 0.82, 0.83, 0.838, 0.848]
    ease = cut.ease * resample(_TRUNK_EASE, levels)[0]
    width, _, _ = trunk_section(look, levels)
    chest = look.body.chest
    slack = np.where(levels < 0.74, np.maximum(0, cut.hang * chest - width) * (0.62 if look.is_female else 0.9), 0)
    if kind == "dress":
        slack = np.where(levels < 0.60, 0.006, 0.0)
    ease = ease + slack - cut.hem_grip * np.clip(1 - (levels - hem) / 0.02, 0, 1)
    if kind == "down-jacket":
        ease = ease - 0.010 * np.abs(np.sin(levels * np.pi / 0.036 + np.pi / 2)) ** 6
    flare = {"dress": 0.30, "coat": 0.16}.get(kind, 0.05)
    ease = ease + flare * np.maximum(0.52 - levels, 0) * look.body.stature
    parts = [Part(drape(look, skeleton, levels, ease, clearance=0.022), levels.astype(np.float32), surface)]
    parts += _collar(look, kind, skeleton)
    for side in (LEFT, RIGHT):
        if kind == "tank-top":
            parts += bare_arm(look, skeleton, side, 0.0)
        else:
            parts += _sleeve(look, kind, skeleton, side, is_short=sleeve == "short")
    return parts


def _sleeve(look: Look, kind: str, skeleton: Skeleton, side: int, *, is_short: bool) -> list[Part]:
    cut = CUTS[kind]
    end = 0.42 if is_short else 0.985
    shares = np.linspace(0, end, 10 if is_short else 17)
    ease = 0.75 * cut.ease * resample(_SLEEVE_EASE, shares)[0]
    if is_short:
        ease = ease + 0.012 * np.clip((shares - 0.2) / 0.2, 0, 1)
    elif kind in ("suit-jacket", "coat", "shirt"):
        ease = ease + 0.010 * np.clip((shares - 0.7) / 0.3, 0, 1)
    else:
        ease = ease + 0.012 * np.clip((shares - 0.6) / 0.3, 0, 1) * (shares < 0.93)
    if kind == "down-jacket":
        ease = ease - 0.008 * np.abs(np.sin(shares * 25)) ** 6
    surface = Surface("upper", cloth(look.upper, cut.lip, 0.055, cut.folds * 1.4), 0.03)
    radius = arm_radius(look, shares) + ease
    sleeve = limb(skeleton.arms[side], *_closed(shares, radius), surface, columns=12, hint=(0, 1, 0))
    return [sleeve, *bare_arm(look, skeleton, side, end - 0.06)]


def _collar(look: Look, kind: str, skeleton: Skeleton) -> list[Part]:
    style = CUTS[kind].collar
    if style == "none":
        return []
    surface = Surface("upper", cloth(look.upper, CUTS[kind].lip, 0.08, 0.1), 0.03)
    rise, stand = {
        "rib": (0.010, 0.012),
        "shirt": (0.022, 0.014),
        "stand": (0.034, 0.020),
        "lapel": (0.018, 0.012),
        "hood": (0.016, 0.026),
    }[style]
    levels = np.array([0.820, 0.83, 0.838 + rise / 2, 0.838 + rise, 0.838 + rise, 0.838])
    neck = trunk_section(look, 0.87)[0]
    radius = neck + np.array([stand + 0.016, stand + 0.007, stand, stand * 0.9, stand * 0.5, 0.002])
    centres = np.stack([np.zeros(6), skeleton.trunk.level(levels), np.linspace(-0.006, 0.0, 6)], 1)
    ring = tube(centres, radius, radius * 0.98, radius * 1.05, columns=16)
    # The front sits lower than the back.
    ring[..., 1] -= (0.022 if style != "stand" else 0.006) * (ring[..., 2] > 0) * ring[..., 2] / 0.07
    parts = [Part(skeleton.trunk.warp(ring).astype(np.float32), levels.astype(np.float32), surface)]
    if style == "hood":
        parts.append(_hood(look, skeleton, surface))
    return parts


def _hood(look: Look, skeleton: Skeleton, surface: Surface) -> Part:
    """Let an empty hood hang behind the neck."""
    levels = np.array([0.852, 0.846, 0.825, 0.795, 0.768, 0.757])
    behind = -look.body.depth * np.array([0.62, 0.78, 1.04, 1.20, 1.18, 1.08])
    width = np.array([0.05, 0.094, 0.118, 0.108, 0.072, 0.02])
    depth = np.array([0.02, 0.046, 0.055, 0.05, 0.04, 0.012])
    sack = tube(np.stack([np.zeros(6), skeleton.trunk.level(levels), behind], 1), width, depth, columns=14)
    return Part(skeleton.trunk.warp(sack).astype(np.float32), levels.astype(np.float32), surface)


def _lower(look: Look, kind: str, skeleton: Skeleton, waist: float, *, is_booted: bool) -> list[Part]:
    """Build what is worn below; its upper end is tucked under the top, which ends at `waist`."""
    if kind in ("trousers", "jeans", "leggings", "shorts"):
        return _trousers(look, kind, skeleton, waist, is_booted=is_booted)
    parts = [part for side in (LEFT, RIGHT) for part in bare_leg(look, skeleton, side, 0.2)]
    return parts if kind == "none" else [*parts, _skirt(look, kind, skeleton, waist)]


def _skirt(look: Look, kind: str, skeleton: Skeleton, waist: float) -> Part:
    is_short = kind == "short-skirt"
    hem = 0.385 - 0.03 * look.variant if is_short else 0.135 + 0.05 * look.variant
    levels = np.linspace(hem, 0.612, 12 if is_short else 18)
    below = np.maximum(min(waist, 0.52) - levels, 0) * look.body.stature
    ease = 0.010 - 0.016 * np.clip((levels - waist) / 0.012, 0, 1) + (0.42 if is_short else 0.20) * below
    surface = Surface("lower", lower_paint(look, kind, SKIRT, look.lower), 0.03)
    return Part(drape(look, skeleton, levels, ease, clearance=0.010), levels.astype(np.float32), surface)


def _trousers(look: Look, kind: str, skeleton: Skeleton, waist: float, *, is_booted: bool) -> list[Part]:
    levels = np.array([0.462, 0.475, 0.495, 0.515, 0.54, 0.565, 0.59, 0.616])
    is_tight, is_short = kind == "leggings", kind == "shorts"
    ease = (0.003 if is_tight else 0.007) - 0.012 * np.clip((levels - waist) / 0.010, 0, 1)
    seat = Surface("lower", lower_paint(look, kind, PANTS, look.lower), 0.03)
    legs = Surface("lower", cloth(look.lower, PANTS, 0.075, 0.12 if is_tight else 0.42), 0.05 if is_tight else 0.02)
    parts = [Part(trunk_tube(look, skeleton, levels, ease), levels.astype(np.float32), seat)]
    shares = np.linspace(0.0, 0.5, 10) if is_short else np.linspace(0.0, 1.0, 17)
    radius = leg_radius(look, shares) + _leg_ease(look, kind, shares, is_booted=is_booted)
    for side in (LEFT, RIGHT):
        parts.append(limb(skeleton.legs[side], *_closed(shares, radius), legs, columns=14, hint=(0, 0, 1)))
        if is_short:
            parts += bare_leg(look, skeleton, side, 0.4)
    return parts


def _leg_ease(look: Look, kind: str, shares: Points, *, is_booted: bool) -> Points:
    """Stand trousers off the leg: by their kind, and close to it where a boot holds them."""
    if kind == "leggings":
        return np.full_like(shares, 0.002)
    if kind == "shorts":
        return np.asarray(0.006 + 0.030 * np.clip((shares - 0.05) / 0.4, 0, 1))
    hem = {"trousers": 0.060, "jeans": 0.050}[kind] * look.body.stature / 1.75 * (0.92 if look.is_female else 1.0)
    straight = np.maximum(0.007, hem - leg_radius(look, shares))
    ease = 0.005 + (straight - 0.005) * np.clip(shares / 0.35, 0, 1)
    return np.where(shares > 0.62, 0.006, ease) if is_booted else ease


def _closed(shares: Points, radius: Points) -> tuple[Points, Points]:
    """Close a hem with a flat ring; its row comes twice, so that the edge stays crisp."""
    return np.r_[shares, shares[-1], shares[-1]], np.r_[radius, radius[-1], radius[-1] * 0.55]
