"""`gen-captions synthetic`: pedestrians with known attributes, in the layout of FineGPR, Market-1501 or CUHK-PEDES."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from passerby.cli.progress import progress

EXAMPLES = """
Examples:

    gen-captions synthetic people --identities 64 --images-per-identity 16 --seed 0

    gen-captions finegpr-c people/images --attributes people/attributes.csv --out finegpr-c --lambda 0.8

    gen-captions synthetic walkers --layout market --identities 64 --images-per-identity 12
"""


def register(app: typer.Typer) -> None:
    """Add the command to `gen-captions`."""
    app.command(epilog=EXAMPLES)(synthetic)


def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder to write: images, parsing/, attributes.csv, README.md.")],
    identities: Annotated[int, typer.Option(min=1, help="How many people.")] = 64,
    images_per_identity: Annotated[int, typer.Option(min=1, max=1764, help="Images of each.")] = 16,
    seed: Annotated[int, typer.Option(help="Seeds people, views and poses.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    height: Annotated[int, typer.Option(min=32, max=1024, help="Pixels.")] = 256,
    width: Annotated[int, typer.Option(min=16, max=512, help="Pixels.")] = 128,
    layout: Annotated[
        Literal["finegpr", "market", "pedes"],
        typer.Option(help="FineGPR's files; Market-1501's folders for Re-ID; or CUHK-PEDES's list, with captions."),
    ] = "finegpr",
    balanced: Annotated[bool, typer.Option("--balanced", help="Draw every attribute about evenly.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Render synthetic pedestrians in a known layout, with their attribute table and parsing maps."""
    from passerby.synthetic import WRITERS, Settings

    settings = Settings(identities, images_per_identity, seed, height, width, balanced)
    total = identities * images_per_identity
    with progress("rendering", "images") as advance:
        report = WRITERS[layout](out, settings, workers=workers, on_progress=lambda done: advance(done, total, ""))
    if as_json:
        typer.echo(json.dumps(asdict(report), default=str))
    else:
        typer.echo(f"{report.images:,} synthetic images of {identities:,} people in {out}")
