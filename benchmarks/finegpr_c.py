"""How fast FineGPR-C is made: text for every FineGPR name, and packing beside `tar` and `webdataset.ShardWriter`.

    python benchmarks/finegpr_c.py                                  # both, a few minutes
    python benchmarks/finegpr_c.py --identities 50 --images 5000    # a quick look

Text: all 2,028,600 names of FineGPR and an attribute table with its published marginals, through the command line as a user
runs it, captions to one Parquet file; wall seconds, and the peak memory of the largest process. Packing: see `packing.py`.
"""

import argparse
import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """Run both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=1150)
    parser.add_argument("--images", type=int, default=20_000, help="images to pack")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="passerby-benchmark-") as folder:
        measure_text(Path(folder), options.identities, options.workers)
    packing = Path(__file__).with_name("packing.py")
    subprocess.run([sys.executable, str(packing), "--samples", str(options.images)], check=True)


def measure_text(folder: Path, identities: int, workers: int) -> None:
    """Caption every name of FineGPR's grid and print seconds, captions a second and peak memory."""
    names, table, out = folder / "names.txt", folder / "attributes.csv", folder / "captions.parquet"
    write_names(names, identities)
    write_table(table, identities)
    program = Path(sys.executable).parent / "gen-captions"
    command = [str(word) for word in (program, "finegpr-c", names, "--attributes", table, "--out", out)]
    started_at = time.perf_counter()
    subprocess.run([*command, "--lambda", "0.8", "--text-only", "--workers", str(workers)], check=True)
    elapsed_seconds = time.perf_counter() - started_at
    images = identities * CAMERAS * WEATHERS * ILLUMINATIONS
    peak_mib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"text: {images:,} captions with {workers} workers in {elapsed_seconds:.1f} s = {images / elapsed_seconds:,.0f}/s"
    )
    print(f"text: largest process {peak_mib:,.0f} MiB; file {out.stat().st_size / 2**20:,.0f} MiB")


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
