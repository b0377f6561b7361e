"""What an evaluation searches, and by what: query and gallery as in Market-1501, captions and images, or one split in itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from passerby.metrics.labels import Labels, SameCamera
from passerby.sample import CAPTION_FIELD
from passerby.shards.read import ShardDataset
from passerby.training.batch import captions_of
from passerby.training.data import read_labels

QUERY, GALLERY, TEST = "query", "gallery", "test"


@dataclass(frozen=True)
class Target:
    """Samples that ask, and samples that are searched. Where they are the same, none finds itself."""

    samples: ShardDataset
    split: str
    """For people: `query in gallery`, or the name of the split that is both."""

    queries: NDArray[np.int64]
    """Samples that ask, Int64 (queries,); one may be there several times, with other captions."""

    gallery: NDArray[np.int64]
    """Samples that are searched, Int64 (gallery,)."""

    captions: Sequence[str] | None
    """What each query asks by; `None` where its image asks."""

    keys: Sequence[str]
    """Of all samples of the data set; and so are the next two."""

    names: Sequence[str]
    camera_ids: NDArray[np.int64]
    """Int64 (samples,), -1 where unknown."""

    @property
    def is_itself(self) -> bool:
        """Whether images of one split ask, and are searched too."""
        return self.captions is None and self.split in self.samples.manifest.splits

    def pick(self, queries: Sequence[int]) -> "Target":
        """Let some of the queries ask alone, given by their places among the queries."""
        captions = None if self.captions is None else [self.captions[place] for place in queries]
        return replace(self, queries=self.queries[[*queries]], captions=captions)

    def labels(self, same_camera: SameCamera) -> Labels:
        """Say what of the gallery counts for whom.

        A camera that is unknown, and with `keep` every camera, is one of its sample's own: then an image is never its own
        answer, and nothing else is left out.

        Raises:
            ValueError: an image would be asked and answered by the same file; as `passerby.metrics.labels.Labels`.
        """
        people = [self.names[index] for index in self.queries], [self.names[index] for index in self.gallery]
        if self.captions is not None:
            return Labels(*people)
        own = -1 - np.arange(len(self.camera_ids))
        is_own = (self.camera_ids < 0) | (same_camera == "keep")
        cameras = np.where(is_own, own, self.camera_ids)
        if not self.is_itself:
            self._check_copies(cameras)
        return Labels(*people, cameras[self.queries], cameras[self.gallery])

    def count(self) -> dict[str, int]:
        """Count people and cameras of queries and gallery together."""
        both = np.union1d(self.queries, self.gallery)
        cameras = np.unique(self.camera_ids[both])
        return {"people": len({self.names[index] for index in both}), "cameras": int((cameras >= 0).sum())}

    def _check_copies(self, cameras: NDArray[np.int64]) -> None:
        """Refuse files that would find themselves: the same bytes as query and in the gallery, where that counts."""
        digests = self.samples.metadata(["sha256"])["sha256"].to_pylist()
        asking: dict[str, int] = {digests[index]: index for index in self.queries.tolist()}
        copies = [
            (asking[digests[index]], index)
            for index in self.gallery.tolist()
            if digests[index] in asking and cameras[asking[digests[index]]] != cameras[index]
        ]
        if copies:
            query, found = (self.keys[index] for index in copies[0])
            raise ValueError(
                f"{len(copies):,} images of {self.samples.root} are query and gallery both, such as {query} and {found};"
                " each would find itself: leave them out of one"
            )


def open_target(root: str | Path, *, by_captions: bool, split: str = "") -> Target:
    """Open a data set to be searched.

    Args:
        root: Folder or URL of a data set with `person_id`.
        by_captions: Search images by all captions of the split, and not by images.
        split: The one that is searched, for images in itself; empty for `test` by captions, and for `query` in `gallery`.

    Raises:
        FileNotFoundError: there is no data set.
        ValueError: it has no such split, does not say who is in its images, or has no captions where they ask.
    """
    samples = ShardDataset(root)
    asking, searched = _find_splits(samples, split, by_captions=by_captions)
    keys, names, camera_ids = read_labels(samples)
    gallery = np.array(samples.split(searched))
    images = gallery if asking == searched else np.array(samples.split(asking))
    if any(not names[index] for index in (*images, *gallery)):
        raise ValueError(
            f"{root} does not say who is in its images: person_id is missing or empty; evaluation needs it"
        )
    told = asking if asking == searched else f"{asking} in {searched}"
    if not by_captions:
        return Target(samples, told, images, gallery, None, keys, names, camera_ids)
    captions = all_captions(samples, gallery)
    queries = np.repeat(gallery, [len(several) for several in captions])
    return Target(
        samples, told, queries, gallery, [text for several in captions for text in several], keys, names, camera_ids
    )


def all_captions(samples: ShardDataset, indices: NDArray[np.int64]) -> list[list[str]]:
    """Read all captions of some samples.

    Raises:
        ValueError: they have none.
    """
    columns = [name for name in samples[int(indices[0])]["json"] if name == "captions" or CAPTION_FIELD.fullmatch(name)]
    if not columns:
        raise ValueError(f"{samples.root} has no captions; pack a data set that has some, such as cuhk-pedes")
    return [captions_of(fields) for fields in samples.metadata(columns).take(indices).to_pylist()]


def _find_splits(samples: ShardDataset, split: str, *, by_captions: bool) -> tuple[str, str]:
    """Give the split that asks and the one that is searched."""
    there = samples.manifest.splits
    asking, searched = (split, split) if split else (TEST, TEST) if by_captions else (QUERY, GALLERY)
    if lacking := sorted({asking, searched} - there.keys()):
        wanted = "captions search images in a split test" if by_captions else "images are searched by query in gallery"
        other = next((name for name in there if name != "train"), next(iter(there)))
        raise ValueError(
            f"{samples.root} has no split {' and '.join(lacking)}; it has {', '.join(there)}. By default {wanted};"
            f" --split {other} searches another one"
        )
    return asking, searched
