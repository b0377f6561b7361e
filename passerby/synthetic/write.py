"""A data set of synthetic pedestrians in FineGPR's layout, written by any number of processes to the same bytes."""

import csv
import io
import json
import multiprocessing
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from PIL import Image, PngImagePlugin

from passerby.config import ConfigError, describe_difference
from passerby.runtime import draw, remove_stale_temporaries, write_atomically
from passerby.synthetic.people import FINEGPR_NAMES, WORDS, draw_person
from passerby.synthetic.render import RENDERER_VERSION, Rendering, render
from passerby.synthetic.scene import CAMERAS, ILLUMINATIONS, SCENES, WEATHERS, View

JPEG_QUALITY = 92
LIP_PALETTE = (
    *((0, 0, 0), (128, 0, 0), (255, 0, 0), (0, 85, 0), (170, 0, 51), (255, 85, 0), (0, 0, 85)),
    *((0, 119, 221), (85, 85, 0), (0, 85, 85), (85, 51, 0), (52, 86, 128), (0, 128, 0), (0, 0, 255)),
    *((51, 170, 221), (0, 255, 255), (85, 255, 170), (170, 255, 85), (255, 255, 0), (255, 170, 0)),
)
"""The colours in which LIP's 20 classes are usually shown."""
_SETTINGS_NAME = "synthetic.json"


@dataclass(frozen=True)
class SyntheticReport:
    """What `write_finegpr` did."""

    identities: int
    images: int
    rendered: int
    """Images made now; the others were there already."""


@dataclass(frozen=True, slots=True)
class _Settings:
    identities: int
    images_per_identity: int
    seed: int
    height: int
    width: int
    is_balanced: bool
    renderer_version: int = RENDERER_VERSION


@dataclass(frozen=True, slots=True)
class _Label:
    file: str
    identity: str
    action: str
    visible: str
    is_new: bool


