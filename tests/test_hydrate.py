"""Full shards again, from captions and one's own images: the same bytes, or a list of what is missing."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import digests
from publish_samples import generate, make_finegpr, make_people
from typer.testing import CliRunner

from passerby.cli import publish as publish_command
from passerby.publish.hydrate import Hydration, hydrate
from passerby.publish.publish import publish
from passerby.runtime import TEMPORARY_SUFFIX
from passerby.shards.read import ShardDataset


@pytest.fixture(scope="module")
def made(people, tmp_path_factory):
    """A folder with people, the full data set `root`, and its captions-only `copy`."""
    folder = tmp_path_factory.mktemp("hydrate")
    make_finegpr(make_people(people, folder / "people"), folder / "root")
    publish(folder / "root", str(folder / "copy"))
    return folder


@pytest.fixture
def mine(made, tmp_path):
    """A copy of the images and parsing maps to spoil."""
    return Path(shutil.copytree(made / "people", tmp_path / "people"))


def restore(made, mine, out, **options):
    return hydrate(str(made / "copy"), mine / "images", out, parsing=mine / "parsing", **options)


def command(*words):
    app = typer.Typer()
    publish_command.register(app)
    app.command()(lambda: None)
    return CliRunner().invoke(app, [str(word) for word in words])


def image_of(made, mine, index=40):
    """Give the key of a sample, and its image among the user's own."""
    sample = ShardDataset(made / "root")[index]
    return sample["__key__"], mine / "images" / sample["json"]["path"]


def test_what_was_published_comes_back_byte_for_byte(made, tmp_path):
    result = restore(made, made / "people", tmp_path / "out")
    assert (result.shards, result.kept, result.problems) == (4, 72, ())
    assert digests(tmp_path / "out") == digests(made / "root")


def test_workers_change_no_byte(made, tmp_path):
    publish(made / "root", str(tmp_path / "copy"), workers=2)
    assert digests(tmp_path / "copy") == digests(made / "copy")
    restore(made, made / "people", tmp_path / "out", workers=2)
    assert digests(tmp_path / "out") == digests(made / "root")


def test_luperson_t_comes_back_too_but_for_its_features(people, tmp_path):
    generate("luperson-t", people, tmp_path / "root", "--clip-model", "none", "--embeddings")
    publish(tmp_path / "root", str(tmp_path / "copy"))
    hydrate(str(tmp_path / "copy"), people / "images", tmp_path / "out")
    expected = {name: digest for name, digest in digests(tmp_path / "root").items() if "embeddings" not in name}
    assert digests(tmp_path / "out") == expected
    assert len(expected) > 10


def test_files_under_other_names_are_found_by_their_hash(made, mine, tmp_path):
    for folder in ("images", "parsing"):
        for number, path in enumerate(sorted((mine / folder).rglob("*.*"))):
            if path.is_file():
                path.rename(mine / folder / f"{number}{path.suffix}")
    assert restore(made, mine, tmp_path / "out").problems == ()
    assert digests(tmp_path / "out") == digests(made / "root")


def test_a_tampered_image_is_named_and_never_packed(made, mine, tmp_path):
    key, image = image_of(made, mine)
    data = bytearray(image.read_bytes())
    data[-30] ^= 1
    image.write_bytes(data)
    (problem,) = restore(made, mine, tmp_path / "out").problems
    assert (problem.shard, problem.key) == ("train-00002-of-00004", key)
    assert f"its image {image.relative_to(mine / 'images')} in {mine / 'images'} is not the one" in problem.message
    assert sorted(path.name for path in (tmp_path / "out" / "data").iterdir()) == [
        f"train-{index:05d}-of-00004.tar" for index in (0, 1, 3)
    ]
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_wrong_parsing_map_is_named(made, mine, tmp_path):
    key, image = image_of(made, mine)
    other = image_of(made, mine, 41)[1]
    maps = [mine / "parsing" / path.relative_to(mine / "images").with_suffix(".png") for path in (image, other)]
    shutil.copy(maps[1], maps[0])
    (problem,) = restore(made, mine, tmp_path / "out").problems
    assert problem.key == key
    assert f"its parsing.png {maps[0].relative_to(mine / 'parsing')} in" in problem.message


