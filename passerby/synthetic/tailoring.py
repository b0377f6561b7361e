"""The cut of upper garments as paint on the trunk: necklines, openings, lapels, seams, pockets, prints."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from passerby.synthetic.look import Fabric, Look, linear
from passerby.synthetic.mesh import Bytes, Coat, Floats, Paint
from passerby.synthetic.paint import COAT, DRESS, FACE, UPPER, blend, crease, edge, noise, weave

_GIRTH = 0.16
"""Metres on a trunk for one radian."""
_BUTTON = linear((226, 222, 210))
_DARK = linear((30, 28, 30))


@dataclass(frozen=True, slots=True)
class Cut:
    """How an upper garment is made. Levels are shares of the stature."""

    ease: float
    """How far it stands off the body, metres."""
    hang: float
    """How straight it falls: its least width below the chest, as a share of the chest's."""
    long_hem: float
    neck: float = 0.014
    """Depth of the neckline in front, levels."""
    lip: int = UPPER
    collar: str = "none"
    """none, rib, shirt, stand or hood."""
    folds: float = 0.30
    opening: tuple[float, float] = (0.0, 0.0)
    """Half width at the neck in metres and lower end as a level, of an opening over an inner shirt."""
    hem_grip: float = 0.0
    """How far a ribbed hem draws in, metres."""


CUTS = {
    "t-shirt": Cut(0.010, 0.94, 0.468),
    "shirt": Cut(0.012, 0.95, 0.458, collar="shirt", neck=0.02),
    "blouse": Cut(0.013, 0.93, 0.462, neck=0.040, folds=0.38),
    "tank-top": Cut(0.006, 0.88, 0.472, neck=0.038, folds=0.22),
    "sweater": Cut(0.018, 0.98, 0.476, collar="rib", folds=0.22, hem_grip=0.010),
    "hoodie": Cut(0.024, 1.00, 0.474, collar="hood", folds=0.34, hem_grip=0.014),
    "jacket": Cut(0.024, 1.00, 0.464, lip=COAT, collar="stand", opening=(0.05, 0.765), hem_grip=0.008),
    "suit-jacket": Cut(0.018, 0.95, 0.450, lip=COAT, collar="lapel", opening=(0.062, 0.655), folds=0.2),
    "down-jacket": Cut(0.040, 1.04, 0.448, lip=COAT, collar="stand", folds=0.15, hem_grip=0.012),
    "coat": Cut(0.028, 1.00, 0.315, lip=COAT, collar="lapel", opening=(0.058, 0.725), folds=0.25),
    "dress": Cut(0.008, 0.82, 0.335, neck=0.034, lip=DRESS, folds=0.3),
}


@dataclass(slots=True)
class Canvas:
    """A trunk while it is painted."""

    across: Floats
    """Metres from the middle of the front."""
    apart: Floats
    level: Floats
    stature: float
    color: Floats
    lip: Bytes
    bump: Floats
    is_front: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.is_front = self.apart < 0.27

    def line(self, distance: Floats, width: float, dark: float = 0.45) -> None:
        """Draw a seam where `distance` (metres) is near 0."""
        self.color *= (1 - dark * edge(np.abs(distance), width, 0.004))[:, None]

    def mix(self, other: Floats, share: Floats) -> None:
        """Blend a colour in."""
        self.color = blend(self.color, other, share)


def upper_paint(look: Look, kind: str, hem: float) -> Paint:
    """Paint the trunk of an upper garment; the second coordinate is the level."""
    cut, fabric = CUTS[kind], look.upper

    def paint(angle: Floats, level: Floats) -> Coat:
        across = angle * np.float32(_GIRTH)
        along = level * np.float32(look.body.stature)
        color = weave(fabric, across, along)
        bump = crease(across, along, cut.folds, fabric.phase)
        lip = np.full(len(angle), cut.lip, np.uint8)
        canvas = Canvas(across, np.abs(across), level, look.body.stature, color, lip, bump)
        if kind in _DETAILS:
            _DETAILS[kind](canvas, look, hem)
        if cut.opening[0]:
            _open_front(canvas, look, cut, has_tie=kind == "suit-jacket" and not look.is_female)
        else:
            _neckline(canvas, look, cut, is_strapped=kind == "tank-top")
        return Coat(canvas.color, canvas.lip, canvas.bump)

    return paint


