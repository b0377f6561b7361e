"""Pack a folder of small JPEGs into one shard, beside what `tar` and WebDataset's writer take for the same members.

`tar` copies files that lie ready as KEY.jpg, KEY.json and KEY.txt. `write_shard` and `ShardWriter` read, inspect and hash
every image and make the fields; `write_shard` also hashes the shard and writes a table, safely to the disk. "Alone" is the tar
writing, from members that lie ready in memory. Each run is a process of its own, the methods take turns, and medians
count: once with all inputs in the page cache, where hashing is most of the work, and once with none, as in the first run
over a large data set.

    python -m benchmarks.packing --samples 20000 --repeats 5
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from benchmarks.side_by_side import Row, forget, show
from passerby.images import ImageInfo, inspect_image, read_image
from passerby.sample import JsonValue, Sample, encode_json
from passerby.shards.tar import TarWriter
from passerby.shards.write import shard_name, write_shard

COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "caption")),
        *((name, pa.int32()) for name in ("width", "height")),
        *((name, pa.string()) for name in ("sha256", "source", "path", "person_id")),
        ("camera_id", pa.int16()),
    ]
)

TAR, LIBRARY = "tar cf", "ShardWriter"
MEMORY_SAMPLES = (5_000, 50_000)


@dataclass(frozen=True)
class Cost:
    """What one run took."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def main() -> None:
    """Make the inputs, run the methods in turn, and print the medians side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to work, on the disk to measure")
    options = parser.parse_args()
    show(compare(options.folder, options.samples, options.repeats))


def compare(where: Path | None, samples: int, repeats: int) -> Iterator[Row]:
    """Make the inputs, and run the methods in turn, with the inputs in the page cache and without."""
    with tempfile.TemporaryDirectory(dir=where) as name:
        folder = Path(name)
        make_inputs(folder, samples)
        ready = [members_of(entry) for entry in entries(folder, samples, samples)]
        methods: dict[str, Callable[[], object]] = {
            "write_shard": partial(pack, folder, samples, samples),
            "write_shard, two processes": partial(pack_in_two, folder, samples),
            "TarWriter alone": partial(pack_members, folder, ready),
            TAR: partial(pack_by_tar, folder),
            LIBRARY: partial(pack_by_webdataset, folder, samples),
            f"{LIBRARY} alone": partial(pack_ready_by_webdataset, folder, ready),
        }
        for place in ("cached", "from disk"):
            uncached = folder if place == "from disk" else None
            rounds = [{name: measure(method, uncached) for name, method in methods.items()} for _ in range(repeats)]
            yield from tell(rounds, samples, place)
        for count in MEMORY_SAMPLES:
            cost = measure(partial(pack, folder, count, samples))
            yield Row(
                task=f"write_shard, {count:,} samples in one shard",
                rate=count / cost.wall_seconds,
                unit="samples/s",
                memory_mib=cost.peak_bytes / 2**20,
            )


def make_inputs(folder: Path, samples: int) -> None:
    """Write `images/KEY.jpg`, and all members as files in `members/`."""
    generator = np.random.default_rng(0)
    pictures = [make_jpeg(generator) for _ in range(200)]
    for name in ("images", "members"):
        (folder / name).mkdir()
    for index in range(samples):
        picture = pictures[index % len(pictures)]
        comment = b"\xff\xfe\x00\x0a%08d" % index  # makes every file another one, at no cost
        data = picture[:2] + comment + picture[2:]
        (folder / "images" / f"{key_of(index)}.jpg").write_bytes(data)
        (folder / "members" / f"{key_of(index)}.jpg").write_bytes(data)
        fields = fields_of(index, data, inspect_image(data))
        (folder / "members" / f"{key_of(index)}.json").write_bytes(encode_json(fields))
        (folder / "members" / f"{key_of(index)}.txt").write_text(str(fields["caption"]))


def make_jpeg(generator: np.random.Generator) -> bytes:
    """Draw soft noise of the size of a person's picture, about 6 KB as JPEG."""
    coarse = Image.fromarray(generator.integers(0, 256, (64, 32, 3), dtype=np.uint8))
    file = BytesIO()
    coarse.resize((128, 256), Image.Resampling.BICUBIC).save(file, "JPEG", quality=40)
    return file.getvalue()


def key_of(index: int) -> str:
    """Name sample `index`."""
    return f"{index // 20:06d}_c{index % 6}s1_{index:06d}_01"


