"""How fast the methods train from shards, beside the same loop on one batch that lies ready, and beside plain fp32.

    python -m benchmarks.training [ROOT] [--preset tiny] [--steps 60] [--workers 2]
    python -m benchmarks.training ROOT --preset paper --device cuda

Without ROOT, shards of noise are made. The rate is the median of those in the run's journal, after its first steps. "Ready" takes
reading, decoding and augmenting away: what is left of the difference is the time that the device waits for data.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from pathlib import Path
from typing import Any

from benchmarks.reading import make_shards
from benchmarks.side_by_side import Row, show
from passerby.cli.pretrain import METHODS, build_job
from passerby.training.reading import Loader, Share, TrainingData
from passerby.training.run import train

READY, PLAIN = "batch that lies ready", "plain fp32"
SAMPLES = 2_000


def main() -> None:
    """Measure, and print a line for each method and rival."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", nargs="?")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--preset", default="tiny", help="tiny, paper, or another of configs/")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="section.name=value, for all runs")
    options = parser.parse_args()
    show(
        measure(
            options.root,
            options.methods,
            settings=[*options.settings, f"loop.steps={options.steps}"],
            preset=options.preset,
            workers=options.workers,
            device=options.device,
        )
    )


def measure(
    root: str | None = None,
    methods: Sequence[str] = (*METHODS,),
    *,
    settings: Sequence[str],
    preset: str = "tiny",
    workers: int = 2,
    device: str = "auto",
) -> Iterator[Row]:
    """Train each method for some steps."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial = Trial(root or str(make_shards(folder / "shards", SAMPLES)), folder, preset, settings, workers, device)
        for method in methods:
            yield from trial.measure(method)


@dataclass(frozen=True)
class Trial:
    """Short runs on one data set."""

    root: str
    folder: Path
    """Where the runs go."""

    preset: str
    settings: Sequence[str]
    workers: int
    device: str

    def measure(self, method: str) -> Iterator[Row]:
        """Train a method from shards, from a ready batch, and on a GPU by plain fp32 too."""
        import torch

        ours = rate(self.job(method, "shards"))
        ready = self.job(method, "ready")
        rivals = {READY: rate(replace(ready, open_data=ReadyData.of(ready.open_data)))}
        if torch.cuda.is_available() and self.device != "cpu":
            rivals[PLAIN] = rate(self.job(method, "plain", "loop.precision=fp32", "loop.compile=false"))
        for rival, found in rivals.items():
            yield Row(
                task=f"train {method} ({self.preset}) from shards",
                rate=ours,
                unit="samples/s",
                rival=rival,
                rival_rate=found,
            )

    def job(self, method: str, name: str, *settings: str) -> Any:  # noqa: ANN401  (of any method)
        """Put a run together as the command does."""
        told = [*(f"loop.{name}={value}" for name, value in QUIET.items()), "data.validation_share=0"]
        return build_job(
            method,
            self.root,
            self.folder / f"{method}-{name}",
            config=f"{method}-{self.preset}",
            settings=[*told, *self.settings, *settings],
            workers=self.workers,
            device=self.device,
        )


def rate(job: Any) -> float:  # noqa: ANN401  (of any method)
    """Run a job to its end, and give the median of its samples a second, after the first third."""
    train(job, is_resumed=False, on_progress=lambda progress: None, on_note=lambda note: None)
    lines = [json.loads(line) for line in (job.run / "metrics.jsonl").read_text().splitlines()]
    found = [line["samples_a_second"] for line in lines if line["kind"] == "training"]
    return float(statistics.median(found[len(found) // 3 :]))


QUIET: Mapping[str, object] = {"log_every": 5, "save_every": 1_000_000, "validate_every": 1_000_000, "warmup_steps": 1}
"""Nothing beside the steps themselves."""


@dataclass(frozen=True)
class ReadyData:
    """Data of a run, whose first batch is given again and again."""

    data: TrainingData

    @classmethod
    def of(cls, open_data: Any) -> Any:  # noqa: ANN401
        """Wrap what opens the data of a job."""
        return lambda state: cls(open_data(state))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Be the data in all else."""
        return getattr(self.data, name)

    def training(self, start_step: int, stop_step: int, share: Share) -> Loader:
        """Give the first batch as often as there are steps."""
        first = next(iter(self.data.training(start_step, stop_step, replace(share, workers=0))))
        return islice(repeat(first), (stop_step - start_step) * share.accumulation)


if __name__ == "__main__":
    main()
