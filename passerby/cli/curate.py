"""`passerby select` (a part of a data set, by condition and by rule) and `passerby exclude` (removal requests)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    from passerby.curate.exclude import Exclusion
    from passerby.shards.manifest import Manifest

NAMES_MISSING = 1

SELECT_EXAMPLES = """
Examples:

    passerby select luperson-t --where "upper_clothes_confidence > 0.4 and bag <> ''" --out with-bags

    passerby select finegpr-c --balance gender --per-person 20 --out balanced

    passerby select luperson-t --dedup --not-near market-1501-test --out clean
"""
EXCLUDE_EXAMPLES = """
Examples:

    passerby exclude luperson-t --keys withdrawn.txt --reason "withdrawal of consent"

    passerby exclude finegpr-c --person people.txt --date 2026-05-01
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `passerby`."""
    app.command(epilog=SELECT_EXAMPLES)(select)
    app.command(epilog=EXCLUDE_EXAMPLES)(exclude)


def select(
    root: Annotated[Path, typer.Argument(help="Folder of a data set; it is only read.")],
    out: Annotated[Path, typer.Option(help="Folder of the new one.")],
    where: Annotated[
        str, typer.Option(help="Condition in SQL over the columns of meta/*.parquet; needs DuckDB, the extra `select`.")
    ] = "",
    not_near: Annotated[
        Path | None, typer.Option(help="A data set (such as a test set) whose images must not come near.")
    ] = None,
    dedup: Annotated[
        bool,
        typer.Option(
            "--dedup",
            help="Keep the first, by key, of each group of near-duplicates, whoever they show: frames of one person's video too.",
        ),
    ] = False,
    hash_distance: Annotated[
        int,
        typer.Option(min=0, help="Near-duplicates differ in at most so many of 64 bits of a perceptual hash, 0 to 8."),
    ] = 4,
    cosine: Annotated[
        float | None,
        typer.Option(help="Near-duplicates are also images whose kept embeddings have at least this cosine."),
    ] = None,
    per_person: Annotated[int, typer.Option(min=0, help="Keep at most so many samples of a person; 0 keeps all.")] = 0,
    balance: Annotated[
        str,
        typer.Option(
            help="Column: keep of each value, the unknown one too, at most as many as of the rarest known one."
        ),
    ] = "",
    balance_to: Annotated[
        int, typer.Option(min=0, help="With --balance: keep at most this many of each value instead.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seeds which samples --per-person and --balance keep.")] = 0,
    shards: Annotated[
        int, typer.Option(min=0, help="Shards of the largest split; 0 aims at 64-256 MB and at 64 shards.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that look for near-duplicates.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Copy a part of a data set, byte for byte, into a new one that says where it comes from and what was left out.

    The rules apply in this order: --where, --not-near, --dedup, --per-person, --balance.
    """
    from passerby.curate.rules import Rules
    from passerby.curate.select import select as select_samples

    rules = Rules(
        where=where,
        not_near=not_near,
        is_deduplicated=dedup,
        hash_distance=hash_distance,
        cosine=cosine,
        per_person=per_person,
        balance=balance,
        balance_to=balance_to,
        seed=seed,
    )
    with progress("selecting", "shards") as advance:
        manifest = select_samples(
            root,
            out,
            rules,
            shards=shards,
            workers=workers,
            on_progress=lambda what, done, total: advance(done, total, what),
        )
    report = _selected(out, manifest)
    typer.echo(json.dumps(report, ensure_ascii=False) if as_json else _selected_text(report))


