"""`gen-captions embedded-clip`: train the tiny CLIP that the package brings along, and score one."""

import json
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

VIEWS = 2
"""Pictures of a person: more people teach more than more pictures of one."""

Workers = Annotated[int, typer.Option(min=1, help="Processes that render.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `gen-captions`."""
    commands = typer.Typer(help="Train or score the tiny CLIP of synthetic pedestrians.", no_args_is_help=True)
    commands.command(epilog=EXAMPLES)(train)
    commands.command(epilog=EXAMPLES)(evaluate)
    app.add_typer(commands, name="embedded-clip")


def train(
    out: Annotated[Path, typer.Argument(help="Folder of the model, for --clip-weights local-dir:OUT.")],
    identities: Annotated[int, typer.Option(min=1, help="How many people to learn from.")] = 5000,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over their pictures.")] = 34,
    seed: Annotated[int, typer.Option(help="Seeds people, weights and order.")] = TRAINING_SEED,
    pictures: Annotated[Path | None, typer.Option(help="Folder to keep the renders in.")] = None,
    workers: Workers = 1,
) -> None:
    """Render people, train a CLIP on them, and write it as an open_clip folder."""
    from captioning.embedded.card import write_training
    from captioning.embedded.data import AlbumJob, load_album
    from captioning.embedded.train import Recipe, train_model

    job, recipe = AlbumJob(identities, VIEWS, seed), Recipe(epochs=epochs, seed=seed)
    total = identities * VIEWS
    with progress("rendering", "images") as advance:
        album = load_album(job, pictures, workers=workers, on_progress=lambda done: advance(done, total, ""))
    started_at = time.monotonic()
    losses = train_model(
        out, album, recipe, on_epoch=lambda epoch, loss: typer.echo(f"epoch {epoch} of {epochs}: loss {loss:.4f}")
    )
    write_training(out, job, recipe, losses, time.monotonic() - started_at)
    typer.echo(f"{out}: trained on {total:,} pictures; score it with gen-captions embedded-clip evaluate {out}")


def evaluate(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder of the model; default: the one of this package.")
    ] = None,
    identities: Annotated[int, typer.Option(min=1, help="How many people to test on, two pictures each.")] = 900,
    seed: Annotated[int, typer.Option(help="Seeds the people; not the seed of training.")] = TEST_SEED,
    pictures: Annotated[Path | None, typer.Option(help="Folder to keep the renders in.")] = None,
    workers: Workers = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON.")] = False,
) -> None:
    """Score a CLIP on people it has never seen; where FOLDER is given, write its metrics and model card there."""
    from captioning.divide import load_phrases
    from captioning.embedded.card import check_new_people, evaluation_of, write_scores
    from captioning.embedded.data import AlbumJob, load_album
    from captioning.embedded.evaluate import evaluate as score
    from captioning.embedded.questions import table_questions
    from passerby.nets.clip import load_clip
    from passerby.nets.clip_source import EMBEDDED

    scored = folder or EMBEDDED
    job = AlbumJob(identities, VIEWS, seed)
    check_new_people(scored, job)
    scorer = load_clip(weights=f"local-dir:{scored}")
    total = identities * VIEWS
    with progress("rendering", "images") as advance:
        album = load_album(job, pictures, workers=workers, on_progress=lambda done: advance(done, total, ""))
    evaluation = evaluation_of(job, score(scorer, album, table_questions(), load_phrases()))
    if folder is not None:  # what the package brings along stays as it was shipped
        write_scores(folder, evaluation)
    if as_json:
        typer.echo(json.dumps(evaluation))
        return
    for part in ("attributes", "bank"):
        typer.echo(f"{part}: balanced accuracy (chance) of pictures that show it")
        for name, row in evaluation[part].items():
            typer.echo(f"  {name:<16}{row['balanced']:.3f}  ({row['chance']:.3f})  {row['pictures']:>5,}")
    typer.echo(f"mean {evaluation['mean']:.3f}  ({evaluation['mean_chance']:.3f})")
    found = evaluation["retrieval"]
    typer.echo(
        f"captions to pictures, of {found['captions']:,}, and what of a picture found must be that of the caption's:"
    )
    for what in ("person", "picture"):
        recalls = "  ".join(f"{name.split()[1]} {share:.3f}" for name, share in found.items() if name.startswith(what))
        typer.echo(f"  {what:<16}{recalls}")
