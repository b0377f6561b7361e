"""`gen-captions finegpr-c`: images and attributes in, captioned shards out."""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from passerby.cli.counts import counts_of, counts_text
from passerby.cli.engines import ActorCpus, ActorGpus, EngineOption, RayAddress, Spread, Units, read_part
from passerby.cli.places import Staging, open_place
from passerby.cli.progress import generate_shards, progress

if TYPE_CHECKING:
    from captioning.finegpr_c import Captioner
    from captioning.finegpr_inputs import Inputs, Options
    from passerby.shards.manifest import Manifest
    from passerby.shards.output import Output

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
        str, typer.Argument(help="FineGPR's image folder (tree or flat) or its URL; or a text file of image paths.")
    ],
    attributes: Annotated[
        str, typer.Option(help="Attribute table, a file or URL: CSV, Parquet or JSON, values as codes or words.")
    ],
    out: Annotated[
        str, typer.Option(help="Folder of the data set, or a URL (s3://…); with --text-only, a Parquet file.")
    ],
    threshold: Annotated[
        str, typer.Option("--lambda", help="Mention a value only if its probability is at most this.")
    ],
    seed: Annotated[int, typer.Option(help="Seeds every choice.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    engine: EngineOption = "local",
    actor_cpus: ActorCpus = 1,
    actor_gpus: ActorGpus = 0,
    ray_address: RayAddress = "",
    units: Units = "",
    staging: Staging = None,
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
    from passerby.storage import is_url, to_location

    spread = Spread(engine, workers, actor_cpus, actor_gpus, ray_address, read_part(units), as_json)
    if text_only and (spread.part or engine != "local" or is_url(out)):
        raise ValueError("--text-only writes one file on this machine; leave --engine, --units and URLs away")
    output = None if text_only else open_place(out, staging)
    place = to_location(images)
    options = Options(
        threshold=parse_threshold(threshold),
        seed=seed,
        image_fraction=_fraction(image_fraction),
        when_empty=when_empty,
        template_per=template_per,
        viewpoint_bins=viewpoint_bins,
        source=source or source_name(place, "FineGPR"),
    )
    inputs, captioner = _prepare(place, to_location(attributes), options, templates, probabilities)
    if not as_json:
        _show_inputs(inputs, captioner)
    if output is None:
        counts = _write_text(inputs, captioner, Path(out), workers)
    else:
        shards = Shards(output, place, shard_size, split, decode, parsing, max_bad)
        manifest = _write_shards(inputs, captioner, shards, spread)
        if manifest is None:
            return
        output.finish()
        counts = counts_of(out, manifest)
    report = {**counts, "left_out_by_image_fraction": inputs.left_out, "problems": len(inputs.problems)}
    typer.echo(json.dumps(report, ensure_ascii=False) if as_json else f"\n{counts_text(report)}")


@dataclass(frozen=True)
class Shards:
    """The options that say how shards are written, not what their captions say."""

    output: "Output"
    images: Path | str
    size: int
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
    images: Path | str,
    attributes: Path | str,
    options: "Options",
    templates: Path | None,
    probabilities: Path | None,
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
    quarantined = sum(reasons.values())
    counts = {"seen": total, "kept": kept, "quarantined": quarantined}
    return {"out": str(out), **counts, "reasons": dict(sorted(reasons.items()))}


def _write_shards(inputs: "Inputs", captioner: "Captioner", shards: Shards, spread: Spread) -> "Manifest | None":
    from captioning.finegpr_c import FineGprC
    from passerby.generate import mean_size
    from passerby.readers.files import ImageFiles
    from passerby.runtime import write_atomically
    from passerby.shards.begin import count_shards
    from passerby.storage import RemoteFolder

    images = shards.images
    if isinstance(images, str):
        files = ImageFiles(RemoteFolder(images))
    else:
        files = ImageFiles(images if images.is_dir() else images.parent)
    recipe = FineGprC(
        root=shards.output.root,
        files=files,
        inputs=inputs,
        captioner=captioner,
        units=count_shards(len(inputs.images), mean_size(files, inputs.images), shards.size),
        split=shards.split,
        is_decoded=shards.is_decoded,
        parsing=shards.parsing,
    )

    def write_problems() -> None:
        if inputs.problems:
            lines = "".join(f"{problem}\n" for problem in inputs.problems)
            write_atomically(shards.output.root / PROBLEMS_NAME, lines.encode())

    return generate_shards(recipe, "packing", spread, shards.output, max_bad=shards.max_bad, beside=write_problems)
