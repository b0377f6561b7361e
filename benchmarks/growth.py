"""How time and memory of LUPerson-T grow with the number of images: tiny images in tars, and a scorer that costs nothing.

    python -m benchmarks.growth --images 10000 100000 1000000 --workers 2

The images lie in WebDataset tars, as sets of many millions do. Rates are of the whole command, start and end included; memory is
that of the driver and of its largest worker. What a run adds to its work: one process, beside a loop that does
nothing but the stages of the run: read, inspect, decode, encode, match, caption and write, and at last merge all shards' tables
and write the card.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.side_by_side import Row, rates, show
from captioning.conquer import HashScorer, Matcher, prompts_of
from captioning.divide import load_phrases
from captioning.luperson_t import LUPersonT, unit_bounds
from captioning.words import Options, Words, compose, match_images
from passerby.card import write_card
from passerby.engine import LocalEngine
from passerby.generate import generate, header_of, image_fields
from passerby.images import decode_rgb, inspect_image
from passerby.readers.luperson import open_source
from passerby.shards.manifest import finalise
from passerby.shards.tar import TarWriter
from passerby.shards.write import shard_name, write_shard

HEIGHT, WIDTH = 32, 16
IMAGES_A_TAR = 10_000
SHARDS = 4
BY_STAGES, REPEATS = 6_000, 40
"""Images of the comparison with the stages, and how often both take turns: short turns, and the best of each, since whatever
else the machine does can only slow them down, and by more than what is looked for."""


def main() -> None:
    """Measure, and print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; a million images take 10 GB there")
    options = parser.parse_args()
    show(measure(options.folder, options.images, options.workers))


def measure(where: Path | None, counts: list[int], workers: int) -> Iterator[Row]:
    """Make a data set of each number of images."""
    for count in counts:
        with tempfile.TemporaryDirectory(dir=where, prefix="passerby-benchmark-") as name:
            write_tars(Path(name) / "images", count)
            yield from run(Path(name), count, workers)
    with tempfile.TemporaryDirectory(dir=where, prefix="passerby-benchmark-") as name:
        images, repeats = (BY_STAGES, REPEATS) if counts[-1] > BY_STAGES else (counts[0], 1)
        write_tars(Path(name) / "images", images)
        yield measure_overhead(Path(name), images, repeats)


def run(folder: Path, count: int, workers: int) -> Iterator[Row]:
    """Run the command as a user does, and watch its processes."""
    program = Path(sys.executable).parent / "gen-captions"
    command = [program, "luperson-t", folder / "images", "--out", folder / "root", "--clip-model", "none"]
    started_at = time.perf_counter()
    process = subprocess.Popen([*map(str, command), "--workers", str(workers)], stdout=subprocess.DEVNULL)
    most = {"driver": 0.0, "worker": 0.0}
    while process.poll() is None:
        most["driver"] = max(most["driver"], resident_mib(process.pid))
        most["worker"] = max([most["worker"], *map(resident_mib, children_of(process.pid))])
        time.sleep(0.5)
    seconds = time.perf_counter() - started_at
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    for name, mib in most.items():
        yield Row(
            task=f"LUPerson-T, {count:,} tiny images ({name})", rate=count / seconds, unit="images/s", memory_mib=mib
        )


def measure_overhead(folder: Path, count: int, repeats: int) -> Row:
    """Run in this process; and then do the stages of the run, one after the other."""

    def whole() -> None:
        generate(recipe_of(folder), engine=LocalEngine(1), max_bad=0)
        shutil.rmtree(folder / "root")

    def by_stages() -> None:
        do_stages(recipe_of(folder))
        shutil.rmtree(folder / "root")

    found = rates({"whole": whole, "stages": by_stages}, count, repeats, of=min)
    return Row(
        task=f"LUPerson-T, {count:,} tiny images, one process",
        rate=found["whole"],
        unit="images/s",
        rival="its stages, one after the other",
        rival_rate=found["stages"],
    )


def recipe_of(folder: Path) -> LUPersonT:
    """Give what the command makes of its words."""
    source, words, scorer = open_source(folder / "images"), Words(load_phrases(), Options()), HashScorer()
    return LUPersonT(
        root=folder / "root",
        source=source,
        inputs=source.inputs,
        words=words,
        scorer=scorer,
        text_features=scorer.encode_texts(prompts_of(words.bank)),
        bounds=unit_bounds(source.inputs, SHARDS, by_person=False),
    )


def do_stages(recipe: LUPersonT) -> None:
    """Read, inspect, decode, encode, match and caption, batch after batch; write, shard after shard; merge; nothing else."""
    words, matcher = recipe.words, Matcher(recipe.text_features, recipe.words.bank, recipe.words.options.match)
    for index, (start, stop) in enumerate(pairwise(recipe.bounds)):
        samples = []
        for place in range(start, stop, recipe.batch_size):
            rows = recipe.inputs.slice(place, min(recipe.batch_size, stop - place)).to_pylist()
            images = [content for content in recipe.source.read_all(rows) if isinstance(content, bytes)]
            fields = [image_fields(image, inspect_image(image)) for image in images]
            features = recipe.scorer.encode_images([decode_rgb(image) for image in images]).astype(np.float16)
            told = zip(rows, fields, match_images(features, [], matcher, words), images, strict=True)
            samples += [compose(words, row, own, pick, image=image, extension="jpg") for row, own, pick, image in told]
        name = shard_name(recipe.split, index, SHARDS)
        write_shard(recipe.root, name, samples, columns=words.columns, config_hash="stages")
    write_card(recipe.root, finalise(recipe.root, recipe.splits, header_of(recipe)))


def write_tars(folder: Path, count: int) -> None:
    """Write images of noise, every one another, into tars."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (200, HEIGHT, WIDTH, 3), dtype=np.uint8)
    pictures = [encode(pixels) for pixels in noise]
    for start in range(0, count, IMAGES_A_TAR):
        with (folder / f"{start // IMAGES_A_TAR:05d}.tar").open("wb") as file:
            tar = TarWriter(file)
            for index in range(start, min(start + IMAGES_A_TAR, count)):
                picture = pictures[index % len(pictures)]
                comment = b"\xff\xfe\x00\x0a%08d" % index  # makes every file another one, at no cost
                tar.add(f"{index:08d}", [("jpg", picture[:2] + comment + picture[2:])])
            tar.finish()


def encode(pixels: np.ndarray) -> bytes:
    """Write a JPEG."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=60)
    return file.getvalue()


def children_of(process_id: int) -> list[int]:
    """Name the processes that a process has started (Linux only)."""
    listing = Path(f"/proc/{process_id}/task/{process_id}/children")
    try:
        return [int(child) for child in listing.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def resident_mib(process_id: int) -> float:
    """Give the memory of a process that is its own: resident, without what is mapped from files."""
    try:
        words = Path(f"/proc/{process_id}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
