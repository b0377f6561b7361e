"""Things worn on the head: hats and glasses."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from passerby.synthetic.anatomy import in_head, scalp
from passerby.synthetic.body import Skeleton
from passerby.synthetic.look import Look, linear
from passerby.synthetic.mesh import Coat, Floats, Part, Surface, angles, resample, tube
from passerby.synthetic.paint import HAT, SUNGLASSES, edge, flat
from passerby.synthetic.people import Person

_BLACK = linear((22, 22, 25))


def put_on_head(look: Look, person: Person, skeleton: Skeleton) -> list[Part]:
    """Build the hat and the glasses of a person."""
    words = person.attributes
    parts: list[Part] = []
    if words["hat_kind"] != "none":
        parts += _HATS[words["hat_kind"]](look, skeleton)
    if words["glasses_kind"] != "none":
        parts += _glasses(skeleton, look.skin, is_dark=words["glasses_kind"] == "sunglasses")
    return parts


def _dome(look: Look, skeleton: Skeleton, edge_height: ArrayLike, lift: ArrayLike, surface: Surface) -> Part:
    grid, share = scalp(look, skeleton, edge_height, lift, rows=8, columns=24)
    return Part(grid, share, surface)


def _cap(look: Look, skeleton: Skeleton) -> list[Part]:
    def panels(angle: Floats, along: Floats) -> Coat:
        seam = 0.25 * edge(np.abs(np.mod(angle + np.pi / 6, np.pi / 3) - np.pi / 6), 0.04, 0.03)
        badge = (np.abs(angle) < 0.25) & (along > 0.45) & (along < 0.8)
        color = look.hat * (1 - seam)[:, None]
        color[badge] = look.trim
        return Coat(color, HAT)

    apart = np.abs(angles(24)).astype(np.float64)
    low = resample(((0, 0.735), (1.2, 0.70), (2.2, 0.60), (np.pi, 0.57)), apart)[0]
    dome = _dome(look, skeleton, low, 0.085, Surface("hat", panels, 0.05))
    reach = np.array([0.20, 0.36, 0.52, 0.64, 0.70, 0.715])
    wide = np.array([0.40, 0.40, 0.36, 0.29, 0.16, 0.03])
    line = np.stack([np.zeros(6), 0.745 - 0.10 * (reach - 0.2) ** 1.3, reach], 1)
    visor = tube(line, wide, np.full(6, 0.02), hint=(0, 1, 0), columns=12)
    visor[..., 1] -= 0.35 * visor[..., 0] ** 2
    brim = Surface("hat", flat(look.hat * 0.7, HAT), 0.15)
    return [dome, Part(in_head(skeleton, visor), _rows(6), brim)]


def _brimmed(look: Look, skeleton: Skeleton) -> list[Part]:
    def felt(angle: Floats, along: Floats) -> Coat:
        return Coat(np.where((along > 0.68)[:, None], look.trim * 0.5, look.hat), HAT)

    dome = _dome(look, skeleton, 0.72, np.r_[0.10, 0.12, 0.13, np.full(5, 0.10)][:, None], Surface("hat", felt, 0.05))
    heights = np.array([0.735, 0.725, 0.70, 0.69, 0.69, 0.70, 0.70])
    radius = np.array([0.40, 0.60, 0.80, 0.84, 0.82, 0.60, 0.36])
    line = np.stack([np.zeros(7), heights, np.full(7, -0.03)], 1)
    brim = tube(line[::-1], radius[::-1] * 0.92, radius[::-1], columns=28)
    brim[..., 1] += 0.10 * np.abs(brim[..., 0]) ** 2
    return [dome, Part(in_head(skeleton, brim), _rows(7), Surface("hat", flat(look.hat, HAT), 0.15))]


def _beanie(look: Look, skeleton: Skeleton) -> list[Part]:
    def knit(angle: Floats, along: Floats) -> Coat:
        fold = along > 0.72
        ribs = np.sin(angle * 24)
        color = look.hat * (np.where(fold, 0.72, 1.0) + 0.12 * ribs)[:, None]
        return Coat(color, HAT, np.stack([0.6 * ribs, 0 * ribs], 1))

    low = resample(((0, 0.70), (1.5, 0.60), (np.pi, 0.42)), np.abs(angles(24)))[0]
    lift = np.array([0.16, 0.15, 0.13, 0.11, 0.095, 0.11, 0.115, 0.10])[:, None]
    grid, share = scalp(look, skeleton, low, lift, rows=8, columns=24)
    parts = [Part(grid, share, Surface("hat", knit))]
    if look.variant < 0.5:
        parts.append(_ball(skeleton, (0, 1.19, -0.06), 0.10, Surface("hat", flat(look.trim, HAT), 0.15)))
    return parts


def _ball(skeleton: Skeleton, centre: Sequence[float], radius: float, surface: Surface) -> Part:
    turn = np.linspace(-np.pi / 2 + 0.1, np.pi / 2 - 0.1, 6)
    line = np.array(centre) + radius * np.sin(turn)[:, None] * np.array([0, 1, 0])
    return Part(
        in_head(skeleton, tube(line, radius * np.cos(turn), radius * np.cos(turn), columns=10)), _rows(6), surface
    )


def _helmet(look: Look, skeleton: Skeleton) -> list[Part]:
    def shell(angle: Floats, along: Floats) -> Coat:
        slots = (np.abs(np.mod(angle, 0.7) - 0.35) < 0.10) & (along > 0.35) & (along < 0.78)
        color = np.where(slots[:, None], _BLACK, np.where((along > 0.9)[:, None], look.trim, look.hat))
        return Coat(color, HAT)

    low = resample(((0, 0.74), (1.5, 0.58), (np.pi, 0.44)), np.abs(angles(24)))[0]
    dome = _dome(
        look,
        skeleton,
        low,
        np.array([0.2, 0.19, 0.17, 0.16, 0.15, 0.15, 0.15, 0.145])[:, None],
        Surface("hat", shell, 0.8),
    )
    strap = Surface("hat", flat(_BLACK, HAT), 0.15)
    parts = [dome]
    for sign in (1.0, -1.0):
        line = np.array(
            [[0.40 * sign, 0.60, 0.05], [0.37 * sign, 0.35, 0.10], [0.22 * sign, 0.06, 0.24], [0, -0.03, 0.28]]
        )
        band = tube(line, 0.035, 0.02, hint=(sign, 0, 0), columns=6)
        parts.append(Part(in_head(skeleton, band), _rows(4), strap))
    return parts


def _glasses(skeleton: Skeleton, skin: Floats, *, is_dark: bool) -> list[Part]:
    """Build two rimmed lenses, the bridge and the temples; the rims are thick enough for a small picture."""
    # Black rims would vanish on dark skin.
    metal = _BLACK if skin.mean() > 0.13 else linear((222, 190, 112))

    def pane(angle: Floats, along: Floats) -> Coat:
        clear = np.where((along > 0.975)[:, None], _BLACK, skin * 0.9 + 0.05)
        return Coat(np.where((along > 0.5)[:, None], _BLACK * 1.6 if is_dark else clear, metal), SUNGLASSES)

    surface = Surface("glasses", pane, 0.6 if is_dark else 0.15)
    frame = Surface("glasses", flat(metal, SUNGLASSES), 0.3)
    wide, tall = (0.155, 0.105) if is_dark else (0.15, 0.11)
    rim = 0.022 if is_dark else 0.036
    parts = []
    for sign in (1.0, -1.0):
        depth = np.array([0.36, 0.445, 0.445, 0.445, 0.45])
        line = np.stack([np.full(5, 0.165 * sign), np.full(5, 0.525), depth], 1)
        shrink = np.array([0, 0, rim, rim + 0.004, 0.13])
        lens = tube(
            line,
            np.maximum(wide - shrink, 0.002),
            np.maximum(tall - shrink, 0.002),
            hint=(0, 1, 0),
            columns=14,
            squareness=2.8,
        )
        # The outer side follows the face backwards.
        lens[..., 2] -= 0.35 * np.maximum(0, np.abs(lens[..., 0]) - 0.2)
        parts.append(Part(in_head(skeleton, lens), np.array([0, 0, 0, 0.9, 1.0], np.float32), surface))
        arm = np.array([[0.315, 0.55, 0.39], [0.365, 0.55, 0.22], [0.37, 0.55, 0.02], [0.36, 0.49, -0.06]])
        arm[:, 0] *= sign
        parts.append(Part(in_head(skeleton, tube(arm, 0.030, 0.016, hint=(sign, 0, 0.2), columns=6)), _rows(4), frame))
    bridge = np.array([[-0.05, 0.555, 0.452], [0, 0.565, 0.458], [0.05, 0.555, 0.452]])
    parts.append(Part(in_head(skeleton, tube(bridge, 0.026, 0.022, hint=(0, 1, 0), columns=6)), _rows(3), frame))
    return parts


def _rows(count: int) -> Floats:
    return np.linspace(0, 1, count, dtype=np.float32)


_HATS: dict[str, Callable[[Look, Skeleton], list[Part]]] = {
    "cap": _cap,
    "brimmed-hat": _brimmed,
    "beanie": _beanie,
    "helmet": _helmet,
}
