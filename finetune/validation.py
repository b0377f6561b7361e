"""How well people who were held out are found, to choose the best epoch by."""

from collections import defaultdict
from collections.abc import Callable, Iterable
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
    return score_alike(batches, lambda batch: searcher.embed_images(batch["images"])[feature], distance=distance)


def score_alike(batches: Iterable[Batch], embed: Callable[[Batch], Tensor], *, distance: Distance) -> dict[str, float]:
    """Search each sample among all others of another camera or person: `mAP`, `mINP`, `rank_1`.

    Args:
        batches: Of samples with persons and cameras; one whose camera is unknown has one of its own.
        embed: Gives what samples are compared by, Float (batch, width).
        distance: How.
    """
    features, people, cameras = [], [], []
    for batch in batches:
        features.append(embed(batch).float())
        people.append(batch["person_ids"])
        cameras.append(batch["camera_ids"])
    found, person_ids, camera_ids = torch.cat(features), torch.cat(people).tolist(), torch.cat(cameras).cpu()
    own = -1 - torch.arange(len(camera_ids))
    known = torch.where(camera_ids < 0, own, camera_ids).tolist()
    scores = evaluate_retrieval(
        found, found, Labels(person_ids, person_ids, known, known), distance=distance, ranks=(1,)
    )
    return {"mAP": scores.mAP, "mINP": scores.mINP, "rank_1": scores.rank[1]}


def score_texts(batches: Iterable[Batch], searcher: TextSearcher, *, distance: Distance) -> dict[str, dict[str, float]]:
    """Search all images by each text, whatever its camera: `rank_1`, `rank_5`, `rank_10` and `mAP`, for each feature.

    Args:
        batches: Of pairs of image and caption; an image that comes with several captions is searched once, by its key.
        searcher: Gives features of both.
        distance: How they are compared.
    """
    found: defaultdict[str, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    queries: list[int] = []
    gallery: dict[str, int] = {}
    for batch in batches:
        people, unseen = batch["person_ids"].tolist(), []
        for place, key in enumerate(batch["keys"]):
            if key not in gallery:
                gallery[key] = people[place]
                unseen.append(place)
        queries += people
        for feature, texts in searcher.embed_texts(batch["token_ids"], batch["token_mask"]).items():
            found[feature][0].append(texts.float())
        for feature, images in searcher.embed_images(batch["images"][unseen]).items() if unseen else ():
            found[feature][1].append(images.float())
    labels = Labels(queries, [*gallery.values()])
    scores = {}
    for feature, (of_texts, of_images) in found.items():
        each = evaluate_retrieval(torch.cat(of_texts), torch.cat(of_images), labels, distance=distance)
        scores[feature] = {**{f"rank_{k}": share for k, share in each.rank.items()}, "mAP": each.mAP}
    return scores
