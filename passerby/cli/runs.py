"""What the commands that train share: where a configuration comes from, and how a run is watched."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import CONFIGS
from passerby.cli.progress import progress

if TYPE_CHECKING:
    from passerby.config import Table
    from passerby.training.clock import Progress
    from passerby.training.run import Job

Fsdp = Annotated[
    bool,
    typer.Option(
        "--fsdp", help="Share weights, gradients and optimizer among the ranks (FSDP2), for what fits no GPU."
    ),
]

STOPPED = 75
"""Exit code of a run that SIGTERM ended early: EX_TEMPFAIL, try again with --resume."""


def default_config(run: Path, preset: str, *, is_resumed: bool) -> str:
    """Name the configuration of a command that names none: that of the run which goes on, or a preset."""
    begun = run / "config.toml"
    return str(begun) if is_resumed and begun.exists() else preset


def read_config(name: str, settings: Sequence[str], *, method: str) -> "Table":
    """Read a configuration and replace some of its values.

    Args:
        name: A TOML file, or a preset.
        settings: `section.name=value` each.
        method: Whose it must be.

    Raises:
        FileNotFoundError: there is no such file and no such preset.
        ConfigError: it is another method's, or malformed.
    """
    from passerby.config import ConfigError, apply_settings, read_table

    table = read_table(find_config(name))
    if (made_for := table.pop("run", {}).get("method", method)) != method:
        raise ConfigError(f"{name} is of a run of {made_for}, not of {method}")
    return apply_settings(table, settings)


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


def run_to_end(job: "Job[Any]", title: str, *, is_resumed: bool, is_sharded: bool = False) -> None:
    """Train, tell how it goes, and end the program with `STOPPED` where SIGTERM came first."""
    from passerby.training.run import train

    with progress(title, "steps") as advance:
        is_finished = train(
            job,
            is_resumed=is_resumed,
            is_sharded=is_sharded,
            on_progress=lambda now: advance(now.step, now.steps, _describe(now)),
            on_note=lambda text: typer.echo(text, err=True),
        )
    if not is_finished:
        raise typer.Exit(STOPPED)
    typer.echo(f"written to {job.run}: encoder.safetensors, encoder.toml, metrics.jsonl")


def _describe(now: "Progress") -> str:
    return f"loss {now.loss:.3f}, {now.samples_a_second:,.0f} samples/s, {now.waiting_share:.0%} waiting for data"