def _neckline(canvas: Canvas, look: Look, cut: Cut, *, is_strapped: bool) -> None:
    limit = 0.834 - cut.neck * np.exp(-np.square(canvas.apart / 0.085))
    canvas.color *= (1 - 0.3 * edge(np.abs(canvas.level - limit + 0.004), 0.004, 0.003))[:, None]
    bare = canvas.level > limit
    if is_strapped:
        # Straps over the shoulders, armholes beside them that reach down to the side of the chest.
        aside = np.abs(np.sin(canvas.across / _GIRTH)) * np.interp(canvas.level, (0.75, 0.785, 0.82), (1.0, 0.93, 0.56))
        high = np.clip((canvas.level - 0.745) / 0.03, 0, 1)
        bare |= (aside > 1.0 - 0.26 * high**0.5) & (canvas.level > 0.745)
        bare |= (aside < 0.36) & (canvas.level > 0.834 - cut.neck) & canvas.is_front
    canvas.color[bare] = look.skin
    canvas.lip[bare] = FACE
    canvas.bump[bare] = 0


def _open_front(canvas: Canvas, look: Look, cut: Cut, *, has_tie: bool) -> None:
    """Show the inner shirt in a V between the edges of the front."""
    wide, low = cut.opening
    half = wide * np.clip((canvas.level - low) / (0.832 - low), 0, 1.1)
    inside = (canvas.apart < half) & (canvas.level > low)
    canvas.line(canvas.apart - half - 0.004, 0.005, 0.55)
    if cut.collar == "lapel":
        lapel = half + 0.045 * np.clip((canvas.level - low) / 0.05, 0, 1)
        on_front = (canvas.level > low) & canvas.is_front
        canvas.color[on_front & (canvas.apart < lapel)] *= 1.16
        canvas.line(np.where(on_front, canvas.apart - lapel, 1.0), 0.004, 0.6)
    canvas.color[inside] = look.inner * (1 - 0.25 * edge(half - canvas.apart, 0.0, 0.03)[inside])[:, None]
    canvas.lip[inside] = UPPER
    canvas.bump[inside] *= 0.3
    if has_tie:
        tie = inside & (canvas.apart < 0.018) & (canvas.level < 0.826)
        canvas.color[tie] = look.trim
    bare = (canvas.level > 0.842) | (inside & (canvas.level > 0.822 + canvas.apart * 0.3) & (not has_tie))
    canvas.color[bare] = look.skin
    canvas.lip[bare] = FACE


def _tee(canvas: Canvas, look: Look, hem: float) -> None:
    canvas.line((canvas.level - hem - 0.012) * canvas.stature, 0.003, 0.2)
    if look.upper.pattern == "plain" and look.variant < 0.45:
        y = canvas.level - 0.735
        emblem = (canvas.apart < 0.062) & (np.abs(y) < 0.018) & (np.mod(canvas.across, 0.024) < 0.017)
        canvas.mix(look.upper.second, 0.85 * emblem)


def _buttons(canvas: Canvas, low: float, high: float, at: float = 0.0) -> None:
    spacing = 0.046
    y = np.mod(canvas.level - low, spacing) - spacing / 2
    spot = np.hypot(canvas.across - at, y * canvas.stature)
    canvas.mix(_BUTTON, edge(spot, 0.010, 0.004) * ((canvas.level > low) & (canvas.level < high)))