def exclude(
    root: Annotated[Path, typer.Argument(help="Folder of a data set; it is changed.")],
    keys: Annotated[
        Path | None, typer.Option(help="Keys to remove: one a line, a JSON list, or a Parquet file with a column key.")
    ] = None,
    person: Annotated[Path | None, typer.Option(help="The same with person_id: all samples of these people.")] = None,
    reason: Annotated[str, typer.Option(help="Goes into the log; name nobody.")] = "",
    day: Annotated[
        str, typer.Option("--date", help="Goes into the log: year-month-day; today (UTC) if not given.")
    ] = "",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Remove the others where some are not there.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Remove samples from a data set: image, caption, metadata, embedding. Exit code 1 where a key is unknown.

    The data set gets a new revision; erasures.jsonl logs hashes of what went. Copies and selections made before are data
    sets of their own: run it there too.
    """
    from passerby.curate.exclude import Request
    from passerby.curate.exclude import exclude as exclude_samples

    if keys is None and person is None:
        raise ValueError("nothing to remove: give --keys FILE or --person FILE")
    request = Request(
        keys=() if keys is None else _read_names(keys, "key"),
        people=() if person is None else _read_names(person, "person_id"),
        reason=reason,
        date=_date(day),
    )
    with progress("removing", "shards") as advance:
        result = exclude_samples(
            root, request, allows_missing=allow_missing, on_progress=lambda done, total: advance(done, total, "")
        )
    if as_json:
        typer.echo(json.dumps(asdict(result), ensure_ascii=False))
    else:
        for line in _excluded_lines(root, result, is_partial=allow_missing):
            typer.echo(line)
    if result.missing and not allow_missing:
        raise typer.Exit(NAMES_MISSING)


def _selected(out: Path, manifest: "Manifest") -> dict[str, Any]:
    from passerby.curate.select import count_same_person

    report = {"out": str(out), "seen": manifest.seen, "kept": manifest.kept, "dropped": dict(manifest.reasons)}
    if (same := count_same_person(out)) is not None:
        report["near_duplicates_of_the_same_person"] = same
    return report


def _selected_text(report: Mapping[str, Any]) -> str:
    lines = [f"{'seen':<20}{report['seen']:>12,}"]
    lines += [f"{'- ' + reason:<20}{count:>12,}" for reason, count in report["dropped"].items()]
    lines += [f"{'= kept':<20}{report['kept']:>12,}"]
    if (same := report.get("near_duplicates_of_the_same_person")) is not None and "near-duplicate" in report["dropped"]:
        lines.append(f"of the near-duplicates {same:,} show the same person as what they repeat; see repeats.parquet")
    return "\n".join([*lines, f"written to {report['out']}"])


def _excluded_lines(root: Path, result: "Exclusion", *, is_partial: bool) -> Iterator[str]:
    for name in result.missing:
        yield f"{name}: unknown"
    if result.missing and not is_partial:
        yield f"{root}: {len(result.missing):,} unknown, so nothing was removed; mend the file, or pass --allow-missing"
        return
    before = f" ({result.named_before:,} were named in earlier requests)" if result.named_before else ""
    yield f"{root}: removed {result.removed:,}{before}, revision {result.revision}"
    if result.stale:
        yield f"made before, and not touched: {', '.join(result.stale)}; make them anew, or delete them"


def _read_names(path: Path, column: str) -> frozenset[str]:
    """Read names from a text file, a JSON list, or a column of a Parquet file."""
    from passerby.columnar import open_parquet
    from passerby.untrusted import read_json

    if path.suffix == ".parquet":
        with open_parquet(path) as file:
            if column not in file.schema_arrow.names:
                raise ValueError(f"{path} has no column {column}; it has {', '.join(file.schema_arrow.names)}")
            names: object = file.read([column])[column].to_pylist()
    elif path.suffix == ".json":
        names = read_json(path)
    else:
        names = path.read_text("utf-8").split("\n")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f'{path} must hold a list of strings, such as ["0001_c1s1_000151_01"]')
    found = frozenset(name.strip() for name in names if name.strip())
    if not found:
        raise ValueError(f"{path} names nobody; give one {column} a line")
    return found


def _date(day: str) -> str:
    try:
        return (date.fromisoformat(day) if day else datetime.now(UTC).date()).isoformat()
    except ValueError:
        raise ValueError(f"date is {day!r}; give year-month-day, such as 2026-05-01") from None
