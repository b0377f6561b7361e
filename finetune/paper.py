"""The papers' own numbers, `paper.toml`, and ours beside them."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.evaluate import Result
from finetune.results import NUMBERS, Summary, describe, summarise

TOLERANCE = 1.0
"""Points by which a number that counts as reproduced may differ from the paper's: what seeds make, or a little more."""

NOT_RUN = "not run"


@dataclass(frozen=True)
class PaperRow:
    """What a paper reports of one model."""

    title: str
    published: Mapping[str, Sequence[float]]
    """Of each data set the numbers of the table, per cent."""


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper."""

    title: str
    numbers: Sequence[str]
    """Of `finetune.results.NUMBERS`."""

    rows: Mapping[str, PaperRow]


def read_paper() -> dict[str, PaperTable]:
    """Read all tables, by name."""
    with Path(__file__).with_name("paper.toml").open("rb") as file:
        tables = tomllib.load(file)
    return {
        name: PaperTable(
            table["title"],
            table["numbers"],
            {row: PaperRow(values.pop("title"), values) for row, values in table["rows"].items()},
        )
        for name, table in tables.items()
    }


def check_row(name: str) -> None:
    """Make sure that a row is there.

    Raises:
        ValueError: it is not; its table's rows are named, or the tables.
    """
    tables = read_paper()
    table, _, row = name.partition("/")
    if table not in tables:
        raise ValueError(f"--as {name} names no row of a paper; it is TABLE/ROW, and tables are {', '.join(tables)}")
    if row not in tables[table].rows:
        raise ValueError(f"--as {name} names no row of a paper; {table} has {', '.join(tables[table].rows)}")


def compare_with_papers(results: Sequence[Result]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield for each table its title, and rows: what the paper reports, what we found, and whether that is the same.

    Ours are results on the very data set, by the usual protocol, of runs that were said to stand for the row.
    """
    for table, told in read_paper().items():
        headings = [NUMBERS[number] for number in told.numbers]
        rows = [["", "on", "by", *(f"paper: {each}" for each in headings), *(f"ours: {each}" for each in headings), ""]]
        for name, row in told.rows.items():
            for dataset, published in row.published.items():
                head, theirs = [row.title, dataset], [f"{number}" for number in published]
                ours = [*_ours(results, f"{table}/{name}", dataset)]
                if not ours:
                    rows.append([*head, "", *theirs, *[""] * len(theirs), NOT_RUN])
                for summary in ours:
                    found = [100 * summary.mean(number) for number in told.numbers]
                    rows.append(
                        [
                            *head,
                            _method(summary),
                            *theirs,
                            *(f"{each:.1f}" for each in found),
                            _verdict(found, published),
                        ]
                    )
        yield told.title, rows


def _ours(results: Sequence[Result], paper_row: str, dataset: str) -> Iterator[Summary]:
    usual = [
        result
        for result in results
        if (result.paper_row, result.dataset) == (paper_row, dataset)
        and result.split in ("query in gallery", "test")
        and (result.average_precision, result.is_reranked) == ("step", False)
        and result.same_camera != "keep"
    ]
    yield from summarise(usual)


def _method(summary: Summary) -> str:
    seeds = len(summary.results)
    return describe(summary.first) + (f", mean of {seeds} seeds" if seeds > 1 else "")


def _verdict(found: Sequence[float], published: Sequence[float]) -> str:
    farthest = max((ours - theirs for ours, theirs in zip(found, published, strict=True)), key=abs)
    return "reproduced" if abs(farthest) <= TOLERANCE else f"run, {farthest:+.1f} at most"
