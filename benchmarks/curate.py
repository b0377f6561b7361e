"""How fast a data set is curated: `passerby select` and `exclude` beside `cp`, and the search for near-duplicates.

    python -m benchmarks.curate                       # 2 GB on disk, a few minutes
    python -m benchmarks.curate --samples 20000       # a quick look

Copying is compared by bytes written a second. Our copies are hashed (SHA-256) and flushed to the disk, so `cp` stands there
twice: as it is, and followed by a flush. "Cached" means that the source is in memory, as it is when it has just been made;
"from disk" that it has been dropped from there first.
"""

import argparse
import hashlib
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.side_by_side import Row, forget, seconds_of, show
from passerby.curate.exclude import Request, exclude
from passerby.curate.near import near_pairs
from passerby.curate.rules import Rules
from passerby.curate.select import select
from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.write import shard_name, write_shard

SHARDS = 8
IMAGE_BYTES = 6_000
"""Of an image of LUPerson, about."""

COLUMNS = pa.schema([*((name, pa.string()) for name in ("key", "caption", "sha256", "path", "person_id", "parity"))])


def main() -> None:
    """Make a data set, copy it in several ways in turn, and print the medians side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to work, on the disk to measure")
    options = parser.parse_args()
    show(compare(options.folder, options.samples, options.hashes, options.repeats))


def compare(where: Path | None, samples: int, hashes: int, repeats: int) -> Iterator[Row]:
    """Make a data set and copy it in several ways in turn; then search for near-duplicates."""
    with tempfile.TemporaryDirectory(dir=where, prefix="passerby-benchmark-") as name:
        make_data_set(Path(name) / "root", samples)
        for is_cold in (False, True):
            yield from tell(measure(Path(name), samples, repeats, is_cold=is_cold), is_cold=is_cold)
    yield from measure_search(hashes)


def make_data_set(root: Path, samples: int) -> None:
    """Write shards whose images are noise."""
    for index in range(SHARDS):
        entries = samples_of(samples * index // SHARDS, samples * (index + 1) // SHARDS)
        write_shard(root, shard_name("train", index, SHARDS), entries, columns=COLUMNS, config_hash="benchmark")
    finalise(root, {"train": SHARDS}, {})


def samples_of(start: int, stop: int) -> Iterator[Sample]:
    """Make samples; every other one is odd, so that a choice of them has as many gaps as can be."""
    generator = np.random.default_rng(start)
    for number in range(start, stop):
        image = generator.bytes(IMAGE_BYTES + number % 997)
        key = f"{number // 20:06d}_c{number % 6}_{number:08d}"
        fields = {
            "key": key,
            "caption": f"A person, number {number}, in a blue jacket and with a backpack, who walks away from the camera.",
            "sha256": hashlib.sha256(image).hexdigest(),
            "path": f"{key}.jpg",
            "person_id": key[:6],
            "parity": ("even", "odd")[number % 2],
        }
        yield Sample(key, image, "jpg", fields, fields["caption"])


def measure(folder: Path, samples: int, repeats: int, *, is_cold: bool) -> dict[str, list[float]]:
    """Measure each method `repeats` times, in turn: bytes a second."""
    methods: dict[str, Callable[[Path, Path], object]] = {
        "cp -r": lambda root, out: subprocess.run(["cp", "-r", root, out], check=True),
        "cp -r; sync": copy_and_flush,
        "select all": lambda root, out: select(root, out, Rules(), shards=SHARDS),
        "select half, no two neighbours": lambda root, out: select(
            root, out, Rules(balance="parity", balance_to=samples // 4)
        ),
        "exclude 1 of each shard": lambda root, out: exclude(root, Request(keys=some_keys(samples), date="2026-01-01")),
    }
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            root, out = folder / "root", folder / "out"
            if name.startswith("exclude"):
                root = out = Path(shutil.copytree(root, folder / "changed"))
            if is_cold:
                forget(root)
            else:
                os.sync()  # or else what another method left to write would be written now
            seconds = seconds_of(partial(method, root, out))
            found[name].append(sum(path.stat().st_size for path in out.glob("data/*.tar")) / seconds)
            shutil.rmtree(out)
    return found


def copy_and_flush(root: Path, out: Path) -> None:
    """Copy as `cp` does, and wait until the bytes are on the disk."""
    subprocess.run(["cp", "-r", root, out], check=True)
    subprocess.run(["sync", *out.glob("*/*")], check=True)


def some_keys(samples: int) -> list[str]:
    """Name one sample in each shard."""
    numbers = [samples * index // SHARDS for index in range(SHARDS)]
    return [f"{number // 20:06d}_c{number % 6}_{number:08d}" for number in numbers]


def tell(found: dict[str, list[float]], *, is_cold: bool) -> Iterator[Row]:
    """Set each of our methods beside `cp` and beside `cp` with a flush."""
    medians = {name: statistics.median(values) / 1e6 for name, values in found.items()}
    for name in [name for name in medians if not name.startswith("cp")]:
        for rival in ("cp -r", "cp -r; sync"):
            yield Row(
                task=f"{'from disk' if is_cold else 'cached'}: {name}",
                rate=medians[name],
                unit="MB/s",
                rival=rival,
                rival_rate=medians[rival],
            )


def measure_search(count: int) -> Iterator[Row]:
    """Search all pairs among random hashes, a thousandth of which have a neighbour."""
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 1 << 64, count, dtype=np.uint64)
    hashes[: count // 1000] = hashes[count // 1000 : count // 1000 * 2] ^ np.uint64(0b1011)
    for distance in (4, 8):
        seconds = seconds_of(partial(near_pairs, hashes, distance))
        yield Row(task=f"near-duplicates, {distance} bits, of {count:,} hashes", rate=count / seconds, unit="hashes/s")


if __name__ == "__main__":
    main()
