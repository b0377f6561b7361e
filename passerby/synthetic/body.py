"""The body: measures, a pose for each moment of a gait, and where the joints are then."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from passerby.synthetic.mesh import smooth_path, unit

Points = NDArray[np.float64]
LEFT, RIGHT = 0, 1
"""The person's own sides; x is positive on the left."""
HIP, SHOULDER = 0.515, 0.770
"""Heights of the joints as shares of the stature. The trunk is described in such shares ("levels") throughout."""
THIGH, SHIN, ANKLE = 0.245, 0.231, 0.039
UPPER_ARM, FOREARM = 0.165, 0.145


@dataclass(frozen=True, slots=True)
class Body:
    """Measures of a person; lengths in metres."""

    stature: float
    head: float
    """Chin to crown."""
    shoulder: float
    """Middle to shoulder joint."""
    chest: float
    """Half widths of the trunk."""
    waist: float
    hip: float
    depth: float
    """Half depth of the chest."""
    belly: float
    """How far the belly stands out beyond the chest's depth."""
    bust: float
    limb: float
    """Thickness of arms and legs, 1 is average."""
    stoop: float
    """How far the neck is carried forward."""


@dataclass(frozen=True, slots=True)
class Pose:
    """One moment of an action; angles in radians."""

    action: str
    phase: float
    """Of the gait, 0…2π."""
    head_yaw: float
    head_pitch: float
    weight_shift: float
    """Standing only: which leg carries the weight, -1…1."""
    arms: tuple[str, str] = ("swing", "swing")
    """What each arm does: swing, hang (with a load), talk, look (at a phone), hold (an umbrella)."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """How a pose bends the upright trunk."""

    body: Body
    lift: float
    """Height of level 0, metres: below the ground while the knees bend."""
    lean: float
    """Metres forward for each metre above the hips."""
    twist: float
    """Of the shoulders against the hips, radians."""

    def level(self, share: ArrayLike) -> Points:
        """Turn levels into heights in metres."""
        return np.asarray(share, np.float64) * self.body.stature + self.lift

    def warp(self, points: ArrayLike) -> Points:
        """Lean, twist and stoop points (…, 3) of the upright trunk as the pose has it."""
        upright = np.asarray(points, np.float64)
        above = np.maximum(upright[..., 1] - self.level(HIP), 0)
        share = np.minimum(above / ((SHOULDER - HIP) * self.body.stature), 1.35)
        angle = self.twist * (2 * np.minimum(share, 1) - 0.6)
        sine, cosine = np.sin(angle), np.cos(angle)
        x, y, z = upright[..., 0], upright[..., 1], upright[..., 2]
        forward = self.lean * above + self.body.stoop * share**2
        return np.stack([x * cosine + z * sine, y - 0.5 * self.lean * forward, z * cosine - x * sine + forward], -1)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints in space, (side, 3) each."""

    trunk: Trunk
    hips: Points
    knees: Points
    ankles: Points
    foot_pitch: tuple[float, float]
    shoulders: Points
    elbows: Points
    wrists: Points
    arms: Points
    """(side, 25, 3), from inside the shoulder to the wrist, corners rounded."""
    legs: Points
    """(side, 25, 3), from the hip to the ankle."""
    head_turn: Points
    """(3, 3), rotates head coordinates."""


def build_skeleton(body: Body, pose: Pose) -> Skeleton:
    """Put the joints of a body where a pose has them, its lower foot on the ground."""
    sides = [_leg(body, pose, side) for side in (LEFT, RIGHT)]
    hips, knees, ankles = ([leg[joint] for leg, _ in sides] for joint in range(3))
    pitches = [pitch for _, pitch in sides]
    lean = {"standing": 0.0, "walking": 0.04, "running": 0.17}[pose.action]
    foot = 0.11 * body.stature
    drop = min(
        float(ankle[1]) - ANKLE * body.stature * math.cos(pitch) - max(0.0, -math.sin(pitch)) * foot
        for ankle, pitch in zip(ankles, pitches, strict=True)
    )
    joints = np.array([hips, knees, ankles]) - np.array([0.0, drop, 0.0])
    twist = {"standing": 0.02, "walking": 0.13, "running": 0.22}[pose.action] * -math.sin(pose.phase)
    trunk = Trunk(body, -drop - HIP * body.stature, lean, twist)
    arms = [_arm(trunk, pose, side) for side in (LEFT, RIGHT)]
    shoulders, elbows, wrists, paths = (np.array([arm[item] for arm in arms]) for item in range(4))
    return Skeleton(
        trunk=trunk,
        hips=joints[0],
        knees=joints[1],
        ankles=joints[2],
        foot_pitch=(pitches[LEFT], pitches[RIGHT]),
        shoulders=shoulders,
        elbows=elbows,
        wrists=wrists,
        arms=paths,
        legs=np.array([smooth_path(joints[:, side], 25, 0.1) for side in (LEFT, RIGHT)]),
        head_turn=_turn(pose.head_yaw, pose.head_pitch + 0.3 * lean + 0.8 * body.stoop),
    )


