"""Results as files and tables: a JSON file for each, means over seeds, and one page of Markdown for a folder of them."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from finetune.evaluate import Result
from passerby.config import config_hash
from passerby.runtime import write_atomically

NUMBERS = {"rank_1": "R1", "rank_5": "R5", "rank_10": "R10", "mAP": "mAP", "mINP": "mINP"}
"""Of a result, and their headings."""

PAGE_NAME = "results.md"
_PROTOCOL = ("split", "captions", "feature", "distance", "average_precision", "is_reranked", "same_camera")


@dataclass(frozen=True)
class Summary:
    """Results of one method that differ in their seeds alone; or one result."""

    results: tuple[Result, ...]

    @property
    def first(self) -> Result:
        """One of them, for what they have in common."""
        return self.results[0]

    def mean(self, number: str) -> float:
        """Give the mean of a number of `NUMBERS`."""
        return float(np.mean([getattr(result, number) for result in self.results]))

    def deviation(self, number: str) -> float:
        """Give its standard deviation over the seeds, that of a sample (n - 1)."""
        return float(np.std([getattr(result, number) for result in self.results], ddof=1))


def summarise(results: Iterable[Result]) -> list[Summary]:
    """Put results together that only differ in their seeds, in the order of the first of each."""
    groups: dict[tuple[object, ...], dict[int, Result]] = {}
    for result in results:
        same = (result.recipe, result.target, result.manifest_sha256, *protocol_of(result))
        groups.setdefault(same, {})[result.seed] = result
    return [Summary(tuple(group.values())) for group in groups.values()]


def protocol_of(result: Result) -> tuple[object, ...]:
    """Give what was compared, and how: numbers of two protocols do not compare."""
    return tuple(getattr(result, name) for name in _PROTOCOL)


def tabulate(results: Sequence[Result]) -> list[list[str]]:
    """Give the rows of a table in per cent, headings first: each result, then each mean over several seeds."""
    rows = [["run", "on", "by", *NUMBERS.values(), "queries", "gallery"]]
    for result in results:
        numbers = [f"{100 * getattr(result, name):.1f}" for name in NUMBERS]
        queries = f"{result.valid_queries:,}"
        if result.valid_queries < result.queries:
            queries += f" of {result.queries:,}"
        rows.append([result.run, result.target, describe(result), *numbers, queries, f"{result.gallery:,}"])
    for summary in summarise(results):
        if len(summary.results) > 1:
            numbers = [f"{100 * summary.mean(name):.1f} ± {100 * summary.deviation(name):.1f}" for name in NUMBERS]
            first = summary.first
            name = f"mean of {len(summary.results)} seeds"
            rows.append([name, first.target, describe(first), *numbers, "", f"{first.gallery:,}"])
    return rows


def describe(result: Result) -> str:
    """Say what was compared, and how, where it is not the usual way."""
    told = {
        f"with {result.captions} captions": bool(result.captions),
        "re-ranked": result.is_reranked,
        "trapezoid mAP": result.average_precision == "trapezoid",
        "same camera kept": result.same_camera == "keep",
        result.split: result.split not in ("query in gallery", "test"),
    }
    return ", ".join([result.feature, result.distance, *(name for name, is_so in told.items() if is_so)])


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    texts = 3
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if place < texts else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table as Markdown."""
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body))


def save_result(folder: Path, result: Result) -> Path:
    """Write a result into a folder, where it replaces one of the same run, data set and protocol."""
    names = [re.sub(r"[^\w.-]+", "-", Path(each).name) or "root" for each in (result.run, result.target)]
    which = config_hash({"run": result.run, "target": result.target, "protocol": [*protocol_of(result)]})
    path = folder / f"{names[0]}--{names[1]}--{which[:8]}.json"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(asdict(result), indent=2, ensure_ascii=False) + "\n").encode())
    return path


def read_results(folder: Path) -> list[Result]:
    """Read all results of a folder, in the order of their names.

    Raises:
        ValueError: a JSON file is none of ours.
    """
    return [_read_result(path) for path in sorted(folder.glob("*.json"))]


def _read_result(path: Path) -> Result:
    names = {each.name for each in fields(Result)}
    try:
        stored = json.loads(path.read_bytes())
    except ValueError:
        stored = None
    if not isinstance(stored, dict) or stored.keys() != names:
        raise ValueError(f"{path} is no result of this version of `passerby evaluate`; move it, or give another --out")
    return Result(**stored)
