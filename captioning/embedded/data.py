"""The pictures the embedded CLIP learns from: many synthetic people, few views of each, rendered once and kept."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from passerby.engine import run_units
from passerby.runtime import atomic_file, write_atomically
from passerby.synthetic import RENDERER_VERSION, draw_person, draw_views, render

HEIGHT_WIDTH = (128, 64)
"""Pixels, those of `passerby.nets.tower`; said again, because whoever renders need not load torch."""

_IDENTITIES_A_UNIT = 10


@dataclass(frozen=True)
class Sight:
    """What one picture shows."""

    identity: int
    labels: Mapping[str, str]
    """Attribute and word; `action` is the picture's, the others the person's."""
    visible: frozenset[str]
    """Names of the attributes that can be told from this picture."""


@dataclass(frozen=True)
class Album:
    """Pictures and what they show."""

    images: NDArray[np.uint8]
    """(pictures, 128, 64, 3), RGB: rendered at twice the size and shrunk, as generation shrinks what `synthetic` made."""
    sights: tuple[Sight, ...]


@dataclass(frozen=True)
class AlbumJob:
    """The pictures of `identities` balanced people, cut into units; the same for any number of workers."""

    identities: int
    images_per_identity: int
    seed: int
    renderer: int = RENDERER_VERSION

    @property
    def units(self) -> int:
        """Count the units."""
        return -(-self.identities // _IDENTITIES_A_UNIT)

    def run_unit(self, index: int) -> Album:
        """Render the people of unit `index`."""
        height, width = HEIGHT_WIDTH
        first = index * _IDENTITIES_A_UNIT
        images, sights = [], []
        for identity in range(first, min(first + _IDENTITIES_A_UNIT, self.identities)):
            person = draw_person(self.seed, identity, is_balanced=True)
            for view in draw_views(self.seed, identity, self.images_per_identity):
                rendering = render(person, view, seed=self.seed, height=2 * height, width=2 * width)
                images.append(
                    np.asarray(Image.fromarray(rendering.image).resize((width, height), Image.Resampling.BICUBIC))
                )
                sights.append(Sight(identity, {**person.attributes, "action": rendering.action}, rendering.visible))
        return Album(np.stack(images), tuple(sights))


def load_album(
    job: AlbumJob,
    folder: Path | None = None,
    *,
    workers: int = 1,
    on_progress: Callable[[int], None] = lambda pictures: None,
) -> Album:
    """Render an album, or read it from `folder` where it was rendered before.

    Args:
        job: The pictures wanted.
        folder: Where to keep them; with none they are rendered anew each time.
        workers: Processes.
        on_progress: Called with the pictures rendered so far.

    Raises:
        ValueError: `folder` holds other pictures.
    """
    index = folder / "sights.json" if folder else None
    if index and index.is_file():
        return _read_album(job, index)
    parts = []
    for part in run_units(job, range(job.units), workers=workers):
        parts.append(part)
        on_progress(sum(len(part.sights) for part in parts))
    album = Album(np.concatenate([part.images for part in parts]), sum((part.sights for part in parts), ()))
    if index:
        _write_album(album, job, index)
    return album


def _read_album(job: AlbumJob, index: Path) -> Album:
    content = json.loads(index.read_bytes())
    if content["job"] != asdict(job):
        raise ValueError(
            f"{index.parent} holds the pictures of {content['job']}, wanted are {asdict(job)}; use another folder"
        )
    sights = tuple(Sight(row["identity"], row["labels"], frozenset(row["visible"])) for row in content["sights"])
    return Album(np.load(index.with_name("images.npy")), sights)


def _write_album(album: Album, job: AlbumJob, index: Path) -> None:
    index.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(index.with_name("images.npy")) as file:
        np.save(file, album.images)
    rows = [asdict(sight) | {"visible": sorted(sight.visible)} for sight in album.sights]
    write_atomically(index, json.dumps({"job": asdict(job), "sights": rows}).encode())
