"""From a person and a view to a picture, its parsing map, and what can be seen in it."""

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from passerby.runtime import draw
from passerby.synthetic.backdrop import fog_over, paint_backdrop, snow_fall
from passerby.synthetic.figure import build_figure, draw_pose
from passerby.synthetic.look import build_look
from passerby.synthetic.mesh import Bytes, Floats, Mesh
from passerby.synthetic.people import Person
from passerby.synthetic.raster import Hits, rasterize
from passerby.synthetic.scene import Camera, Light, View, build_light, heading_before, place_camera, scene_source, shade
from passerby.synthetic.visibility import visible_attributes

RENDERER_VERSION = 2
"""Goes up with every change that changes pictures."""
OVERSAMPLING = 2
"""Samples of the figure along each side of a pixel; `_resolve` and `_majority` know that it is two."""

_RELIEF = 0.30
"""How strongly the slope of a fold turns the normal."""


@dataclass(frozen=True)
class Rendering:
    """A picture of a person."""

    image: NDArray[np.uint8]
    """Uint8 (height, width, 3), sRGB."""
    parsing: NDArray[np.uint8]
    """Uint8 (height, width), LIP's classes 0…19; left and right are the person's. Bags and umbrellas are background."""
    visible: frozenset[str]
    """Names of the attributes that a viewer can tell from this image."""
    action: str
    """What the person does here; see `people.ACTIONS`."""


def render(
    person: Person, view: View, *, seed: int, height: int = 256, width: int = 128, azimuth: float | None = None
) -> Rendering:
    """Render a person; the picture depends on (seed, identity, view), the azimuth and the size alone.

    Args:
        person: Who.
        view: From where and when.
        seed: Seed of the data set.
        height: Pixels.
        width: Pixels.
        azimuth: Where the camera looks in the world, radians, as one that hangs on a wall does; by default the person
            has a place in the scene, and cameras stand around it.
    """
    look = build_look(person, seed)
    name = f"{person.identity}/{view.camera}/{view.weather}/{view.illumination}/{view.scene}"
    source = random.Random(draw(seed, name, purpose="image"))  # noqa: S311  (looks, not secrets)
    if azimuth is None:
        heading = scene_source(seed, person.identity, view.scene).uniform(-np.pi, np.pi)
    else:
        heading = heading_before(view, azimuth)
    pose = draw_pose(person, look, source)
    mesh = build_figure(person, look, pose)
    camera = place_camera(view, mesh, source, heading, height=height, width=width)
    light = build_light(view, heading)

    screen, depth = camera.project(mesh.vertices)
    rows, columns = height * OVERSAMPLING, width * OVERSAMPLING
    hits = rasterize(screen * OVERSAMPLING, depth, mesh.triangles, height=rows, width=columns)
    color, lip, owners = _paint_figure(mesh, hits, camera, light, _openness(hits, rows, columns))
    color = fog_over(color, hits.depth, light)
    backdrop = paint_backdrop(mesh, camera, light, view.scene, height=height, width=width)
    picture = _resolve(backdrop, hits, color)
    picture = snow_fall(picture, light, source)
    labels = np.zeros(rows * columns, np.uint8)
    labels[hits.samples] = lip
    parsing = _majority(labels.reshape(rows, columns))
    shares = _shares(mesh, owners, rows * columns)
    visible = visible_attributes(person, shares, is_facing=float(camera.towards[2]) > 0.2)
    return Rendering(_develop(picture, light, source), parsing, visible, pose.action)


def _paint_figure(
    mesh: Mesh, hits: Hits, camera: Camera, light: Light, openness: Floats
) -> tuple[Floats, Bytes, Bytes]:
    """Colour the samples that see the figure: linear colours (hits, 3), LIP classes and surfaces (hits,)."""
    corners = mesh.triangles[hits.triangles]
    weights = hits.weights[:, None]
    normals = (weights @ mesh.normals[corners])[:, 0]
    coordinates = (weights @ mesh.coordinates[corners])[:, 0]
    owners = mesh.owners[hits.triangles]
    color = np.empty((len(owners), 3), np.float32)
    lip = np.empty(len(owners), np.uint8)
    bump = np.zeros((len(owners), 2), np.float32)
    for index, surface in enumerate(mesh.surfaces):
        where = np.flatnonzero(owners == index)
        if len(where) == 0:
            continue
        coat = surface.paint(coordinates[where, 0], coordinates[where, 1])
        color[where], lip[where] = coat.color, coat.lip
        if coat.bump is not None:
            bump[where] = coat.bump
    normals[:, 0] += _RELIEF * bump[:, 0] * normals[:, 2]
    normals[:, 2] -= _RELIEF * bump[:, 0] * normals[:, 0]
    normals[:, 1] += _RELIEF * bump[:, 1]
    normals /= np.sqrt((normals * normals).sum(1, keepdims=True))
    gloss = np.array([surface.gloss for surface in mesh.surfaces], np.float32)[owners]
    return shade(color, normals, camera.towards, light, gloss=gloss, openness=openness), lip, owners


