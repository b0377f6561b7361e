"""`passerby demo`: the whole way from nothing to a verified data set, in about a minute."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli import data, finegpr_c, luperson_t, synthetic

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
    people, finegpr, luperson, sheet = (
        folder / name for name in ("people", "finegpr-c", "luperson-t", "contact-sheet.png")
    )
    images, attributes = people / "images", people / "attributes.csv"
    _step(f"gen-captions synthetic {people} --identities {identities} --images-per-identity {images_per_identity}")
    synthetic.synthetic(people, identities, images_per_identity, seed, workers)
    _step(f"gen-captions finegpr-c {images} --attributes {attributes} --out {finegpr} --lambda 0.8")
    finegpr_c.finegpr_c(str(images), str(attributes), str(finegpr), "0.8", seed, workers, parsing=people / "parsing")
    _step(f"gen-captions luperson-t {images} --out {luperson} --clip-model embedded")
    luperson_t.luperson_t(str(luperson), str(images), clip_model="embedded", seed=seed)
    for root in (finegpr, luperson):
        _step(f"passerby verify {root}")
        data.verify(str(root), workers)
    pairs = _pairs(ShardDataset(finegpr), ShardDataset(luperson))
    write_atomically(sheet, _sheet(pairs))
    typer.echo(f"\nThe same people, captioned from their attributes and by a model's guess (pictures in {sheet}):")
    for known, guessed in pairs:
        typer.echo(f"  {known['__key__']}\n    FineGPR-C:  {known['txt']}\n    LUPerson-T: {guessed['txt']}")
    typer.echo(f"\nThe data cards: {finegpr / 'README.md'} and {luperson / 'README.md'}\nNext, try:")
    typer.echo(f"  passerby explain {luperson} {pairs[0][1]['__key__']}")
    typer.echo(f"  passerby rerender {finegpr} --out {folder / 'short'} --lambda 0.5")
    typer.echo(
        "  gen-captions finegpr-c FINEGPR --attributes FINEGPR.csv --out ROOT --lambda 0.8   # your own copy of FineGPR"
    )


def _step(command: str) -> None:
    typer.echo(f"\n$ {command}")


def _pairs(finegpr: "ShardDataset", luperson: "ShardDataset") -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Take a few images, evenly spaced so that they show different people, as samples of both data sets."""
    places = {path: place for place, path in enumerate(luperson.metadata(["path"])["path"].to_pylist())}
    count = min(CAPTIONS_SHOWN, len(finegpr))
    known = [finegpr[(2 * number + 1) * len(finegpr) // (2 * count)] for number in range(count)]
    return [(sample, luperson[places[sample["json"]["path"]]]) for sample in known]


def _sheet(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> bytes:
    from passerby.contact_sheet import Captioned, draw_contact_sheet

    texts = (f"FineGPR-C: {known['txt']}\nLUPerson-T: {guessed['txt']}" for known, guessed in pairs)
    return draw_contact_sheet(
        [Captioned(known["__key__"], known["jpg"], text) for (known, _), text in zip(pairs, texts, strict=True)]
    )
