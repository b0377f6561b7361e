"""The rules about near-duplicates: of another set, and within one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from passerby.curate.near import cosines, near_pairs, repeated, similar_pairs
from passerby.curate.parent import Parent, hash_images
from passerby.curate.rules import Ledger, Rules
from passerby.images import ImageProblem
from passerby.shards.embeddings import as_matrix, embeddings_path, take_features

NEAR_ANOTHER_SET, NEAR_DUPLICATE = "near another set", "near-duplicate"
REPEATS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "reason", "other_key", "measure")),
        ("distance", pa.float64()),
        ("is_same_person", pa.bool_()),
    ]
)
"""A row a sample that was too near another. `measure` says by what it was found: `sha256` (the same file), `hash`
(`distance` in bits of 64) or `cosine` (`distance` is 1 - cosine). Null where persons are unknown or of different sets."""


@dataclass(frozen=True)
class Images:
    """Some samples of a data set in the order of their keys, and what they are compared by."""

    rows: NDArray[np.int64]
    """(images,), among all samples of the set."""
    keys: NDArray[np.object_]
    people: NDArray[np.object_]
    """Empty where unknown."""
    sha256: pa.Array
    hashes: NDArray[np.uint64]
    features: NDArray[np.float16] | None
    """(images, width)."""

    def only(self, wanted: NDArray[np.bool_]) -> "Images":
        """Give some of them."""
        return Images(
            rows=self.rows[wanted],
            keys=self.keys[wanted],
            people=self.people[wanted],
            sha256=self.sha256.filter(pa.array(wanted)),
            hashes=self.hashes[wanted],
            features=None if self.features is None else self.features[wanted],
        )


class Matches(NamedTuple):
    """What each of some images is near to."""

    places: NDArray[np.int64]
    """(images,), which of the others; -1 for none."""
    distances: NDArray[np.float64]
    """(images,), in bits, or 1 - cosine."""


def look_at(
    parent: Parent,
    rows: NDArray[np.int64],
    *,
    has_features: bool,
    workers: int,
    on_progress: Callable[[int, int], None],
) -> tuple[Images, dict[int, ImageProblem]]:
    """Gather what samples are compared by; give the problems of those whose image cannot be decoded, by row.

    Raises:
        FileNotFoundError: embeddings are asked for, and there are none.
        ValueError: there are no images, or not an embedding for each.
    """
    hashes, problems = hash_images(parent, rows, workers=workers, on_progress=on_progress)
    is_sound = ~np.isin(rows, list(problems))
    rows, hashes = rows[is_sound], hashes[is_sound]
    order = np.asarray(pc.sort_indices(parent.column("key").take(pa.array(rows))))
    rows, hashes = rows[order], hashes[order]
    keys, sha256 = (parent.column(name).take(pa.array(rows)) for name in ("key", "sha256"))
    has_people = "person_id" in parent.schema.names
    people = parent.column("person_id").take(pa.array(rows)) if has_people else pa.array([""] * len(rows))
    features = None
    if has_features:
        paths = [embeddings_path(parent.root, name) for name in parent.names]
        features = as_matrix(take_features(paths, keys.to_pylist()))
    images = Images(
        rows=rows,
        keys=keys.to_numpy(),
        people=people.to_numpy(zero_copy_only=False),
        sha256=sha256.combine_chunks(),
        hashes=hashes,
        features=features,
    )
    return images, problems


def drop_near(ledger: Ledger, ours: Images, theirs: Images, rules: Rules) -> Images:
    """Leave out what is the same file as one of another set, or too near it; give the rest."""
    places = pc.fill_null(pc.index_in(ours.sha256, theirs.sha256), -1).to_numpy().astype(np.int64)
    same = Matches(places, np.zeros(len(places)))
    ours = _drop(ledger, ours, theirs, same, reason=NEAR_ANOTHER_SET, measure="sha256")
    near = nearest_hashes(ours.hashes, theirs.hashes, rules.hash_distance)
    ours = _drop(ledger, ours, theirs, near, reason=NEAR_ANOTHER_SET, measure="hash")
    if rules.cosine is not None and ours.features is not None and theirs.features is not None:
        near = nearest_features(ours.features, theirs.features, rules.cosine)
        ours = _drop(ledger, ours, theirs, near, reason=NEAR_ANOTHER_SET, measure="cosine")
    return ours


def drop_repeats(ledger: Ledger, images: Images, rules: Rules) -> None:
    """Leave out all but the first, by key, of each group of near-duplicates; see `passerby.curate.near.repeated`."""
    near = repeated_hashes(images.hashes, rules.hash_distance)
    images = _drop(ledger, images, images, near, reason=NEAR_DUPLICATE, measure="hash")
    if rules.cosine is not None and images.features is not None:
        near = repeated_features(images.features, rules.cosine)
        _drop(ledger, images, images, near, reason=NEAR_DUPLICATE, measure="cosine")


def nearest_hashes(ours: NDArray[np.uint64], theirs: NDArray[np.uint64], distance: int) -> Matches:
    """Find for each of our hashes the nearest of theirs within `distance`, the first of equally near ones."""
    our_distinct, inverse = np.unique(ours, return_inverse=True)
    their_distinct, first = np.unique(theirs, return_index=True)
    sides = np.arange(len(our_distinct) + len(their_distinct)) >= len(our_distinct)
    pairs = near_pairs(np.concatenate([our_distinct, their_distinct]), distance, sides)
    left, right = pairs[:, 0], pairs[:, 1] - len(our_distinct)
    bits = np.bitwise_count(our_distinct[left] ^ their_distinct[right]).astype(np.float64)
    best = _best(len(our_distinct), left, Matches(first[right], bits))
    return Matches(best.places[inverse], best.distances[inverse])


def nearest_features(ours: NDArray[np.float16], theirs: NDArray[np.float16], threshold: float) -> Matches:
    """Find for each of our features the one of theirs at the highest cosine, if that is at least `threshold`."""
    left, right = similar_pairs(ours, threshold, theirs).T
    return _best(len(ours), left, Matches(right, 1 - cosines(ours[left], theirs[right])))


def repeated_hashes(hashes: NDArray[np.uint64], distance: int) -> Matches:
    """Say which hash each one repeats, as `passerby.curate.near.repeated` does.

    Equal hashes are looked at once: either the first of them stays, and the others repeat it, or all repeat what it repeats.
    """
    distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)  # distinct hashes in the order in which they first come
    rank = np.argsort(order)[inverse]
    repeats = repeated(len(order), near_pairs(distinct[order], distance))
    stays = np.where(repeats < 0, np.arange(len(order)), repeats)
    places = first[order][stays[rank]]
    distances = np.bitwise_count(hashes ^ hashes[places]).astype(np.float64)
    return Matches(np.where(places == np.arange(len(hashes)), -1, places), distances)


def repeated_features(features: NDArray[np.float16], threshold: float) -> Matches:
    """Say which feature each one repeats, in the same way."""
    places = repeated(len(features), similar_pairs(features, threshold))
    return Matches(places, 1 - cosines(features, features[places]))


def _best(count: int, images: NDArray[np.int64], matches: Matches) -> Matches:
    """Give each of `count` images the nearest of its matches, the first of equally near ones."""
    order = np.lexsort((matches.places, matches.distances, images))
    found, first = np.unique(images[order], return_index=True)
    places, distances = np.full(count, -1, np.int64), np.zeros(count)
    places[found], distances[found] = matches.places[order][first], matches.distances[order][first]
    return Matches(places, distances)


def _drop(ledger: Ledger, images: Images, others: Images, matches: Matches, *, reason: str, measure: str) -> Images:
    """Leave out the images that match one of the others, list them, and give the rest."""
    found = matches.places >= 0
    gone, places = images.only(found), matches.places[found]
    ledger.drop(gone.rows, reason, f"found by {measure}; repeats.parquet says what it repeats")
    people = others.people[places]
    is_comparable = (gone.people != "") & (people != "") & (reason == NEAR_DUPLICATE)
    columns = {
        "key": gone.keys,
        "reason": [reason] * len(places),
        "other_key": others.keys[places],
        "measure": [measure] * len(places),
        "distance": matches.distances[found],
        "is_same_person": pa.array(gone.people == people, pa.bool_(), mask=~is_comparable),
    }
    ledger.repeats.append(pa.table(columns, schema=REPEATS_SCHEMA))
    return images.only(~found)
