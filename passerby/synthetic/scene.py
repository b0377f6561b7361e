"""What surrounds the figure: the camera on its circle, the light of each hour, the air of each weather."""

import math
import random
from dataclasses import dataclass

import numpy as np

from passerby.runtime import draw
from passerby.synthetic.look import linear
from passerby.synthetic.mesh import Floats, Mesh, unit

CAMERAS, WEATHERS, ILLUMINATIONS, SCENES = 36, 7, 7, 9
_MOST_SQUEEZE = 0.64
"""Least width of a picture element over its height; detectors' boxes of striding people reach it."""
SNOW = linear((236, 240, 246))


@dataclass(frozen=True)
class View:
    """FineGPR's codes of an image, from 1.

    Camera c looks from (90 + 10·(c − 1)) mod 360 degrees: 90 faces the camera, 180 faces image-right, 270 is the back.
    Weathers: sunny, cloudy, overcast, foggy, neutral, blizzard, snowlight. Illuminations: midnight, dawn, forenoon, noon,
    afternoon, dusk, night. Scenes 3, 5 and 8 are wild, the others urban.

    Raises:
        ValueError: a code is out of range.
    """

    camera: int
    weather: int
    illumination: int
    scene: int

    def __post_init__(self) -> None:
        for name, count in (
            ("camera", CAMERAS),
            ("weather", WEATHERS),
            ("illumination", ILLUMINATIONS),
            ("scene", SCENES),
        ):
            if not 1 <= getattr(self, name) <= count:
                raise ValueError(f"{name} code {getattr(self, name)} is outside 1…{count}")


@dataclass(frozen=True, slots=True)
class Light:
    """Light, sky and air; colours linear, Float (3,)."""

    sun_direction: Floats
    """Towards the sun, the moon or the street lamp, unit; in the person's frame."""
    sun: Floats
    sky: Floats
    """Ambient light from above; the ground sends back a share of it."""
    zenith: Floats
    horizon: Floats
    glow: float
    """How brightly windows are lit, 0…1."""
    clouds: float
    fog: float
    """Loss per metre."""
    saturation: float
    snow: float
    """Share of the ground covered, 0…1."""
    flakes: int
    """Falling flakes in a picture."""
    streak: float
    """How far a flake moves while the shutter is open, in its radii."""


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole that looks level at the figure's axis; its film is shifted to frame the figure."""

    right: Floats
    """Unit, image-right in the person's frame."""
    towards: Floats
    """Unit, from the person to the camera."""
    heading: float
    """Where the person faces in the world, radians."""
    distance: float
    eye: float
    """Height above the ground, metres."""
    focal: float
    """Pixels, along columns."""
    squeeze: float
    """Width of a picture element over its height: a wide crop is pressed into the frame."""
    column: float
    """Where the axis meets the picture, pixels."""
    row: float

    @property
    def azimuth(self) -> float:
        """Where the camera looks in the world, radians."""
        return math.atan2(-float(self.towards[0]), -float(self.towards[2])) + self.heading

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Project points (…, 3): screen positions (…, 2) as column and row, and distances (…,)."""
        depth = self.distance - points @ self.towards
        column = self.column + self.squeeze * self.focal * (points @ self.right) / depth
        row = self.row - self.focal * (points[..., 1] - self.eye) / depth
        return np.stack([column, row], -1), depth


# Sun height (degrees), its colour, the sky's light, zenith and horizon in sRGB, window glow.
_HOURS = (
    (50, (104, 112, 138), (126, 131, 150), (8, 10, 26), (24, 28, 50), 0.9),
    (11, (208, 172, 148), (172, 169, 180), (112, 134, 188), (246, 200, 176), 0.25),
    (40, (226, 220, 206), (176, 184, 196), (92, 148, 222), (206, 226, 242), 0.0),
    (68, (240, 236, 226), (182, 188, 196), (78, 140, 226), (196, 222, 244), 0.0),
    (30, (236, 212, 176), (178, 180, 182), (104, 152, 210), (232, 224, 206), 0.0),
    (10, (226, 162, 112), (162, 152, 158), (84, 78, 128), (250, 158, 98), 0.5),
    (58, (178, 158, 124), (126, 126, 138), (12, 13, 32), (46, 42, 56), 1.0),
)
# Share of the sun and of the sky's light, clouds, fog, saturation, snow on the ground, flakes, streak.
_AIR = (
    (1.12, 1.0, 0.08, 0.000, 1.06, 0.0, 0, 0.0),
    (0.60, 1.0, 0.55, 0.000, 1.0, 0.0, 0, 0.0),
    (0.10, 1.12, 1.0, 0.004, 0.86, 0.0, 0, 0.0),
    (0.08, 1.20, 1.0, 0.050, 0.78, 0.0, 0, 0.0),
    (0.38, 1.08, 0.3, 0.002, 0.80, 0.0, 0, 0.0),
    (0.06, 1.20, 1.0, 0.026, 0.82, 0.95, 300, 4.0),
    (0.45, 1.12, 0.7, 0.008, 0.90, 0.80, 90, 1.2),
)


def build_light(view: View, heading: float) -> Light:
    """Light a scene.

    Args:
        view: Its weather and illumination.
        heading: Where the person faces in the world, radians; the sun keeps its place in the world.
    """
    height, sun, sky, zenith, horizon, glow = _HOURS[view.illumination - 1]
    sun_share, sky_share, clouds, fog, saturation, snow, flakes, streak = _AIR[view.weather - 1]
    elevation, azimuth = math.radians(height), 0.7 + view.illumination * 0.9 - heading
    direction = (math.cos(elevation) * math.sin(azimuth), math.sin(elevation), math.cos(elevation) * math.cos(azimuth))
    ambient = linear(sky) * sky_share * (1 + 0.25 * snow)
    gray = linear(horizon).mean() * 0.4 + linear(zenith).mean() * 0.5
    overcast = np.full(3, gray, np.float32) * (1.25 if snow or fog > 0.01 else 1.0)
    veil = clouds * 0.9
    return Light(
        sun_direction=np.array(direction, np.float32),
        sun=linear(sun) * sun_share,
        sky=ambient * 1.4,
        zenith=linear(zenith) * (1 - veil) + overcast * veil,
        horizon=linear(horizon) * (1 - 0.8 * veil) + overcast * 1.3 * 0.8 * veil,
        glow=glow,
        clouds=clouds,
        fog=fog,
        saturation=saturation,
        snow=snow,
        flakes=flakes,
        streak=streak,
    )


def place_camera(view: View, mesh: Mesh, source: random.Random, heading: float, *, height: int, width: int) -> Camera:
    """Put the camera on its circle and frame the figure as a detector would.

    It fills 86–94 % of the height, a little off centre; a figure too wide for that is squeezed as a resized crop would be, and
    beyond that drawn smaller.
    """
    angle = math.radians((90 + 10 * (view.camera - 1)) % 360)
    # The frame that turns a facing person (angle 90) by the view's angle.
    right = np.array([math.sin(angle), 0, -math.cos(angle)], np.float32)
    towards = np.array([math.cos(angle), 0, math.sin(angle)], np.float32)
    distance, eye = source.uniform(4.6, 7.5), source.uniform(1.0, 2.3)
    share, aside, up = source.uniform(0.86, 0.945), source.uniform(-0.03, 0.03), source.uniform(-0.012, 0.012)
    plain = Camera(right, towards, heading, distance, eye, 1.0, 1.0, 0.0, 0.0)
    screen, _ = plain.project(mesh.vertices)
    low, high = screen.min(0), screen.max(0)
    focal, widest = share * height / (high[1] - low[1]), 0.93 * width / (high[0] - low[0])
    focal = min(focal, widest / _MOST_SQUEEZE)
    squeeze = min(1.0, widest / focal)
    middle = (low + high) / 2 * focal * np.array([squeeze, 1.0])
    return Camera(
        right,
        towards,
        heading,
        distance,
        eye,
        float(focal),
        float(squeeze),
        float(width * (0.5 + aside) - middle[0]),
        float(height * (0.5 + up) - middle[1]),
    )


def heading_before(view: View, azimuth: float) -> float:
    """Say where a person faces in the world, radians, whom a camera sees from a view's side while it looks along `azimuth`."""
    angle = math.radians((90 + 10 * (view.camera - 1)) % 360)
    return azimuth - math.atan2(-math.cos(angle), -math.sin(angle))


