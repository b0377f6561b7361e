"""The training loader is that of `python -m open_clip_train.main`, which takes the same arguments.

It needs `webdataset<=0.2.86`, as `open_clip_torch[training]` says: from 0.2.96 to 1.0.2 `webdataset` puts an empty sample
behind every shard, and the training loader of open_clip 3.3.0 stops there with `KeyError: 'fname'`. That is so with everybody's
shards. `passerby` itself wants a later `webdataset`: give open_clip an environment of its own.

`data/sizes.json` tells it the number of samples, so it needs no `--train-num-samples`. There must be a shard for every worker
of every rank (`--shard-size`). In training an epoch is whole batches, as many for each worker: some samples come twice and
others not, unless the numbers come out even, as they do with one worker and `--batch-size 1`.

It hands on pixels and captions, no key and no JSON; the comparison finds each sample by its pixels.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from open_clip_train.data import DataInfo, get_data
from open_clip_train.params import parse_args
from torchvision.transforms import PILToTensor

from compat.oracle import Sample, run_client
from compat.pixels import hash_pixels, pictures


def read(root: Path, purpose: str = "train", workers: int = 1) -> DataInfo:
    """Give the loader of one epoch, `dataloader`, of (images, captions) in batches; `purpose` is train or val."""
    of = len(list(root.glob("data/*.tar")))
    shards = f"{root}/data/train-{{00000..{of - 1:05d}}}-of-{of:05d}.tar"
    options = ["--dataset-type", "webdataset", "--batch-size", "1", "--workers", str(workers)]
    parsed = parse_args([f"--{purpose}-data", shards, *options])
    parsed.distributed, parsed.world_size = False, 1
    data = get_data(parsed, (PILToTensor(), PILToTensor()), tokenizer=lambda caption: [caption])
    return data[purpose]


def samples(root: Path, purpose: str, workers: int) -> Iterator[Sample]:
    """Give key and file of the picture whose pixels came; no two pictures of the data set are alike."""
    by_pixels = {picture.pixels: picture for picture in pictures(root)}
    for images, captions in read(root, purpose, workers).dataloader:
        for image, caption in zip(images, captions, strict=True):
            pixels = hash_pixels(image.permute(1, 2, 0).numpy().tobytes())
            if pixels in by_pixels:
                picture = by_pixels[pixels]
                yield {"__key__": picture.key, picture.extension: picture.data, "txt": caption}
            else:
                yield {"__key__": f"a sample with other pixels than any, captioned {caption!r},"}


if __name__ == "__main__":
    ways = {"training, 1 worker": ("train", 1), "validation, 2 workers": ("val", 2)}
    readers = {name: partial(samples, purpose=purpose, workers=workers) for name, (purpose, workers) in ways.items()}
    run_client("open_clip_torch", readers, lacking=("json", "parsing.png"))
