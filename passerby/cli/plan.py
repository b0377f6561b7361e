"""`passerby plan`: what a run will need and take, told before it begins."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.runs import find_config

if TYPE_CHECKING:
    from passerby.forecast import ImagesForecast
    from passerby.training.forecast import Learning, TrainingForecast
    from passerby.training.run import Job

METHODS = {
    "vtbr": "pretrain",
    "unipt": "pretrain",
    "mmet": "pretrain",
    "reid": "finetune",
    "t2i": "finetune",
    "mmet-reid": "finetune",
}
"""Beginnings of the names of presets, and what is done with them."""

USUAL_BATCH_SIZE = 64

EXAMPLES = """
Examples:

    passerby plan people/images --workers 8 --out finegpr-c

    passerby plan finegpr-c --config vtbr-paper --world 8 --workers 4

    passerby plan market --config reid-paper --set method.init=runs/vtbr

    passerby plan finegpr-c --batch-size 256 --workers 4 --json
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(plan)


def plan(
    place: Annotated[str, typer.Argument(help="Images to make a data set of, or a data set to train on.")],
    config: Annotated[
        str, typer.Option(help="Train: a preset (vtbr-paper), or config.toml of a run; without it, reading alone.")
    ] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Replace one value: section.name=value; may be repeated.")
    ] = None,
    world: Annotated[int, typer.Option(min=1, help="Train: ranks, which is GPUs.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes; in training, for each rank.")] = 2,
    batch_size: Annotated[int, typer.Option(min=0, help="Train: samples a step; 0 for the configuration's.")] = 0,
    shard_size: Annotated[int, typer.Option(min=0, help="Images a shard; 0 for the usual sizes.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the result is to be; asked for its free space.")] = Path(),
    seconds: Annotated[float, typer.Option(min=0, help="How long each measurement may take.")] = 10.0,
    device: Annotated[str, typer.Option(help="Train: auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Say what a run will need and take: counts and disk, measured speed, what is slowest, and what may go wrong.

    Nothing is written. Times are estimates from some seconds of real work on this machine.
    """
    from passerby.forecast import forecast_images, to_plain
    from passerby.shards.manifest import MANIFEST_NAME
    from passerby.storage import is_url

    is_data_set = is_url(place) or (Path(place) / MANIFEST_NAME).is_file()
    _check(place, config, settings or [], batch_size, is_data_set=is_data_set)
    told: ImagesForecast | TrainingForecast
    if not is_data_set:
        from passerby.readers.luperson import open_source

        source = open_source(Path(place))
        told = forecast_images(source, out=out, workers=max(1, workers), shard_size=shard_size, seconds=seconds)
        lines = _images_lines(told)
    else:
        from passerby.training.forecast import forecast_job, forecast_reading

        if config:
            changed = [*([f"loop.batch_size={batch_size}"] if batch_size else []), *(settings or [])]
            job = _build_job(place, out, config=config, settings=changed, workers=workers, device=device)
            told = forecast_job(job, world=world, seconds=seconds)
        else:
            size = batch_size or USUAL_BATCH_SIZE
            told = forecast_reading(place, batch_size=size, world=world, workers=workers, seconds=seconds)
        lines = [*_training_lines(told), *(("note", text) for text in told.notes)]
    if as_json:
        typer.echo(json.dumps(to_plain(told)))
        return
    for name, text in [*lines, *(("warning", text) for text in told.warnings)]:
        typer.echo(f"{name:<10}{text}")


def _check(place: str, config: str, settings: list[str], batch_size: int, *, is_data_set: bool) -> None:
    if not is_data_set and (config or settings or batch_size):
        raise ValueError(f"{place} is no data set, and --config, --set and --batch-size are for training on one")
    if settings and not config:
        raise ValueError(f"--set {settings[0]} changes a configuration; name one with --config")


def _build_job(root: str, out: Path, *, config: str, settings: list[str], workers: int, device: str) -> "Job[Any]":
    from passerby.cli import finetune, pretrain

    name = method_of(config)
    build_job = {"pretrain": pretrain.build_job, "finetune": finetune.build_job}[METHODS[name]]
    method = name.partition("-")[0]  # that of the preset mmet-reid is mmet
    return build_job(method, root, out, config=config, settings=settings, workers=workers, device=device)


def method_of(config: str) -> str:
    """Say which of `METHODS` a configuration is for: by what a run has told, else by its name.

    Raises:
        FileNotFoundError: there is no such file and no such preset.
        ValueError: it is for none of them.
    """
    from passerby.config import read_table

    table = read_table(find_config(config))
    name = str(table.get("run", {}).get("method", Path(config).stem))
    if name == "mmet" and "epochs" in table.get("loop", {}):
        return "mmet-reid"
    found = [each for each in METHODS if name == each or name.startswith(f"{each}-")]
    if not found:
        raise ValueError(
            f"{config} is for none of {', '.join(METHODS)}, by which the names of presets begin; without --config the"
            " reading is planned"
        )
    return max(found, key=len)


def _images_lines(told: "ImagesForecast") -> list[tuple[str, str]]:
    from passerby.forecast import size_text

    estimates = told.estimates
    return [
        ("images", f"{told.images:,}, {size_text(told.mean_bytes)} each in the mean of {told.tried:,}"),
        ("shards", f"{told.shards:,}, of about {_many(round(told.images / told.shards), 'image')}"),
        ("disk", f"about {size_text(told.room.needed_bytes)} needed, {size_text(told.room.free_bytes)} free"),
        (
            "measured",
            f"a core reads and checks {told.checks_a_second:,.0f} images a second, and decodes {told.decodes_a_second:,.0f} too",
        ),
        (
            "estimate",
            f"{_many(told.workers, 'worker')} take {hours_text(estimates['hours_by_attributes'])} by attributes (finegpr-c), and"
            f" {hours_text(estimates['hours_by_clip_on_the_cpu'])} by CLIP (luperson-t), where the CLIP itself keeps up",
        ),
    ]


def _training_lines(told: "TrainingForecast") -> list[tuple[str, str]]:
    estimates, learning = told.estimates, told.learning
    lines = [
        ("data", f"{told.samples:,} samples of {told.people:,} people to learn from, in {_many(told.shards, 'shard')}"),
        (
            "batches",
            f"{told.steps_an_epoch:,} of {told.batch_size:,} an epoch, for {_many(told.world, 'rank')} with"
            f" {_many(told.accumulation, 'pass', 'passes')} a step, of {told.pass_size:,} at most",
        ),
        (
            "measured",
            f"a worker reads {told.examples_a_second:,.0f} samples a second (of {told.measured_examples:,} on one core)",
        ),
    ]
    if learning is None:
        hours = hours_text(estimates["reading_hours_an_epoch"])
        return [
            *lines,
            ("estimate", f"{_many(told.workers, 'worker')} a rank read an epoch in {hours}; --config tells the rest"),
        ]
    return [*lines, *_learning_lines(told, learning)]


def _learning_lines(told: "TrainingForecast", learning: "Learning") -> list[tuple[str, str]]:
    from passerby.forecast import size_text

    estimates = told.estimates
    memory = f", {size_text(learning.memory_bytes)} of its memory" if learning.memory_bytes else ""
    return [
        (
            "measured",
            f"{learning.device} learns from a rank's part of a step in {learning.step_seconds:.3g} s{memory} (mean of"
            f" {learning.measured_steps})",
        ),
        (
            "disk",
            f"about {size_text(learning.room.needed_bytes)} for checkpoints, {size_text(learning.room.free_bytes)} free",
        ),
        (
            "estimate",
            f"{hours_text(estimates['hours'])} for {learning.steps:,} steps, {estimates['epochs']:.3g} epochs; validation and the"
            " exchange among ranks come on top",
        ),
        (
            "slowest",
            f"{estimates['bottleneck']}; reading keeps up with {_many(estimates['balancing_workers'], 'worker')} a rank,"
            f" {told.workers} planned",
        ),
    ]


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def hours_text(hours: float) -> str:
    """Word a time.

    >>> hours_text(0.02)
    '1.2 minutes'
    """
    if hours * 3600 < 60:
        return f"{hours * 3600:.2g} seconds"
    return f"{hours * 60:.2g} minutes" if hours < 1 else f"{hours:,.1f} hours"