def _shirt(canvas: Canvas, look: Look, hem: float) -> None:
    canvas.line(np.where(canvas.is_front, canvas.apart - 0.018, 1.0), 0.003, 0.32)
    _buttons(canvas, hem + 0.01, 0.82)
    x, y = canvas.across - 0.075, canvas.level - 0.735
    pocket = np.maximum(np.abs(x) / 0.038, np.abs(y) / 0.026)
    canvas.line(np.where(canvas.is_front, (pocket - 1) * 0.04, 1.0), 0.003, 0.3)
    canvas.line(np.where(canvas.is_front, 1.0, (canvas.level - 0.785) * canvas.stature), 0.003, 0.25)


def _blouse(canvas: Canvas, look: Look, hem: float) -> None:
    gathers = np.sin(canvas.across * 190) * np.clip((0.62 - canvas.level) / 0.03, 0, 1)
    canvas.bump[:, 0] += 0.35 * gathers
    frill = edge(np.abs(canvas.apart - 0.045 - 0.012 * np.sin(canvas.level * 260)), 0.014, 0.008)
    front = canvas.is_front & (canvas.level > 0.62)
    canvas.color *= (1 + 0.3 * frill * front)[:, None]
    canvas.line(np.where(front, canvas.apart - 0.028, 1.0), 0.004, 0.3)


def _sweater(canvas: Canvas, look: Look, hem: float) -> None:
    knit = np.sin(canvas.across * 420) * np.sin(canvas.level * canvas.stature * 330)
    canvas.color *= (1 + 0.07 * knit)[:, None]
    ribs = np.sin(canvas.across * 520) * (canvas.level < hem + 0.03)
    canvas.bump[:, 0] += 0.5 * ribs
    if look.variant > 0.5:
        cable = np.abs(np.mod(canvas.apart, 0.09) - 0.045)
        canvas.line(cable - 0.012 - 0.006 * np.sin(canvas.level * 330), 0.004, 0.22)


def _hoodie(canvas: Canvas, look: Look, hem: float) -> None:
    top, bottom = max(hem + 0.115, 0.60), max(hem + 0.03, 0.52)
    y = (canvas.level - bottom) / (top - bottom)
    side = 0.125 - 0.055 * np.clip(y, 0, 1)
    pocket = (y > 0) & (y < 1) & canvas.is_front
    canvas.line(np.where(pocket, canvas.apart - side, 1.0), 0.005, 0.5)
    canvas.line(np.where(canvas.apart < 0.075, (canvas.level - top) * canvas.stature, 1.0), 0.004, 0.5)
    cord = edge(np.abs(canvas.apart - 0.035), 0.006, 0.003) * ((canvas.level > 0.735) & canvas.is_front)
    canvas.mix(_BUTTON, cord)
    canvas.bump[:, 0] += 0.4 * np.sin(canvas.across * 480) * (canvas.level < hem + 0.028)


def _zip(canvas: Canvas, look: Look, hem: float) -> None:
    front = np.where(canvas.is_front, canvas.apart, 1.0)
    canvas.line(front, 0.016, 0.35)
    canvas.mix(look.upper.second, 0.8 * edge(front, 0.005, 0.003))
    slash = np.abs(canvas.apart - 0.12 + (canvas.level - 0.57) * 0.7)
    canvas.line(np.where(np.abs(canvas.level - 0.575) < 0.03, slash, 1.0), 0.005, 0.55)
    canvas.line(np.where(canvas.is_front, 1.0, (canvas.level - 0.775) * canvas.stature), 0.004, 0.3)


def _down(canvas: Canvas, look: Look, hem: float) -> None:
    seams = np.mod(canvas.level, 0.036) - 0.018
    canvas.bump[:, 1] += 55 * seams
    canvas.line(seams * canvas.stature, 0.0, 0.0)
    canvas.color *= (1 - 0.4 * edge(0.018 - np.abs(seams), 0.003, 0.003))[:, None]
    front = np.where(canvas.is_front, canvas.apart, 1.0)
    canvas.mix(_DARK, 0.8 * edge(front, 0.007, 0.004))


