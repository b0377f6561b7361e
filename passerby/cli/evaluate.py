"""`passerby evaluate`: how well a run finds people, on one data set or on several."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    from finetune.evaluate import Protocol, Result
    from finetune.features import Reading

EXAMPLES = """
Examples:

    passerby evaluate runs/reid market duke cuhk03 --out results

    passerby evaluate runs/seed0 market --also runs/seed1 --also runs/seed2 --out results --as vtbr-supervised/vtbr-rs

    passerby evaluate runs/reid market --feature before_neck --distance euclidean --rerank
"""
DISTANCES = ("cosine", "euclidean")
AVERAGES = ("step", "trapezoid")
SAME_CAMERA = ("drop", "keep")


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(evaluate)


def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `finetune` or `pretrain` that reached its end.")],
    roots: Annotated[list[str], typer.Argument(metavar="ROOT", help="Data sets with people; folders or URLs.")],
    also: Annotated[list[Path] | None, typer.Option(help="Another run, such as one of another seed; repeat.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for a JSON file each, and results.md, a page on all that are in it.")
    ] = None,
    paper_row: Annotated[
        str, typer.Option("--as", help="Row of a paper that the runs stand for, to be set beside it: TABLE/ROW.")
    ] = "",
    split: Annotated[
        str, typer.Option(help="Search this split in itself, such as val; else query in gallery, or by captions test.")
    ] = "",
    feature: Annotated[str, typer.Option(help="Such as before_neck; else the run's own. A wrong one lists all.")] = "",
    distance: Annotated[str, typer.Option(help="cosine or euclidean; else the run's own.")] = "",
    average_precision: Annotated[
        str, typer.Option(help="step, as papers report it, or trapezoid, as Market-1501's own code does.")
    ] = "step",
    is_reranked: Annotated[bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.")] = False,
    same_camera: Annotated[
        str, typer.Option(help="drop what the query's camera saw of its person, or keep it: for data of one camera.")
    ] = "drop",
    captions: Annotated[
        str,
        typer.Option(
            help="For a run of MMET, what images are seen with: stored, neutral, or `pretrain caption --json`'s."
        ),
    ] = "",
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read.")] = 2,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Find people of data sets by a run: Rank-1, -5, -10, mAP and mINP; on another one than it learnt from: direct transfer."""
    for name, value, allowed in (
        ("--distance", distance, ("", *DISTANCES)),
        ("--average-precision", average_precision, AVERAGES),
        ("--same-camera", same_camera, SAME_CAMERA),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; allowed are {', '.join(filter(None, allowed))}")

    from finetune.evaluate import Protocol
    from finetune.features import Reading
    from finetune.page import write_page
    from finetune.paper import check_row
    from finetune.results import as_text, save_result, tabulate

    if paper_row:
        check_row(paper_row)
    chosen: dict[str, Any] = {
        "feature": feature,
        "distance": distance,
        "average_precision": average_precision,
        "is_reranked": is_reranked,
        "same_camera": same_camera,
        "split": split,
        "captions": captions,
    }
    with progress("evaluating", "images") as advance:
        reading = Reading(
            batch_size=batch_size, workers=workers, on_progress=lambda done, total: advance(done, total, "")
        )
        results = _evaluate_all([run, *(also or [])], roots, Protocol(**chosen), reading, device, paper_row)
    if out:
        for result in results:
            save_result(out, result)
        page = write_page(out)
    typer.echo(json.dumps([vars(result) for result in results]) if as_json else as_text(tabulate(results)))
    if out and not as_json:
        typer.echo(f"written to {page}")


def _evaluate_all(
    runs: list[Path], roots: list[str], protocol: "Protocol", reading: "Reading", device: str, paper_row: str
) -> "list[Result]":
    """Score every run on every data set."""
    from finetune.evaluate import evaluate as score
    from finetune.trained import load_trained
    from passerby.ranks import find_device

    found = find_device(device)
    results = []
    for run in runs:
        trained = load_trained(run, found)
        for root in roots:
            result = score(trained, root, protocol, reading, paper_row=paper_row)
            typer.echo(f"{run} on {root}: {result.images_a_second:,.0f} images/s", err=True)
            results.append(result)
    return results
