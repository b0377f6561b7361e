"""`finetune reid|t2i|mmet`: learn to tell people apart, or to find them by a text."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.runs import Fsdp, default_config, read_config, run_to_end

if TYPE_CHECKING:
    from passerby.training.run import Job

METHODS = {"reid": "finetune.reid", "t2i": "finetune.text_to_image", "mmet": "finetune.mmet"}
"""Where each method lives; imported only when it is asked for."""

SUMMARIES = {
    "reid": "Fine-tune an image encoder to tell people apart (the strong baseline).",
    "t2i": "Fine-tune UniPT's encoders to find people's images by a text.",
    "mmet": "Fine-tune MMET's encoders to tell people apart by image, text, or both.",
}

EXAMPLES = """
Examples:

    finetune {name} {root} --init runs/{init} --out runs/{preset} --config {preset}-tiny

    finetune {name} {root} --init runs/{init} --out runs/{preset} --set loop.epochs=60 --set loop.seed=1 --resume
"""
PRESETS = {"mmet": "mmet-reid"}
"""Beginnings of the names of presets, where they are not the method's; `mmet` itself is that of `pretrain`."""

USUAL = {
    "reid": {"root": "market", "init": "vtbr"},
    "t2i": {"root": "cuhk-pedes", "init": "unipt"},
    "mmet": {"root": "finegpr-c", "init": "mmet"},
}
"""For the examples: what each method usually learns from, and is begun with."""

Root = Annotated[str, typer.Argument(help="A data set with people: of `passerby pack`, or another of ours.")]
Out = Annotated[Path, typer.Option(help="Folder of the run.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Replace one value: section.name=value; may be repeated.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out was interrupted.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that read, for each GPU.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]


def register(app: typer.Typer) -> None:
    """Add a command for each method to `finetune`."""
    for name, summary in SUMMARIES.items():
        examples = EXAMPLES.format(name=name, preset=PRESETS.get(name, name), **USUAL[name])
        app.command(name, help=summary, epilog=examples)(_command(name))


def _command(name: str) -> Callable[..., None]:
    paper = f"{PRESETS.get(name, name)}-paper"

    def command(
        root: Root,
        out: Out,
        init: Annotated[
            str, typer.Option(help="Where to begin: folder of a run, file of weights; or nowhere, with random weights.")
        ] = "",
        config: Annotated[
            str, typer.Option(help=f"A preset, or a TOML file; {paper}, or with --resume what the run began with.")
        ] = "",
        settings: Settings = None,
        resume: Resume = False,
        workers: Workers = 2,
        device: Device = "auto",
        fsdp: Fsdp = False,
    ) -> None:
        config = config or default_config(out, paper, is_resumed=resume)
        told = [*([f"method.init={init}"] if init else []), *(settings or [])]
        job = build_job(name, root, out, config=config, settings=told, workers=workers, device=device)
        run_to_end(job, f"finetune {name}", is_resumed=resume, is_sharded=fsdp)

    return command


def build_job(
    name: str, root: str, out: Path, *, config: str, settings: list[str], workers: int, device: str
) -> "Job[Any]":
    """Read a configuration and gather all that a run needs.

    Architecture, image size and statistics come from the run that is built upon, unless file or settings say otherwise.

    Raises:
        FileNotFoundError: there is no such preset or file.
        ConfigError: with everything in it that does not fit.
    """
    table = read_config(config, settings, method=name)  # quick mistakes before slow imports

    from finetune.data import DataConfig
    from finetune.initial import geometry_of
    from finetune.job import EpochConfig
    from finetune.job import build_job as put_together
    from passerby.config import read_sections
    from passerby.training.augment import Augmentation

    module: Any = import_module(METHODS[name])
    method = table.get("method", {})
    table["method"] = {**geometry_of(method.get("init", ""), module.Config), **method}
    kinds = {"method": module.Config, "loop": EpochConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, table)
    return put_together(name, module, sections, root=root, run=out, workers=workers, device=device)
