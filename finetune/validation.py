"""How well people who were held out are found, to choose the best epoch by."""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from passerby.metrics.distances import Distance
from passerby.metrics.labels import Labels
from passerby.metrics.scores import evaluate_retrieval
from passerby.training.batch import Batch


class ImageSearcher(Protocol):
    """What images are found by."""

    def embed_images(self, images: Tensor) -> dict[str, Tensor]:
        """Give features by name: Float (batch, width) each, of images Float (batch, 3, height, width), normalised."""
        ...


class TextSearcher(ImageSearcher, Protocol):
    """What images are found by, from a text."""

    def embed_texts(self, token_ids: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """Give features by name, comparable with those of images: Float (batch, width) each."""
        ...


def score_images(
    batches: Iterable[Batch], searcher: ImageSearcher, *, feature: str, distance: Distance
) -> dict[str, float]:
    """Search each image among all others of another camera or person: `mAP`, `mINP`, `rank_1`."""
    features, people, cameras = [], [], []
    for batch in batches:
        features.append(searcher.embed_images(batch["images"])[feature].float())
        people.append(batch["person_ids"])
        cameras.append(batch["camera_ids"])
    found, person_ids, camera_ids = torch.cat(features), torch.cat(people).tolist(), torch.cat(cameras).tolist()
    scores = evaluate_retrieval(
        found, found, Labels(person_ids, person_ids, camera_ids, camera_ids), distance=distance, ranks=(1,)
    )
    return {"mAP": scores.mAP, "mINP": scores.mINP, "rank_1": scores.rank[1]}
