"""`pretrain vtbr|unipt|mmet`: learn an image encoder from captioned people."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import CONFIGS
from passerby.cli.progress import progress

if TYPE_CHECKING:
    from pretrain.run import Job

METHODS = {"vtbr": "pretrain.vtbr", "unipt": "pretrain.unipt", "mmet": "pretrain.mmet"}
"""Where each method lives; imported only when it is asked for."""

STOPPED = 75
"""Exit code of a run that SIGTERM ended early: EX_TEMPFAIL, try again with --resume."""

EXAMPLES = """
Examples:

    pretrain {name} finegpr-c --out runs/{name} --config {name}-tiny

    pretrain {name} finegpr-c --out runs/{name} --config {name}-tiny --set loop.steps=2000 --set augment.flip=0 --resume

    torchrun --nproc-per-node 4 --no-python pretrain {name} finegpr-c --out runs/{name} --workers 4
"""


def register(app: typer.Typer) -> None:
    """Add a command for each method to `pretrain`."""
    for name in METHODS:
        app.command(name, epilog=EXAMPLES.format(name=name), help=f"Pre-train {name.upper()} on a data set.")(
            _command(name)
        )


def _command(name: str) -> Callable[..., None]:
    def command(
        root: Annotated[
            str, typer.Argument(help="A data set of ours, or a pattern of tars: 'shards/{00000..00099}.tar'.")
        ],
        out: Annotated[Path, typer.Option(help="Folder of the run.")],
        config: Annotated[
            str, typer.Option(help=f"A preset, or a TOML file; {name}-paper, or with --resume what the run began with.")
        ] = "",
        settings: Annotated[
            list[str] | None, typer.Option("--set", help="Replace one value: section.name=value; may be repeated.")
        ] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out was interrupted.")] = False,
        workers: Annotated[int, typer.Option(min=0, help="Processes that read, for each GPU.")] = 2,
        device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    ) -> None:
        from pretrain.run import pretrain

        begun = out / "config.toml"
        config = config or (str(begun) if resume and begun.exists() else f"{name}-paper")
        job = build_job(name, root, out, config=config, settings=settings or [], workers=workers, device=device)
        with progress(f"pretrain {name}", "steps") as advance:
            is_finished = pretrain(
                job,
                is_resumed=resume,
                on_progress=lambda now: advance(now.step, now.steps, _describe(now)),
                on_note=lambda text: typer.echo(text, err=True),
                reword=_reword(root) if job.data.captions == "rerender" else None,
            )
        if not is_finished:
            raise typer.Exit(STOPPED)
        typer.echo(f"written to {out}: encoder.safetensors, encoder.toml, metrics.jsonl")

    return command


def build_job(name: str, root: str, out: Path, *, config: str, settings: list[str], workers: int, device: str) -> "Job":
    """Read a configuration and gather all that a run needs.

    Raises:
        FileNotFoundError: there is no such preset or file.
        ConfigError: with everything in it that does not fit.
    """
    from passerby.config import ConfigError, apply_settings, read_sections, read_table

    table = apply_settings(read_table(find_config(config)), settings)  # quick mistakes before slow imports
    if (made_for := table.pop("run", {}).get("method", name)) != name:
        raise ConfigError(f"{config} is of a run of {made_for}, not of {name}")

    from pretrain.augment import Augmentation
    from pretrain.method import LoopConfig
    from pretrain.reading import DataConfig
    from pretrain.run import Job

    module: Any = import_module(METHODS[name])
    kinds = {"method": module.Config, "loop": LoopConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, table)
    return Job(name=name, module=module, root=root, run=out, workers=workers, device=device, **sections)


def find_config(name: str) -> Path:
    """Find a TOML file by its path, or a preset by its name.

    Raises:
        FileNotFoundError: there is neither.
    """
    for path in (Path(name), CONFIGS / f"{name}.toml"):
        if path.is_file():
            return path
    presets = sorted(path.stem for path in CONFIGS.glob("*.toml"))
    raise FileNotFoundError(f"there is no file and no preset {name}; presets are {', '.join(presets)}")


def _reword(root: str) -> Callable[..., str]:
    from passerby.cli.reword import Rewording, voice_of

    voice_of(Path(root), 0)  # faults show before the run
    return Rewording(Path(root))


def _describe(now: Any) -> str:  # noqa: ANN401  (of pretrain.loop, which is imported later)
    return f"loss {now.loss:.3f}, {now.samples_a_second:,.0f} samples/s, {now.waiting_share:.0%} waiting for data"
