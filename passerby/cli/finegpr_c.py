"""`gen-captions finegpr-c`: images and attributes in, captioned shards out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from passerby.cli.progress import generate_shards, progress

if TYPE_CHECKING:
    from captioning.finegpr_c import Captioner
    from captioning.finegpr_inputs import Inputs, Options

PROBLEMS_SHOWN = 10
PROBLEMS_NAME = "problems.txt"
"""All problems of the input, one a line, beside the shards."""

EXAMPLES = """
Examples:

    gen-captions finegpr-c people/images --attributes people/attributes.csv --out finegpr-c --lambda 0.8

    gen-captions finegpr-c names.txt --attributes attributes.csv --out captions.parquet --lambda 0.8 --text-only
"""


def register(app: typer.Typer) -> None:
    """Add the command to `gen-captions`."""
    app.command("finegpr-c", epilog=EXAMPLES)(finegpr_c)


def finegpr_c(
    images: Annotated[
        Path, typer.Argument(help="FineGPR's image folder (tree or flat), or a text file of image paths.")
    ],
    attributes: Annotated[Path, typer.Option(help="Attribute table: CSV, Parquet or JSON, values as codes or words.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set; with --text-only, a Parquet file.")],
    threshold: Annotated[
        str, typer.Option("--lambda", help="Mention a value only if its probability is at most this.")
    ],
    seed: Annotated[int, typer.Option(help="Seeds every choice.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    shard_size: Annotated[int, typer.Option(min=0, help="Images a shard; 0 aims at 64-256 MB and at 64 shards.")] = 0,
    image_fraction: Annotated[str, typer.Option(help="Share of the images to use, such as 0.5.")] = "1",
    templates: Annotated[Path | None, typer.Option(help="Folder of your own sentence patterns.")] = None,
    template_per: Annotated[Literal["image", "identity"], typer.Option(help="Who draws a pattern.")] = "image",
    when_empty: Annotated[
        Literal["exclude", "keep"],
        typer.Option(help='Quarantine captions that name nothing, or write "There is a person."'),
    ] = "exclude",
    viewpoint_bins: Annotated[
        Literal["cardinal", "group9"],
        typer.Option(help="Camera angles to view words: the nearest side, or FineGPR's groups."),
    ] = "cardinal",
    probabilities: Annotated[
        Path | None, typer.Option(help="manifest.json whose probabilities to apply (a training split's).")
    ] = None,
    parsing: Annotated[Path | None, typer.Option(help="Folder of parsing maps to pack with the images.")] = None,
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    source: Annotated[
        str, typer.Option(help="Name of the image data set; FineGPR unless the images are our renders.")
    ] = "",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Stop when more than this share is unreadable.")] = 0.01,
    decode: Annotated[bool, typer.Option("--decode", help="Decode every image fully to find hidden damage.")] = False,
    text_only: Annotated[
        bool, typer.Option("--text-only", help="Write captions to one Parquet file; open no image.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Build FineGPR-C: a caption for every image from its person's attributes, after refined selecting."""
    from captioning.finegpr_inputs import Options
    from captioning.refine import parse_threshold
    from passerby.generate import source_name

    options = Options(
        threshold=parse_threshold(threshold),
        seed=seed,
        image_fraction=_fraction(image_fraction),
        when_empty=when_empty,
        template_per=template_per,
        viewpoint_bins=viewpoint_bins,
        source=source or source_name(images, "FineGPR"),
    )
    inputs, captioner = _prepare(images, attributes, options, templates, probabilities)
    if not as_json:
        _show_inputs(inputs, captioner)
    if text_only:
        report = _write_text(inputs, captioner, out, workers)
    else:
        shards = Shards(out, images, shard_size, workers, split, decode, parsing, max_bad)
        report = _write_shards(inputs, captioner, shards)
    typer.echo(json.dumps(report, ensure_ascii=False) if as_json else _report_text(report))


@dataclass(frozen=True)
class Shards:
    """The options that say how shards are written, not what their captions say."""

    out: Path
    images: Path
    size: int
    workers: int
    split: str
    is_decoded: bool
    parsing: Path | None
    max_bad: float


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"image fraction is {text!r}; give a number above 0 up to 1, such as 0.5") from None


