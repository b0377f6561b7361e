"""The report as one HTML page that needs nothing else: no script, no network, light or dark as the reader likes it."""

from collections.abc import Mapping
from typing import Any

import jinja2

from passerby.report.charts import HEIGHT, WIDTH, histogram, shares
from passerby.report.compare import FIGURES, VALUES_SHOWN, value_at
from templates import TEMPLATES

WORDS_SHOWN = 30
NOT_MEASURED = "\N{EN DASH}"


def render_page(report: Mapping[str, Any]) -> str:
    """Give the page of a report; everything that comes from the data is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES / "report"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for write in (_count, _many, _share, _number, _figure, _phrase, _bar_width):
        environment.filters[write.__name__.removeprefix("_")] = write
    environment.globals |= {"histogram": histogram, "shares": shares}
    return environment.get_template("page.html.j2").render(
        report=report,
        rows=[_row(report, number) for number in range(len(FIGURES))],
        notes=_notes(report),
        long_words=[item for item in report["diversity"]["top_words"].items() if len(item[0]) > 3][:WORDS_SHOWN],
        width=WIDTH,
        height=HEIGHT,
        values_shown=VALUES_SHOWN,
    )


def headline(report: Mapping[str, Any]) -> list[str]:
    """Give the report in lines for a terminal: the figures measured, agreement with labels, and what to look at first."""
    rows = [row for row in (_row(report, number) for number in range(len(FIGURES))) if row["this"] is not None]
    lines = []
    for row in rows:
        kind = row["figure"].kind
        beside = f"{_figure(row['other'], kind):>12}  {row['verdict']}" if report["comparison"] else ""
        lines.append(f"{row['figure'].name:<37}{_figure(row['this'], kind):>12}{beside}".rstrip())
    agreement = report["fidelity"]["agreement"]
    for label, scores in agreement["attributes"].items() if agreement else ():
        found = f"{_share(scores['accuracy'])} right, {_share(scores['balanced_accuracy'])} balanced, of {scores['compared']:,}"
        missed = "; ".join(f"{images:,} not compared: {reason}" for reason, images in scores["not_compared"].items())
        lines.append(f"label {label}: {found}{f' ({missed})' if missed else ''}")
    return [*lines, *(f"note: {note}" for note in _notes(report))]


def _row(report: Mapping[str, Any], number: int) -> dict[str, Any]:
    figure = FIGURES[number]
    this = value_at(report, figure.path)
    comparison = report["comparison"]
    other = comparison["figures"][number]["other"] if comparison else None
    change = "" if this is None or other is None or this == other else "up" if this > other else "down"
    is_same_size = comparison and report["captions"]["total"] == comparison["captions"]
    is_fair = is_same_size or not figure.is_of_size
    wanted = {"higher": "up", "lower": "down"}.get(figure.better) if is_fair else None
    verdict = "" if not change or wanted is None else "better" if change == wanted else "worse"
    return {"place": number, "figure": figure, "this": this, "other": other, "change": change, "verdict": verdict}


def _notes(report: Mapping[str, Any]) -> list[str]:
    """Say first what a curator would want to know first."""
    health, shared, agreement = report["health"], report["diversity"]["shared_texts"], report["fidelity"]["agreement"]
    named = health["demographic_terms"]["skin_or_ethnicity"]["captions"]
    faulty, empty, cut = (
        health["lint"]["captions"],
        report["captions"]["empty"],
        health["tokens"]["clip_bpe"]["cut"]["77"],
    )
    copies, repeated = health["duplicates"] and health["duplicates"]["images"], report["images"]["repeated_keys"]
    notes = {
        f"{_many(named, 'caption')} may name skin or ethnicity; there should be none. See the terms below.": named,
        f"{_many(faulty, 'caption')} ({_share(health['lint']['share'])}) with faults of English, listed below.": faulty,
        f"{_many(empty, 'empty caption')}, which no other figure counts.": empty,
        f"CLIP reads 77 tokens, and cuts off the end of {_share(cut)} of the captions.": cut,
        f"Images that repeat another byte for byte: {copies or 0:,}.": copies,
        f"Images with the name of another: {repeated:,}.": repeated,
    }
    found = [note for note, is_so in notes.items() if is_so]
    if shared and shared["texts"]:
        found.append(
            f"{_many(shared['texts'], 'text')} said of several people, of {shared['most_people']:,} at most: "
            "where texts are matched with people, they teach that these are one."
        )
    if agreement and agreement["left_out"]:
        found.append(f"Labels that are no attribute of the data set: {', '.join(agreement['left_out'])}.")
    return found


def _count(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def _many(number: int, what: str) -> str:
    """Write a number with its noun, of which an s makes the plural."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _share(value: float | None) -> str:
    """Write a share in per cent, and never a small one as none nor almost all as all."""
    if value is None:
        return NOT_MEASURED
    percent = 100 * value
    if 0 < percent < 0.01 or 99.99 < percent < 100:
        return "< 0.01%" if percent < 50 else "> 99.99%"
    return (
        f"{percent:.0f}%" if percent in (0, 100) else f"{percent:.1f}%" if 0.1 <= percent <= 99.9 else f"{percent:.2f}%"
    )


def _number(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _figure(value: float | None, kind: str) -> str:
    return {"count": _count, "share": _share, "number": _number}[kind](value)


def _bar_width(share: float) -> float:
    """Give the length of a bar in per cent: of something, always enough to see."""
    return round(max(100 * share, 0.6), 2) if share else 0.0


def _phrase(value: str, attribute: str) -> str:
    """Write a value for people: LUPerson-T's ids without the attribute's name."""
    return value.removeprefix(f"{attribute}.").replace(".", " · ").replace("_", " ") if value else "none or unknown"
