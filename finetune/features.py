"""Features of images and texts, streamed once, in the order of the data set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finetune.data import in_order
from finetune.target import Target
from finetune.trained import PAIRED_KIND, Trained
from passerby.training.augment import Augmentation
from passerby.training.batch import Batch, Preparation, ToDevice
from passerby.training.data import People, build_loader, number_people
from passerby.training.reading import Share

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read; it changes no result."""

    batch_size: int = 64
    """Images a forward pass."""

    workers: int = 0
    """Processes that read."""

    on_progress: Callable[[int, int], None] = lambda done, total: None
    """Told how many images are done, of how many."""


def embed_images(
    trained: Trained,
    target: Target,
    indices: NDArray[np.int64],
    *,
    feature: str,
    reading: Reading,
    captions: Sequence[str] | None = None,
) -> FloatArray:
    """Give a feature of images, or of images each with a caption: Float32 (images, width), in the order of `indices`.

    Nothing is left to chance, normalisations keep the statistics that they learnt, and nothing is computed in half precision.

    Raises:
        ValueError: there is no such feature; or captions are given, and the run has not learnt to see both together.
    """
    if captions is not None and trained.kind != PAIRED_KIND:
        raise ValueError(f"{trained.run} does not see images with captions; leave --captions away")
    searcher: Any = trained.searcher

    def features() -> Iterator[Tensor]:
        done = 0
        for batch in read_images(trained, target, indices, reading):
            more = len(batch["images"])
            if captions is None:
                found = trained.embed_images(batch["images"], batch["camera_ids"])
            else:
                texts = trained.tokens(captions[done : done + more])
                is_text = trained.table["modality"] == "text"
                found = searcher.embed_texts(*texts) if is_text else searcher.embed_pairs(batch["images"], *texts)
            done += more
            yield trained.choose_feature(found, feature)
            reading.on_progress(done, len(indices))

    return _gather(features(), len(indices))


def embed_texts(trained: Trained, texts: Sequence[str], *, feature: str, reading: Reading) -> FloatArray:
    """Give a feature of texts: Float32 (texts, width), in their order.

    Raises:
        ValueError: there is no such feature.
    """
    searcher: Any = trained.searcher
    batches = (texts[start : start + reading.batch_size] for start in range(0, len(texts), reading.batch_size))
    found = (searcher.embed_texts(*trained.tokens(batch)) for batch in batches)
    return _gather((trained.choose_feature(each, feature) for each in found), len(texts))


def read_images(trained: Trained, target: Target, indices: NDArray[np.int64], reading: Reading) -> Iterator[Batch]:
    """Yield batches of images as the run wants them, unchanged by chance, on its device.

    Raises:
        BadSample: an image cannot be read.
    """
    preparation = Preparation(
        height_width=trained.height_width, text_length=0, tokenizer=None, how=Augmentation(), seed=0
    )
    people = People(
        target.samples,
        indices,
        preparation,
        person_numbers=number_people(target.names),
        camera_ids=target.camera_ids,
    )
    share = Share(
        batch_size=reading.batch_size,
        accumulation=1,
        rank=0,
        world=1,
        workers=reading.workers,
        pin_memory=trained.device.type == "cuda",
    )
    to_device = ToDevice(trained.device, tuple(trained.table["image_mean"]), tuple(trained.table["image_std"]))
    for collated in build_loader(people, in_order(len(people), reading.batch_size), share):
        yield to_device(collated, seed=0, shared_seed=0)


@torch.inference_mode()
def _gather(batches: Iterator[Tensor], count: int) -> FloatArray:
    """Write batches behind each other into one matrix."""
    features: FloatArray | None = None
    start = 0
    for batch in batches:
        if features is None:
            features = np.empty((count, batch.shape[1]), np.float32)
        features[start : start + len(batch)] = batch.cpu().numpy()
        start += len(batch)
    assert features is not None and start == count, "every sample has a feature"
    return features