def _prepare(
    images: Path, attributes: Path, options: "Options", templates: Path | None, probabilities: Path | None
) -> tuple["Inputs", "Captioner"]:
    from captioning.attributes import read_attributes
    from captioning.finegpr_c import Captioner
    from captioning.finegpr_inputs import prepare_inputs
    from captioning.refine import read_probabilities
    from passerby.readers.finegpr import list_images
    from templates import TEMPLATES

    folder = templates or TEMPLATES / "finegpr_c"
    frozen = None if probabilities is None else read_probabilities(probabilities)
    table = read_attributes(attributes)
    inputs = prepare_inputs(list_images(images), table, options, frozen)
    captioner = Captioner(options, inputs.people, inputs.probabilities.mentioned(options.threshold), folder)
    captioner.check_templates()
    return inputs, captioner


def _show_inputs(inputs: "Inputs", captioner: "Captioner") -> None:
    threshold = captioner.options.threshold
    typer.echo(f"{inputs.images.num_rows:,} images, {len(inputs.people):,} people with attributes")
    if inputs.left_out:
        typer.echo(f"{inputs.left_out:,} images left out by --image-fraction {captioner.options.image_fraction}")
    typer.echo(f"\nRefined selecting: a value is mentioned if P <= {float(threshold):g}")
    for slot in dict.fromkeys(row.slot for row in inputs.probabilities.rows):
        rows = [row for row in inputs.probabilities.rows if row.slot == slot]
        values = "  ".join(
            f"{row.value} {row.count / max(row.total, 1):.3f}{'' if row.is_mentioned(threshold) else ' (dropped)'}"
            for row in rows
        )
        typer.echo(f"  {slot:<13}{values}")
    for problem in inputs.problems[:PROBLEMS_SHOWN]:
        typer.echo(f"warning: {problem}", err=True)
    if len(inputs.problems) > PROBLEMS_SHOWN:
        typer.echo(
            f"warning: {len(inputs.problems) - PROBLEMS_SHOWN:,} more problems in the input (shards list all in {PROBLEMS_NAME})",
            err=True,
        )


def _write_text(inputs: "Inputs", captioner: "Captioner", out: Path, workers: int) -> dict[str, Any]:
    from captioning.text_only import write_captions

    total = inputs.images.num_rows
    with progress("captioning", "images") as advance:
        kept, reasons = write_captions(
            inputs.images, captioner, out, workers=workers, on_progress=lambda done: advance(done, total, "")
        )
    return _report(inputs, out, kept, reasons)


def _write_shards(inputs: "Inputs", captioner: "Captioner", shards: Shards) -> dict[str, Any]:
    from captioning.finegpr_c import FineGprC
    from passerby.generate import mean_size
    from passerby.runtime import write_atomically
    from passerby.shards.begin import count_shards

    folder = shards.images if shards.images.is_dir() else shards.images.parent
    recipe = FineGprC(
        root=shards.out,
        folder=folder,
        inputs=inputs,
        captioner=captioner,
        units=count_shards(len(inputs.images), mean_size(folder, inputs.images["path"]), shards.size),
        split=shards.split,
        is_decoded=shards.is_decoded,
        parsing=shards.parsing,
    )
    manifest = generate_shards(recipe, "packing", workers=shards.workers, max_bad=shards.max_bad)
    if inputs.problems:
        write_atomically(shards.out / PROBLEMS_NAME, "".join(f"{problem}\n" for problem in inputs.problems).encode())
    return _report(inputs, shards.out, manifest.kept, manifest.reasons)


def _report(inputs: "Inputs", out: Path, kept: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    return {
        "out": str(out),
        "seen": inputs.images.num_rows,
        "kept": kept,
        "quarantined": sum(reasons.values()),
        "reasons": dict(sorted(reasons.items())),
        "left_out_by_image_fraction": inputs.left_out,
        "problems": len(inputs.problems),
    }


def _report_text(report: Mapping[str, Any]) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report["reasons"].items())
    counts = f"kept {report['kept']:,} + quarantined {report['quarantined']:,} = seen {report['seen']:,}"
    return f"\n{counts}{f' ({reasons})' if reasons else ''}\nwritten to {report['out']}"
