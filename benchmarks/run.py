"""Make all measurements, and write them into the table of docs/benchmarks.md.

    python -m benchmarks.run                      # all parts, an hour or two; leave the machine alone meanwhile
    python -m benchmarks.run reading evaluation   # some parts; the others keep their rows
    python -m benchmarks.run --small              # a quick look: small inputs, and nothing is written

Every part runs in a process of its own, its methods in turn, so ratios hold however fast the machine is. What was measured lies in
benchmarks/results/, a file for each part, with the machine, the versions and the command.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import Row, show
from passerby.runtime import write_atomically

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PACKAGES = (
    "passerby",
    "torch",
    "open_clip_torch",
    "webdataset",
    "datasets",
    "pillow",
    "pyarrow",
    "numpy",
    "torchreid",
    "fastreid",
)

HEAD = """# How fast it is

Each line is a rate of passerby's, and how many times as fast that is as what stands beside it, measured in turn in one run.
Memory is the most of all processes, or of the one that is named. Where nothing stands beside, nothing that can be installed
does the same. Make it anew with `python -m benchmarks.run`; a part alone with `python -m benchmarks.run PART`.
"""


def finegpr_c(*, is_small: bool) -> Iterator[Row]:
    """Captions from attributes."""
    from benchmarks.finegpr_c import measure

    yield measure(identities=20 if is_small else 1150, workers=2)


def luperson_t(*, is_small: bool) -> Iterator[Row]:
    """Captions from images."""
    from benchmarks.luperson_t import measure

    return measure(images=3_000 if is_small else 20_000, repeats=1 if is_small else 3)


def growth(*, is_small: bool) -> Iterator[Row]:
    """The same, of ever more images."""
    from benchmarks.growth import measure

    return measure(None, [2_000, 10_000] if is_small else [10_000, 100_000, 1_000_000], workers=2)


def packing(*, is_small: bool) -> Iterator[Row]:
    """Shards."""
    from benchmarks.packing import compare

    return compare(None, samples=2_000 if is_small else 20_000, repeats=1 if is_small else 3)


def curation(*, is_small: bool) -> Iterator[Row]:
    """Parts of a data set."""
    from benchmarks.curate import compare

    small, full = (8_000, 20_000, 1), (100_000, 1_000_000, 3)
    return compare(None, *(small if is_small else full))


def report(*, is_small: bool) -> Iterator[Row]:
    """The report on a data set."""
    from benchmarks.report import measure

    yield measure(captions=20_000 if is_small else 1_000_000, workers=2)


def reading(*, is_small: bool) -> Iterator[Row]:
    """Samples for training."""
    from benchmarks.reading import measure

    small, full = (2_000, [0], 1), (20_000, [0, 2], 3)
    return measure(None, *(small if is_small else full))


def training(*, is_small: bool) -> Iterator[Row]:
    """Steps of training."""
    from benchmarks.training import measure

    return measure(settings=[f"loop.steps={15 if is_small else 60}"])


def finetuning(*, is_small: bool) -> Iterator[Row]:
    """Steps of fine-tuning."""
    from benchmarks.finetuning import measure

    return measure(batch=8 if is_small else 16, steps=3 if is_small else 12)


def evaluation(*, is_small: bool) -> Iterator[Row]:
    """Scores of a gallery."""
    from benchmarks.evaluation import measure

    return measure(is_small=is_small)


PARTS: dict[str, Callable[..., Iterator[Row]]] = {
    part.__name__: part
    for part in (finegpr_c, luperson_t, growth, packing, curation, report, reading, training, finetuning, evaluation)
}


def main() -> None:
    """Measure the parts that are asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="by default all")
    parser.add_argument("--small", action="store_true", help="small inputs, nothing written")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows = pool.submit(measure, name, is_small=options.small).result()
        if not options.small:
            result = {**conditions(), "rows": [asdict(row) for row in rows]}
            RESULTS.mkdir(exist_ok=True)
            write_atomically(RESULTS / f"{name}.json", (json.dumps(result, indent=1) + "\n").encode())
            write_atomically(PAGE, page(read_results()).encode())


def measure(name: str, *, is_small: bool) -> list[Row]:
    """Measure a part, telling each row as it comes."""
    rows = []
    for row in PARTS[name](is_small=is_small):
        show([row])
        rows.append(row)
    return rows


def conditions() -> dict[str, Any]:
    """Tell what was measured on, and with what."""
    import torch

    named = [line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    processor = named[0] if named else platform.machine()
    versions = {name: found for name in PACKAGES if (found := _version(name))}
    return {
        "machine": f"{os.cpu_count()} threads of {processor}, {memory:.0f} GiB{gpu}",
        "versions": {"python": platform.python_version(), **versions},
    }


def read_results() -> dict[str, dict[str, Any]]:
    """Read what was measured, in the order of the parts."""
    files = {name: RESULTS / f"{name}.json" for name in PARTS}
    return {name: json.loads(file.read_bytes()) for name, file in files.items() if file.exists()}


def page(results: dict[str, dict[str, Any]]) -> str:
    """Write the page: a table for all that was measured under the same conditions."""
    paragraphs = [HEAD]
    for told, group in groupby(results.items(), key=lambda item: (item[1]["machine"], item[1]["versions"])):
        machine, versions = told
        listed = ", ".join(f"{name} {number}" for name, number in versions.items())
        lines = ["part | what | passerby | times | beside | memory", "--- | --- | ---: | ---: | --- | ---:"]
        for part, result in group:
            lines += [" | ".join((part, *Row(**row).cells())) for row in result["rows"]]
        table = "\n".join(f"| {line} |" for line in lines)
        paragraphs.append(f"Measured on {machine}, with {listed}.\n\n{table}\n")
    return "\n".join(paragraphs)


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()