def write_finegpr(
    out: Path,
    *,
    identities: int,
    images_per_identity: int,
    seed: int,
    workers: int = 1,
    height: int = 256,
    width: int = 128,
    is_balanced: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> SyntheticReport:
    """Write pedestrians as FineGPR does, with attributes, labels and parsing maps; what is there already stays.

    Args:
        out: Folder to fill: `images/ID/NAME.jpg`, `parsing/ID/NAME.png` (LIP's 20 classes), `attributes.csv` (a row a
            person), `labels.csv` (a row an image), `README.md`, `synthetic.json`.
        identities: How many people, numbered from 1.
        images_per_identity: Views of each, drawn without replacement from 36 cameras × 7 weathers × 7 illuminations.
        seed: Seeds people, views and poses.
        workers: Processes.
        height: Pixels.
        width: Pixels.
        is_balanced: Draw attributes evenly; see `draw_person`.
        on_progress: Told how many images are done.

    Raises:
        ConfigError: `out` holds a set made with other settings, or files of something else.
        ValueError: a number is out of range.
    """
    settings = _Settings(identities, images_per_identity, seed, height, width, is_balanced)
    _check(settings)
    _claim(out, settings)
    labels: dict[int, list[_Label]] = {}
    done = 0
    for identity, rows in _run(out, settings, workers):
        labels[identity] = rows
        done += len(rows)
        if on_progress:
            on_progress(done)
    rows = [row for identity in sorted(labels) for row in labels[identity]]
    write_atomically(out / "attributes.csv", _attributes_csv(settings))
    write_atomically(out / "labels.csv", _labels_csv(settings, rows))
    write_atomically(out / "README.md", _readme(settings).encode())
    return SyntheticReport(identities, len(rows), sum(row.is_new for row in rows))


def draw_views(seed: int, identity: int, count: int) -> list[View]:
    """Draw distinct views of a person in the scene that is theirs, spread evenly over the cameras and sorted by code."""
    source = random.Random(draw(seed, str(identity), purpose="views"))  # noqa: S311  (looks, not secrets)
    scene, start = source.randint(1, SCENES), source.randrange(CAMERAS)
    rounds, rest = divmod(count, CAMERAS)
    extra = {(start + place * CAMERAS // rest) % CAMERAS for place in range(rest)}
    conditions = list(product(range(1, WEATHERS + 1), range(1, ILLUMINATIONS + 1)))
    views = []
    for camera in range(CAMERAS):
        for weather, illumination in sorted(source.sample(conditions, rounds + (camera in extra))):
            views.append(View(camera + 1, weather, illumination, scene))
    return views


def _check(settings: _Settings) -> None:
    most = CAMERAS * WEATHERS * ILLUMINATIONS
    if settings.identities < 1:
        raise ValueError(f"identities is {settings.identities}; at least 1 is needed")
    if not 1 <= settings.images_per_identity <= most:
        raise ValueError(f"images_per_identity is {settings.images_per_identity}; a person has 1…{most} views")
    if settings.height < 32 or settings.width < 16:
        raise ValueError(
            f"a picture of {settings.height} by {settings.width} is too small; at least 32 by 16 is needed"
        )


def _claim(out: Path, settings: _Settings) -> None:
    """Make the folder ours: write the settings first, or see that they agree."""
    path = out / _SETTINGS_NAME
    wanted = asdict(settings)
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


def _run(out: Path, settings: _Settings, workers: int) -> Iterator[tuple[int, list[_Label]]]:
    """Write each person and give the labels, in the order in which people are done."""
    people = range(1, settings.identities + 1)
    if workers == 1:
        yield from ((identity, _write_person(out, settings, identity)) for identity in people)
        return
    # Spawned, because a forked child may inherit locks of a caller's threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        tasks = {pool.submit(_write_person, out, settings, identity): identity for identity in people}
        try:
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_person(out: Path, settings: _Settings, identity: int) -> list[_Label]:
    person = draw_person(settings.seed, identity, is_balanced=settings.is_balanced)
    name = f"{identity:04d}"
    for kind in ("images", "parsing"):
        folder = out / kind / name
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder)
    labels = []
    for view in draw_views(settings.seed, identity, settings.images_per_identity):
        stem = f"{name}_c{view.camera:02d}_w{view.weather:02d}_l{view.illumination:02d}_p{view.scene:02d}"
        image, parsing = out / "images" / name / f"{stem}.jpg", out / "parsing" / name / f"{stem}.png"
        is_new = not (image.exists() and parsing.exists())
        if is_new:
            rendering = render(person, view, seed=settings.seed, height=settings.height, width=settings.width)
            write_atomically(image, _jpeg(rendering))
            write_atomically(parsing, _png(rendering))  # last: it marks the image as done and keeps its labels
        with Image.open(parsing) as picture:
            kept = picture.info
        labels.append(_Label(f"{name}/{stem}.jpg", name, kept["action"], kept["visible"], is_new))
    return labels


def _jpeg(rendering: Rendering) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rendering.image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _png(rendering: Rendering) -> bytes:
    """Encode the parsing map, with the labels of this one image as text beside it."""
    picture = Image.fromarray(rendering.parsing)
    picture.putpalette([value for color in LIP_PALETTE for value in color])
    text = PngImagePlugin.PngInfo()
    text.add_text("action", rendering.action)
    text.add_text("visible", " ".join(sorted(rendering.visible)))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def _attributes_csv(settings: _Settings) -> bytes:
    rows = (
        [f"{identity:04d}", *(_words(settings, identity)[name] for name in FINEGPR_NAMES)]
        for identity in range(1, settings.identities + 1)
    )
    return _csv(["id", *FINEGPR_NAMES], rows)


def _labels_csv(settings: _Settings, labels: Sequence[_Label]) -> bytes:
    people = {f"{identity:04d}": _words(settings, identity) for identity in range(1, settings.identities + 1)}
    rows = (
        [label.file, label.identity, *(people[label.identity][name] for name in WORDS), label.action, label.visible]
        for label in labels
    )
    return _csv(["file", "identity", *WORDS, "action", "visible"], rows)


def _words(settings: _Settings, identity: int) -> Mapping[str, str]:
    return draw_person(settings.seed, identity, is_balanced=settings.is_balanced).attributes


def _csv(header: Sequence[str], rows: object) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


def _readme(settings: _Settings) -> str:
    return f"""# Synthetic pedestrians

These pictures are **synthetic renders**, not photographs. They show drawn figures; nobody in them exists, and results on them
say nothing about real people or real cameras. They serve demonstrations, tests and method checks with known answers.

- {settings.identities:,} people, {settings.images_per_identity:,} images of each, {settings.width} by {settings.height} pixels,
  attributes drawn {"evenly" if settings.is_balanced else "near the counts of FineGPR"}
- seed {settings.seed}, renderer version {settings.renderer_version}: the same settings give the same bytes
- `images/ID/ID_cCC_wWW_lLL_pPP.jpg`: camera, weather, illumination, scene, coded as in FineGPR
- `parsing/ID/….png`: the 20 classes of LIP by pixel (bags, phones and umbrellas are background)
- `attributes.csv`: FineGPR's 13 attributes of each person; an empty age is unknown
- `labels.csv`: every attribute for each image, and in `visible` the names of those that can be seen in it
"""
