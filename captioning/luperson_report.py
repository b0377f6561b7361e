"""What a LUPerson-T data set says, beside what the published one says.

Source: UniPT, figure 4 (580,257 optional attributes in 1.28 million images) and section 4; shares are ours, from those counts.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from captioning.divide import OPTIONAL, REQUIRED
from passerby.shards.read import ShardDataset
from passerby.text import words_of

PUBLISHED = {
    "bag": 221_750,
    "cellphone": 118_686,
    "glasses": 99_492,
    "hat": 97_063,
    "vehicle": 24_736,
    "gloves": 16_259,
    "umbrella": 1_578,
    "smoke": 693,
}
"""How many captions of the published data set name each optional attribute."""

PUBLISHED_IMAGES = 1_281_167
PUBLISHED_VOCABULARY = 459
FAR = 5.0
"""An attribute's share that is off by more than this factor is flagged."""


def measure(root: Path) -> dict[str, Any]:
    """Count attributes, words, captions and templates of a data set, from `meta/` alone.

    Returns:
        JSON: `attributes` (a row for each optional one), `rank_correlation` with the published counts (Spearman; `None`
        where fewer than two attributes occur), `classes` of the required ones, and figures on the text.

    Raises:
        FileNotFoundError, ValueError: `root` is no LUPerson-T data set.
    """
    table = ShardDataset(root).metadata(["caption", "templates", *REQUIRED, *OPTIONAL])
    images = len(table)
    counts = {name: pc.sum(pc.not_equal(table[name], "")).as_py() or 0 for name in OPTIONAL}
    return {
        "images": images,
        "attributes": [_attribute(name, counts, images) for name in PUBLISHED],
        "rank_correlation": rank_correlation([counts[name] for name in PUBLISHED], list(PUBLISHED.values())),
        "classes": {name: _shares(table[name]) for name in REQUIRED},
        **_text(table["caption"]),
        **_templates(table["templates"]),
    }


def rank_correlation(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Give Spearman's rank correlation, ties sharing their mean rank; `None` where one side has a single value throughout."""
    first, second = _ranks(ours), _ranks(theirs)
    means = sum(first) / len(first), sum(second) / len(second)
    products = sum((a - means[0]) * (b - means[1]) for a, b in zip(first, second, strict=True))
    squares = sum((a - means[0]) ** 2 for a in first) * sum((b - means[1]) ** 2 for b in second)
    return round(products / squares**0.5, 4) if squares else None


def show(report: Mapping[str, Any]) -> str:
    """Lay the report out as a table for people."""
    lines = ["attribute    selected  of images  published   ratio"]
    for row in report["attributes"]:
        flag = f"  off by more than {FAR:g} times" if row["is_far"] else ""
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        counts = f"{row['selected']:>8,}  {row['share']:>9.2%}  {row['published_share']:>9.2%}"
        lines.append(f"{row['attribute']:<11}{counts}  {ratio:>6}{flag}")
    correlation = "undefined" if report["rank_correlation"] is None else f"{report['rank_correlation']:.2f}"
    lines += [
        f"rank correlation with the published counts: {correlation}",
        f"captions: {report['distinct_captions']:,} distinct of {report['images']:,}; "
        f"{report['words_mean']:.1f} words on average, {report['words_min']} to {report['words_max']}",
        f"vocabulary: {report['vocabulary']:,} words (published: {PUBLISHED_VOCABULARY})",
        f"templates: {report['templates_used']} used; chi-square against uniform {report['templates_chi_square']:.0f}",
    ]
    for name, shares in report["classes"].items():
        common = ", ".join(f"{phrase.partition('.')[2]} {share:.1%}" for phrase, share in list(shares.items())[:4])
        lines.append(f"{name}: {common}")
    return "\n".join(lines)


def _attribute(name: str, counts: Mapping[str, int], images: int) -> dict[str, Any]:
    share, published = counts[name] / max(images, 1), PUBLISHED[name] / PUBLISHED_IMAGES
    return {
        "attribute": name,
        "selected": counts[name],
        "share": round(share, 6),
        "share_of_occurrences": round(counts[name] / max(sum(counts.values()), 1), 6),
        "published_count": PUBLISHED[name],
        "published_share": round(published, 6),
        "ratio": round(share / published, 4) if share else None,
        "is_far": not published / FAR <= share <= published * FAR,
    }


def _shares(column: pa.ChunkedArray) -> dict[str, float]:
    counted = sorted(((row["counts"], row["values"]) for row in pc.value_counts(column).to_pylist()), reverse=True)
    return {value: round(count / len(column), 6) for count, value in counted}


def _text(captions: pa.ChunkedArray) -> dict[str, Any]:
    """Count words, by way of the few distinct pieces between the spaces."""
    vocabulary: set[str] = set()
    lengths = [np.zeros(0, np.int64)]
    for chunk in captions.chunks:
        pieces = pc.utf8_split_whitespace(pc.utf8_lower(chunk))
        encoded = pieces.flatten().dictionary_encode()
        words = [words_of(piece) for piece in encoded.dictionary.to_pylist()]
        vocabulary.update(word for several in words for word in several)
        counts = np.array([len(several) for several in words], np.int64)[encoded.indices]
        ends = np.cumsum(pc.list_value_length(pieces).to_numpy())
        lengths.append(np.diff(np.r_[0, np.cumsum(counts)][np.r_[0, ends]]))
    counted = np.concatenate(lengths)
    return {
        "distinct_captions": pc.count_distinct(captions).as_py(),
        "vocabulary": len(vocabulary),
        "words_mean": round(float(counted.mean()), 3) if len(counted) else 0.0,
        "words_min": int(counted.min()) if len(counted) else 0,
        "words_max": int(counted.max(initial=0)),
    }


def _templates(column: pa.ChunkedArray) -> dict[str, Any]:
    counted = pc.value_counts(pc.list_flatten(column))
    counts = [row["counts"] for row in counted.to_pylist()]
    expected = sum(counts) / max(len(counts), 1)
    chi_square = sum((count - expected) ** 2 for count in counts) / expected if counts else 0.0
    return {"templates_used": len(counts), "templates_chi_square": round(chi_square, 2)}


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]
