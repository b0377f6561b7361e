"""`passerby verify`: what is done to a data set after it is made."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    from passerby.publish.hydrate import Hydrated
    from passerby.shards.verify import Verification

PROBLEMS_FOUND = 1

EXAMPLES = """
Examples:

    passerby verify finegpr-c

    passerby verify finegpr-c --workers 8 --json

    passerby verify s3://bucket/finegpr-c
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `passerby`."""
    app.command(epilog=EXAMPLES)(verify)


def verify(
    root: Annotated[str, typer.Argument(help="Folder of a data set (data/, meta/, manifest.json), or its URL.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check every byte of a data set against its manifest; exit code 1 if anything is wrong."""
    from passerby.shards.verify import verify as verify_shards

    with progress("verifying", "shards") as advance:
        result = verify_shards(root, workers=workers, on_progress=lambda done, total: advance(done, total, ""))
    tell_verdict(root, result, as_json=as_json)


def tell_verdict(root: Path | str, result: "Verification | Hydrated", *, as_json: bool, when_faulty: str = "") -> None:
    """Print what is wrong with a data set, or that it is whole; exit code 1 if anything is wrong."""
    if as_json:
        problems = [{"shard": fault.shard, "key": fault.key, "message": fault.message} for fault in result.problems]
        typer.echo(json.dumps({"shards": result.shards, "kept": result.kept, "problems": problems}))
    else:
        for fault in result.problems:
            typer.echo(": ".join(part for part in (fault.shard, fault.key, fault.message) if part))
        verdict = f"{len(result.problems):,} problems{when_faulty}" if result.problems else "whole"
        typer.echo(f"{root}: {result.shards:,} shards, {result.kept:,} samples: {verdict}")
    if result.problems:
        raise typer.Exit(PROBLEMS_FOUND)
