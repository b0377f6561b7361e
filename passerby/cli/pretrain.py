"""`pretrain vtbr|unipt|mmet`: learn an image encoder from captioned people."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.runs import Fsdp, default_config, read_config, run_to_end

if TYPE_CHECKING:
    from passerby.training.run import Job

METHODS = {"vtbr": "pretrain.vtbr", "unipt": "pretrain.unipt", "mmet": "pretrain.mmet"}
"""Where each method lives; imported only when it is asked for."""

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
        fsdp: Fsdp = False,
    ) -> None:
        config = config or default_config(out, f"{name}-paper", is_resumed=resume)
        job = build_job(name, root, out, config=config, settings=settings or [], workers=workers, device=device)
        run_to_end(job, f"pretrain {name}", is_resumed=resume, is_sharded=fsdp)

    return command


def build_job(
    name: str, root: str, out: Path, *, config: str, settings: list[str], workers: int, device: str
) -> "Job[Any]":
    """Read a configuration and gather all that a run needs.

    Raises:
        FileNotFoundError: there is no such preset or file.
        ConfigError: with everything in it that does not fit.
    """
    from passerby.config import read_sections

    table = read_config(config, settings, method=name)  # quick mistakes before slow imports

    from passerby.training.augment import Augmentation
    from passerby.training.method import LoopConfig
    from passerby.training.reading import DataConfig
    from pretrain.job import build_job as put_together

    module: Any = import_module(METHODS[name])
    kinds = {"method": module.Config, "loop": LoopConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, table)
    reword = _reword(root) if sections["data"].captions == "rerender" else None
    return put_together(name, module, sections, root=root, run=out, workers=workers, device=device, reword=reword)


def _reword(root: str) -> Callable[..., str]:
    from passerby.cli.reword import Rewording, voice_of

    voice_of(Path(root), 0)  # faults show before the run
    return Rewording(Path(root))
