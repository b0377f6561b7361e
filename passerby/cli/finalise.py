"""`gen-captions finalise`: the last step of a run in parts."""

import json
from typing import Annotated

import typer

from passerby.cli.counts import counts_of, counts_text
from passerby.cli.luperson_t import tell as tell_luperson_t
from passerby.cli.places import Staging, open_place

EXAMPLES = """
Examples:

    gen-captions finegpr-c people/images --attributes people/attributes.csv --out ROOT --lambda 0.8 --units 1/2

    gen-captions finegpr-c people/images --attributes people/attributes.csv --out ROOT --lambda 0.8 --units 2/2

    gen-captions finalise ROOT
"""


def register(app: typer.Typer) -> None:
    """Add the command to `gen-captions`."""
    app.command(epilog=EXAMPLES)(finalise)


def finalise(
    root: Annotated[str, typer.Argument(help="Folder or URL that parts (--units i/n) have written to.")],
    staging: Staging = None,
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Stop when more than this share is unreadable.")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Complete a data set made in parts: manifest, card and reports, as one run would have written them."""
    from passerby.parts import complete_parts

    output = open_place(root, staging)
    manifest = complete_parts(output, max_bad=max_bad)
    if manifest.header["config"]["recipe"] == "luperson-t":
        tell_luperson_t(output, manifest, as_json=as_json)
        return
    output.finish()
    counts = counts_of(str(output), manifest)
    typer.echo(json.dumps(counts, ensure_ascii=False) if as_json else counts_text(counts))