def _nod(angle: float) -> Points:
    sine, cosine = math.sin(angle), math.cos(angle)
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def _turn(yaw: float, pitch: float) -> Points:
    sine, cosine = math.sin(yaw), math.cos(yaw)
    turned: Points = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]]) @ _nod(pitch)
    return turned


def _leg(body: Body, pose: Pose, side: int) -> tuple[list[Points], float]:
    """Give hip, knee and ankle, the hips at height 0, and the pitch of the foot."""
    gait = {"standing": 0.05, "walking": 0.38, "running": 0.54}[pose.action]
    bend = {"standing": 0.03, "walking": 0.85, "running": 1.65}[pose.action]
    sign, phase = (1.0, pose.phase) if side == LEFT else (-1.0, pose.phase + math.pi)
    swing = gait * math.sin(phase) + (0.06 if pose.action == "running" else 0.0)
    flex = 0.05 + bend * max(0.0, math.cos(phase + 0.35)) ** 1.5
    relaxed = max(0.0, sign * pose.weight_shift)
    spread = -0.01 * sign
    if pose.action == "standing":
        swing, flex, spread = swing + 0.12 * relaxed, 0.03 + 0.2 * relaxed, sign * (0.03 + 0.05 * relaxed)
    lower = swing - flex
    hip = np.array([sign * 0.052 * body.stature * (body.hip / 0.17) ** 0.5, 0.0, 0.0])
    knee = hip + THIGH * body.stature * unit([math.sin(spread), -math.cos(swing), math.sin(swing)])
    ankle = knee + SHIN * body.stature * unit([math.sin(spread), -math.cos(lower), math.sin(lower)])
    return [hip, knee, ankle], _foot_pitch(pose.action, phase, lower, relaxed)


def _foot_pitch(action: str, phase: float, shin: float, relaxed: float) -> float:
    """Toes up at the heel strike, heel up at push-off, along the shin in the air."""
    if action == "standing":
        return -0.1 * relaxed
    sine, lifted = math.sin(phase), max(0.0, math.cos(phase + 0.35))
    strength = 1.0 if action == "walking" else 1.4
    grounded = 0.3 * sine**3 if sine > 0 else -0.55 * strength * sine * sine
    return grounded * (1 - lifted) + lifted * (0.6 * shin)


def _arm(trunk: Trunk, pose: Pose, side: int) -> list[Points]:
    """Give shoulder, elbow, wrist and path of one arm."""
    body, sign, task = trunk.body, 1.0 if side == LEFT else -1.0, pose.arms[side]
    inside, shoulder = trunk.warp(
        [
            [sign * body.shoulder * share, float(trunk.level(level)), -0.01]
            for share, level in ((0.45, 0.789), (1.0, SHOULDER))
        ]
    )
    upper, fore = UPPER_ARM * body.stature, FOREARM * body.stature
    if task in _TARGETS:
        across, up, ahead = _TARGETS[task]
        target = trunk.warp([sign * across, float(trunk.level(up)), ahead])
        elbow = _two_bones(shoulder, target, upper, fore, np.array([sign * 0.5, -1.0, -0.25]))
        wrist = elbow + fore * unit(target - elbow)
        return [shoulder, elbow, wrist, smooth_path([inside, shoulder, elbow, wrist], 25, 0.11)]
    reach = {"standing": 0.06, "walking": 0.42, "running": 0.75}[pose.action] * (0.3 if task == "hang" else 1.0)
    phase = pose.phase + (math.pi if side == LEFT else 0.0)
    swing = reach * math.sin(phase) + (0.02 if pose.action == "standing" else 0.0)
    flex = {"standing": 0.16, "walking": 0.28 + 0.5 * max(0.0, swing), "running": 1.55}[pose.action]
    flex = 0.08 if task == "hang" else flex
    out = 0.13 + (0.05 if task == "hang" else 0.0) + 0.3 * max(0.0, body.waist + body.belly - 0.17)
    aside = sign * math.sin(out)
    elbow = shoulder + upper * unit([aside, -math.cos(swing), math.sin(swing)])
    inward = -0.35 * flex if pose.action == "running" else -0.1
    wrist = elbow + fore * unit([aside * 0.3 + sign * inward, -math.cos(swing + flex), math.sin(swing + flex)])
    return [shoulder, elbow, wrist, smooth_path([inside, shoulder, elbow, wrist], 25, 0.11)]


# Where a wrist goes in the trunk's frame: metres aside, level, metres ahead.
_TARGETS = {
    "talk": (0.125, 0.868, 0.045),
    "look": (0.045, 0.735, 0.30),
    "hold": (0.15, 0.735, 0.26),
}


def _two_bones(start: Points, target: Points, upper: float, fore: float, pole: Points) -> Points:
    """Find the middle joint of a limb that reaches from start to target, bent towards the pole."""
    way = target - start
    distance = min(max(float(np.linalg.norm(way)), abs(upper - fore) + 1e-3), (upper + fore) * 0.999)
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    axis = unit(way)
    side = unit(pole - (pole @ axis) * axis)
    joint: Points = start + along * axis + math.sqrt(max(upper**2 - along**2, 0.0)) * side
    return joint
