"""How a person looks beyond the attributes: build, skin, hair, shades and trimmings. Drawn once an identity, never named."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from passerby.runtime import draw
from passerby.synthetic.body import Body
from passerby.synthetic.mesh import Floats
from passerby.synthetic.people import Person

Rgb = tuple[int, int, int]

SHADES: Mapping[str, Sequence[Rgb]] = {
    "black": ((27, 27, 30), (33, 31, 34), (24, 27, 33)),
    "white": ((234, 232, 227), (226, 227, 230), (238, 234, 224)),
    "red": ((176, 34, 40), (156, 27, 36), (192, 50, 46)),
    "purple": ((104, 56, 138), (122, 74, 152), (92, 48, 122)),
    "gray": ((122, 124, 128), (138, 138, 139), (106, 109, 114)),
    "yellow": ((226, 186, 48), (232, 200, 84), (216, 174, 38)),
    "blue": ((40, 80, 160), (62, 108, 178), (34, 60, 130)),
    "green": ((42, 114, 66), (66, 124, 72), (32, 94, 58)),
    "brown": ((112, 70, 42), (128, 86, 54), (94, 58, 36)),
}
"""sRGB of the colour words, muted as real cloth is, yet no shade near another word's."""

_SKINS = (
    (241, 206, 180),
    (229, 186, 154),
    (214, 166, 130),
    (190, 138, 102),
    (150, 102, 72),
    (112, 74, 52),
    (84, 56, 42),
)
_HAIRS = ((30, 26, 26), (44, 32, 26), (66, 44, 30), (96, 64, 38), (142, 102, 58), (186, 150, 96), (118, 52, 32))
_GRAYS = ((188, 186, 184), (160, 158, 158), (214, 212, 208))
_NEUTRALS = ("white", "gray", "black")
_DARK_SHOES = ((28, 27, 29), (44, 36, 32), (36, 38, 46), (58, 40, 28))
_LIGHT_SHOES = ((232, 230, 226), (214, 206, 192), (206, 208, 212), (222, 196, 160))
_BAGS = (
    (150, 44, 40),
    (40, 72, 128),
    (30, 30, 34),
    (140, 96, 52),
    (202, 160, 60),
    (44, 100, 84),
    (112, 62, 124),
    (196, 190, 180),
)
_GLOVES = ((184, 40, 40), (32, 32, 36), (226, 182, 52), (44, 92, 150), (226, 224, 218))


@dataclass(frozen=True, slots=True)
class Fabric:
    """A cloth: its colour, and the pattern in a second one."""

    base: Floats
    """Float (3,), linear."""
    second: Floats
    pattern: str
    period: float
    """Of stripes, checks and motifs, metres."""
    phase: float
    """Where the pattern and the folds begin, 0…1."""


@dataclass(frozen=True, slots=True)
class Look:
    """All that `people` does not name. Colours are linear, Float (3,)."""

    body: Body
    age: str
    is_female: bool
    skin: Floats
    hair: Floats
    hair_style: str
    """Short: crop, parted, tousled, bob; long: straight, wavy, ponytail."""
    beard: str
    """none, stubble or full."""
    upper: Fabric
    lower: Fabric
    inner: Floats
    """Of the shirt under an open jacket."""
    trim: Floats
    """Of tie, scarf, emblem, belt."""
    shoe: Floats
    sole: Floats
    socks: Floats
    bag: Floats
    hat: Floats
    gloves: Floats
    umbrella: tuple[Floats, Floats]
    side: int
    """The hand that prefers to hold things."""
    variant: float
    """Free choice among equal details, 0…1."""


