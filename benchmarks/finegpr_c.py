"""How fast the captions of FineGPR-C are made, for every name of FineGPR.

    python -m benchmarks.finegpr_c
    python -m benchmarks.finegpr_c --identities 50    # a quick look

All 2,028,600 names of FineGPR and an attribute table with its published marginals, through the command line as a user
runs it, captions to one Parquet file; the memory is that of all its processes.
"""

import argparse
import csv
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.side_by_side import Row, show, watch
from captioning.attributes import IDENTITY_SLOTS

MARGINALS = {
    "gender": (770, 380),
    "hair": (311, 839),
    "age": (33, 1049, 25),
    "glasses": (14, 1136),
    "sleeve": (318, 832),
    "top_length": (716, 434),
    "dress": (72, 1078),
    "boots": (402, 748),
    "hat": (109, 1041),
    "bag": (25, 1125),
    "shoes": (727, 423),
    "upper_color": (276, 136, 96, 32, 143, 39, 127, 97, 54),
    "lower_color": (371, 70, 65, 1, 192, 16, 172, 54, 60),
}
"""Weights of the codes 01, 02, … (counts of 1,150 identities; thousandths for the colours). Source: FineGPR's attribute figure."""

CAMERAS, WEATHERS, ILLUMINATIONS, SCENES = 36, 7, 7, 9


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=1150)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    show([measure(options.identities, options.workers)])


def measure(identities: int, workers: int) -> Row:
    """Caption every name of FineGPR's grid."""
    with tempfile.TemporaryDirectory(prefix="passerby-benchmark-") as name:
        names, table, out = (Path(name, file) for file in ("names.txt", "attributes.csv", "captions.parquet"))
        write_names(names, identities)
        write_table(table, identities)
        program = Path(sys.executable).parent / "gen-captions"
        command = [program, "finegpr-c", names, "--attributes", table, "--out", out, "--lambda", 0.8, "--text-only"]
        memory, seconds = watch([*map(str, [*command, "--workers", workers])])
    images = identities * CAMERAS * WEATHERS * ILLUMINATIONS
    return Row(
        task=f"FineGPR-C, text of {images:,} images",
        rate=images / seconds,
        unit="captions/s",
        memory_mib=memory,
    )


def write_names(path: Path, identities: int) -> None:
    """Write the names of FineGPR's full grid."""
    with path.open("w") as file:
        for identity in range(1, identities + 1):
            for camera in range(1, CAMERAS + 1):
                for weather in range(1, WEATHERS + 1):
                    for light in range(1, ILLUMINATIONS + 1):
                        stem = f"{identity:04d}_c{camera:02d}_w{weather:02d}_l{light:02d}_p{identity % SCENES + 1:02d}"
                        file.write(f"{identity:04d}/{stem}.jpg\n")


def write_table(path: Path, identities: int) -> None:
    """Write an attribute table drawn from the published marginals, as codes."""
    generator = random.Random(0)  # noqa: S311  (test data)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *IDENTITY_SLOTS])
        for identity in range(1, identities + 1):
            codes = [generator.choices(range(1, len(weights) + 1), weights)[0] for weights in MARGINALS.values()]
            writer.writerow([f"{identity:04d}", *(f"{code:02d}" for code in codes)])


if __name__ == "__main__":
    main()