def test_everything_that_is_missing_is_listed_and_a_later_run_completes_it(made, mine, tmp_path):
    lost = [image_of(made, mine, index) for index in (0, 40, 41)]
    for _, image in lost:
        image.rename(tmp_path / image.name)
    words = (
        "hydrate",
        made / "copy",
        "--images",
        mine / "images",
        "--parsing",
        mine / "parsing",
        "--out",
        tmp_path / "out",
    )
    done = command(*words, "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)["problems"]
    assert [problem["key"] for problem in found] == [key for key, _ in lost]
    assert all(f"is not in {mine / 'images'}" in problem["message"] for problem in found)
    assert "3 problems, unfinished" in command(*words).stdout
    for _, image in lost:
        (tmp_path / image.name).rename(image)
    done = command(*words)
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / 'out'}: 4 shards, 72 samples: whole\n")
    assert digests(tmp_path / "out") == digests(made / "root")


HYDRATE = """
import os, signal, sys, pathlib, passerby.publish.hydrate as h
images, count = pathlib.Path(sys.argv[2]), [0]
write = h.TarWriter.add
def add(self, *words):
    count[0] += 1
    if count[0] == 30:
        self._flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, *words)
h.TarWriter.add = add
h.hydrate(sys.argv[1], images / "images", pathlib.Path(sys.argv[3]), parsing=images / "parsing")
"""


def test_kill_9_leaves_no_data_set_and_the_next_run_completes_it(made, tmp_path):
    words = [sys.executable, "-c", HYDRATE, str(made / "copy"), str(made / "people"), str(tmp_path / "out")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "out" / "data").iterdir()]
    assert len([name for name in left if name.endswith(TEMPORARY_SUFFIX)]) == 1
    assert not (tmp_path / "out" / "manifest.json").exists()
    before = (tmp_path / "out" / "data" / "train-00000-of-00004.tar").stat().st_mtime_ns
    restore(made, made / "people", tmp_path / "out")
    assert digests(tmp_path / "out") == digests(made / "root")
    assert (tmp_path / "out" / "data" / "train-00000-of-00004.tar").stat().st_mtime_ns == before


def test_a_folder_that_holds_something_else_is_left_alone(made, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds notes.txt, which is not of this data set; give --out"):
        restore(made, made / "people", tmp_path)
    other = tmp_path / "other"
    restore(made, made / "people", other)
    (other / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds manifest.json"):
        restore(made, made / "people", other)


def test_what_cannot_be_hydrated_is_refused_in_one_line(made, tmp_path):
    images = made / "people" / "images"
    with pytest.raises(ValueError, match=r"have parsing.png: give --parsing FOLDER"):
        hydrate(str(made / "copy"), images, tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no captions-only copy: it has no full/SHA256SUMS"):
        hydrate(str(made / "root"), images, tmp_path / "out2")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give the folder of your own copy"):
        hydrate(str(made / "copy"), tmp_path / "nowhere", tmp_path / "out3")


@pytest.mark.parametrize("line", ["x  ../../evil", "x  /etc/evil", "x  .hidden", "x  data/train-00000-of-00004.tar"])
def test_a_hostile_copy_writes_nothing_outside(made, tmp_path, line):
    copy = Path(shutil.copytree(made / "copy", tmp_path / "copy"))
    evil = hashlib.sha256(b"evil").hexdigest()
    with (copy / "full" / "SHA256SUMS").open("a") as file:
        file.write(line.replace("x", evil, 1) + "\n")
    with pytest.raises(ValueError, match="SHA256SUMS"):
        hydrate(str(copy), made / "people" / "images", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_stored_path_that_leads_outside_is_not_followed(made, tmp_path, monkeypatch):
    opened = []
    real = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda self: opened.append(self) or real(self))
    job = Hydration(tmp_path, None, {"image": made / "people" / "images"})
    row = {"key": "k", "path": "../attributes.csv", "sha256": "0" * 64, "image_size": 1}
    assert job._file(0, row, "image").path == "../attributes.csv"
    assert opened == []


def test_a_damaged_copy_is_not_believed(made, tmp_path):
    copy = Path(shutil.copytree(made / "copy", tmp_path / "copy"))
    table = copy / "full" / "meta" / "train-00001-of-00004.parquet"
    table.write_bytes(table.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=r"train-00001-of-00004.parquet has another sha256 than SHA256SUMS says"):
        hydrate(str(copy), made / "people" / "images", tmp_path / "out", parsing=made / "people" / "parsing")


def test_a_copy_without_one_of_its_tables_is_not_believed(made, tmp_path):
    copy = Path(shutil.copytree(made / "copy", tmp_path / "copy"))
    sums = copy / "full" / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if "00001-of" not in line))
    with pytest.raises(ValueError, match=r"SHA256SUMS and manifest.json disagree on the tables"):
        hydrate(str(copy), made / "people" / "images", tmp_path / "out")
