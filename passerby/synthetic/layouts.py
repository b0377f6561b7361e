"""Synthetic pedestrians as a Re-ID data set: before six cameras, some people to train on and others to be found again.

`write_market` makes Market-1501's folders, with distractors and junk; `write_pedes` CUHK-PEDES's list and images, two captions
each. In FineGPR's layout the scene belongs to a person. Here it belongs to a camera, as where cameras hang on walls: two people
before one camera share more background than one person before two.
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from passerby.runtime import draw, remove_stale_temporaries, write_atomically
from passerby.synthetic.files import (
    Kept,
    Picture,
    Settings,
    SyntheticReport,
    attributes_csv,
    check_settings,
    claim,
    readme,
    run_people,
    write_picture,
)
from passerby.synthetic.scene import CAMERAS, View
from passerby.synthetic.wording import describe

SIDES = 9
"""Views a camera has of a person: 40 degrees to either side of the one it mostly sees."""
MOST_PEOPLE = 9999


@dataclass(frozen=True, slots=True)
class Station:
    """A camera on its wall: one place, one hour, mostly one side of whoever walks by."""

    scene: int
    weather: int
    illumination: int
    middle: int
    """The camera code of the view that it mostly has; see `View`."""
    azimuth: float
    """Where it looks, radians."""


STATIONS = (
    Station(scene=1, weather=1, illumination=4, middle=1, azimuth=1.0),
    Station(scene=3, weather=3, illumination=3, middle=19, azimuth=3.0),
    Station(scene=6, weather=1, illumination=5, middle=10, azimuth=6.0),
    Station(scene=7, weather=5, illumination=6, middle=4, azimuth=7.0),
    Station(scene=4, weather=7, illumination=7, middle=24, azimuth=4.0),
    Station(scene=5, weather=4, illumination=4, middle=32, azimuth=5.0),
)
"""A car park at noon, a meadow under clouds, a court in the afternoon, an arcade at dusk, a street in snow at night, foggy sand."""

BOX_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
PEDES_FOLDERS = tuple(f"imgs/cam_{letter}" for letter in "abcdef")

JUNK_SIDE, DISTRACTOR_SIDE = 0.6, 0.4
"""Sides of the box that is cut out, as shares of the whole. Market-1501 calls a box junk that overlaps the drawn one by 20 to 50 %
(0.6² = 36 %), and below that (0.4² = 16 %) a distractor."""


def write_market(
    out: Path, settings: Settings, *, workers: int = 1, on_progress: Callable[[int], None] | None = None
) -> SyntheticReport:
    """Write pedestrians as Market-1501 does; what is there already stays.

    The last two fifths of the people are to be found again. Of each, every camera with further images of them gives a query (one
    does in any case); the other images are in the gallery, and there a distractor (0000) and a junk box (-1), cut out of two more.

    Args:
        out: Folder to fill: `bounding_box_train`, `query`, `bounding_box_test`, `parsing/` with the same folders, `attributes.csv`,
            `README.md`, `synthetic.json`.
        settings: Size, seed and pixels.
        workers: Processes.
        on_progress: Told how many images are done, those of distractors and junk left aside.

    Raises:
        ConfigError: `out` holds a set made with other settings, or files of something else.
        ValueError: a number is out of range.
    """
    # two views of each are left for distractor and junk
    _check(settings, most_images=len(STATIONS) * SIDES - 2, fewest_people=2)
    claim(out, settings, layout="market")
    found = _write(out, settings, BOX_FOLDERS, _market_pictures, workers=workers, on_progress=on_progress)
    return _finish(
        out,
        settings,
        found,
        "`bounding_box_train`, `query`, `bounding_box_test`: as in Market-1501, junk (-1) and distractors (0000) too",
    )


def write_pedes(
    out: Path, settings: Settings, *, workers: int = 1, on_progress: Callable[[int], None] | None = None
) -> SyntheticReport:
    """Write pedestrians as CUHK-PEDES does, with two captions an image; what is there already stays.

    Of the people, in order, three fifths are to train on, a fifth each for validation and test.

    Args:
        out: Folder to fill: `reid_raw.json`, `imgs/cam_a` to `imgs/cam_f`, `parsing/` with the same folders, `attributes.csv`,
            `README.md`, `synthetic.json`.
        settings: Size, seed and pixels.
        workers: Processes.
        on_progress: Told how many images are done.

    Raises:
        ConfigError: `out` holds a set made with other settings, or files of something else.
        ValueError: a number is out of range.
    """
    _check(settings, most_images=len(STATIONS) * SIDES, fewest_people=3)
    claim(out, settings, layout="pedes")
    found = _write(out, settings, PEDES_FOLDERS, _pedes_pictures, workers=workers, on_progress=on_progress)
    records = [
        _record(settings, identity, picture, kept) for identity, pictures in found.items() for picture, kept in pictures
    ]
    write_atomically(out / "reid_raw.json", (json.dumps(records, indent=1) + "\n").encode())
    return _finish(out, settings, found, "`reid_raw.json`, `imgs`: as in CUHK-PEDES, two captions an image")


def draw_stations(seed: int, identity: int, count: int) -> list[tuple[int, View]]:
    """Draw distinct views of a person: camera numbers from 1, taking turns, and what each sees."""
    source = random.Random(draw(seed, str(identity), purpose="stations"))  # noqa: S311  (looks, not secrets)
    cameras = source.sample(range(len(STATIONS)), len(STATIONS))
    sides = [source.sample(range(-(SIDES // 2), SIDES // 2 + 1), SIDES) for _ in STATIONS]
    views = []
    for number in range(count):
        camera = cameras[number % len(STATIONS)]
        station = STATIONS[camera]
        code = (station.middle - 1 + sides[camera][number // len(STATIONS)]) % CAMERAS + 1
        views.append((camera + 1, View(code, station.weather, station.illumination, station.scene)))
    return views


def _check(settings: Settings, *, most_images: int, fewest_people: int) -> None:
    check_settings(settings, most_images=most_images, fewest_images=2, fewest_people=fewest_people)
    if settings.identities > MOST_PEOPLE:
        raise ValueError(f"identities is {settings.identities}; the file names have four digits, {MOST_PEOPLE} at most")


def _write(
    out: Path,
    settings: Settings,
    folders: Sequence[str],
    pictures: Callable[[Settings, int], list[Picture]],
    *,
    workers: int,
    on_progress: Callable[[int], None] | None,
) -> dict[int, list[tuple[Picture, Kept]]]:
    """Write the pictures of everybody, and give what is known of them by person."""
    for folder in folders:
        for path in (out / folder, out / "parsing" / folder):
            path.mkdir(parents=True, exist_ok=True)
            remove_stale_temporaries(path)
    found = {}
    done = 0
    for identity, rows in run_people(partial(_write_person, out, settings, pictures), settings.identities, workers):
        found[identity] = rows
        done += settings.images_per_identity
        if on_progress:
            on_progress(done)
    return dict(sorted(found.items()))


def _write_person(
    out: Path, settings: Settings, pictures: Callable[[Settings, int], list[Picture]], identity: int
) -> list[tuple[Picture, Kept]]:
    person = settings.person(identity)
    return [(picture, write_picture(out, settings, person, picture)) for picture in pictures(settings, identity)]


def _finish(
    out: Path, settings: Settings, found: Mapping[int, list[tuple[Picture, Kept]]], layout: str
) -> SyntheticReport:
    write_atomically(out / "attributes.csv", attributes_csv(settings))
    images = [kept for pictures in found.values() for _, kept in pictures]
    content = (
        layout,
        f"{len(STATIONS)} cameras, each in one place at one hour",
        "`parsing`: the 20 classes of LIP by pixel (bags, phones and umbrellas are background), at the paths of the images",
        "`attributes.csv`: FineGPR's 13 attributes of each person; an empty age is unknown",
    )
    write_atomically(out / "README.md", readme(settings, content))
    return SyntheticReport(settings.identities, len(images), sum(kept.is_new for kept in images))


def _share(settings: Settings, fifths: int) -> int:
    """Count the people of so many fifths of all, but one at least."""
    return max(1, settings.identities * fifths // 5)


def _market_pictures(settings: Settings, identity: int) -> list[Picture]:
    train, query, gallery = BOX_FOLDERS
    count = settings.images_per_identity
    stations = draw_stations(settings.seed, identity, count + 2)
    if identity <= settings.identities - _share(settings, 2):
        return [_box(train, f"{identity:04d}", identity * 100 + i, stations[i]) for i in range(count)]
    # Cameras take turns, so the first round has an image of each, and only later rounds bring further ones.
    queries = max(1, min(count - len(STATIONS), len(STATIONS)))
    pictures = [
        _box(query if i < queries else gallery, f"{identity:04d}", identity * 100 + i, stations[i])
        for i in range(count)
    ]
    source = random.Random(draw(settings.seed, str(identity), purpose="boxes"))  # noqa: S311
    for i, (person, side) in enumerate((("0000", DISTRACTOR_SIDE), ("-1", JUNK_SIDE)), start=count):
        left, top = source.uniform(0, 1 - side), source.uniform(0, 1 - side)
        part = (left, top, left + side, top + side)
        pictures.append(_box(gallery, person, identity * 100 + i, stations[i], part))
    return pictures


def _box(
    folder: str,
    person: str,
    frame: int,
    station: tuple[int, View],
    part: tuple[float, float, float, float] | None = None,
) -> Picture:
    """Name a picture in Market-1501's way; the frame tells all boxes apart."""
    camera, view = station
    path = f"{folder}/{person}_c{camera}s1_{frame:06d}_01"
    return Picture(f"{path}.jpg", f"parsing/{path}.png", view, STATIONS[camera - 1].azimuth, part)


def _pedes_pictures(settings: Settings, identity: int) -> list[Picture]:
    pictures = []
    for number, (camera, view) in enumerate(draw_stations(settings.seed, identity, settings.images_per_identity)):
        path = f"{PEDES_FOLDERS[camera - 1]}/{identity:04d}_{number:02d}"
        pictures.append(Picture(f"{path}.jpg", f"parsing/{path}.png", view, STATIONS[camera - 1].azimuth))
    return pictures


def _record(settings: Settings, identity: int, picture: Picture, kept: Kept) -> dict[str, object]:
    held_out = _share(settings, 1)
    split = "train" if identity <= settings.identities - 2 * held_out else "val"
    if identity > settings.identities - held_out:
        split = "test"
    path = picture.image.removeprefix("imgs/")
    attributes = settings.person(identity).attributes
    captions = [
        describe(attributes, kept.visible, kept.action, draw(settings.seed, path, i, "caption")) for i in (0, 1)
    ]
    return {"split": split, "captions": captions, "file_path": path, "id": identity}
