"""Who is on the images of queries and gallery, and what of the gallery counts for a query."""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

SameCamera = Literal["drop", "keep"]

_NOBODY = ("-1", "")
"""Ids of no person in particular: Market-1501's for junk, and a data set's for unknown."""


class Labels:
    """Who is on each image, and which camera took it.

    An image of the gallery is good if it shows the person of the query, but junk, which does not count, if it shows that
    person from the camera of the query. Without cameras, as for text queries, there is no junk.

    Args:
        query_person_ids: Whole numbers or texts, (queries,).
        gallery_person_ids: Of the same kind, (gallery,).
        query_camera_ids: Whole numbers or texts, (queries,).
        gallery_camera_ids: Of the same kind, (gallery,).
        same_camera: `keep` makes nothing junk: for data of one camera. No image may then be query and gallery both.

    Raises:
        ValueError: ids are of other or differing kinds, not one an image, or nobody's (-1, empty); cameras are known on one
            side only; or there is no such `same_camera`.
    """

    def __init__(
        self,
        query_person_ids: ArrayLike,
        gallery_person_ids: ArrayLike,
        query_camera_ids: ArrayLike | None = None,
        gallery_camera_ids: ArrayLike | None = None,
        *,
        same_camera: SameCamera = "drop",
    ) -> None:
        if same_camera not in {"drop", "keep"}:
            raise ValueError(f"same_camera is {same_camera!r}; allowed are drop, keep")
        query_people, gallery_people = _numbered(query_person_ids, gallery_person_ids, "person")
        self.queries, self.gallery = len(query_people), len(gallery_people)
        # Cameras that are unknown, or of no concern, never meet.
        self._query_cameras, self._gallery_cameras = np.zeros(self.queries, int), np.ones(self.gallery, int)
        if (query_camera_ids is None) != (gallery_camera_ids is None):
            raise ValueError("camera ids are given for one of query and gallery; give them for both or for neither")
        if query_camera_ids is not None and gallery_camera_ids is not None:
            cameras = _numbered(query_camera_ids, gallery_camera_ids, "camera")
            if (len(cameras[0]), len(cameras[1])) != (self.queries, self.gallery):
                raise ValueError(
                    f"camera ids of {len(cameras[0])} queries and {len(cameras[1])} gallery images, "
                    f"but person ids of {self.queries} and {self.gallery}; must be as many"
                )
            if same_camera == "drop":
                self._query_cameras, self._gallery_cameras = cameras
        self._by_person = np.argsort(gallery_people, kind="stable")
        people = gallery_people[self._by_person]
        self._starts, self._stops = (np.searchsorted(people, query_people, side) for side in ("left", "right"))

    def of_person(self, query: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Give where the gallery shows the person of a query, and which of it is junk: Int64 and Bool (images,)."""
        places = self._by_person[self._starts[query] : self._stops[query]]
        return places, self._gallery_cameras[places] == self._query_cameras[query]

    def check(self) -> None:
        """Make sure that some query can be answered.

        Raises:
            ValueError: none can.
        """
        if any((~self.of_person(query)[1]).any() for query in range(self.queries)):
            return
        if np.any(self._starts < self._stops):
            raise ValueError(
                f"all {self.queries} queries are invalid: their persons are in the gallery, but only from the camera of the query; "
                "custom data with one camera needs same_camera='keep'"
            )
        raise ValueError(
            f"all {self.queries} queries are invalid: the gallery of {self.gallery} images shows none of their persons; "
            "take query and gallery of one split"
        )


def _numbered(query_ids: ArrayLike, gallery_ids: ArrayLike, what: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Replace ids by numbers that are the same for the same id."""
    queries, gallery = (
        _id_array(ids, f"{name}_{what}_ids") for name, ids in (("query", query_ids), ("gallery", gallery_ids))
    )
    if (queries.dtype.kind == "U") != (gallery.dtype.kind == "U"):
        raise ValueError(
            f"{what} ids are {queries.dtype} of queries and {gallery.dtype} of the gallery; must be of one kind"
        )
    together = np.concatenate([queries, gallery])
    nobody = np.isin(together.astype(str), _NOBODY)
    if what == "person" and nobody.any():
        raise ValueError(
            f"{nobody.sum()} images are of person {str(together[nobody][0])!r}, who is nobody; leave them out"
        )
    _, numbers = np.unique(together, return_inverse=True)
    return numbers[: len(queries)], numbers[len(queries) :]


def _id_array(ids: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(ids)
    if array.dtype == object:  # texts, as pandas keeps them
        array = np.asarray(array.tolist())
    if array.ndim != 1 or array.dtype.kind not in "iuU" or not array.size:
        raise ValueError(
            f"{name} must be whole numbers or texts, one an image, got {array.dtype} of shape {array.shape}"
        )
    return array
