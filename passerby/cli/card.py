"""`passerby card`: the description of a data set, for people and for machines, made again."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """
Examples:

    passerby card luperson-t

    passerby card luperson-t --contact privacy@example.org
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(card)


def card(
    root: Annotated[Path, typer.Argument(help="Folder of a data set: data/, meta/ and manifest.json.")],
    contact: Annotated[
        str | None, typer.Option(help="Who answers requests for removal: an address, kept for every later card.")
    ] = None,
) -> None:
    """Write README.md and croissant.json again: after a report, to name a contact, or with new card templates."""
    from passerby.card import write_card, write_contact
    from passerby.shards.manifest import read_manifest

    manifest = read_manifest(root)
    if contact is not None:
        write_contact(root, contact)
    facts = write_card(root, manifest)
    figures = "the figures of report.json" if facts.report else "no figures yet: passerby report measures them"
    answers = f"contact: {facts.contact}" if facts.contact else "no contact named yet: --contact ADDRESS"
    typer.echo(f"written to {root / 'README.md'} and {root / 'croissant.json'}\n{figures}\n{answers}")
