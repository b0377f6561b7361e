"""What FineGPR-C is made from: the user's options, the image list joined with the attribute table, and the probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np
import pyarrow as pa

from captioning.attributes import IMAGE_SLOTS, AttributeTable, InputProblem
from captioning.refine import ProbabilityTable, measure_probabilities
from passerby.readers.finegpr import CODES, ViewpointBins, camera_view, fraction_mask
from passerby.runtime import draw


@dataclass(frozen=True)
class Options:
    """What a user may choose about the text; everything here decides bytes, and nothing here is a path."""

    threshold: Fraction
    """λ, 0…1: a value is mentioned only where its probability is at most this."""
    seed: int = 0
    """Seeds the choice of templates and of the image fraction."""
    image_fraction: Fraction = Fraction(1)
    """Share of the images to use, in (0, 1], spread evenly over view, weather and light."""
    when_empty: Literal["exclude", "keep"] = "exclude"
    """A caption that would name nothing is quarantined, or kept as "There is a person."."""
    template_per: Literal["image", "identity"] = "image"
    """Whether every image draws its own sentence pattern, or all images of a person share one."""
    viewpoint_bins: ViewpointBins = "cardinal"
    """How camera angles become front, right, back and left."""
    source: str = "FineGPR"
    """The name of the image data set, as written into samples and cards."""

    def __post_init__(self) -> None:
        """Check the values that types do not."""
        if not 0 < self.image_fraction <= 1:
            raise ValueError(f"image fraction is {self.image_fraction}; allowed is above 0 up to 1, such as 0.5")


@dataclass(frozen=True)
class Inputs:
    """The images to caption, what is known of their people, and what was found wrong."""

    images: pa.Table
    """The table of `readers.finegpr.list_images`, after `image_fraction`."""
    left_out: int
    """Images that `image_fraction` left out."""
    people: Mapping[str, Mapping[str, str]]
    """The known words of each person."""
    probabilities: ProbabilityTable
    """How probable each value is among them."""
    problems: tuple[InputProblem, ...]
    """Everything that stays unknown or unused, with its place."""


def prepare_inputs(
    images: pa.Table, table: AttributeTable, options: Options, probabilities: ProbabilityTable | None = None
) -> Inputs:
    """Join the image list with the attribute table, measure the probabilities, and take the image fraction.

    The probabilities are those of all images listed, before any is left out, unless another (a training) split's are given.
    """
    seen = set(images["person_id"].unique().to_pylist())
    without_images = [
        InputProblem(table.file, table.lines[person_id], f"person {person_id} has no image")
        for person_id in table.people
        if person_id not in seen
    ]
    problems = (*table.problems, *without_images, *_codes_out_of_range(images))
    if probabilities is None:
        people = (words for person_id, words in table.people.items() if person_id in seen)
        probabilities = measure_probabilities(people, count_image_words(images, options.viewpoint_bins))
    listed = images.num_rows
    if options.image_fraction < 1:
        share = options.image_fraction.limit_denominator(1000)
        offsets = {person_id: draw(options.seed, person_id, purpose="image fraction") for person_id in seen}
        images = images.filter(pa.array(fraction_mask(images, share.numerator, share.denominator, offsets)))
    return Inputs(images, listed - images.num_rows, table.people, probabilities, problems)


def count_image_words(images: pa.Table, bins: ViewpointBins) -> dict[str, dict[str, int]]:
    """Count the images of each view, weather and illumination word."""
    counts: dict[str, dict[str, int]] = {slot: dict.fromkeys(words, 0) for slot, words in IMAGE_SLOTS.items()}
    for column in ("camera_id", "weather_id", "illumination_id"):
        for code, count in enumerate(np.bincount(np.maximum(np.asarray(images[column]), 0))):
            for slot, word in words_of_codes(*(code if name == column else 0 for name in CODES), bins=bins).items():
                counts[slot][word] += int(count)
    return counts


@cache
def words_of_codes(
    camera_id: int, weather_id: int, illumination_id: int, scene_id: int, *, bins: ViewpointBins
) -> dict[str, str]:
    """Word what an image's name says; a code out of range stays unknown, and scenes are never named."""
    words = {}
    if 1 <= camera_id <= CODES["camera_id"]:
        words["view"] = camera_view(camera_id, bins)
    for slot, code in (("weather", weather_id), ("illumination", illumination_id)):
        if 1 <= code <= len(IMAGE_SLOTS[slot]):
            words[slot] = IMAGE_SLOTS[slot][code - 1]
    return words


def _codes_out_of_range(images: pa.Table) -> list[InputProblem]:
    parsed = np.asarray(images["camera_id"]) >= 0
    problems = []
    for name, largest in CODES.items():
        codes = np.asarray(images[name])
        for row in np.flatnonzero(parsed & ((codes < 1) | (codes > largest))):
            message = f"{name.removesuffix('_id')} code {codes[row]} is outside 1…{largest}; it stays unknown"
            problems.append(InputProblem(images["path"][int(row)].as_py(), 0, message))
    return problems
