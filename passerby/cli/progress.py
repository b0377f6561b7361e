"""Progress of long work: a live bar on a terminal, one line a minute elsewhere; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from passerby.generate import Recipe
    from passerby.shards.manifest import Manifest

LINE_EVERY_SECONDS = 60.0
Advance = Callable[[int, int, str], None]
"""`advance(done, total, note)`: how much is done of how much, and a few words beside the bar."""


@contextmanager
def progress(what: str, unit: str) -> Iterator[Advance]:
    """Show the progress of `what`, counted in `unit` ("images", "shards")."""
    with _bar(what, unit) if sys.stderr.isatty() else _lines(what, unit) as advance:
        yield advance


def generate_shards(recipe: "Recipe", what: str, *, workers: int, max_bad: float) -> "Manifest":
    """Make a recipe's data set (see `passerby.generate.generate`) and show how it goes."""
    from passerby.generate import generate

    with progress(what, "shards") as advance:
        return generate(
            recipe,
            workers=workers,
            max_bad=max_bad,
            on_progress=lambda now: advance(
                now.units_done, now.units, f"{now.kept:,} kept, {now.quarantined:,} quarantined"
            ),
        )


@contextmanager
def _bar(what: str, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)


@contextmanager
def _lines(what: str, unit: str) -> Iterator[Advance]:
    started_at = printed_at = time.monotonic()

    def advance(done: int, total: int, note: str) -> None:
        nonlocal printed_at
        now = time.monotonic()
        if now - printed_at >= LINE_EVERY_SECONDS:
            printed_at = now
            rate = done / (now - started_at)
            left_minutes = (total - done) / rate / 60 if rate else float("inf")
            typer.echo(f"{what}: {done:,} of {total:,} {unit}, {note}, {left_minutes:.0f} min left", err=True)

    yield advance
