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
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from captioning.divide import Attribute, PhraseBank

NEUTRAL_PROMPT = "A photo of a person."
"""What the neutral negative compares with: a sentence that says nothing, since CLIP is poor at "doesn't"."""

_CHUNK = 1024
"""Images matched at a time; bounds memory (8 MB of cosines) and changes no result."""

_LENGTH_TOLERANCE = 0.01
"""Far above what rounding does to a unit vector, far below what a forgotten normalisation does."""

_NO_RIVAL_MARGIN = 2.0
"""Margin of a phrase that is alone in its attribute: the largest difference two cosines can have."""


class Scorer(Protocol):
    """An image-text model, as `match` needs it."""

    identity: Mapping[str, str]
    """Everything that decides the features: model, weights and their hash, image mode, precision. No paths."""

    logit_scale: float
    """The factor on cosines that the model was trained with (100 for OpenAI's CLIP)."""

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Give float32 (prompts, width) of unit length."""
        ...

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Give float32 (images, width) of unit length, from RGB uint8 (height, width, 3) of any sizes."""
        ...


class HashScorer:
    """Guess from a checksum of pixels or words: no model, no meaning, microseconds an image.

    For dry runs (are all images readable, how fast is the disk?) and for tests of everything around the model.
    """

    identity: Mapping[str, str] = {"model": "none"}
    logit_scale = 100.0
    width = 64

    def encode_texts(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Give float32 (prompts, 64) of unit length, the same for the same words."""
        return self._features([zlib.crc32(prompt.encode()) for prompt in prompts])

    def encode_images(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Give float32 (images, 64) of unit length, the same for the same pixels."""
        return self._features([zlib.crc32(image.tobytes()) for image in images])

    def _features(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        drawn = np.empty((len(seeds), self.width))
        for row, seed in enumerate(seeds):
            drawn[row] = np.random.default_rng(seed).standard_normal(self.width)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn.astype(np.float32)


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
    """Choose the phrases of every image.

    Args:
        image_features: (images, width), of unit length.
        text_features: (prompts, width), of unit length, of `prompts_of(bank)`.
        bank: The phrases.
        options: How to choose.
        pooled_features: (images, width) of `pool_by_person`: decides the attributes that do not depend on the view.

    Raises:
        ValueError: shapes do not fit, or features are not of unit length (or no numbers at all).
    """
    if len(text_features) != len(bank.prompts) + 1:
        raise ValueError(f"{len(text_features)} text features for {len(bank.prompts)} prompts; encode prompts_of(bank)")
    texts = _rounded(text_features, "text").T
    images = _rounded(image_features, "image")
    columns = [_columns(attribute, bank, options) for attribute in bank.attributes]
    matches = _match_all(images, texts, columns, options)
    if pooled_features is None:
        return matches
    if pooled_features.shape != image_features.shape:
        raise ValueError(f"pooled features are {pooled_features.shape}, images {image_features.shape}")
    pooled = _match_all(pooled_features.astype(np.float16), texts, columns, options)
    is_own = np.array([attribute.view_dependent for attribute in bank.attributes])
    names = (field.name for field in fields(Matches))
    return Matches(*(np.where(is_own, getattr(matches, name), getattr(pooled, name)) for name in names))


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


@dataclass(frozen=True, slots=True)
class _Columns:
    """The prompts among which one attribute is decided."""

    prompts: NDArray[np.intp]
    is_selectable: NDArray[np.bool_]
    is_required: bool


def _columns(attribute: Attribute, bank: PhraseBank, options: MatchOptions) -> _Columns:
    block = bank.block(attribute.name)
    candidates = [
        (place, not phrase.is_negative)
        for place, phrase in zip(range(block.start, block.stop), attribute.phrases, strict=True)
        if not phrase.is_negative or options.negatives != "neutral"
    ]
    if not attribute.is_required and options.negatives != "phrase":
        candidates.append((len(bank.prompts), False))
    places, selectable = zip(*candidates, strict=True)
    return _Columns(np.array(places), np.array(selectable), attribute.is_required)


def _rounded(features: NDArray[np.floating], kind: str) -> NDArray[np.float16]:
    lengths = np.linalg.norm(features.astype(np.float32), axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_TOLERANCE))
    if len(wrong):
        raise ValueError(
            f"{kind} features {wrong[0]} have length {lengths[wrong[0]]:g} instead of 1; normalise them in"
            " 32 bits, and if they are no numbers encode with precision fp32"
        )
    return features.astype(np.float16)


def _match_all(
    images: NDArray[np.float16],
    texts: NDArray[np.float16],
    columns: Sequence[_Columns],
    options: MatchOptions,
) -> Matches:
    shape = (len(images), len(columns))
    kinds = (np.int16, np.float32, np.float32, np.int16)
    found = Matches(*(np.empty(shape, kind) for kind in kinds))
    exact_texts = texts.astype(np.float64)
    for start in range(0, len(images), _CHUNK):
        # shape: (chunk, prompts)
        cosines = images[start : start + _CHUNK].astype(np.float64) @ exact_texts
        for number, column in enumerate(columns):
            decided = _decide(np.take(cosines, column.prompts, axis=1), column, options)
            for field, values in zip(fields(Matches), decided, strict=True):
                getattr(found, field.name)[start : start + _CHUNK, number] = values
    return found


def _decide(
    cosines: NDArray[np.float64], columns: _Columns, options: MatchOptions
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float64], NDArray[np.intp]]:
    """Decide one attribute: index, confidence, margin and runner-up (images,) from cosines (images, candidates)."""
    rows = np.arange(len(cosines))
    # argmax takes the first of equals: ties go to the lowest index
    best = np.where(columns.is_selectable, cosines, -np.inf).argmax(axis=1)
    powers = np.exp(options.logit_scale * (cosines - cosines.max(axis=1, keepdims=True)))
    if columns.is_required or options.optional_rule == "phrase":
        weight = powers[rows, best]
    else:
        weight = powers[:, columns.is_selectable].sum(axis=1)
    confidence = (weight / powers.sum(axis=1)).astype(np.float32)
    is_selected = columns.is_required | (confidence > np.float32(options.threshold))
    index = np.where(is_selected, columns.prompts[best], -1)
    if cosines.shape[1] == 1:
        return index, confidence, np.full(len(rows), _NO_RIVAL_MARGIN), np.full(len(rows), -1)
    rivals = cosines.copy()
    rivals[rows, best] = -np.inf
    runner_up = rivals.argmax(axis=1)
    margin = cosines[rows, best] - rivals[rows, runner_up]
    return index, confidence, margin, columns.prompts[runner_up]