def _shares(mesh: Mesh, owners: Bytes, samples: int) -> dict[str, float]:
    """Measure how much of the picture each feature covers."""
    shares: dict[str, float] = {}
    for surface, count in zip(mesh.surfaces, np.bincount(owners, minlength=len(mesh.surfaces)).tolist(), strict=True):
        shares[surface.feature] = shares.get(surface.feature, 0.0) + count / samples
    return shares


def _openness(hits: Hits, rows: int, columns: int) -> Floats:
    """Darken what lies behind its surroundings (a chest under an arm, legs under a hem): Float (hits,), 0…1."""
    layers = np.zeros((2, rows * columns), np.float32)
    layers[0, hits.samples], layers[1, hits.samples] = hits.depth, 1.0
    # A sample in each direction of two is enough for what is blurred anyway.
    coarse = np.ascontiguousarray(layers.reshape(2, rows, columns)[:, ::2, ::2])
    row, column = hits.samples // columns // 2, hits.samples % columns // 2
    result = np.ones(len(hits.samples), np.float32)
    for radius, strength in ((rows // 220 + 1, 2.6), (rows // 64, 1.5)):
        total, count = _box_blur(coarse, radius)
        behind = hits.depth - (total / np.maximum(count, 1e-3))[row, column] - 0.012
        result -= np.clip(behind * strength, 0, 0.38)
    return np.clip(result, 0.25, 1)


def _box_blur(layers: Floats, radius: int) -> Floats:
    """Average layers (…, rows, columns) over a square of 2 · radius + 1; beyond the border counts as 0."""
    wide = 2 * radius + 1
    for _ in range(2):
        total = np.cumsum(np.pad(layers, ((0, 0), (radius + 1, radius), (0, 0))), axis=1)
        layers = np.ascontiguousarray(((total[:, wide:] - total[:, :-wide]) / wide).swapaxes(1, 2))
    return layers


def _resolve(backdrop: Floats, hits: Hits, color: Floats) -> Floats:
    """Average the samples of each pixel over the backdrop."""
    height, width = backdrop.shape[:2]
    columns = width * OVERSAMPLING
    pixel = hits.samples // columns // OVERSAMPLING * width + hits.samples % columns // OVERSAMPLING
    share = np.bincount(pixel, minlength=height * width)[:, None] / OVERSAMPLING**2
    total = np.stack([np.bincount(pixel, color[:, c], height * width) for c in range(3)], 1) / OVERSAMPLING**2
    flat = backdrop.reshape(-1, 3) * (1 - share) + total
    return flat.reshape(height, width, 3).astype(np.float32)


def _majority(labels: Bytes) -> Bytes:
    """Give each pixel the class that most of its four samples have."""
    height, width = labels.shape[0] // 2, labels.shape[1] // 2
    four = np.sort(labels.reshape(height, 2, width, 2).transpose(0, 2, 1, 3).reshape(height, width, 4), axis=-1)
    # A pair among sorted values is adjacent; the middle pair first, for it is part of any triple.
    return np.where((four[..., 1] == four[..., 2]) | (four[..., 0] == four[..., 1]), four[..., 1], four[..., 3])


def _develop(picture: Floats, light: Light, source: random.Random) -> NDArray[np.uint8]:
    """Expose the picture as a camera would: saturation, a soft shoulder, grain."""
    gray = picture.mean(-1, keepdims=True)
    picture = gray + light.saturation * (picture - gray)
    exposed = np.sqrt(np.maximum(picture, 0) * source.uniform(0.92, 1.08))
    exposed = np.where(exposed > 0.8, 0.8 + 0.2 * np.tanh((exposed - 0.8) / 0.2), exposed)
    grain = np.random.default_rng(source.randrange(2**63)).normal(0, 0.011, exposed.shape[:2])
    return np.clip(255 * (exposed + grain[..., None]) + 0.5, 0, 255).astype(np.uint8)