def scene_source(seed: int, identity: int, scene: int) -> random.Random:
    """Give the random source of what an identity's scene keeps: the person's heading in it."""
    return random.Random(draw(seed, f"{identity}/{scene}", purpose="scene"))  # noqa: S311  (looks, not secrets)


def shade(
    color: Floats, normals: Floats, to_camera: Floats, light: Light, *, gloss: Floats, openness: Floats
) -> Floats:
    """Light surfaces: a wrapped sun, sky from above, bounce from below, a highlight, a rim against the sky.

    Args:
        color: Float (points, 3), reflectance.
        normals: Float (points, 3), unit.
        to_camera: Float (3,), unit.
        light: The light.
        gloss: Float (points,), 0…1.
        openness: Float (points,), how much of the sky each point sees, 0…1.
    """
    toward_sun = normals @ light.sun_direction
    sun = np.clip((toward_sun + 0.22) / 1.22, 0, 1) ** 1.3 * openness
    half = unit(light.sun_direction + to_camera).astype(np.float32)
    shine = gloss * np.clip(normals @ half, 0, 1) ** 24 * openness
    upness = 0.5 + 0.5 * normals[:, 1]
    ground = 0.55 + 0.35 * light.snow
    facing = np.clip(normals @ to_camera, 0, 1)
    ambient = (ground + (1 - ground) * upness) * (0.76 + 0.24 * facing) * (0.35 + 0.65 * openness)
    lit: Floats = color * (sun[:, None] * light.sun + ambient[:, None] * light.sky)
    return lit + shine[:, None] * (light.sun + 0.3 * light.sky)
