"""`passerby attend`: see where a run looks, and what it finds."""

from pathlib import Path
from typing import Annotated

import typer

from passerby.cli.progress import progress

EXAMPLES = """
Examples:

    passerby attend runs/reid market --out attention

    passerby attend runs/t2i cuhk --key CUHK01-0363004-1c2f --out attention
"""
TOP = 10


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(attend)


def attend(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `finetune` or `pretrain` that reached its end.")],
    root: Annotated[str, typer.Argument(help="A data set with people: folder or URL.")],
    out: Annotated[Path, typer.Option(help="Folder for attention.png, ranked.png and index.html, a page with both.")],
    keys: Annotated[list[str] | None, typer.Option("--key", help="A sample that asks; repeat. Else some do.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many ask, evenly spaced.")] = 12,
    split: Annotated[
        str, typer.Option(help="Search this split in itself, such as val; else query in gallery, or by captions test.")
    ] = "",
    feature: Annotated[str, typer.Option(help="Such as before_neck; else the run's own. A wrong one lists all.")] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Show Grad-CAM and Eigen-CAM of queries, and the ten nearest of the gallery: right ones framed green, wrong ones red."""
    from finetune.evaluate import Protocol, find
    from finetune.features import Reading
    from finetune.gallery import attention_sheet, ranked_sheet
    from finetune.ranked import choose_queries, search
    from finetune.sheets import draw_sheet, render_sheets
    from finetune.target import open_target
    from finetune.trained import TEXT_KIND, load_trained
    from passerby.ranks import find_device
    from passerby.runtime import write_atomically

    trained = load_trained(run, find_device(device))
    target = open_target(root, by_captions=trained.kind == TEXT_KIND, split=split)
    target = target.pick(choose_queries(target, keys=keys or [], count=count))
    with progress("embedding", "images") as advance:
        reading = Reading(
            batch_size=batch_size, workers=workers, on_progress=lambda done, total: advance(done, total, "")
        )
        found = find(trained, target, Protocol(feature=feature), reading)
    searches = search(target, found, top=TOP)
    sheets = {
        "attention": attention_sheet(trained, target, found, searches, reading),
        "ranked": ranked_sheet(target, searches),
    }
    out.mkdir(parents=True, exist_ok=True)
    for name, sheet in sheets.items():
        write_atomically(out / f"{name}.png", draw_sheet(sheet))
    title = f"{run.name} on {target.samples.manifest.header.get('title', root)}"
    write_atomically(out / "index.html", render_sheets(title, [*sheets.values()]).encode())
    typer.echo(f"written to {out}: attention.png, ranked.png, index.html")
