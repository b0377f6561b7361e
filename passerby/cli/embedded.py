"""`gen-captions embedded-clip`: train the tiny CLIP that the package brings along, and score one."""

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.progress import progress

EXAMPLES = """
Examples:

    gen-captions embedded-clip train clip --pictures pictures

    gen-captions embedded-clip evaluate clip

    gen-captions luperson-t IMAGES --out ROOT --clip-weights local-dir:clip
"""
TRAINING_SEED, TEST_SEED = 7001, 7002
"""Of people; not those of `gen-captions synthetic`, so that a demo shows the model nobody it has learnt from."""

Workers = Annotated[int, typer.Option(min=1, help="Processes that render; default: one a core.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `gen-captions`."""
    commands = typer.Typer(help="Train or score the tiny CLIP of synthetic pedestrians.", no_args_is_help=True)
    commands.command(epilog=EXAMPLES)(train)
    commands.command(epilog=EXAMPLES)(evaluate)
    app.add_typer(commands, name="embedded-clip")


def train(
    out: Annotated[Path, typer.Argument(help="Folder of the model, for --clip-weights local-dir:OUT.")],
    identities: Annotated[int, typer.Option(min=1, help="How many people to learn from.")] = 5000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over their pictures.")] = 30,
    seed: Annotated[int, typer.Option(help="Seeds people, weights and order.")] = TRAINING_SEED,
    pictures: Annotated[Path | None, typer.Option(help="Folder to keep the renders in.")] = None,
    workers: Workers = os.cpu_count() or 1,
) -> None:
    """Render people, train a CLIP on them, and write it as an open_clip folder."""
    from captioning.embedded.card import write_training
    from captioning.embedded.data import AlbumJob, load_album
    from captioning.embedded.model import write_model
    from captioning.embedded.train import Recipe, train_model

    job, recipe = AlbumJob(identities, 2, seed), Recipe(epochs=epochs, seed=seed)
    total = identities * job.images_per_identity
    with progress("rendering", "images") as advance:
        album = load_album(job, pictures, workers=workers, on_progress=lambda done: advance(done, total, ""))
    started_at = time.monotonic()
    model, losses = train_model(album, recipe, on_epoch=_say_loss)
    write_model(out, model)
    write_training(out, job, recipe, losses, time.monotonic() - started_at)
    typer.echo(f"{out}: trained on {total:,} pictures; score it with gen-captions embedded-clip evaluate {out}")
