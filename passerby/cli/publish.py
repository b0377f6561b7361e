"""`passerby publish` and `passerby hydrate`: hand a data set on without its images, and put one's own images back."""

import json
from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.data import tell_verdict
from passerby.cli.progress import progress

PUBLISH_EXAMPLES = """
Examples:

    passerby publish finegpr-c finegpr-c-captions

    passerby publish finegpr-c hf://datasets/ORG/finegpr-c --dry-run

    passerby publish demo/finegpr-c s3://bucket/demo --with-images --acknowledge "synthetic pedestrians"
"""

HYDRATE_EXAMPLES = """
Examples:

    passerby hydrate finegpr-c-captions --images FineGPR/images --out finegpr-c

    passerby hydrate hf://datasets/ORG/finegpr-c --images FineGPR/images --parsing FineGPR/parsing --out finegpr-c
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `passerby`."""
    app.command(epilog=PUBLISH_EXAMPLES)(publish)
    app.command(epilog=HYDRATE_EXAMPLES)(hydrate)


def publish(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    target: Annotated[
        str, typer.Argument(help="A folder, hf://datasets/ORG/NAME, s3://bucket/folder, or another URL.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go where.")] = False,
    with_images: Annotated[bool, typer.Option("--with-images", help="Send the images too.")] = False,
    acknowledge: Annotated[str, typer.Option(help="With images: the source whose licence lets you.")] = "",
    workers: Annotated[int, typer.Option(min=1, help="Processes that check and pack; then, files sent at once.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Verify a data set and copy it to a folder, a bucket or the Hub: captions only, unless images are wanted.

    What lies there already is not sent again, so a run that was killed is completed by the next one. Credentials come from
    the environment (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, HF_TOKEN, …).
    """
    from passerby.publish.publish import publish as publish_shards

    with progress("publishing", "files") as advance:
        result = publish_shards(
            root,
            target,
            with_images=with_images,
            acknowledged=acknowledge,
            is_dry_run=dry_run,
            workers=workers,
            on_progress=advance,
        )
    if as_json:
        listed = {"sent": result.sent, "there": result.there}
        files = {what: {each.name: each.size_bytes for each in uploads} for what, uploads in listed.items()}
        typer.echo(json.dumps({**files, "left_out": result.left_out, "retries": result.retries, "is_dry_run": dry_run}))
        return
    for upload in result.sent if dry_run else ():
        typer.echo(f"would send {upload.name}  {upload.size_bytes:,} bytes")
    for name in result.left_out:
        typer.echo(f"left out, as it is made from the images or logs removals: {name}")
    verb = "would send" if dry_run else "sent"
    typer.echo(
        f"{target}: {verb} {len(result.sent):,} files, {result.sent_bytes:,} bytes; {len(result.there):,} were there;"
        f" {result.retries:,} retries"
    )


def hydrate(
    captions: Annotated[str, typer.Argument(help="A captions-only copy: a folder or a URL.")],
    images: Annotated[Path, typer.Option(help="Your own copy of the images.")],
    out: Annotated[Path, typer.Option(help="Where the data set is made.")],
    parsing: Annotated[Path | None, typer.Option(help="Your own parsing maps, where the data set has them.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Put your own images back into a captions-only copy: the data set it was made from, byte for byte.

    Images are found by path, else by their hash. Exit code 1 if one is missing or is not the one that was captioned: it is
    named, and the data set stays unfinished until it is there and the command is run again.
    """
    from passerby.publish.hydrate import hydrate as hydrate_shards

    with progress("hydrating", "shards") as advance:
        result = hydrate_shards(captions, images, out, parsing=parsing, workers=workers, on_progress=advance)
    tell_verdict(out, result, as_json=as_json, when_faulty=", unfinished")
