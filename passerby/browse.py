"""A data set as a page to look through: pictures, captions, attributes, filters. Static files that need no server.

The page is `templates/browse/`; this module makes what it shows: `sprites/NNNNN.webp`, each with the thumbnails of
`TILES` samples, and `samples.js` with all their fields, a script because pages from a file may not fetch anything.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps

from passerby.engine import run_units
from passerby.images import ImageProblem, decode_rgb, inspect_image
from passerby.runtime import draw
from passerby.sample import CAPTION_FIELD
from passerby.shards.read import ShardDataset
from templates import TEMPLATES

TILE_WIDTH, TILE_HEIGHT = 128, 256
"""Pixels: the size at which most Re-ID models see a person."""

TILE_COLUMNS, TILE_ROWS = 8, 2
TILES = TILE_COLUMNS * TILE_ROWS
"""About a screenful: fewer make more files, more are decoded in vain where a filter leaves single samples."""

WEBP_QUALITY, WEBP_METHOD = 80, 2
"""Method 2 takes half the time of 4 (the default) and 6 % more bytes."""

MAX_VALUES = 1000
"""A field with more values is text, not an attribute to choose by."""

MEASURES = ("confidence", "margin")
NOT_ATTRIBUTES = frozenset({"key", "sha256", "path", "source", "recipe", "width", "height"})
IMAGE_EXTENSIONS = ("jpg", "png", "webp")
NO_IMAGE = "captions only"

TEMPORARY_SUFFIX = ".browse-part"
PAGE_FILES = ("index.html", "browse.css", "browse.js")
OWN_NAMES = frozenset({*PAGE_FILES, "samples.js", "sprites"})
MARK = b'<meta name="generator" content="passerby browse">'
"""Stands in `index.html` and tells our folders from others."""

_Shown = tuple[dict[str, Any], str]
"""The fields of a sample, and what is wrong with its image."""


@dataclass(frozen=True, slots=True)
class BrowsePage:
    """What was written."""

    folder: Path
    """Holds `index.html`."""
    shown: int
    total: int
    """Samples in the data set."""
    problems: tuple[tuple[str, str], ...]
    """Key of each sample whose image cannot be shown, and why."""
    size_bytes: int
    """Of all files."""


def write_page(
    root: Path,
    folder: Path,
    *,
    keys: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> BrowsePage:
    """Write the page of a data set into `folder`, which then holds the whole page or what it held before.

    Args:
        root: folder of the data set.
        folder: a new or empty folder, or an earlier page, which is replaced.
        keys: the samples to show, in this order; without it, all in the order of the data set.
        limit: of more samples, so many are shown, evenly spaced; without it, all.
        seed: decides which.
        workers: processes.
        on_progress: called with the number of samples done, and of all that are shown.

    Raises:
        FileNotFoundError: `root` is no data set.
        FileExistsError: `folder` holds something else than an earlier page.
        ValueError: `folder` lies in the data set, a key is unknown, there is nothing to show, or `limit` or `workers`
            is below 1.
    """
    dataset = ShardDataset(root)
    folder = folder.resolve()
    _check_is_ours(folder, root.resolve())
    places = range(len(dataset)) if keys is None else _find(dataset, keys)
    if not places:
        raise ValueError(f"there is nothing to show: {root if keys is None else 'the list of keys'} is empty")
    chosen = [places[index] for index in choose_evenly(len(places), len(places) if limit is None else limit, seed)]
    with _replacing(folder) as part:
        shown = _fill(part, dataset, chosen, workers, on_progress)
        sizes = [path.stat().st_size for path in part.rglob("*") if path.is_file()]
    problems = tuple((fields["key"], problem) for fields, problem in shown if problem not in ("", NO_IMAGE))
    return BrowsePage(folder, len(shown), len(dataset), problems, sum(sizes))


def choose_evenly(count: int, limit: int, seed: int) -> list[int]:
    """Choose `limit` of `count` numbers, in order: one from each of `limit` equal stretches.

    >>> choose_evenly(3, 5, seed=0)
    [0, 1, 2]

    Raises:
        ValueError: `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}; it must be at least 1")
    if count <= limit:
        return list(range(count))
    bounds = [count * part // limit for part in range(limit + 1)]
    return [
        start + draw(seed, "", part, "browse") % (end - start) for part, (start, end) in enumerate(pairwise(bounds))
    ]


def _fill(
    folder: Path, dataset: ShardDataset, places: Sequence[int], workers: int, on_progress: Callable[[int, int], None]
) -> list[_Shown]:
    """Write all files of a page into an empty folder."""
    shown: list[_Shown] = []
    (folder / "sprites").mkdir()
    for more in run_units(_Sprites(dataset, places, folder), range(-(-len(places) // TILES)), workers=workers):
        shown += more
        on_progress(len(shown), len(places))
    for name in PAGE_FILES:
        shutil.copyfile(TEMPLATES / "browse" / name, folder / name)
    (folder / "samples.js").write_text(_script(dataset, shown))
    return shown


@dataclass(frozen=True)
class _Sprites:
    """The job of drawing: unit *i* is sprite *i*, and gives the samples that are on it."""

    dataset: ShardDataset
    places: Sequence[int]
    folder: Path

    def run_unit(self, index: int) -> list[_Shown]:
        sprite = Image.new("RGBA", (TILE_COLUMNS * TILE_WIDTH, TILE_ROWS * TILE_HEIGHT))
        shown = []
        for tile, place in enumerate(self.places[index * TILES : (index + 1) * TILES]):
            sample = self.dataset[place]
            problem = _draw(sample, sprite, tile % TILE_COLUMNS * TILE_WIDTH, tile // TILE_COLUMNS * TILE_HEIGHT)
            shown.append((sample["json"], problem))
        if not all(problem for _, problem in shown):
            path = self.folder / "sprites" / f"{index:05d}.webp"
            sprite.save(path, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
        return shown


def _draw(sample: dict[str, Any], sprite: Image.Image, left: int, top: int) -> str:
    """Draw the image of a sample into the middle of its tile, and say what is wrong with it; the rest is transparent."""
    image = next((sample[name] for name in IMAGE_EXTENSIONS if name in sample), None)
    if image is None:
        return NO_IMAGE
    try:
        inspect_image(image)
        pixels = decode_rgb(image, at_least=TILE_WIDTH)
    except ImageProblem as problem:
        return str(problem)
    picture = ImageOps.contain(Image.fromarray(pixels), (TILE_WIDTH, TILE_HEIGHT), Image.Resampling.LANCZOS)
    sprite.paste(picture, (left + (TILE_WIDTH - picture.width) // 2, top + (TILE_HEIGHT - picture.height) // 2))
    return ""


def _script(dataset: ShardDataset, shown: Sequence[_Shown]) -> str:
    """Give `samples.js`: a column of values for each field. ASCII without "<" means the same wherever it stands."""
    columns = _columns([fields for fields, _ in shown])
    header = dataset.manifest.header
    data = {
        "title": header.get("title", dataset.root.resolve().name),
        "isSynthetic": bool(header.get("is_synthetic")),
        "total": len(dataset),
        "tile": {"columns": TILE_COLUMNS, "rows": TILE_ROWS},
        "problems": [problem for _, problem in shown],
        "fields": [{"name": name, "kind": _kind(name, columns), "values": values} for name, values in columns.items()],
    }
    encoded = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f"const DATA = {encoded};\n"


def _columns(samples: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn samples into a column of values for each field; a list of captions becomes `caption_1`, `caption_2` and so on."""
    columns = {name: [fields[name] for fields in samples] for name in samples[0]}
    several: list[list[str]] = columns.pop("captions", [])
    for number in range(1, max(map(len, several), default=0)):
        columns[f"caption_{number}"] = [texts[number] if number < len(texts) else "" for texts in several]
    return columns


def _kind(name: str, columns: Mapping[str, Sequence[Any]]) -> str:
    """Say what the page does with a field: `caption`, `attribute`, its `confidence` or `margin`, or just `stored`."""
    if CAPTION_FIELD.fullmatch(name):
        return "caption"
    attribute, _, measure = name.rpartition("_")
    values = columns[name]
    if measure in MEASURES and attribute in columns and isinstance(values[0], float):
        return measure
    if name in NOT_ATTRIBUTES or isinstance(values[0], float | list):
        return "stored"
    return "attribute" if name == "person_id" or len(set(values)) <= MAX_VALUES else "stored"


def _find(dataset: ShardDataset, keys: Sequence[str]) -> list[int]:
    """Give the index of each key; a key that is listed again is left out."""
    wanted = list(dict.fromkeys(keys))
    known = dataset.metadata(["key"])["key"].combine_chunks()
    places: list[int | None] = pc.index_in(pa.array(wanted, pa.string()), value_set=known).to_pylist()
    if missing := [key for key, place in zip(wanted, places, strict=True) if place is None]:
        named = ", ".join(map(repr, missing[:3])) + (", …" if len(missing) > 3 else "")
        raise ValueError(f"{len(missing):,} of {len(wanted):,} keys are not in {dataset.root}: {named}")
    return [place for place in places if place is not None]


def _check_is_ours(folder: Path, root: Path) -> None:
    """Refuse a folder that is no place for a page."""
    if folder.is_relative_to(root):
        raise ValueError(f"{folder} lies in the data set, which holds data only; choose a folder beside it")
    if not folder.exists():
        return
    strangers = sorted(path.name for path in folder.glob("[!.]*") if path.name not in OWN_NAMES)
    index = folder / "index.html"
    if strangers or (any(folder.iterdir()) and not (index.is_file() and MARK in index.read_bytes())):
        named = f" ({', '.join(strangers[:3])})" if strangers else ""
        raise FileExistsError(f"{folder} holds something else than a page of ours{named}; choose another folder")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `folder` when the block ends well.

    It lies in a temporary folder beside, whose lock says that its writer lives.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob(f".{escape(folder.name)}.*{TEMPORARY_SUFFIX}"):
        _remove_if_stale(stale)
    temporary = Path(tempfile.mkdtemp(TEMPORARY_SUFFIX, f".{folder.name}.", folder.parent))
    with _locked(temporary):
        try:
            part = temporary / "new"
            part.mkdir()
            yield part
            if folder.exists():
                folder.rename(temporary / "former")
            part.rename(folder)
        finally:
            shutil.rmtree(temporary)


def _remove_if_stale(temporary: Path) -> None:
    """Remove a temporary folder whose writer is dead; where nothing can be locked, nothing is proven dead."""
    with suppress(OSError), _locked(temporary) as is_locked:  # what vanishes meanwhile, or is another user's, stays so
        if is_locked:
            shutil.rmtree(temporary)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder, and say whether that was possible: another may hold it, a file system may know no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_locked = True
    except OSError:
        is_locked = False
    try:
        yield is_locked
    finally:
        os.close(descriptor)
