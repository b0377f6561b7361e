"""What the methods learn of rendered people, beside the same run on captions that belong to others.

    python benchmarks/learning.py people-captions runs --methods vtbr unipt mmet --seed 0

The first argument is a data set of some hundred people, as `gen-captions synthetic` and `gen-captions finegpr-c` make it; the
second a folder for the runs. Every method trains twice by its tiny preset: on the data set, and on a copy whose captions change
places. The second must fail, or the first has measured something other than the captions. People who are measured on are never
trained on.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.read import ShardDataset
from passerby.shards.write import shard_names, write_shard

METHODS = ("vtbr", "unipt", "mmet")


def main() -> None:
    """Train all that is asked for, and print a line of figures for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="settings", nargs="*", default=[], help="section.name=value, for all runs")
    options = parser.parse_args()
    shuffled = options.runs / "shuffled-captions"
    if not (shuffled / "manifest.json").exists():
        shuffle_captions(options.root, shuffled, seed=options.seed)
    for method in options.methods:
        for name, root in (("captions", options.root), ("shuffled", shuffled)):
            run = options.runs / f"{method}-{name}-{options.seed}"
            train(method, root, run, [f"loop.seed={options.seed}", *options.settings])
            print(f"{method:<6}{name:<10}seed {options.seed}  {describe(run)}", flush=True)


def shuffle_captions(root: Path, out: Path, *, seed: int) -> None:
    """Copy a data set with the captions of its samples in random order: the same images, the same texts, no relation."""
    samples = ShardDataset(root)
    order = np.random.default_rng(seed).permutation(len(samples))
    captions = samples.metadata(["caption"])["caption"].take(pa.array(order)).to_pylist()
    names = [name for name in ("key", "caption", "sha256", "path", "person_id") if name in samples[0]["json"]]
    columns = pa.schema([(name, pa.string()) for name in names])
    shards = shard_names({"train": len(samples.manifest.shards)})
    parts = np.array_split(np.arange(len(samples)), len(shards))
    for shard, part in zip(shards, parts, strict=True):
        entries = (_with_caption(samples[int(index)], captions[index], names) for index in part)
        write_shard(out, shard, entries, columns=columns, config_hash=f"shuffled {seed}")
    finalise(out, {"train": len(shards)}, {})


def _with_caption(sample: Mapping[str, Any], caption: str, names: Sequence[str]) -> Sample:
    fields = {name: sample["json"][name] for name in names} | {"caption": caption}
    return Sample(sample["__key__"], sample["jpg"], "jpg", fields, caption)


def train(method: str, root: Path, run: Path, settings: Sequence[str]) -> None:
    """Train as a user does, or go on where an earlier call was interrupted."""
    told = [word for setting in settings for word in ("--set", setting)]
    words = ["pretrain", method, root, "--out", run, "--config", f"{method}-tiny", "--workers", 0, "--resume", *told]
    program = "import sys; from passerby.cli import main; sys.argv[0] = 'passerby'; main()"
    subprocess.run([sys.executable, "-c", program, *map(str, words)], check=True, stderr=subprocess.DEVNULL)


def describe(run: Path) -> str:
    """Give the figures of the last validation."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if line["kind"] == "validation"][-1]
    return ", ".join(f"{name} {value:.3g}" for name, value in last.items() if name not in ("step", "kind"))


if __name__ == "__main__":
    main()
