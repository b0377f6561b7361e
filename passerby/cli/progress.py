"""Progress of long work: a live bar on a terminal, one line a minute elsewhere; always on standard error."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from passerby.cli.engines import Spread
    from passerby.generate import Recipe
    from passerby.shards.manifest import Manifest
    from passerby.shards.output import Output

LINE_EVERY_SECONDS = 60.0
Advance = Callable[[int, int, str], None]
"""`advance(done, total, note)`: how much is done of how much, and a few words beside the bar."""


@contextmanager
def progress(what: str, unit: str) -> Iterator[Advance]:
    """Show the progress of `what`, counted in `unit` ("images", "shards")."""
    with _bar(what, unit) if sys.stderr.isatty() else _lines(what, unit) as advance:
        yield advance


def generate_shards(
    recipe: "Recipe",
    what: str,
    spread: "Spread",
    output: "Output",
    *,
    max_bad: float,
    beside: Callable[[], None] = lambda: None,
) -> "Manifest | None":
    """Make a recipe's data set (see `passerby.generate.generate`) and show how it goes; `output` is left to be finished.

    Returns:
        The manifest; `None` where only a part of the data set was to be made, which is told here.
    """
    from passerby.generate import Progress, generate
    from passerby.parts import generate_part
    from passerby.shards.write import shard_names

    engine = spread.build_engine(recipe.root, shard_names(recipe.splits))
    with progress(what, "shards") as advance:

        def show(now: Progress) -> None:
            advance(now.units_done, now.units, f"{now.kept:,} kept, {now.quarantined:,} quarantined")

        if spread.part is None:
            return generate(recipe, engine=engine, max_bad=max_bad, output=output, beside=beside, on_progress=show)
        records = generate_part(
            recipe, spread.part, output, engine=engine, max_bad=max_bad, beside=beside, on_progress=show
        )
    spread.tell_part(str(output), records)
    return None


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
