"""How fast training reads: samples a second from shards, by order and by number of worker processes.

    python benchmarks/reading.py [ROOT] [--samples 20000] [--workers 0 1 2 4]

Without ROOT, shards of noise are made (JPEG crops of 256x128). Each line is a pass over all samples: the bytes alone in
order, shuffled with locality, and shuffled wholly; then whole examples, decoded and augmented to 256x128 and tokenised.
The page cache is warm unless ROOT is larger than memory: for cold disks, that is where the orders differ.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.plan import Plan
from passerby.shards.read import ShardDataset
from passerby.shards.write import shard_name, write_shard
from passerby.training.augment import Augmentation
from passerby.training.data import open_data
from passerby.training.reading import DataConfig, Share

BATCH_SIZE = 256
COLUMNS = pa.schema([(name, pa.string()) for name in ("key", "caption", "sha256", "path", "person_id")])


class Input:
    """Size of the input of a usual Re-ID network."""

    image_height, image_width, text_length = 256, 128, 64
    image_mean = image_std = (0.5, 0.5, 0.5)


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--samples", type=int, default=20_000, help="to make, without ROOT, and to read at most")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or make_shards(Path(folder), options.samples)
        measure(root, options.samples, options.workers)


def measure(root: Path, most: int, worker_counts: list[int]) -> None:
    """Read in several ways, each process with one thread, as workers do."""
    torch.set_num_threads(1)
    samples = ShardDataset(root)
    count = min(most, len(samples))
    print(f"{root}: {len(samples):,} samples, {count:,} of them read in each pass")
    near, anywhere = (Plan(samples=count, batch_size=BATCH_SIZE, run_length=length) for length in (64, 1))
    for name, order in (("in order", range(count)), ("near", near.order(0)), ("anywhere", anywhere.order(0))):
        report(f"bytes, {name}", count, (len(samples[int(index)]["jpg"]) for index in order))
    augmentation = Augmentation(crop="resized", flip=0.5, brightness=0.2)
    data = open_data(root, DataConfig(validation_share=0.0), augmentation, Input(), seed=0)
    for workers in worker_counts:
        share = Share(batch_size=BATCH_SIZE, accumulation=1, rank=0, world=1, workers=workers, pin_memory=False)
        report(f"examples, {workers} workers", count, data.training(0, max(1, count // BATCH_SIZE), share))


def report(name: str, samples: int, reading: Iterable[object]) -> None:
    """Exhaust an iterable, and print how fast it went."""
    started_at = time.perf_counter()
    batches = sum(1 for _ in reading)
    elapsed_seconds = time.perf_counter() - started_at
    rate = min(samples, batches * BATCH_SIZE) / elapsed_seconds
    print(f"{name:<22}{rate:>12,.0f} samples/s")


def make_shards(root: Path, count: int, shards: int = 16) -> Path:
    """Write shards of one noisy crop under many keys."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize((128, 256)).save(file, "JPEG", quality=90)
    for index, part in enumerate(np.array_split(np.arange(count), shards)):
        entries = (make_sample(int(number), file.getvalue()) for number in part)
        write_shard(root, shard_name("train", index, shards), entries, columns=COLUMNS, config_hash="benchmark")
    finalise(root, {"train": shards}, {})
    return root


def make_sample(number: int, image: bytes) -> Sample:
    """Give a sample of nobody in particular."""
    caption = f"A man with short hair, a blue top and black trousers carries bag {number % 97} and looks to the left."
    fields = {"key": f"{number:08d}", "caption": caption, "sha256": "", "path": f"{number}.jpg"}
    return Sample(fields["key"], image, "jpg", {**fields, "person_id": f"{number // 50:05d}"}, caption)


if __name__ == "__main__":
    main()
