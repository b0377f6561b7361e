"""Shoes, boots and socks."""

from collections.abc import Mapping

import numpy as np

from passerby.synthetic.anatomy import foot_frame, leg_radius, limb, path_length
from passerby.synthetic.body import Points, Skeleton
from passerby.synthetic.look import Look, linear
from passerby.synthetic.mesh import Coat, Floats, Paint, Part, Surface, tube
from passerby.synthetic.paint import LEFT_SHOE, SOCKS, flat

# Metres from the ankle towards the toe; half width, top above the sole, rise of the bottom.
_SHOE = (
    (-0.072, 0.003, 0.050, 0.026),
    (-0.066, 0.030, 0.078, 0.0),
    (-0.035, 0.040, 0.100, 0.0),
    (0.010, 0.042, 0.100, 0.0),
    (0.050, 0.044, 0.088, 0.0),
    (0.100, 0.050, 0.066, 0.0),
    (0.150, 0.053, 0.055, 0.0),
    (0.190, 0.045, 0.046, 0.0),
    (0.208, 0.028, 0.036, 0.004),
    (0.214, 0.003, 0.020, 0.014),
)
_BOOT_TOP = 0.66
"""Share of the leg at which a boot ends."""


def footwear(look: Look, skeleton: Skeleton, side: int, words: Mapping[str, str]) -> list[Part]:
    """Build what one foot wears."""
    is_boot = words["boots"] == "yes"
    size = look.body.stature / 1.75 * (0.92 if look.is_female else 1.0)
    start, forward, up = foot_frame(skeleton, side)
    rows = np.array(_SHOE) * size
    if is_boot:
        rows[:, 1:3] *= 1.07
    middle = np.minimum(rows[:, 2] * 0.5, 0.03)
    centres = start + rows[:, :1] * forward + middle[:, None] * up
    shoe = tube(centres, rows[:, 1], rows[:, 2] - middle, middle - rows[:, 3], hint=up, columns=14, squareness=2.7)
    leather = Surface(
        "shoes", _shoe_paint(look, LEFT_SHOE + side, is_boot=is_boot), 0.35 if look.variant < 0.6 else 0.1
    )
    parts = [Part(shoe, rows[:, 0].astype(np.float32), leather)]
    if is_boot:
        parts.append(_shaft(look, skeleton.legs[side], LEFT_SHOE + side))
    elif words["lower_garment"] not in ("trousers", "jeans"):
        shares = np.linspace(0.88 if look.variant < 0.7 else 0.74, 1.0, 4)
        sock = Surface("socks", flat(look.socks, SOCKS))
        radius = leg_radius(look, shares) + 0.004
        parts.append(limb(skeleton.legs[side], shares, radius, sock, columns=12, hint=(0, 0, 1)))
    return parts


def _shaft(look: Look, path: Points, lip: int) -> Part:
    """Build a boot's shaft, its upper rim closed by a ring."""
    shares = np.array([_BOOT_TOP, _BOOT_TOP, _BOOT_TOP, 0.675, 0.69, 0.76, 0.84, 0.92, 0.97, 1.0])
    radius = leg_radius(look, shares) + np.array([0, 0.024, 0.024, 0.024, 0.019, 0.016, 0.015, 0.019, 0.022, 0.022])
    surface = Surface("shoes", _boot_paint(look, lip, _BOOT_TOP * path_length(path)), 0.4)
    return limb(path, shares, radius, surface, columns=14, hint=(0, 0, 1))


def _shoe_paint(look: Look, lip: int, *, is_boot: bool) -> Paint:
    lace = linear((235, 233, 228)) if look.shoe.mean() < 0.3 else linear((120, 118, 116))

    def paint(angle: Floats, along: Floats) -> Coat:
        apart = np.abs(angle)
        color = np.where((apart > (2.2 if is_boot else 2.05))[:, None], look.sole, look.shoe)
        if not is_boot:
            laces = (apart < 0.55) & (along > 0.035) & (along < 0.105) & (np.mod(along, 0.018) < 0.008)
            color[laces] = lace
        return Coat(color, lip)

    return paint


def _boot_paint(look: Look, lip: int, top: float) -> Paint:
    def paint(angle: Floats, along: Floats) -> Coat:
        laced = (np.abs(angle) < 0.4) & (np.mod(along * 45 + 0.4 * np.abs(angle), 1.0) < 0.35)
        tone = np.where(along < top + 0.022, 0.55, np.where(laced, 1.7, 1.0))
        return Coat(look.shoe * tone[:, None] + 0.01 * laced[:, None], lip)

    return paint
