"""How long `passerby report` takes on many captions, and how much memory.

    python -m benchmarks.report --captions 1000000 --workers 2

The captions are LUPerson-T's, of random picks by the shipped phrases, templates and synonyms, with confidences, hashes, sizes and
people as in `meta/`; making them takes longer than the report and is not counted.
"""

import argparse
import hashlib
import random
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.side_by_side import Row, show, watch
from captioning.combine import Combiner
from captioning.divide import PhraseBank, load_phrases
from passerby.engine import run_units

PART_ROWS = 16_384
"""Samples of a shard, as in a set of a million in 64."""

IMAGES_A_PERSON = 20
OPTIONAL_SHARE = 0.1
"""Of images that have each optional attribute; the published counts are 0.1 % to 17 %."""


def main() -> None:
    """Make the captions, report on them, print time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    show([measure(options.captions, options.workers)])


def measure(captions: int, workers: int) -> Row:
    """Make the captions, and report on them as a user does."""
    with tempfile.TemporaryDirectory(prefix="passerby-benchmark-") as name:
        folder = Path(name)
        for _ in run_units(Parts(folder, captions), range(-(-captions // PART_ROWS)), workers=workers):
            pass
        program = Path(sys.executable).parent / "passerby"
        command = [program, "report", folder, "--out", folder / "out", "--workers", workers]
        found, seconds = watch([*map(str, command)])
    return Row(task=f"report on {captions:,} captions", rate=captions / seconds, unit="captions/s", memory_mib=found)


@dataclass(frozen=True)
class Parts:
    """Tables of random captions, a file each."""

    folder: Path
    captions: int

    @cached_property
    def bank(self) -> PhraseBank:
        """The shipped phrases."""
        return load_phrases()

    @cached_property
    def combiner(self) -> Combiner:
        """The shipped templates and synonyms."""
        return Combiner(self.bank, seed=0)

    def run_unit(self, index: int) -> None:
        """Write file `index`."""
        generator = random.Random(index)  # noqa: S311  (test data)
        numbers = range(index * PART_ROWS, min((index + 1) * PART_ROWS, self.captions))
        rows = [self.row(number, generator) for number in numbers]
        pq.write_table(pa.Table.from_pylist(rows), self.folder / f"train-{index:05d}.parquet", compression="zstd")

    def row(self, number: int, generator: random.Random) -> dict[str, Any]:
        """Give the fields of one image."""
        key = f"{number:08d}"
        picks = {}
        fields: dict[str, Any] = {}
        for attribute in self.bank.attributes:
            phrase = generator.choice(attribute.phrases)
            is_said = attribute.is_required or (not phrase.is_negative and generator.random() < OPTIONAL_SHARE)
            if is_said:
                picks[attribute.name] = phrase.id
            fields[attribute.name] = phrase.id if is_said else ""
            fields[f"{attribute.name}_confidence"] = round(generator.random(), 6)
        return {
            "key": key,
            "caption": self.combiner.captions(picks, key=key)[0].text,
            "width": generator.randrange(40, 200),
            "height": generator.randrange(90, 400),
            "sha256": hashlib.sha256(key.encode()).hexdigest(),
            "person_id": f"{number // IMAGES_A_PERSON:06d}",
            **fields,
        }


if __name__ == "__main__":
    main()
