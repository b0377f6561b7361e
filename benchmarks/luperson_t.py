"""How fast LUPerson-T is made: the whole run beside bare decoding, matching beside bare forwards, and combining alone.

    python -m benchmarks.luperson_t --images 20000 --repeats 3

Whole run: with a scorer that costs nothing, images a second of `gen-captions luperson-t` on two processes, beside decoding the same
files and nothing else on two processes, with Pillow as most would, and as the run does; all without their start-up (a run of few
images is taken off). The larger a crop, the less all but its decoding matters: two sizes, saved as LUPerson's own scripts do, with
OpenCV's default quality. Matching: an open_clip ViT-B/16 with random weights. Combining: captions of random picks on one core.
Methods take turns; medians count.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.side_by_side import Row, rates, seconds_of, show
from captioning.combine import Combiner
from captioning.divide import load_phrases
from passerby.images import decode_rgb
from passerby.nets.clip import load_clip

WORKERS = 2
SHARD_SIZE = 2_000
FEW = WORKERS * SHARD_SIZE
"""Images of the run that measures start-up: a shard for each process, so that all of them start."""
SIZES = ((256, 128), (384, 128))
"""Height and width of crops: what most of Re-ID reads, and what UniPT reads (section 4)."""
QUALITY = 95
"""Of `cv2.imwrite`, with which LUPerson's crops were saved (`LUP/extract.py` of DengpanFu/LUPerson)."""
FORWARDS = 128
"""Images encoded in each repeat of the matching benchmark."""


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    show(measure(options.images, options.repeats))


def measure(images: int, repeats: int) -> Iterator[Row]:
    """Run all measurements."""
    for size in SIZES:
        with tempfile.TemporaryDirectory(prefix="passerby-benchmark-") as folder:
            yield from measure_run(Path(folder), images, size, repeats)
    yield measure_combining(2_000, 20 * repeats)
    yield measure_matching(repeats)


def measure_run(folder: Path, images: int, size: tuple[int, int], repeats: int) -> Iterator[Row]:
    """Compare the whole run with decoding, start-up taken off both."""
    all_images, few_images = folder / "all", folder / "few"
    write_images(all_images, images, size)
    write_images(few_images, FEW, size)
    methods: dict[str, Callable[[Path], None]] = {
        "run": run,
        "Pillow": partial(decode, decode_with_pillow),
        "its own": partial(decode, decode_as_the_run),
    }
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            seconds = [seconds_of(partial(method, part)) for part in (all_images, few_images)]
            found[name].append((images - FEW) / (seconds[0] - seconds[1]))
    rate, *rivals = (statistics.median(found[name]) for name in methods)
    for name, rival_rate in zip([*methods][1:], rivals, strict=True):
        yield Row(
            task=f"LUPerson-T of {images:,} crops of {size[0]}x{size[1]}, scorer that costs nothing",
            rate=rate,
            unit="images/s",
            rival=f"decoding alone, {name}",
            rival_rate=rival_rate,
            memory_mib=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
        )


def measure_combining(captions: int, repeats: int) -> Row:
    """Count captions a second of CPU, at best: it stands alone, and whatever else the machine does can only slow it down."""
    bank = load_phrases()
    combiner = Combiner(bank, seed=0)
    generator = random.Random(0)  # noqa: S311  (test data)
    people = []
    for _ in range(captions):
        chosen = {}
        for attribute in bank.attributes:
            phrase = generator.choice(attribute.phrases)
            if attribute.is_required or (not phrase.is_negative and generator.random() < 0.1):
                chosen[attribute.name] = phrase.id
        people.append(chosen)
    seconds = []
    for _ in range(repeats):
        started_at = time.process_time()
        for index, picks in enumerate(people):
            combiner.captions(picks, key=str(index))
        seconds.append(time.process_time() - started_at)
    return Row(task="combine captions, a core", rate=captions / min(seconds), unit="captions/s")


def measure_matching(repeats: int) -> Row:
    """Compare the scorer with a bare loop of forwards."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        scorer = load_clip("ViT-B-16", random_weights(Path(folder)), batch_size=32)
    pixels = [
        np.random.default_rng(index).integers(0, 256, (*SIZES[0], 3), dtype=np.uint8) for index in range(FORWARDS)
    ]
    batch = torch.rand(32, 3, 224, 224)
    network = scorer._network

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(FORWARDS // 32):
                network.encode_image(batch)

    found = rates({"scorer": lambda: scorer.encode_images(pixels), "bare": bare}, FORWARDS, repeats)
    return Row(
        task="match with ViT-B/16",
        rate=found["scorer"],
        unit="images/s",
        rival="open_clip's forwards alone",
        rival_rate=found["bare"],
    )


def random_weights(folder: Path) -> str:
    """Write the weights of a random ViT-B/16, since none can be assumed at hand."""
    import open_clip

    path = folder / "random.pt"
    torch.save(open_clip.create_model("ViT-B-16").state_dict(), path)
    return str(path)


def write_images(folder: Path, images: int, size: tuple[int, int]) -> None:
    """Write JPEGs of about the detail of person crops, of a height and a width."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    height, width = size
    for index in range(images):
        coarse = Image.fromarray(generator.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
        picture.save(folder / f"{index:08d}.jpg", quality=QUALITY)


def run(images: Path) -> None:
    """Make the data set as a user does."""
    with tempfile.TemporaryDirectory() as out:
        words = ("luperson-t", images, "--out", Path(out) / "root", "--clip-model", "none", "--workers", WORKERS)
        command = [
            str(word) for word in (Path(sys.executable).parent / "gen-captions", *words, "--shard-size", SHARD_SIZE)
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def decode(method: Callable[[Path], object], images: Path) -> None:
    """Read and decode every image, and do nothing with it."""
    with ProcessPoolExecutor(WORKERS) as pool:
        assert all(pool.map(method, sorted(images.iterdir()), chunksize=250))


def decode_with_pillow(path: Path) -> bool:
    """Decode one file as most programs do."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels.size > 0


def decode_as_the_run(path: Path) -> bool:
    """Decode one file."""
    return decode_rgb(path.read_bytes()).size > 0


if __name__ == "__main__":
    main()