def fields_of(index: int, data: bytes, info: ImageInfo) -> dict[str, JsonValue]:
    """Make the fields of a Re-ID image with a caption."""
    key = key_of(index)
    return {
        "key": key,
        "caption": f"A young woman with long black hair wears a red jacket and carries a backpack, number {index}.",
        "width": info.width,
        "height": info.height,
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": "benchmark",
        "path": f"{key}.jpg",
        "person_id": key[:6],
        "camera_id": index % 6,
    }


def entries(folder: Path, samples: int, files: int) -> Iterator[Sample]:
    """Read, inspect and hash images, and make their fields; more samples than files take the files again."""
    images = f"{folder}/images/"
    for index in range(samples):
        data, info = read_image(f"{images}{key_of(index % files)}.jpg")
        fields = fields_of(index, data, info)
        yield Sample(key_of(index), data, info.extension, fields, str(fields["caption"]))


def pack(folder: Path, samples: int, files: int) -> None:
    """Pack by `write_shard`."""
    another_each_time = str(time.time_ns())  # or else the shard would be found done
    source = entries(folder, samples, files)
    write_shard(folder / "packed", shard_name("train", 0, 1), source, columns=COLUMNS, config_hash=another_each_time)


def pack_in_two(folder: Path, samples: int) -> None:
    """Pack by `write_shard` as `gen-captions --workers 2` does: two shards, a process each."""
    another_each_time = str(time.time_ns())
    child = os.fork()
    half = samples // 2
    source = islice(entries(folder, samples, samples), *((half, None) if child else (0, half)))
    write_shard(
        folder / "packed",
        shard_name("train", int(child > 0), 2),
        source,
        columns=COLUMNS,
        config_hash=another_each_time,
    )
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


Members = tuple[str, list[tuple[str, bytes]]]


def members_of(sample: Sample) -> Members:
    """Give key and members of a sample as they go into a tar."""
    text = sample.caption.encode()
    return sample.key, [("jpg", sample.image), ("json", encode_json(sample.fields)), ("txt", text)]


def pack_members(folder: Path, samples: list[Members]) -> None:
    """Write the tar alone, and its hash, from members that lie ready in memory."""
    with (folder / "members.tar").open("wb") as file:
        tar = TarWriter(file)
        for key, members in samples:
            tar.add(key, members)
        tar.finish()
        os.fsync(file.fileno())


def pack_ready_by_webdataset(folder: Path, samples: list[Members]) -> None:
    """Do the same by WebDataset's own writer."""
    import webdataset

    with webdataset.ShardWriter(f"{folder}/ready-%05d.tar", maxcount=len(samples), maxsize=1e12, verbose=0) as writer:
        for key, members in samples:
            writer.write({"__key__": key, **dict(members)})


def pack_by_tar(folder: Path) -> None:
    """Pack by GNU tar, the files in the order of the folder."""
    subprocess.run(["tar", "cf", folder / "packed.tar", "-C", folder / "members", "."], check=True)


def pack_by_webdataset(folder: Path, samples: int) -> None:
    """Pack by WebDataset's own writer."""
    import webdataset

    with webdataset.ShardWriter(f"{folder}/packed-%05d.tar", maxcount=samples, maxsize=1e12, verbose=0) as writer:
        for sample in entries(folder, samples, samples):
            writer.write({"__key__": sample.key, "jpg": sample.image, "json": sample.fields, "txt": sample.caption})


def measure(method: Callable[[], object], uncached: Path | None = None) -> Cost:
    """Run `method` in a process of its own, forked so that imports do not count; forget the cached files of a folder."""
    if uncached is None:
        os.sync()  # or else what another run left to write would be written now
    else:
        forget(uncached)
    started_at = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            method()
            status = 0
        finally:
            os._exit(status)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"a method failed with status {status}")
    return Cost(time.perf_counter() - started_at, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def tell(rounds: list[dict[str, Cost]], samples: int, place: str) -> Iterator[Row]:
    """Set each of our methods beside `tar` and beside `ShardWriter`."""
    rate = {name: samples / statistics.median(cost[name].wall_seconds for cost in rounds) for name in rounds[0]}
    for name in ("write_shard", "write_shard, two processes", "TarWriter alone"):
        for rival in (f"{LIBRARY} alone" if "alone" in name else LIBRARY, TAR):
            yield Row(
                task=f"pack, {place}: {name}", rate=rate[name], unit="samples/s", rival=rival, rival_rate=rate[rival]
            )


if __name__ == "__main__":
    main()
