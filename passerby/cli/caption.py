"""`pretrain caption`: what a pre-trained model says of new images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    import torch

    from pretrain.captioner import Written
    from pretrain.decoding import Search

IMAGES_FAILED = 1
BEAM_SIZE = 5
"""VirTex's."""

EXAMPLES = """
Examples:

    pretrain caption runs/vtbr Market-1501/query

    pretrain caption runs/vtbr query/0001_c1s1_001051_00.jpg --beam 1

    pretrain caption runs/vtbr query --sample 0.9 --seed 1 --json > captions.jsonl
"""


def register(app: typer.Typer) -> None:
    """Add the command to `pretrain`."""
    app.command(epilog=EXAMPLES)(caption)


def caption(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `pretrain vtbr`, or one of its checkpoints.")],
    images: Annotated[Path, typer.Argument(help="An image, or a folder of them and of folders.")],
    beam: Annotated[
        int | None, typer.Option(min=1, help=f"Captions that a search keeps: {BEAM_SIZE}; 1 is greedy.")
    ] = None,
    sample: Annotated[
        float | None, typer.Option(help="Draw instead, each word from the few that hold so much probability: 0.9.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON an image: path, caption, log_probability.")
    ] = False,
) -> None:
    """Write captions of images; exit code 1 if some could not be read."""
    from passerby.ranks import find_device
    from pretrain.captioner import Written, caption_images, load_captioner

    paths = _list_images(images)
    found = find_device(device)
    search = _choose_search(beam, sample, seed, found)
    model = load_captioner(run, found)
    failed = 0
    with progress("captioning", "images") as advance:
        for done, result in enumerate(caption_images(model, paths, search, batch_size=batch_size), start=1):
            if isinstance(result, Written):
                typer.echo(_as_json(result) if as_json else f"{result.path}: {result.caption}")
            else:
                failed += 1
                typer.echo(f"warning: {result[0]}: {result[1]}", err=True)
            advance(done, len(paths), "")
    if failed:
        typer.echo(f"{failed:,} of {len(paths):,} images could not be read", err=True)
        raise typer.Exit(IMAGES_FAILED)


def _list_images(images: Path) -> list[Path]:
    from passerby.readers.inputs import IMAGE_SUFFIXES, walk_images

    if not images.is_dir():
        return [images]
    paths = sorted(images / path for path in walk_images(str(images)))
    if not paths:
        raise FileNotFoundError(f"{images} holds no images; their names end in {', '.join(IMAGE_SUFFIXES)}")
    return paths


def _choose_search(beam: int | None, sample: float | None, seed: int, device: "torch.device") -> "Search":
    """Make the search that the options mean.

    Raises:
        ConfigError: they mean none.
    """
    from functools import partial

    import torch

    from passerby.config import ConfigError
    from pretrain.decoding import beam_search, sample_nucleus

    if sample is None:
        return partial(beam_search, beam_size=beam or BEAM_SIZE)
    if beam:
        raise ConfigError(f"--beam {beam} searches and --sample {sample} draws; give one of them")
    if not 0 < sample <= 1:
        raise ConfigError(f"--sample is {sample}; it must be above 0 and at most 1, such as 0.9")
    return partial(sample_nucleus, mass=sample, generator=torch.Generator(device).manual_seed(seed))


def _as_json(written: "Written") -> str:
    return json.dumps(
        {"path": str(written.path), "caption": written.caption, "log_probability": round(written.log_probability, 4)}
    )