def _suit(canvas: Canvas, look: Look, hem: float) -> None:
    below = canvas.is_front & (canvas.level < 0.66)
    canvas.line(np.where(below, canvas.across - 0.012 - 0.25 * np.maximum(0, 0.56 - canvas.level), 1.0), 0.004, 0.6)
    for level in (0.635, 0.59):
        spot = np.hypot(canvas.across - 0.005, (canvas.level - level) * canvas.stature)
        canvas.mix(_DARK, edge(spot, 0.011, 0.004))
    flap = (np.abs(canvas.level - 0.555) < 0.008) & (np.abs(canvas.apart - 0.115) < 0.045)
    canvas.color[flap] *= 0.62
    square = (np.abs(canvas.level - 0.745) < 0.007) & (np.abs(canvas.across - 0.085) < 0.026)
    canvas.color[square] = look.inner
    canvas.line(np.where(canvas.apart > 0.40, (0.502 - canvas.apart), 1.0), 0.004, 0.4)


def _coat(canvas: Canvas, look: Look, hem: float) -> None:
    canvas.line(np.where(canvas.is_front & (canvas.level < 0.73), canvas.across - 0.05, 1.0), 0.004, 0.6)
    for at in (-0.045, 0.03):
        _buttons(canvas, 0.50, 0.715, at)
    if look.variant < 0.6:
        belt = np.abs(canvas.level - 0.605) < 0.014
        canvas.color[belt] *= 0.6
        buckle = belt & (canvas.apart < 0.028)
        canvas.color[buckle] = _BUTTON * 0.6
    flap = (np.abs(canvas.level - 0.53) < 0.012) & (np.abs(canvas.apart - 0.14) < 0.045)
    canvas.color[flap] *= 0.75
    canvas.line(np.where((canvas.apart > 0.4) & (canvas.level < 0.5), 0.502 - canvas.apart, 1.0), 0.005, 0.5)


def _dress(canvas: Canvas, look: Look, hem: float) -> None:
    pleats = np.sin(canvas.across * 75 + 2 * noise(canvas.across, canvas.level))
    canvas.bump[:, 0] += 0.4 * pleats * np.clip((0.58 - canvas.level) / 0.1, 0, 1)
    if look.variant < 0.5:
        canvas.mix(look.upper.second, 0.9 * edge(np.abs(canvas.level - 0.612), 0.011, 0.003))
    else:
        canvas.line((canvas.level - 0.612) * canvas.stature, 0.005, 0.4)


_DETAILS: dict[str, Callable[[Canvas, Look, float], None]] = {
    "t-shirt": _tee,
    "shirt": _shirt,
    "blouse": _blouse,
    "sweater": _sweater,
    "hoodie": _hoodie,
    "jacket": _zip,
    "down-jacket": _down,
    "suit-jacket": _suit,
    "coat": _coat,
    "dress": _dress,
}


def lower_paint(look: Look, kind: str, lip: int, fabric: Fabric) -> Paint:
    """Paint pelvis or skirt; the second coordinate is the level."""
    stature = look.body.stature

    def paint(angle: Floats, level: Floats) -> Coat:
        across, along = angle * np.float32(_GIRTH), level * np.float32(stature)
        color = weave(fabric, across, along)
        bump = crease(across, along, 0.28, fabric.phase)
        canvas = Canvas(across, np.abs(across), level, stature, color, np.full(len(angle), lip, np.uint8), bump)
        if "skirt" in kind:
            pleats = np.sin(across * (70 if look.variant < 0.5 else 130))
            bump[:, 0] += 0.45 * pleats * np.clip((0.57 - level) / 0.08, 0, 1)
        elif kind != "leggings":
            canvas.line(np.where(level < 0.6, canvas.apart, 1.0), 0.004, 0.35)
            pocket = np.abs(canvas.apart - 0.13 - (level - 0.56) * 0.9 * (1 if kind == "jeans" else -0.4))
            canvas.line(np.where(np.abs(level - 0.563) < 0.022, pocket, 1.0), 0.004, 0.35)
        if look.variant > 0.3 and kind in ("trousers", "jeans"):
            canvas.color[np.abs(level - 0.606) < 0.009] = _DARK * 1.2
        return Coat(canvas.color, canvas.lip, canvas.bump)

    return paint
