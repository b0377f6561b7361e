"""The comparison behind `make compat`: it accepts what equals the tables and names whatever does not.

The clients themselves run there, in environments of their own; `webdataset` alone is in ours.
"""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import IMAGES_A_PERSON
from programs import succeed

from compat.oracle import PROBLEMS_SHOWN, compare, read_expected
from compat.run import CLIENTS, DATA_SETS, DOCUMENT, REPOSITORY, Row, document, row_of
from compat.webdataset import read

WORDS = {"txt": "a man", "json": '{"age": 1}', "jpg": "48a8"}


@pytest.fixture(scope="module")
def root(people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compat") / "root"
    options = ["--attributes", people / "attributes.csv", "--out", folder, "--lambda", "0.8", "--shard-size", "40"]
    succeed("gen-captions", "finegpr-c", people / "images", *options)
    return folder


def overwrite(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def test_a_client_prints_that_the_shards_equal_the_tables(root):
    command = [sys.executable, "-m", "compat.webdataset", root]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert (printed["client"], printed["version"]) == ("webdataset", version("webdataset"))
    (reading,) = printed["readings"]
    assert reading["reader"] == "streaming"
    assert reading["expected"] == reading["equal"] == 12 * IMAGES_A_PERSON
    assert (reading["members"], reading["problems"]) == (["jpg", "json", "txt"], [])


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b'"camera_id":', b'"camera_ix":', "json is"),
        (b"JFIF", b"jfif", "jpg is"),
    ],
)
def test_a_changed_member_is_found(root, tmp_path, old, new, problem):
    damaged = shutil.copytree(root, tmp_path / "damaged")
    overwrite(min(damaged.glob("data/*.tar")), old, new)
    reading = compare(read_expected(damaged), read(damaged))
    assert reading.equal == reading.expected - 1
    assert problem in reading.problems[0]


def test_a_manifest_that_counts_other_samples_is_refused(root, tmp_path):
    other = shutil.copytree(root, tmp_path / "other")
    overwrite(other / "manifest.json", b'"kept": 72', b'"kept": 71')
    with pytest.raises(ValueError, match=r"tables tell of 72 samples, manifest.json of 71, sizes.json of 72"):
        read_expected(other)


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "a comes 0 times"),
        ([{}, {}], "a comes 2 times"),
        ([{"__key__": "b"}, {}], "b is in no table"),
        ([{"txt": "a woman"}], "a: txt is a woman, not a man"),
        ([{"json": {"age": 1.0}}], 'a: json is {"age": 1.0}, not {"age": 1}'),
        ([{"json": {"age": True}}], 'a: json is {"age": true}, not {"age": 1}'),
        ([{"jpg": None}], "a: jpg is missing"),
        ([{"png": b""}], "a: png should not be there"),
    ],
)
def test_whatever_differs_is_named(found, problem):
    equal = {"__key__": "a", "__url__": "x.tar", "txt": "a man", "json": {"age": 1}, "jpg": "48a8"}
    assert compare({"a": WORDS}, [equal]).problems == []
    assert problem in compare({"a": WORDS}, [{**equal, **changes} for changes in found]).problems


def test_members_that_a_client_never_gives_are_not_missed():
    reading = compare({"a": WORDS}, [{"__key__": "a", "txt": "a man", "jpg": "48a8"}], frozenset({"json"}))
    assert (reading.equal, reading.members, reading.problems) == (1, ["jpg", "txt"], [])


def test_many_problems_are_counted():
    problems = compare({str(key): WORDS for key in range(20)}, []).problems
    assert len(problems) == PROBLEMS_SHOWN + 1
    assert problems[-1] == f"and {20 - PROBLEMS_SHOWN} more"


def test_the_document_shows_counts_and_what_differs():
    good = {"reader": "streaming", "expected": 4, "equal": 4, "members": ["txt"], "problems": []}
    bad = {**good, "equal": 3, "members": ["jpg", "txt"], "problems": ["k: jpg is missing"]}
    first, second, *others = DATA_SETS
    row = row_of("ray", "2.0", {first: good, second: bad})
    text = document([row])
    assert f"| ray | 2.0 | streaming | jpg txt | 4 of 4 | 3 of 4 |{' - |' * len(others)}\n" in text
    assert f"## What differs\n\n- ray, streaming, {second}: k: jpg is missing\n" in text
    assert "What differs" not in document([row_of("ray", "2.0", dict.fromkeys(DATA_SETS, good))])


def test_the_document_in_the_repository_is_what_these_scripts_write():
    kept = DOCUMENT.read_text(encoding="utf-8")
    cells = [line.strip("| ").split(" | ") for line in kept.splitlines() if line.startswith("| ")][2:]
    rows = [Row(*cell[:3], tuple(cell[3].split()), tuple(cell[4:]), ()) for cell in cells]
    assert document(rows) == kept, "run `make compat`"
    for client in CLIENTS:
        pins = dict(requirement.split("==") for requirement in client.requirements)
        named = {row.version for row in rows if row.client == client.name}
        assert named == {next(iter(pins.values()))}


def test_every_example_in_the_document_stands_alone(root):
    examples = dict(re.findall(r"## (\S+)\n.*?```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL))
    assert [*examples] == [client.name for client in CLIENTS]
    for code in examples.values():  # names that are not defined, imports that are not used
        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F", "-"]
        done = subprocess.run(ruff, input=code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    names = {}
    exec(examples["webdataset"].replace("finegpr-c", str(root)), names)
    assert len(list(names["samples"])) == 12 * IMAGES_A_PERSON
