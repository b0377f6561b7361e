"""How fast training reads, beside `webdataset` and Hugging Face's `datasets` on the same tars, and whether memory stays flat.

    python -m benchmarks.reading [ROOT] [--samples 20000] [--workers 0 1 2]

Without ROOT, shards of noise are made (JPEG crops of 256x128). Raw: the members of every sample as bytes, ours with its fields
parsed, too. Examples: decoded, a random window resized to 256x128, mirrored, tokenised and batched; `webdataset`, and `datasets`
where it is installed, with their own decoders and torchvision's transforms. The page cache is warm unless ROOT is larger than
memory: for cold disks, that is where the orders differ. Memory is that of a process that reads ten epochs, after the second and
after the tenth.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import webdataset
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks.side_by_side import Row, memory_mib, rates, seconds_of, show
from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.plan import Plan
from passerby.shards.read import ShardDataset
from passerby.shards.write import shard_name, write_shard
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.data import open_data
from passerby.training.reading import DataConfig, Share

BATCH_SIZE = 256
EPOCHS = 10
MOST_EXAMPLES = 8_192
"""Of those that are decoded, in each pass: a hundred times as slow as reading bytes."""
BATCHES_BEFORE = 8
"""The first ones of a pass, which are not timed: worker processes start, and fill their queues."""

COLUMNS = pa.schema([(name, pa.string()) for name in ("key", "caption", "sha256", "path", "person_id")])
WEBDATASET, DATASETS = "webdataset", "HF datasets"


class Input:
    """Size of the input of a usual Re-ID network."""

    image_height, image_width, text_length = 256, 128, 64
    image_mean = image_std = (0.5, 0.5, 0.5)


def main() -> None:
    """Measure, and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--samples", type=int, default=20_000, help="to make, without ROOT, and to read at most")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    show(measure(options.root, options.samples, options.workers, options.repeats))


def measure(root: Path | None, most: int, worker_counts: list[int], repeats: int) -> Iterator[Row]:
    """Read in several ways, each process with one thread, as workers do."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = root or make_shards(Path(folder), most)
        yield from measure_bytes(root, most, repeats)
        yield from measure_examples(root, worker_counts, repeats)
        yield measure_memory(root)


def measure_bytes(root: Path, most: int, repeats: int) -> Iterator[Row]:
    """Read the members of every sample in several orders."""
    samples = ShardDataset(root)
    count = min(most, len(samples))
    near, anywhere = (Plan(samples=count, batch_size=BATCH_SIZE, run_length=length) for length in (64, 1))
    orders = {"in order": range(count), "shuffled nearby": near.order(0), "shuffled wholly": anywhere.order(0)}
    tars = sorted(map(str, root.glob("data/*.tar")))
    methods: dict[str, Callable[[], object]] = {name: partial(read, samples, order) for name, order in orders.items()}
    rivals: dict[str, Callable[[], object]] = {
        WEBDATASET: lambda: exhaust(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False))
    }
    if find_spec("datasets"):
        rivals[DATASETS] = lambda: exhaust(by_datasets(tars, decode=False))
    found = rates(methods | rivals, count, repeats)
    for name in orders:
        for rival in rivals:
            yield Row(
                task=f"read bytes, {name}",
                rate=found[name],
                unit="samples/s",
                rival=f"{rival}, in order",
                rival_rate=found[rival],
            )


def measure_examples(root: Path, worker_counts: list[int], repeats: int) -> Iterator[Row]:
    """Read whole batches, ready for a network, with several numbers of worker processes."""
    data = open_data(
        root,
        DataConfig(validation_share=0.0),
        Augmentation(crop="resized", flip=0.5, brightness=0.2),
        Input(),
        seed=0,
    )
    steps = min(MOST_EXAMPLES // BATCH_SIZE, data.steps_an_epoch(BATCH_SIZE))
    for workers in worker_counts:
        share = Share(batch_size=BATCH_SIZE, accumulation=1, rank=0, world=1, workers=workers, pin_memory=False)
        rivals = {
            WEBDATASET: examples_by_webdataset,
            **({DATASETS: examples_by_datasets} if find_spec("datasets") else {}),
        }
        methods: dict[str, Callable[[], Iterable[object]]] = {"ours": partial(data.training, 0, steps, share)}
        for rival, examples in rivals.items():
            methods[rival] = partial(load, examples, root, data.tokenizer, workers, steps)
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        for _ in range(repeats):
            for name, method in methods.items():
                batches = iter(method())
                assert exhaust(islice(batches, BATCHES_BEFORE)) == BATCHES_BEFORE
                seconds[name].append(seconds_of(partial(exhaust, batches)))
        examples_timed = (steps - BATCHES_BEFORE) * BATCH_SIZE
        found = {name: examples_timed / median(values) for name, values in seconds.items()}
        for rival in rivals:
            yield Row(
                task=f"read examples, {workers} workers",
                rate=found["ours"],
                unit="samples/s",
                rival=f"{rival} and torchvision",
                rival_rate=found[rival],
            )


def read(samples: ShardDataset, order: Iterable[Any]) -> int:
    """Read samples in an order."""
    return exhaust(samples[int(index)] for index in order)


Examples = Callable[[list[str], Tokenizer], Any]
"""Gives a data set of torch's, which yields examples, from tars."""