def build_look(person: Person, seed: int) -> Look:
    """Draw the look of a person; it depends on (seed, identity) and the attributes alone."""
    source = random.Random(draw(seed, str(person.identity), purpose="look"))  # noqa: S311  (looks, not secrets)
    words = person.attributes
    age = words["age"] or "adult"
    is_female = words["gender"] == "female"
    body = _draw_body(source, is_female=is_female, age=age)
    skin = source.choice(_SKINS)
    dark_skin = sum(skin) < 360
    hairs = _GRAYS if age == "older" else _HAIRS[:2] if dark_skin else _HAIRS
    styles = ("straight", "wavy", "ponytail") if words["hair"] == "long" else ("bob",) if is_female else ()
    upper = _fabric(source, words["upper_color"], words["upper_pattern"])
    is_dress = words["dress"] == "yes"
    lower = upper if is_dress else _fabric(source, words["lower_color"], words["lower_pattern"])
    dark = words["shoes"] == "dark"
    accents = source.sample(_BAGS, 5)
    return Look(
        body=body,
        age=age,
        is_female=is_female,
        skin=linear(_jitter(source, skin, 6)),
        hair=linear(_jitter(source, source.choice(hairs), 8)),
        hair_style=source.choice(styles or ("crop", "parted", "tousled")),
        beard="none" if is_female or age == "teenager" else source.choice(("none", "none", "stubble", "full")),
        upper=upper,
        lower=lower,
        inner=_inner(source, words["upper_color"]),
        trim=linear(accents[0]),
        shoe=linear(_jitter(source, source.choice(_DARK_SHOES if dark else _LIGHT_SHOES), 5)),
        sole=linear(source.choice(((36, 34, 34), (60, 54, 50)) if dark else ((240, 240, 238), (176, 150, 112)))),
        socks=linear(source.choice(((230, 230, 228), (40, 40, 44), (120, 122, 126)))),
        bag=linear(accents[1]),
        hat=linear(accents[2]),
        gloves=linear(_most_unlike(upper.base, source.sample(_GLOVES, 3))),
        umbrella=(linear(accents[3]), linear(accents[4])),
        side=source.randrange(2),
        variant=source.random(),
    )


def linear(color: ArrayLike) -> Floats:
    """Turn sRGB bytes into linear reflectance, with the gamma of 2 that `render` undoes."""
    reflectance: Floats = np.square(np.asarray(color, np.float32) / 255)
    return reflectance


def _draw_body(source: random.Random, *, is_female: bool, age: str) -> Body:
    stature = source.gauss(1.64, 0.05) if is_female else source.gauss(1.77, 0.06)
    weight = min(max(source.gauss(0.0, 0.8) + (0.5 if age == "older" else 0.0), -1.4), 2.0)
    if age == "teenager":
        stature, weight = stature - 0.2, min(weight, 0.6) - 0.3
    wide = stature / 1.75 * (1 + 0.05 * weight)
    belly = max(0.0, 0.016 * weight + (0.02 if age == "older" else 0.0))
    # Children's heads are large for their height: the one cue of age that a crop scaled to full height keeps.
    head = {"teenager": 0.150, "adult": 0.131, "older": 0.132}[age] * stature
    stoop = 0.065 if age == "older" else 0.012
    if is_female:
        waist = 0.124 * wide + belly
        return Body(
            *(stature, head, 0.160 * wide, 0.146 * wide, waist, 0.170 * wide, 0.094 * wide, belly),
            bust=0.012 if age == "teenager" else 0.028,
            limb=0.88 * (1 + 0.06 * weight),
            stoop=stoop,
        )
    shoulder = (0.168 if age == "teenager" else 0.186) * wide
    return Body(
        *(stature, head, shoulder, 0.166 * wide, 0.145 * wide + belly, 0.163 * wide, 0.106 * wide, belly),
        bust=0.0,
        limb=(0.9 if age == "teenager" else 1.0) * (1 + 0.06 * weight),
        stoop=stoop,
    )


def _fabric(source: random.Random, color: str, pattern: str) -> Fabric:
    """Mix a fabric whose second colour is a neutral that stands out from the first, or a deep or pale shade of it."""
    base = _jitter(source, source.choice(SHADES[color]), 5)
    neutral = source.choice([name for name in _NEUTRALS if _contrast(base, SHADES[name][0]) > 75])
    second = _jitter(source, source.choice(SHADES[neutral]), 6)
    period = {"striped": 0.062, "plaid": 0.11, "printed": 0.085}.get(pattern, 0.1) * source.uniform(0.8, 1.25)
    return Fabric(linear(base), linear(second), pattern, period, source.random())


def _inner(source: random.Random, color: str) -> Floats:
    names = [name for name in ("white", "gray", "black", "blue") if _contrast(SHADES[color][0], SHADES[name][0]) > 60]
    return linear(_jitter(source, SHADES[source.choice(names)][0], 6))


def _most_unlike(color: Floats, choices: Sequence[Rgb]) -> Rgb:
    return max(choices, key=lambda choice: float(np.abs(np.sqrt(color) - np.sqrt(linear(choice))).sum()))


def _contrast(a: Sequence[float], b: Sequence[float]) -> float:
    return abs(sum(a) - sum(b)) / 3


def _jitter(source: random.Random, color: Sequence[float], reach: float) -> tuple[float, ...]:
    shift = source.uniform(-reach, reach)
    return tuple(min(250.0, max(16.0, value + shift + source.uniform(-2, 2))) for value in color)
