"""Things carried: bags, phones, umbrellas."""

import numpy as np

from passerby.synthetic.anatomy import in_head
from passerby.synthetic.bags import build_bag
from passerby.synthetic.body import LEFT, RIGHT, Pose, Skeleton
from passerby.synthetic.look import Look, linear
from passerby.synthetic.mesh import Coat, Floats, Part, Surface, angles, tube, unit
from passerby.synthetic.paint import edge, flat
from passerby.synthetic.people import Person
from passerby.synthetic.tailoring import CUTS

_BLACK = linear((22, 22, 25))
_BACKGROUND = 0
"""LIP has no class for what is carried."""


def load(look: Look, person: Person, pose: Pose, skeleton: Skeleton) -> list[Part]:
    """Build all that a person carries."""
    words = person.attributes
    parts: list[Part] = []
    if words["bag_kind"] != "none":
        ease = CUTS[words["upper_garment"]].ease
        parts += build_bag(look, words["bag_kind"], skeleton, ease=ease, side=_hand_that(pose, "hang"))
    if words["cellphone"] == "yes":
        side = _hand_that(pose, "talk") if "talk" in pose.arms else _hand_that(pose, "look")
        parts += _phone(look, skeleton, side, is_at_ear="talk" in pose.arms)
    if words["umbrella"] == "yes":
        parts += _umbrella(look, skeleton, _hand_that(pose, "hold"))
    return parts


def _hand_that(pose: Pose, task: str) -> int:
    return LEFT if pose.arms[LEFT] == task else RIGHT


def _phone(look: Look, skeleton: Skeleton, side: int, *, is_at_ear: bool) -> list[Part]:
    def glass(angle: Floats, along: Floats) -> Coat:
        screen = (np.abs(angle) < 0.9) & (along > 0.012) & (along < 0.145)
        return Coat(np.where(screen[:, None], linear((170, 205, 235)), _BLACK), _BACKGROUND)

    wrist, sign = skeleton.wrists[side], 1.0 if side == LEFT else -1.0
    if is_at_ear:
        ear = in_head(skeleton, [sign * 0.47, 0.46, 0.04]).astype(np.float64)
        chin = in_head(skeleton, [sign * 0.40, 0.08, 0.26]).astype(np.float64)
        line, hint = np.linspace(chin, ear + 0.25 * (ear - chin), 4), np.array([-sign, 0.0, 0.0])
    else:
        hold = wrist + 0.075 * unit(wrist - skeleton.elbows[side])
        line = hold + np.linspace(-0.03, 0.13, 4)[:, None] * unit([0, 1.0, 0.45])
        hint = np.array([0, 0.45, -1.0])
    body = tube(
        np.concatenate([line[:1], line, line[-1:]]),
        np.r_[0.005, np.full(4, 0.042), 0.005],
        np.r_[0.002, np.full(4, 0.011), 0.002],
        hint=hint,
        columns=12,
        squareness=7,
    )
    return [Part(body, np.array([0, 0, 0.053, 0.106, 0.16, 0.16], np.float32), Surface("cellphone", glass, 0.5))]


def _umbrella(look: Look, skeleton: Skeleton, side: int) -> list[Part]:
    first, second = look.umbrella

    def canopy(angle: Floats, along: Floats) -> Coat:
        panel = np.floor((angle + np.pi) * 8 / (2 * np.pi)).astype(np.int32) % 2 == 0
        color = np.where((panel & (look.variant < 0.5))[:, None], second, first)
        rib = edge(np.abs(np.mod(angle * 8 / (2 * np.pi) + 0.5, 1) - 0.5), 0.03, 0.03)
        inside = along > 1.0
        return Coat(color * ((1 - 0.4 * rib) * np.where(inside, 0.5, 1.0))[:, None], _BACKGROUND)

    wrist = skeleton.wrists[side]
    grip = wrist + 0.075 * unit(wrist - skeleton.elbows[side])
    top = np.array([grip[0] * 0.55, float(skeleton.trunk.level(1.17)), grip[2] * 0.35])
    radius = np.r_[0.01, 0.12, 0.25, 0.37, 0.46, 0.52, 0.52, 0.36, 0.18, 0.02]
    drop = np.r_[0.0, 0.012, 0.05, 0.105, 0.165, 0.225, 0.226, 0.13, 0.075, 0.045]
    down = np.r_[np.linspace(0, 1, 6), 1.01, 1.3, 1.6, 2.0]  # beyond 1 is the underside
    axis = unit(top - grip)
    theta = angles(32)
    scallop = (1 - 0.10 * np.abs(np.sin(theta * 4))[None, :] * (radius / 0.52)[:, None] ** 2)[..., None]
    line = top - drop[:, None] * axis
    points = tube(line, radius, radius, columns=32)
    points = (line[:, None] + (points - line[:, None]) * scallop).astype(np.float32)
    steel = Surface("umbrella", flat(linear((132, 134, 138)), _BACKGROUND), 0.3)
    wood = Surface("umbrella", flat(linear((96, 62, 36)), _BACKGROUND), 0.1)
    shaft = tube(np.array([grip - 0.05 * axis, top + 0.05 * axis]), 0.009, 0.009, hint=(0, 0, 1), columns=6)
    girth = np.array([0.006, 0.018, 0.018, 0.008])
    knob = tube(grip + np.array([-0.10, -0.09, 0.03, 0.05])[:, None] * axis, girth, girth, columns=8)
    return [
        Part(points, down.astype(np.float32), Surface("umbrella", canopy, 0.1)),
        Part(shaft, np.zeros(2, np.float32), steel),
        Part(knob, np.zeros(4, np.float32), wood),
    ]
