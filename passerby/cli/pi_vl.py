"""`finetune pi-vl`: tune prompts for people and their parts, then an image encoder by them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passerby.cli.finetune import Device, Out, Resume, Root, Settings, Workers
from passerby.cli.runs import Fsdp, default_config, read_config, run_to_end

if TYPE_CHECKING:
    from finetune.stages import Stages

NAME = "pi-vl"

EXAMPLES = """
Examples:

    finetune pi-vl market --out runs/pi-vl --config pi-vl-tiny

    finetune pi-vl market --out runs/pi-vl --clip-model RN50-quickgelu --clip-weights RN50.safetensors

    finetune pi-vl market --out runs/clip-reid --config pi-vl-tiny --set method.variant=clip-reid

    finetune pi-vl market --out runs/student --set method.student=mobilenet --set method.prompts=runs/pi-vl/prompts
"""


def register(app: typer.Typer) -> None:
    """Add the command to `finetune`."""
    app.command(NAME, epilog=EXAMPLES)(pi_vl)


def pi_vl(
    root: Root,
    out: Out,
    clip_model: Annotated[
        str, typer.Option(help="The CLIP to begin with, of open_clip, or embedded; else the preset's.")
    ] = "",
    clip_weights: Annotated[str, typer.Option(help="Its weights: a tag, a file, or local-dir:FOLDER.")] = "",
    config: Annotated[
        str, typer.Option(help="A preset, or a TOML file; pi-vl-paper, or with --resume what the run began with.")
    ] = "",
    settings: Settings = None,
    resume: Resume = False,
    workers: Workers = 2,
    device: Device = "auto",
    fsdp: Fsdp = False,
) -> None:
    """Fine-tune CLIP by sentences about people and about their parts (CLIP-ReID and pi-VL), in two stages.

    The data set needs parsing maps: passerby parse makes them, passerby pack --parsing packs them.
    """
    told = [f"method.clip_model={clip_model}"] if clip_model else []
    told += [f"method.clip_weights={clip_weights}"] if clip_model or clip_weights else []
    stages = build_stages(
        root,
        out,
        config=config or default_config(out, f"{NAME}-paper", is_resumed=resume),
        settings=[*told, *(settings or [])],
        workers=workers,
        device=device,
    )

    from passerby.ranks import join_ranks
    from passerby.training.run import check_folder

    with join_ranks(device) as ranks:
        if fsdp:
            ranks.check_several()  # before hours of prompts
        check_folder(stages.encoder, is_resumed=resume)
        ranks.wait()  # before one of them writes into the folder
        if not stages.has_prompts:
            run_to_end(stages.prompts, f"finetune {NAME}, prompts", is_resumed=True)
            ranks.wait()  # until the first has written them
            resume = True  # the folder has been begun
        run_to_end(stages.encoder, f"finetune {NAME}", is_resumed=resume, is_sharded=fsdp)


def build_stages(root: str, out: Path, *, config: str, settings: list[str], workers: int, device: str) -> "Stages":
    """Read a configuration and gather all that both runs need.

    Raises:
        FileNotFoundError: there is no such preset or file.
        ConfigError: with everything in it that does not fit.
    """
    table = read_config(config, settings, method=NAME)  # quick mistakes before slow imports

    from finetune.data import DataConfig
    from finetune.job import EpochConfig
    from finetune.pi_vl import Config
    from finetune.prompt_tuning import PromptConfig
    from finetune.stages import build_stages as put_together
    from passerby.config import read_sections
    from passerby.training.augment import Augmentation

    kinds = {
        "method": Config,
        "prompts": PromptConfig,
        "loop": EpochConfig,
        "data": DataConfig,
        "augment": Augmentation,
    }
    return put_together(read_sections(kinds, table), root=root, run=out, workers=workers, device=device)
