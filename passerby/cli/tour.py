"""`passerby demo`: the whole way from nothing to a verified data set, in about a minute."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli import data, finegpr_c, synthetic

if TYPE_CHECKING:
    from passerby.shards.read import ShardDataset

CAPTIONS_SHOWN = 5

EXAMPLES = """
Examples:

    passerby demo

    passerby demo my-folder --identities 16 --images-per-identity 8
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(demo)


def demo(
    folder: Annotated[Path | None, typer.Argument(help="Where to write; a temporary folder if not given.")] = None,
    identities: Annotated[int, typer.Option(min=1, help="How many people.")] = 40,
    images_per_identity: Annotated[int, typer.Option(min=1, max=1764, help="Images of each.")] = 12,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Seeds everything.")] = 0,
) -> None:
    """Render people, caption them, pack shards, verify them, and show what came out."""
    from passerby.runtime import write_atomically
    from passerby.shards.read import ShardDataset

    folder = folder or Path(tempfile.mkdtemp(prefix="passerby-demo-"))
    people, root, sheet = folder / "people", folder / "finegpr-c", folder / "contact-sheet.png"
    _step(f"gen-captions synthetic {people} --identities {identities} --images-per-identity {images_per_identity}")
    synthetic.synthetic(people, identities, images_per_identity, seed, workers)
    attributes = people / "attributes.csv"
    _step(f"gen-captions finegpr-c {people / 'images'} --attributes {attributes} --out {root} --lambda 0.8")
    finegpr_c.finegpr_c(people / "images", attributes, root, "0.8", seed, workers, parsing=people / "parsing")
    _step(f"passerby verify {root}")
    data.verify(root, workers)
    samples = _spread(ShardDataset(root), CAPTIONS_SHOWN)
    write_atomically(sheet, _sheet(samples))
    typer.echo(f"\nFive captions (pictures in {sheet}):")
    for sample in samples:
        typer.echo(f"  {sample['__key__']}  {sample['txt']}")
    typer.echo(f"\nThe data card: {root / 'README.md'}\nNext, try:")
    typer.echo(
        f"  gen-captions finegpr-c {people / 'images'} --attributes {attributes} --out {folder / 'short'} --lambda 0.5"
    )
    typer.echo(
        "  gen-captions finegpr-c FINEGPR --attributes FINEGPR.csv --out ROOT --lambda 0.8   # your own copy of FineGPR"
    )


def _step(command: str) -> None:
    typer.echo(f"\n$ {command}")


def _spread(dataset: "ShardDataset", count: int) -> list[dict[str, Any]]:
    """Take `count` samples, evenly spaced, so that they show different people."""
    count = min(count, len(dataset))
    return [dataset[(2 * place + 1) * len(dataset) // (2 * count)] for place in range(count)]


def _sheet(samples: list[dict[str, Any]]) -> bytes:
    from passerby.contact_sheet import Captioned, draw_contact_sheet

    return draw_contact_sheet([Captioned(sample["__key__"], sample["jpg"], sample["txt"]) for sample in samples])
