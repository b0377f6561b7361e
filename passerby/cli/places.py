"""Where data sets go: the options of commands that make one in a folder or at a URL."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from passerby.shards.output import Output

Out = Annotated[str, typer.Option(help="Folder of the data set, or a URL, such as s3://bucket/folder.")]
Staging = Annotated[
    Path | None,
    typer.Option(help="With --out at a URL: folder in which shards wait to be sent; one of the cache unless said."),
]


def open_place(out: str, staging: Path | None) -> "Output":
    """Open the place that a user named for a data set, and say what happens on this machine's disk.

    Raises:
        ValueError, ModuleNotFoundError: as `passerby.shards.output.open_output`.
    """
    from passerby.shards.output import LocalOutput, open_output
    from passerby.storage import to_location

    output = open_output(to_location(out), staging)
    if not isinstance(output, LocalOutput):
        typer.echo(f"shards are made in {output.root}, sent to {output}, and deleted here", err=True)
    return output
