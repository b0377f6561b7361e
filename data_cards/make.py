"""Make the cards of this folder from the facts in `demo/`; with `--anew`, make the demonstration and its facts first."""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from passerby.card import Facts, croissant_json, gather, readme
from passerby.runtime import write_atomically
from passerby.shards.manifest import MANIFEST_NAME, read_manifest

HERE = Path(__file__).parent
FACTS = HERE / "demo"
NAMES = ("finegpr-c", "luperson-t")
IDENTITIES, IMAGES_PER_IDENTITY = 40, 12


def main() -> None:
    """Write a card and a Croissant file for each of `NAMES`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anew", action="store_true", help="make the demonstration again, which takes some minutes")
    if parser.parse_args().anew:
        with tempfile.TemporaryDirectory() as folder:
            make_demonstration(Path(folder))
    for name in NAMES:
        facts = read_facts(FACTS / f"{name}.json")
        write_atomically(HERE / f"{name}.md", readme(facts).encode())
        write_atomically(HERE / f"{name}.croissant.json", croissant_json(facts).encode())


def make_demonstration(folder: Path) -> None:
    """Render people, caption them both ways, measure the captions against what was drawn, and keep the facts."""
    people = folder / "people"
    images, attributes = people / "images", people / "attributes.csv"
    _run("gen-captions", "synthetic", people, "--identities", IDENTITIES, "--images-per-identity", IMAGES_PER_IDENTITY)
    finegpr = ["--attributes", attributes, "--parsing", people / "parsing", "--lambda", "0.8"]
    _run("gen-captions", "finegpr-c", images, "--out", folder / "finegpr-c", *finegpr)
    _run("gen-captions", "luperson-t", images, "--out", folder / "luperson-t", "--clip-model", "embedded")
    _run("report", folder / "finegpr-c")
    _run("report", folder / "luperson-t", "--labels", attributes, "--label-map", FACTS / "labels.yaml")
    for name in NAMES:
        write_facts(FACTS / f"{name}.json", folder / name)


def write_facts(path: Path, root: Path) -> None:
    """Keep the facts of a data set, without the versions of the libraries it was made with."""
    stored = json.loads((root / MANIFEST_NAME).read_bytes())
    del stored["versions"]
    facts = {**asdict(gather(root, read_manifest(root))), "manifest": stored}
    write_atomically(path, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())


def read_facts(path: Path) -> Facts:
    """Read what `write_facts` kept."""
    stored: dict[str, Any] = json.loads(path.read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST_NAME).write_text(json.dumps(stored.pop("manifest")))
        manifest = read_manifest(Path(folder))
    lists: dict[str, Any] = {name: tuple(stored.pop(name)) for name in ("images", "extras", "examples")}
    return Facts(manifest, **lists, **stored)


def _run(*words: object) -> None:
    subprocess.run([Path(sys.executable).parent / "passerby", *map(str, words)], check=True)  # noqa: S603  (our own words)


if __name__ == "__main__":
    main()
