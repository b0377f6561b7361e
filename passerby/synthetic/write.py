"""A data set of synthetic pedestrians in FineGPR's layout, written by any number of processes to the same bytes."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
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
    encode_csv,
    readme,
    run_people,
    write_picture,
)
from passerby.synthetic.people import WORDS
from passerby.synthetic.scene import CAMERAS, ILLUMINATIONS, SCENES, WEATHERS, View


@dataclass(frozen=True, slots=True)
class _Label:
    file: str
    identity: int
    kept: Kept


def write_finegpr(
    out: Path, settings: Settings, *, workers: int = 1, on_progress: Callable[[int], None] | None = None
) -> SyntheticReport:
    """Write pedestrians as FineGPR does, with attributes, labels and parsing maps; what is there already stays.

    Args:
        out: Folder to fill: `images/ID/NAME.jpg`, `parsing/ID/NAME.png` (LIP's 20 classes), `attributes.csv` (a row a
            person), `labels.csv` (a row an image), `README.md`, `synthetic.json`.
        settings: Size, seed and pixels. Views are drawn without replacement from 36 cameras × 7 weathers × 7 illuminations.
        workers: Processes.
        on_progress: Told how many images are done.

    Raises:
        ConfigError: `out` holds a set made with other settings, or files of something else.
        ValueError: a number is out of range.
    """
    check_settings(settings, most_images=CAMERAS * WEATHERS * ILLUMINATIONS)
    claim(out, settings)
    labels: dict[int, list[_Label]] = {}
    done = 0
    for identity, rows in run_people(partial(_write_person, out, settings), settings.identities, workers):
        labels[identity] = rows
        done += len(rows)
        if on_progress:
            on_progress(done)
    rows = [row for identity in sorted(labels) for row in labels[identity]]
    write_atomically(out / "attributes.csv", attributes_csv(settings))
    write_atomically(out / "labels.csv", _labels_csv(settings, rows))
    content = (
        "`images/ID/ID_cCC_wWW_lLL_pPP.jpg`: camera, weather, illumination, scene, coded as in FineGPR",
        "`parsing/ID/….png`: the 20 classes of LIP by pixel (bags, phones and umbrellas are background)",
        "`attributes.csv`: FineGPR's 13 attributes of each person; an empty age is unknown",
        "`labels.csv`: every attribute for each image, and in `visible` the names of those that can be seen in it",
    )
    write_atomically(out / "README.md", readme(settings, content))
    return SyntheticReport(settings.identities, len(rows), sum(row.kept.is_new for row in rows))


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


def _write_person(out: Path, settings: Settings, identity: int) -> list[_Label]:
    person = settings.person(identity)
    name = f"{identity:04d}"
    for kind in ("images", "parsing"):
        folder = out / kind / name
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder)
    labels = []
    for view in draw_views(settings.seed, identity, settings.images_per_identity):
        codes = f"c{view.camera:02d}_w{view.weather:02d}_l{view.illumination:02d}_p{view.scene:02d}"
        path = f"{name}/{name}_{codes}"
        kept = write_picture(out, settings, person, Picture(f"images/{path}.jpg", f"parsing/{path}.png", view))
        labels.append(_Label(f"{path}.jpg", identity, kept))
    return labels


def _labels_csv(settings: Settings, labels: Sequence[_Label]) -> bytes:
    people = {identity: settings.person(identity).attributes for identity in range(1, settings.identities + 1)}
    rows = (
        [
            label.file,
            f"{label.identity:04d}",
            *(people[label.identity][name] for name in WORDS),
            label.kept.action,
            " ".join(label.kept.visible),
        ]
        for label in labels
    )
    return encode_csv(["file", "identity", *WORDS, "action", "visible"], rows)
