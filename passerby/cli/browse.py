"""`passerby browse`: a data set as a page to look through."""

from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.progress import progress

LIMIT = 5000
"""Samples on one page: some 25 MB, and filters that answer at once."""

PROBLEMS_SHOWN = 5

EXAMPLES = """
Examples:

    passerby browse finegpr-c

    passerby browse luperson-t --keys suspicious.txt --out suspicious --workers 8

Every view has a link: luperson-t-browse/index.html#text=backpack&confidence=hat:0.9..1
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(browse)


def browse(
    root: Annotated[Path, typer.Argument(help="Folder of a data set: data/, meta/ and manifest.json.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the page; ROOT-browse if not given.")] = None,
    keys: Annotated[Path | None, typer.Option(help="Show these samples in this order: a file, one key a line.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of more samples, show so many, evenly spaced.")] = LIMIT,
    seed: Annotated[int, typer.Option(help="Decides which.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Make a page that shows pictures, captions and attributes, with filters; it opens from its file, without a server."""
    from passerby.browse import write_page

    folder = out or root.resolve().with_name(f"{root.resolve().name}-browse")
    with progress("browse", "samples") as advance:
        page = write_page(
            root,
            folder,
            keys=None if keys is None else _read_keys(keys),
            limit=limit,
            seed=seed,
            workers=workers,
            on_progress=lambda done, total: advance(done, total, ""),
        )
    for key, problem in page.problems[:PROBLEMS_SHOWN]:
        typer.echo(f"{key}: no picture: its image {problem}")
    if len(page.problems) > PROBLEMS_SHOWN:
        typer.echo(f"… {len(page.problems):,} samples without a picture; the page says why")
    size = f"{page.size_bytes / 1e6:.1f} MB"
    typer.echo(f"{page.shown:,} of {page.total:,} samples, {size}. Open {folder / 'index.html'} in a browser.")


def _read_keys(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error}); it must be a text file with one key a line") from None
    return [key for line in lines if (key := line.strip())]
