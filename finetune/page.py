"""The page on all results of a folder: tables of ours, and the papers' beside them."""

from pathlib import Path

from finetune.paper import TOLERANCE, compare_with_papers
from finetune.results import PAGE_NAME, as_markdown, read_results, tabulate
from passerby.runtime import write_atomically


def write_page(folder: Path) -> Path:
    """Write `results.md` anew, from all JSON files of the folder.

    Raises:
        ValueError: one of them is none of ours.
    """
    results = read_results(folder)
    parts = [
        "# Results",
        "In per cent. Test images decided nothing: weights are those of the epoch that validation chose, or the last. A deviation"
        " is that of a sample of seeds (n - 1). The JSON files beside this page say what else a number depends on.",
        as_markdown(tabulate(results)),
        "## Beside the papers",
        "The columns `paper` are what the papers report; nothing of them was measured here. The columns `ours` are results above,"
        " on the same data set and by the usual protocol, of runs that were said to stand for the row (`--as`). *Reproduced*: every"
        f" number within {TOLERANCE:g} point of the paper's.",
    ]
    for title, rows in compare_with_papers(results):
        parts += [f"### {title}", as_markdown(rows)]
    path = folder / PAGE_NAME
    write_atomically(path, ("\n\n".join(parts) + "\n").encode())
    return path
