"""`passerby parse`: parsing maps of images, by a network for segmentation."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    from passerby.pack.parse import Parsed

SOME_MISSING = 1
PARTS_SHOWN, PROBLEMS_SHOWN = 6, 5

EXAMPLES = """
Examples:

    passerby parse Market-1501-v15.09.15 --model hub:mattmdjaga/segformer_b2_clothes --out parsing

    passerby parse market --model schp-lip --mapping parts.yaml --out parsing --device cuda
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(parse)


def parse(
    root: Annotated[Path, typer.Argument(help="A data set of ours, or a folder of images.")],
    model: Annotated[str, typer.Option(help="Folder of a transformers network for segmentation, or hub:owner/name.")],
    out: Annotated[Path, typer.Option(help="Folder of the maps: PATH.png for the image PATH.jpg.")],
    mapping: Annotated[
        Path | None,
        typer.Option(help="YAML: what labels are called in LIP, before those of templates/parsing/parts.yaml."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 16,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say of each pixel which part of a person it shows, in LIP's 20 classes: maps for passerby pack --parsing."""
    from transformers.utils.logging import disable_progress_bar

    from passerby.nets.parser import PersonParser, read_parts_table
    from passerby.pack.parse import list_images, parse_images
    from passerby.ranks import find_device
    from templates import TEMPLATES

    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"--out {out} lies in {root}, among whose images the maps would be; give a folder beside it")
    disable_progress_bar()  # type: ignore[no-untyped-call]  # theirs
    images = list_images(root)
    parts = read_parts_table(TEMPLATES / "parsing" / "parts.yaml") | (read_parts_table(mapping) if mapping else {})
    parser = PersonParser(model, parts, device=find_device(device))
    record = {"weights": parser.weights, **dict(zip(parser.labels, parser.parts, strict=True))}
    with progress("parsing", "images") as advance:
        parsed = parse_images(
            images, out, parser, record, batch_size=batch_size, on_progress=lambda done, total: advance(done, total, "")
        )
    if as_json:
        report = {name: getattr(parsed, name) for name in ("images", "made", "there", "problems")}
        typer.echo(json.dumps({"out": str(out), **report, "shares": parsed.shares()}, ensure_ascii=False))
    else:
        typer.echo(_report(parsed, out))
    if parsed.problems:
        raise typer.Exit(SOME_MISSING)


def _report(parsed: "Parsed", out: Path) -> str:
    shares = [*parsed.shares().items()]
    lines = [f"pixels: {', '.join(f'{part} {share:.1%}' for part, share in shares[:PARTS_SHOWN])}"] if shares else []
    if len(shares) == 1:
        lines.append(f"warning: all that was found is {shares[0][0]}; look at a map, or take another model")
    for path, problem in [*parsed.problems.items()][:PROBLEMS_SHOWN]:
        lines.append(f"no map: {path}: {problem}")
    lines.append(
        f"made {parsed.made:,} + there already {parsed.there:,} + no map {len(parsed.problems):,} = images {parsed.images:,}"
    )
    return "\n".join([*lines, f"written to {out}"])
