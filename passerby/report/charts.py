"""Histograms as rectangles in a box of fixed size, which the page scales: no script, no library."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 330.0, 100.0
"""Units of the drawing; the page gives them a size in pixels. Axis labels stand below."""

MAX_COLUMNS = 42
_STEPS = (1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True)
class Column:
    """One bar of a histogram."""

    x: float
    y: float
    width: float
    height: float
    title: str
    """Shown when the pointer rests on it."""


@dataclass(frozen=True)
class Mark:
    """A place on the axis, with its text."""

    x: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A histogram ready to draw."""

    columns: Sequence[Column]
    ticks: Sequence[Mark]
    cuts: Sequence[Mark]
    """Vertical lines."""


def histogram(counts: Mapping[str, int], *, unit: str, cuts: Sequence[int] = ()) -> Chart:
    """Draw how often whole numbers occur; neighbours share a column where there are many.

    Args:
        counts: how often each number occurs, by its decimal digits.
        unit: what is counted on the axis, such as "words".
        cuts: numbers to draw a line after.
    """
    numbers = {int(number): count for number, count in counts.items()}
    first, last = min(numbers, default=0), max(numbers, default=0)
    if shown := [cut for cut in cuts if cut <= 1.6 * last]:
        last = max(last, *shown)
    step = next((step for step in _STEPS if (last - first + 1) / step <= MAX_COLUMNS), _STEPS[-1])
    start = first - first % step
    sums = [0] * ((last - start) // step + 1)
    for number, count in numbers.items():
        sums[(number - start) // step] += count
    total = max(1, sum(sums))
    names = [
        str(start + place * step) if step == 1 else f"{start + place * step} to {start + (place + 1) * step - 1}"
        for place in range(len(sums))
    ]
    titles = [f"{name} {unit}: {count:,} ({count / total:.1%})" for name, count in zip(names, sums, strict=True)]
    width = WIDTH / len(sums)

    def place_of(number: float) -> float:
        return round((number - start) / step * width, 2)

    spacing = next((tick for tick in _STEPS if (last - start + 1) / tick <= 7), _STEPS[-1])
    labelled = range(start + -start % spacing, last + 1, spacing)
    ticks = [Mark(place_of(number + (0.5 if step == 1 else 0)), str(number)) for number in labelled]
    return Chart(_columns(sums, titles), ticks, [Mark(place_of(cut + 1), str(cut)) for cut in shown])


def shares(bins: Sequence[int]) -> Chart:
    """Draw counts in bins of equal width over 0 to 1."""
    total = max(1, sum(bins))
    edges = [place / len(bins) for place in range(len(bins) + 1)]
    titles = [
        f"{edges[place]:.2f} to {edges[place + 1]:.2f}: {count:,} ({count / total:.1%})"
        for place, count in enumerate(bins)
    ]
    ticks = [Mark(round(WIDTH * share, 2), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return Chart(_columns(bins, titles), ticks, [])


def _columns(counts: Sequence[int], titles: Sequence[str]) -> list[Column]:
    width = WIDTH / max(1, len(counts))
    highest = max(1, *counts, 0)
    return [
        Column(
            round(place * width, 2),
            round(HEIGHT * (1 - count / highest), 2),
            round(max(0.5, width - 1), 2),
            round(HEIGHT * count / highest, 2),
            title,
        )
        for place, (count, title) in enumerate(zip(counts, titles, strict=True))
    ]
