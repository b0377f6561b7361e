"""Conquer: match every image with the phrases of every attribute, by the cosines of one image-text model.

Required attributes take the phrase of highest cosine. An optional attribute takes its best phrase only where its
probability among the attribute's own phrases, the negative one included, is above 0.9.

The cosines here are exact, so they do not depend on chunks, order, threads or machine: features are rounded to 16
bits, a product of two such numbers fits 48 binary places, and 64-bit sums of them, below 2, lose nothing.

Source: UniPT, section 3.1, "Conquer". The softmax's scale and set are not printed there; see `MatchOptions`.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from captioning.divide import Attribute, PhraseBank

NEUTRAL_PROMPT = "A photo of a person."
"""What the neutral negative compares with: a sentence that says nothing, since CLIP is poor at "doesn't"."""

_CHUNK = 64
"""Images matched at a time: their cosines (0.5 MB) stay in the cache of a core. Changes no result."""

_LENGTH_TOLERANCE = 0.01
"""Far above what rounding does to a unit vector, far below what a forgotten normalisation does."""

_GUESSED_SPREAD = 0.1
"""Guessed cosines lie this far around 0.9, close together as those of CLIP do: then about as many optional attributes
pass the threshold of 0.9 as in the published captions, one for every second image. Spread over -1…1, most would."""

_NO_RIVAL_MARGIN = 2.0
"""Margin of a phrase that is alone in its attribute: the largest difference two cosines can have."""


class Scorer(Protocol):
    """An image-text model, as `match` needs it."""

    identity: Mapping[str, str]
    """Everything that decides the features: model, weights and their hash, image mode, precision. No paths."""

    logit_scale: float
    """The factor on cosines that the model was trained with (100 for OpenAI's CLIP)."""

    on_gpu: bool
    """Whether the CPU is idle while images are encoded, and so can decode the next ones."""

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Give float32 (prompts, width) of unit length."""
        ...

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Give float32 (images, width) of unit length, from RGB uint8 (height, width, 3) of any sizes."""
        ...


class HashScorer:
    """Guess from a checksum of words, or of every sixteenth row of pixels: no model, no meaning, microseconds an image.

    For dry runs (are all images readable, how fast is the disk?) and for tests of everything around the model.
    """

    identity: Mapping[str, str] = {"model": "none"}
    logit_scale = 100.0
    on_gpu = False
    width = 64

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Give float32 (prompts, 64) of unit length, the same for the same words."""
        return self._features([zlib.crc32(prompt.encode()) for prompt in prompts])

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Give float32 (images, 64) of unit length, the same for the same pixels."""
        return self._features([zlib.crc32(image[::16].tobytes()) for image in images])

    def _features(self, checksums: Sequence[int]) -> NDArray[np.float32]:
        # Three of 1024 drawn vectors added up, by 10 bits of the checksum each, make a billion directions.
        places = np.array(checksums, np.int64)[:, None] >> np.array([0, 10, 20]) & 1023
        own: NDArray[np.float64] = _drawn_vectors(1024, self.width - 1)[places].sum(axis=1)
        own *= np.sqrt(_GUESSED_SPREAD) / np.linalg.norm(own, axis=1, keepdims=True)
        shared = np.full((len(own), 1), np.sqrt(1 - _GUESSED_SPREAD))
        return np.concatenate([shared, own], axis=1).astype(np.float32)


@cache
def _drawn_vectors(count: int, width: int) -> NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((count, width))


@dataclass(frozen=True, slots=True)
class MatchOptions:
    """How phrases are chosen."""

    threshold: float = 0.9
    """An optional phrase needs a probability strictly above this, 0…1."""

    logit_scale: float = 100.0
    """Factor on the cosines before the softmax: CLIP's own. With 1, a probability of 0.9 is out of reach."""

    optional_rule: Literal["phrase", "attribute"] = "phrase"
    """What is held against the threshold: the best phrase, or the sum of the attribute's positive phrases, which
    similar phrases (sling bag, single-shoulder bag) do not split."""

    negatives: Literal["phrase", "neutral", "both"] = "phrase"
    """What positives compete with: "doesn't carry a bag", "A photo of a person.", or both."""

    def __post_init__(self) -> None:
        """Check the values that types do not."""
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; it is a probability, 0 to 1, such as 0.9")
        if not 0 < self.logit_scale < float("inf"):
            raise ValueError(f"logit_scale is {self.logit_scale}; it must be above 0, such as 100")


@dataclass(frozen=True, slots=True)
class Matches:
    """What was found in each image, a column for each attribute in the bank's order."""

    index: NDArray[np.int16]
    """(images, attributes): place of the selected phrase among the bank's prompts, -1 for none."""

    confidence: NDArray[np.float32]
    """(images, attributes): softmax probability, 0…1, of the best phrase, selected or not, among its rivals; with
    `optional_rule="attribute"` that of all positive phrases of the attribute together."""

    margin: NDArray[np.float32]
    """(images, attributes): cosine of the best phrase minus that of its strongest rival; below 0 where a negative
    phrase is ahead of every positive one. In cosines, so that scales do not matter."""

    runner_up: NDArray[np.int16]
    """(images, attributes): place of that rival among the prompts of `prompts_of`, -1 where there is none."""


def prompts_of(bank: PhraseBank) -> tuple[str, ...]:
    """Give the sentences to encode: the bank's prompts in order, then the neutral one."""
    return (*bank.prompts, NEUTRAL_PROMPT)


def match(
    image_features: NDArray[np.floating],
    text_features: NDArray[np.floating],
    bank: PhraseBank,
    options: MatchOptions,
    *,
    pooled_features: NDArray[np.floating] | None = None,
) -> Matches:
    """Choose the phrases of every image, as `Matcher.match` does; for batch after batch, keep a `Matcher`."""
    return Matcher(text_features, bank, options).match(image_features, pooled_features=pooled_features)


class Matcher:
    """Chooses the phrases of images, batch after batch, from texts that are prepared once.

    The prompts among which the attributes are decided, here called candidates, lie side by side, attribute by
    attribute; the neutral prompt stands among those of each attribute that it is a rival in.
    """

    def __init__(self, text_features: NDArray[np.floating], bank: PhraseBank, options: MatchOptions) -> None:
        """Prepare the texts.

        Args:
            text_features: (prompts, width), of unit length, of `prompts_of(bank)`.
            bank: The phrases.
            options: How to choose.

        Raises:
            ValueError: the number of texts is another, or features are not of unit length (or no numbers at all).
        """
        if len(text_features) != len(bank.prompts) + 1:
            raise ValueError(
                f"{len(text_features)} text features for {len(bank.prompts)} prompts; encode prompts_of(bank)"
            )
        candidates = [_candidates(attribute, bank, options) for attribute in bank.attributes]
        self._options = options
        self._ends = np.cumsum([len(places) for places in candidates])
        self._starts = np.concatenate([[0], self._ends[:-1]])
        self._places = np.concatenate(candidates)
        is_positive = np.array([*(not phrase.is_negative for phrase in bank.phrases), False])
        self._is_selectable = is_positive[self._places]
        self._is_required = np.array([attribute.is_required for attribute in bank.attributes])
        self._is_view_dependent = np.array([attribute.view_dependent for attribute in bank.attributes])
        # shape: (width, candidates)
        self._texts = _rounded(text_features, "text")[self._places].T.astype(np.float64)

    def match(
        self, image_features: NDArray[np.floating], *, pooled_features: NDArray[np.floating] | None = None
    ) -> Matches:
        """Choose the phrases of every image.

        Args:
            image_features: (images, width), of unit length.
            pooled_features: (images, width) of `pool_by_person`: decides the attributes that do not depend on the view.

        Raises:
            ValueError: shapes do not fit, or features are not of unit length (or no numbers at all).
        """
        matches = self._match(_rounded(image_features, "image"))
        if pooled_features is None:
            return matches
        if pooled_features.shape != image_features.shape:
            raise ValueError(f"pooled features are {pooled_features.shape}, images {image_features.shape}")
        pooled = self._match(pooled_features.astype(np.float16))
        names = (field.name for field in fields(Matches))
        return Matches(
            *(np.where(self._is_view_dependent, getattr(matches, name), getattr(pooled, name)) for name in names)
        )

    def _match(self, images: NDArray[np.float16]) -> Matches:
        chunks = [self._decide(images[start : start + _CHUNK]) for start in range(0, max(len(images), 1), _CHUNK)]
        return Matches(*map(np.concatenate, zip(*chunks, strict=True)))

    def _decide(self, images: NDArray[np.float16]) -> tuple[NDArray[np.generic], ...]:
        """Give the fields of `Matches`, each (images, attributes)."""
        # shape: (images, candidates)
        cosines = images.astype(np.float64) @ self._texts
        # shape: (images, attributes), as of all that follow but powers
        best = self._argmax(np.where(self._is_selectable, cosines, -np.inf))
        best_cosines = np.take_along_axis(cosines, best, axis=1)
        highest = np.maximum.reduceat(cosines, self._starts, axis=1)
        powers = np.exp(self._options.logit_scale * (cosines - np.repeat(highest, self._ends - self._starts, axis=1)))
        weights = np.take_along_axis(powers, best, axis=1)
        if self._options.optional_rule == "attribute":
            positive = np.add.reduceat(np.where(self._is_selectable, powers, 0), self._starts, axis=1)
            weights = np.where(self._is_required, weights, positive)
        confidences = (weights / np.add.reduceat(powers, self._starts, axis=1)).astype(np.float32)
        is_selected = self._is_required | (confidences > np.float32(self._options.threshold))
        np.put_along_axis(cosines, best, -np.inf, axis=1)  # of what is left, the best is the strongest rival
        rivals = self._argmax(cosines)
        rival_cosines = np.take_along_axis(cosines, rivals, axis=1)
        has_rival = rival_cosines > -np.inf
        return (
            np.where(is_selected, self._places[best], -1).astype(np.int16),
            confidences,
            np.where(has_rival, best_cosines - rival_cosines, _NO_RIVAL_MARGIN).astype(np.float32),
            np.where(has_rival, self._places[rivals], -1).astype(np.int16),
        )

    def _argmax(self, values: NDArray[np.float64]) -> NDArray[np.intp]:
        """Give the place of the largest of each attribute's candidates; of equals the first, so ties go to the lowest."""
        spans = zip(self._starts, self._ends, strict=True)
        return np.stack([start + values[:, start:end].argmax(axis=1) for start, end in spans], axis=1)


def pool_by_person(image_features: NDArray[np.floating], person_ids: Sequence[str]) -> NDArray[np.float16]:
    """Give every image the mean features of its person, so that a person's images vote.

    The cosine with a mean is the mean of the cosines, so the softmax of it is the normalised geometric mean of the
    images' probabilities: matching these features averages log-probabilities.

    Args:
        image_features: (images, width), of unit length.
        person_ids: Whose image each is; "" where unknown, and such an image keeps its own features.

    Returns:
        Float16 (images, width), the same for any order of the images; at most of unit length.
    """
    pooled = image_features.astype(np.float16)
    people, persons = np.unique(np.asarray(person_ids, dtype=np.str_), return_inverse=True)
    order = np.argsort(persons, kind="stable")
    for person, rows in zip(people, np.split(order, np.cumsum(np.bincount(persons))[:-1]), strict=True):
        if person:
            pooled[rows] = pooled[rows].mean(axis=0, dtype=np.float64)  # the sum of 16-bit numbers is exact
    return pooled


def _candidates(attribute: Attribute, bank: PhraseBank, options: MatchOptions) -> list[int]:
    """Give the places, among `prompts_of(bank)`, of the prompts among which an attribute is decided."""
    block = bank.block(attribute.name)
    places = [
        place
        for place, phrase in zip(range(block.start, block.stop), attribute.phrases, strict=True)
        if not phrase.is_negative or options.negatives != "neutral"
    ]
    if not attribute.is_required and options.negatives != "phrase":
        places.append(len(bank.prompts))
    return places


def _rounded(features: NDArray[np.floating], kind: str) -> NDArray[np.float16]:
    lengths = np.linalg.norm(features.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_TOLERANCE))
    if len(wrong):
        raise ValueError(
            f"{kind} features {wrong[0]} have length {lengths[wrong[0]]:g} instead of 1; normalise them in"
            " 32 bits, and if they are no numbers encode with precision fp32"
        )
    return features.astype(np.float16)