def load(examples: Examples, root: Path, tokenizer: Tokenizer, workers: int, steps: int) -> Iterable[object]:
    """Read as the libraries' own examples do."""
    dataset = examples(sorted(map(str, root.glob("data/*.tar"))), tokenizer)
    loader = DataLoader(dataset, batch_size=BATCH_SIZE, num_workers=workers, collate_fn=collate)
    return islice(loader, steps)


def examples_by_webdataset(tars: list[str], tokenizer: Tokenizer) -> Any:  # noqa: ANN401  (an untyped library's)
    """Let `webdataset` shuffle and decode."""
    shuffled = webdataset.WebDataset(tars, shardshuffle=100, empty_check=False).shuffle(2000)
    return shuffled.decode("pil").map(ExampleOfLibraries(tokenizer))


def examples_by_datasets(tars: list[str], tokenizer: Tokenizer) -> Any:  # noqa: ANN401  (an untyped library's)
    """Let `datasets` shuffle and decode."""
    return by_datasets(tars, decode=True).shuffle(seed=0, buffer_size=2000).map(ExampleOfLibraries(tokenizer))


def by_datasets(tars: list[str], *, decode: bool) -> Any:  # noqa: ANN401  (an untyped library's)
    """Stream our tars with `datasets`."""
    import datasets

    stream = datasets.load_dataset("webdataset", data_files={"train": tars}, split="train", streaming=True)
    return stream.cast_column("jpg", datasets.Image(decode=decode))


class ExampleOfLibraries:
    """Our steps, by torchvision's transforms."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.transform = v2.Compose(
            [
                v2.PILToTensor(),
                v2.RandomResizedCrop(
                    (Input.image_height, Input.image_width),
                    scale=(0.6, 1.0),
                    ratio=(0.35, 0.6),
                    interpolation=v2.InterpolationMode.BICUBIC,
                ),
                v2.RandomHorizontalFlip(0.5),
                v2.ColorJitter(brightness=0.2),
            ]
        )

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Make an example of image and caption."""
        text, _ = self.tokenizer.encode(sample["txt"], Input.text_length)
        return {"image": self.transform(sample["jpg"]), "text": text}


def collate(examples: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Batch images, normalised later on the device, and padded texts."""
    texts = [torch.tensor(example["text"]) for example in examples]
    images = torch.stack([example["image"] for example in examples])
    return images, torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)


def measure_memory(root: Path) -> Row:
    """Read ten epochs of bytes, shuffled, and see whether memory grows."""
    samples = ShardDataset(root)
    plan = Plan(samples=len(samples), batch_size=BATCH_SIZE)
    early = late = 0.0
    for epoch in range(EPOCHS):
        read(samples, plan.order(epoch))
        late = memory_mib(os.getpid())
        early = late if epoch == 1 else early
    return Row(
        task=f"memory after {EPOCHS} epochs, beside that after 2",
        rate=late,
        unit="MiB",
        rival="after 2",
        rival_rate=early,
    )


def exhaust(reading: Iterable[Any]) -> int:
    """Read everything, and count."""
    return sum(1 for _ in reading)


def make_shards(root: Path, count: int, shards: int = 16, *, images_a_person: int = 50) -> Path:
    """Write shards of one noisy crop under many keys."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize((128, 256)).save(file, "JPEG", quality=90)
    for index, part in enumerate(np.array_split(np.arange(count), shards)):
        entries = (make_sample(int(number), f"{number // images_a_person:05d}", file.getvalue()) for number in part)
        write_shard(root, shard_name("train", index, shards), entries, columns=COLUMNS, config_hash="benchmark")
    finalise(root, {"train": shards}, {})
    return root


def make_sample(number: int, person_id: str, image: bytes) -> Sample:
    """Give a sample of nobody in particular."""
    caption = f"A man with short hair, a blue top and black trousers carries bag {number % 97} and looks to the left."
    fields = {"key": f"{number:08d}", "caption": caption, "sha256": "", "path": f"{number}.jpg"}
    return Sample(fields["key"], image, "jpg", {**fields, "person_id": person_id}, caption)


if __name__ == "__main__":
    main()
