"""The figures worth a line each, and two data sets beside each other by them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

VALUES_SHOWN = 12
"""Values of an attribute that a comparison and a page show; `report.json` has all."""


@dataclass(frozen=True)
class Figure:
    """Where a figure stands in a report, and how to read it."""

    group: str
    name: str
    path: str
    """Keys of the report, with dots between."""

    kind: Literal["count", "share", "number"]
    better: Literal["higher", "lower", ""] = ""
    """Which way is an improvement, where that can be said without knowing the purpose."""

    is_of_size: bool = False
    """Whether more captions alone move it, so that it improves nothing against a larger or smaller set."""


FIGURES = (
    Figure("Size", "Images", "images.total", "count"),
    Figure("Size", "Captions", "captions.total", "count"),
    Figure("Size", "People", "people.total", "count"),
    Figure("Diversity", "Distinct captions", "diversity.distinct_captions", "count", "higher", is_of_size=True),
    Figure(
        "Diversity", "Distinct captions of all", "diversity.distinct_caption_share", "share", "higher", is_of_size=True
    ),
    Figure("Diversity", "Vocabulary, words", "diversity.vocabulary", "count", "higher", is_of_size=True),
    Figure("Diversity", "Distinct-1", "diversity.distinct_1", "number", "higher", is_of_size=True),
    Figure("Diversity", "Distinct-2", "diversity.distinct_2", "number", "higher", is_of_size=True),
    Figure("Diversity", "Distinct-3", "diversity.distinct_3", "number", "higher", is_of_size=True),
    Figure("Diversity", "Self-BLEU-4 (a sample)", "diversity.self_bleu_4.value", "number", "lower"),
    Figure(
        "Diversity", "Texts said of several people", "diversity.shared_texts.texts", "count", "lower", is_of_size=True
    ),
    Figure(
        "Diversity",
        "People of whom such a text is said",
        "diversity.shared_texts.people",
        "count",
        "lower",
        is_of_size=True,
    ),
    Figure("Health", "Words a caption, mean", "health.words.mean", "number"),
    Figure("Health", "Words a caption, most", "health.words.max", "count"),
    Figure("Health", "CLIP tokens a caption, mean", "health.tokens.clip_bpe.mean", "number"),
    Figure("Health", "Cut at 64 CLIP tokens", "health.tokens.clip_bpe.cut.64", "share", "lower"),
    Figure("Health", "Cut at 77 CLIP tokens", "health.tokens.clip_bpe.cut.77", "share", "lower"),
    Figure("Health", "Cut at 100 BERT tokens", "health.tokens.bert_wordpiece.cut.100", "share", "lower"),
    Figure("Health", "Captions with faults of English", "health.lint.share", "share", "lower"),
    Figure("Health", "Captions that name a gender", "health.demographic_terms.perceived_gender.share", "share"),
    Figure("Health", "Captions that name an age", "health.demographic_terms.perceived_age.share", "share"),
    Figure(
        "Health",
        "Captions that name skin or ethnicity",
        "health.demographic_terms.skin_or_ethnicity.captions",
        "count",
        "lower",
    ),
    Figure("Health", "Images that are there twice", "health.duplicates.images", "count", "lower", is_of_size=True),
    Figure("Health", "Empty captions", "captions.empty", "count", "lower", is_of_size=True),
)


def value_at(report: Mapping[str, Any], path: str) -> float | None:
    """Give a figure of a report; `None` where it was not measured."""
    value: Any = report
    for name in path.split("."):
        if value is None:
            return None
        value = value[name]
    number: float | None = value
    return number


def compare(this: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Give `comparison`, as `passerby.report` lists it.

    An attribute's `distance` is the total variation between both distributions: the share of images that would have to change
    their value to turn one into the other.
    """
    ours, theirs = this["fidelity"]["attributes"], other["fidelity"]["attributes"]
    return {
        "source": other["source"],
        "captions": other["captions"]["total"],
        "figures": [
            {
                "group": figure.group,
                "name": figure.name,
                "this": value_at(this, figure.path),
                "other": value_at(other, figure.path),
            }
            for figure in FIGURES
        ],
        "attributes": [
            {"attribute": name, **_distributions(ours[name]["values"], theirs[name]["values"])}
            for name in ours
            if name in theirs
        ],
    }


def _distributions(ours: Mapping[str, int], theirs: Mapping[str, int]) -> dict[str, Any]:
    totals = max(1, sum(ours.values())), max(1, sum(theirs.values()))
    shares = {value: (ours.get(value, 0) / totals[0], theirs.get(value, 0) / totals[1]) for value in {**ours, **theirs}}
    ordered = sorted(shares.items(), key=lambda item: (-max(item[1]), item[0]))
    return {
        "distance": round(sum(abs(a - b) for a, b in shares.values()) / 2, 6),
        "values": [
            {"value": value, "this": round(a, 6), "other": round(b, 6)} for value, (a, b) in ordered[:VALUES_SHOWN]
        ],
    }
