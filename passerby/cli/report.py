"""`passerby report`: figures on a data set of captions, as JSON and as a page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    from passerby.report.measure import Measurement
    from passerby.tokens import Tokenizer

EXAMPLES = """
Examples:

    passerby report luperson-t

    passerby report luperson-t --labels people/attributes.csv --label-map templates/report/finegpr_labels.yaml

    passerby report stricter --against luperson-t

    passerby report CUHK-PEDES/reid_raw.json --out cuhk-report
"""


def register(app: typer.Typer) -> None:
    """Add the command to `passerby`."""
    app.command(epilog=EXAMPLES)(report)


def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ROOT",
            help="Folder of a data set; or tars, caption lists (CUHK-PEDES, ICFG-PEDES, RSTPReid: .json), UniPT's .arrow, "
            ".parquet, or lines (.txt): one file, a folder, or a pattern in quotes.",
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Labels to compare with: CSV, Parquet or JSON with the column key or person_id and one an attribute."
        ),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(
            help="YAML: what labels are called in the data set; a line: upper_color: {attribute: upper_clothes, gray: grey}"
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Show the figures of another one beside.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.json and report.html. By default the data set's own; of other captions, NAME-report."
        ),
    ] = None,
    bert_vocab: Annotated[
        Path | None, typer.Option(help="BERT's vocab.txt (uncased), to count its tokens too.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Measure captions: are they true, do they vary, are they sound? Writes report.json and report.html, a page with plots."""
    from passerby.report.compare import compare
    from passerby.report.labels import LabelMap, read_label_map, read_labels
    from passerby.report.measure import Measurement
    from passerby.report.page import render_page
    from passerby.report.sources import DataSet, open_source
    from passerby.runtime import write_atomically

    if label_map and not labels:
        raise ValueError("--label-map translates labels; name them with --labels")
    known = read_labels(labels, read_label_map(label_map) if label_map else LabelMap()) if labels else None
    bert = _read_vocabulary(bert_vocab) if bert_vocab else None
    opened = open_source(source)
    other = open_source(against) if against else None
    figures = _measure(Measurement(opened, known, bert), workers)
    if other:
        figures["comparison"] = compare(figures, _measure(Measurement(other, known, bert), workers))
    folder = out or (opened.root if isinstance(opened, DataSet) else _folder_for(opened.name))
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / "report.html", render_page(figures).encode("utf-8", "backslashreplace"))
    write_atomically(folder / "report.json", text.encode("utf-8", "backslashreplace"))
    typer.echo(text if as_json else _summary(figures, folder), nl=not as_json)


def _read_vocabulary(path: Path) -> "Tokenizer":
    from passerby.tokens import Tokenizer

    return Tokenizer.from_file(path)


def _folder_for(name: str) -> Path:
    """Name the folder after the file or the folder; a pattern has signs that a name should not."""
    stem = "".join(sign for sign in Path(name).stem if sign.isalnum() or sign in "-_.")
    return Path(f"{stem or 'captions'}-report")


def _measure(measurement: "Measurement", workers: int) -> dict[str, Any]:
    from passerby.report.measure import measure

    with progress(f"reading {measurement.source.name}", "files") as advance:
        return measure(measurement, workers=workers, on_progress=lambda done, total: advance(done, total, ""))


def _summary(figures: dict[str, Any], folder: Path) -> str:
    from passerby.report.page import headline

    return "\n".join([*headline(figures), f"\nwritten to {folder / 'report.html'} and {folder / 'report.json'}"])
