"""`passerby pack`: an official Re-ID data set in, shards out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.engines import ActorCpus, ActorGpus, EngineOption, RayAddress, Spread, Units, read_part
from passerby.cli.places import Staging, open_place
from passerby.cli.progress import generate_shards

if TYPE_CHECKING:
    from passerby.pack.maps import Maps
    from passerby.readers.official import ReidInputs

EXAMPLES = """
Examples:

    passerby pack market1501 Market-1501-v15.09.15 market

    passerby pack cuhk-pedes CUHK-PEDES cuhk --workers 8

    passerby pack msmt17-v2 MSMT17_V2 msmt --parsing parsing --val-people 100
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(pack)


def pack(
    dataset: Annotated[str, typer.Argument(help="Its name, such as market1501; a wrong one lists all.")],
    folder: Annotated[Path, typer.Argument(help="Your copy of it, or a folder right above.")],
    root: Annotated[str, typer.Argument(help="Folder of the shards, or a URL, such as s3://bucket/folder.")],
    parsing: Annotated[
        Path | None,
        typer.Option(help="Folder of parsing maps: PATH.png for the image PATH.jpg, classes 0 to 19 or 255."),
    ] = None,
    val_share: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of the training people to hold out, where there is no val; 0.1 unless said."
        ),
    ] = None,
    val_people: Annotated[int | None, typer.Option(min=1, help="How many to hold out, instead of a share.")] = None,
    seed: Annotated[int, typer.Option(help="Draws who is held out.")] = 0,
    shards: Annotated[
        int, typer.Option(min=0, help="Shards of the largest split; 0 aims at 64-256 MB and at 64 shards.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    engine: EngineOption = "local",
    actor_cpus: ActorCpus = 1,
    actor_gpus: ActorGpus = 0,
    ray_address: RayAddress = "",
    units: Units = "",
    staging: Staging = None,
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Stop when more than this share is unreadable.")] = 0.01,
    allow_count_mismatch: Annotated[
        bool, typer.Option("--allow-count-mismatch", help="Take a copy whose counts are not the published ones.")
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Leave out and count images that are listed and not there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Pack an official Re-ID data set, with all its splits, into shards that train, browse and verify like any other."""
    from passerby.generate import mean_size
    from passerby.pack.maps import Maps, find_maps
    from passerby.pack.pack import Pack, hold_out, images_by_split
    from passerby.readers.files import ImageFiles
    from passerby.readers.official import check_counts
    from passerby.readers.reid import read_dataset
    from passerby.shards.begin import count_shards_by_split
    from passerby.shards.splits import read_splits

    part = read_part(units)
    output = open_place(root, staging)
    inputs = read_dataset(dataset, folder, allow_missing=allow_missing)
    if inputs.facts.notice:
        typer.echo(f"notice: {inputs.facts.notice}", err=True)
    differences = check_counts(inputs, allow_mismatch=allow_count_mismatch)
    inputs = hold_out(inputs, share=val_share, people=val_people, seed=seed)
    maps = Maps(()) if parsing is None else find_maps(inputs.root, parsing, inputs.table, workers=workers)
    for warning in (*differences, *_warn_of_maps(maps)):
        typer.echo(f"warning: {warning}", err=True)
    size = mean_size(ImageFiles(inputs.root), inputs.table)
    splits = count_shards_by_split(images_by_split(inputs.table), size, shards)
    recipe = Pack(output.root, dataset, inputs, splits, seed, parsing, maps.splits)
    spread = Spread(engine, workers, actor_cpus, actor_gpus, ray_address, part, as_json)
    manifest = generate_shards(recipe, "packing", spread, output, max_bad=max_bad)
    if manifest is None:
        return
    found = {name: dict(split.counts) for name, split in read_splits(output.root, manifest).items()}
    output.finish()
    report = _report(root, inputs, found, dict(manifest.reasons))
    typer.echo(json.dumps(report, ensure_ascii=False) if as_json else _report_text(report))


def _warn_of_maps(maps: "Maps") -> list[str]:
    warnings = [
        f"{split} lacks {count:,} parsing maps, so none of its images gets one" for split, count in maps.lacking.items()
    ]
    if maps.empty:
        warnings.append(f"{len(maps.empty):,} parsing maps show nobody, such as {maps.empty[0]}")
    return warnings


def _report(
    root: str, inputs: "ReidInputs", splits: dict[str, dict[str, int]], reasons: dict[str, int]
) -> dict[str, Any]:
    return {
        "out": root,
        "title": inputs.facts.title,
        "splits": splits,
        "dropped": dict(inputs.dropped),
        "seen": len(inputs.table),
        "kept": len(inputs.table) - sum(reasons.values()),
        "quarantined": sum(reasons.values()),
        "reasons": reasons,
    }


def _report_text(report: dict[str, Any]) -> str:
    names = dict.fromkeys(name for told in report["splits"].values() for name in told)
    lines = [f"{'':<10}" + "".join(f"{name:>10}" for name in names)]
    for split, told in report["splits"].items():
        lines.append(f"{split:<10}" + "".join(f"{told.get(name, ''):>10,}" for name in names))
    lines += [f"left out, {reason}: {count:,}" for reason, count in report["dropped"].items()]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report["reasons"].items())
    counts = f"kept {report['kept']:,} + quarantined {report['quarantined']:,} = seen {report['seen']:,}"
    return "\n".join([*lines, f"{counts}{f' ({reasons})' if reasons else ''}", f"written to {report['out']}"])
