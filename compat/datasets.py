"""The card, `README.md`, tells `datasets` which files are data and which type every field has.

So name the folder (or, once published, the repository), not the tars: `load_dataset("webdataset", data_files="….tar")` sees no
card and takes the types from the first five samples. Images are decoded when they are touched; the casts keep the
file's own bytes. Where a data set mixes formats, a sample has a column for each, None in those that it lacks.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from datasets import Dataset, Image, IterableDataset, load_dataset

from compat.oracle import Sample, run_client


def read(root: Path, split: str = "train", *, streaming: bool = True) -> IterableDataset | Dataset:
    """Stream a split, or load it into the cache of `datasets` for random access."""
    samples = load_dataset(str(root), split=split, streaming=streaming)
    for name in [name for name, feature in samples.features.items() if isinstance(feature, Image)]:
        samples = samples.cast_column(name, Image(decode=False))
    return samples


def samples(root: Path, *, streaming: bool) -> Iterator[Sample]:
    """Put the bytes in place of `{"bytes": …, "path": …}`, which an image is."""
    for split in json.loads((root / "manifest.json").read_bytes())["splits"]:
        for sample in read(root, split, streaming=streaming):
            yield {
                name: value["bytes"] if isinstance(value, dict) and value.keys() == {"bytes", "path"} else value
                for name, value in sample.items()
            }


if __name__ == "__main__":
    ways = {"streaming": True, "random access": False}
    run_client("datasets", {name: partial(samples, streaming=streaming) for name, streaming in ways.items()})
