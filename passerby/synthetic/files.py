"""What all layouts of the synthetic pedestrians share: a folder that knows its settings, and pictures made once by any process."""

import csv
import io
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from passerby.config import ConfigError, describe_difference
from passerby.runtime import follow_parent, write_atomically
from passerby.synthetic.people import FINEGPR_NAMES, Person, draw_person
from passerby.synthetic.render import RENDERER_VERSION, render
from passerby.synthetic.scene import View

JPEG_QUALITY = 92
LIP_PALETTE = (
    *((0, 0, 0), (128, 0, 0), (255, 0, 0), (0, 85, 0), (170, 0, 51), (255, 85, 0), (0, 0, 85)),
    *((0, 119, 221), (85, 85, 0), (0, 85, 85), (85, 51, 0), (52, 86, 128), (0, 128, 0), (0, 0, 255)),
    *((51, 170, 221), (0, 255, 255), (85, 255, 170), (170, 255, 85), (255, 255, 0), (255, 170, 0)),
)
"""The colours in which LIP's 20 classes are usually shown."""
_SETTINGS_NAME = "synthetic.json"

Work = TypeVar("Work")


@dataclass(frozen=True)
class SyntheticReport:
    """What was written."""

    identities: int
    images: int
    rendered: int
    """Images made now; the others were there already."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides every byte of a set."""

    identities: int
    """How many people, numbered from 1."""
    images_per_identity: int
    seed: int
    """Seeds people, views and poses."""
    height: int
    """Pixels, and so is the width."""
    width: int
    is_balanced: bool = False
    """Draw attributes evenly; see `draw_person`."""
    renderer_version: int = RENDERER_VERSION

    def person(self, identity: int) -> Person:
        """Draw a person of the set."""
        return draw_person(self.seed, identity, is_balanced=self.is_balanced)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to be, and its parsing map."""

    image: str
    parsing: str
    """Paths in the folder of the set."""
    view: View
    azimuth: float | None = None
    """See `render`."""
    part: tuple[float, float, float, float] | None = None
    """Left, top, right and bottom of the part to keep, as shares of the picture; it is scaled up to the picture's size."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is known of a picture that has been written."""

    action: str
    visible: tuple[str, ...]
    is_new: bool


def check_settings(settings: Settings, *, most_images: int, fewest_images: int = 1, fewest_people: int = 1) -> None:
    """See that a set of this size can be made.

    Raises:
        ValueError: a number is out of range.
    """
    if settings.identities < fewest_people:
        raise ValueError(f"identities is {settings.identities}; at least {fewest_people} is needed")
    if not fewest_images <= settings.images_per_identity <= most_images:
        raise ValueError(
            f"images_per_identity is {settings.images_per_identity}; a person has {fewest_images}…{most_images} views"
        )
    if settings.height < 32 or settings.width < 16:
        raise ValueError(
            f"a picture of {settings.height} by {settings.width} is too small; at least 32 by 16 is needed"
        )


def claim(out: Path, settings: Settings, **others: str) -> None:
    """Make a folder ours: write the settings first, or see that they agree.

    Raises:
        ConfigError: `out` holds a set made with other settings, or files of something else.
    """
    path = out / _SETTINGS_NAME
    wanted = {**asdict(settings), **others}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != wanted:
            raise ConfigError(
                f"{out} was made with other settings ({describe_difference(found, wanted)}); give another folder"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} holds other files; give an empty or a new folder")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(wanted, indent=2) + "\n").encode())


def run_people(work: Callable[[int], Work], identities: int, workers: int) -> Iterator[tuple[int, Work]]:
    """Do the work of each person, from 1, and give the results in the order in which people are done."""
    people = range(1, identities + 1)
    if workers == 1:
        yield from ((identity, work(identity)) for identity in people)
        return
    # Spawned, because a forked child may inherit locks of a caller's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=follow_parent) as pool:
        tasks = {pool.submit(work, identity): identity for identity in people}
        try:
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def write_picture(out: Path, settings: Settings, person: Person, picture: Picture) -> Kept:
    """Render a picture and its parsing map, unless both are there."""
    image, parsing = out / picture.image, out / picture.parsing
    is_new = not (image.exists() and parsing.exists())
    if is_new:
        rendering = render(
            person,
            picture.view,
            seed=settings.seed,
            height=settings.height,
            width=settings.width,
            azimuth=picture.azimuth,
        )
        write_atomically(image, _jpeg(_part(rendering.image, picture.part, Image.Resampling.BICUBIC)))
        # last: it marks the image as done and keeps its labels
        labels = {"action": rendering.action, "visible": " ".join(sorted(rendering.visible))}
        write_atomically(parsing, _png(_part(rendering.parsing, picture.part, Image.Resampling.NEAREST), labels))
    with Image.open(parsing) as map_:
        kept = map_.info
    return Kept(kept["action"], tuple(kept["visible"].split()), is_new)


def attributes_csv(settings: Settings) -> bytes:
    """Make FineGPR's attribute table: a row a person."""
    rows = []
    for identity in range(1, settings.identities + 1):
        attributes = settings.person(identity).attributes
        rows.append([f"{identity:04d}", *(attributes[name] for name in FINEGPR_NAMES)])
    return encode_csv(["id", *FINEGPR_NAMES], rows)


def readme(settings: Settings, content: Sequence[str]) -> bytes:
    """Say what a set is, in Markdown: what it holds, a line each, after its size and seed."""
    kind = "evenly" if settings.is_balanced else "near the counts of FineGPR"
    lines = "".join(f"- {line}\n" for line in content)
    return f"""# Synthetic pedestrians

These pictures are **synthetic renders**, not photographs. They show drawn figures; nobody in them exists, and results on them
say nothing about real people or real cameras. They serve demonstrations, tests and method checks with known answers.

- {settings.identities:,} people, {settings.images_per_identity:,} images of each, {settings.width} by {settings.height} pixels,
  attributes drawn {kind}
- seed {settings.seed}, renderer version {settings.renderer_version}: the same settings give the same bytes
{lines}""".encode()


def encode_csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """Encode a table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def _part(
    pixels: NDArray[np.uint8], part: tuple[float, float, float, float] | None, resampling: Image.Resampling
) -> Image.Image:
    whole = Image.fromarray(pixels)
    if part is None:
        return whole
    width, height = whole.size
    left, top, right, bottom = part
    return whole.resize(whole.size, resampling, (left * width, top * height, right * width, bottom * height))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _png(picture: Image.Image, labels: Mapping[str, str]) -> bytes:
    """Encode the parsing map, with the labels of this one image as text beside it."""
    picture.putpalette([value for color in LIP_PALETTE for value in color])
    text = PngImagePlugin.PngInfo()
    for name, label in labels.items():
        text.add_text(name, label)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()
