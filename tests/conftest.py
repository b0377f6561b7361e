"""Small real data that several tests share."""

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioning.attributes import IDENTITY_SLOTS

IMAGES_A_PERSON = 6


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--kills", type=int, default=0, help="how often tests/faults kills a run; by default a few times")
    parser.addoption("--hostile", type=int, default=300, help="how many hostile files tests/faults makes in all")
    parser.addoption("--fault-seed", type=int, default=0, help="decides moments and damages in tests/faults")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; run with --slow"))


def write_people(folder: Path, people: int) -> Path:
    """Write FineGPR's layout: noise for pixels, attributes that cycle through their words."""
    generator = np.random.default_rng(0)
    for person in range(1, people + 1):
        for image in range(IMAGES_A_PERSON):
            codes = (1 + (person * 5 + image * 7) % 36, 1 + (image + person) % 7, 1 + (image * 3) % 7, 1 + person % 9)
            name = "{:04d}_c{:02d}_w{:02d}_l{:02d}_p{:02d}.jpg".format(person, *codes)
            path = folder / "images" / f"{person:04d}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(path)
    with (folder / "attributes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *IDENTITY_SLOTS])
        for person in range(1, people + 1):
            words = [values[(person + place) % len(values)] for place, values in enumerate(IDENTITY_SLOTS.values())]
            writer.writerow([f"{person:04d}", *words])
    return folder


@pytest.fixture(scope="session")
def people(tmp_path_factory) -> Path:
    """Twelve people, six images each."""
    return write_people(tmp_path_factory.mktemp("people"), 12)


def digests(root: Path) -> dict[str, str]:
    """Hash every file under `root`, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def one_thread():
    """Tiny nets only wait for a second one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def cluster():
    """Three nodes of Ray, on this machine."""
    pytest.importorskip("ray")
    from ray_nodes import three_nodes

    with three_nodes() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def invoke():
    """Run a command of `passerby` in this process."""
    from typer.testing import CliRunner

    from passerby.cli import app

    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
