"""Data sets made in parts (`--units i/n`) and completed by `gen-captions finalise`, from the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import digests
from typer.testing import CliRunner

from passerby.cli import app
from passerby.cli.engines import read_part
from passerby.parts import Part

SLURM = Path(__file__).parent.parent / "docs" / "slurm"
BIN = Path(sys.executable).parent


def run(*words, **environment):
    return CliRunner(env=environment).invoke(app, [str(word) for word in words])


def finegpr_c(people, out, *extra):
    inputs = [people / "images", "--attributes", people / "attributes.csv"]
    return ["gen-captions", "finegpr-c", *inputs, "--out", out, "--lambda", "0.8", "--shard-size", 6, *extra]


def luperson_t(people, out, *extra):
    options = ["--clip-model", "none", "--shard-size", 6, "--embeddings"]
    return ["gen-captions", "luperson-t", people / "images", "--out", out, *options, *extra]


COMMANDS = {"finegpr-c": finegpr_c, "luperson-t": luperson_t}


@pytest.fixture(scope="module")
def faulty(people, tmp_path_factory):
    """The people again; one image is damaged, one person has no attributes."""
    from shutil import copytree

    folder = copytree(people, tmp_path_factory.mktemp("faulty") / "people")
    damaged, other, *_ = sorted((folder / "images").rglob("*.jpg"))
    damaged.write_bytes(b"")
    other.rename(other.parent.parent / "0099_c01_w01_l01_p01.jpg")
    return folder


@pytest.fixture(scope="module", params=COMMANDS)
def command(request, faulty, tmp_path_factory):
    """A command, given a folder for the data set and further options; and what one run of it writes."""

    def words(out, *extra):
        return COMMANDS[request.param](faulty, out, "--max-bad", 0.1, *extra)

    root = tmp_path_factory.mktemp("undisturbed") / "root"
    assert run(*words(root)).exit_code == 0
    return words, digests(root)


@pytest.mark.parametrize("parts", [1, 7])
def test_parts_in_any_order_make_the_same_data_set_as_one_run(command, tmp_path, parts):
    words, undisturbed = command
    for number in sorted(range(1, parts + 1), key=lambda number: number * 5 % 7):
        done = run(*words(tmp_path, "--units", f"{number}/{parts}"))
        assert done.exit_code == 0, done.output
        assert f"gen-captions finalise {tmp_path}" in done.output
        assert not (tmp_path / "manifest.json").exists()
    for _ in range(2):
        assert run("gen-captions", "finalise", tmp_path, "--max-bad", 0.1).exit_code == 0
        assert digests(tmp_path) == undisturbed


def test_a_plain_run_completes_what_parts_began(command, tmp_path):
    words, undisturbed = command
    run(*words(tmp_path, "--units", "2/3"))
    made = {path: path.stat().st_mtime_ns for path in tmp_path.glob("data/*.tar")}
    assert run(*words(tmp_path)).exit_code == 0
    assert digests(tmp_path) == undisturbed
    assert made == {path: path.stat().st_mtime_ns for path in made}


def test_finalise_names_the_shards_that_are_missing_and_the_parts_that_make_them(people, tmp_path):
    for number in (1, 3):
        run(*finegpr_c(people, tmp_path, "--units", f"{number}/3"))
    (tmp_path / "data" / "train-00000-of-00012.tar").unlink()
    done = run("gen-captions", "finalise", tmp_path)
    assert done.exit_code == 1
    assert "lacks 5 of 12 shards" in str(done.exception)
    assert "--units 1/3: train-00000-of-00012; " in str(done.exception)
    assert str(done.exception).endswith(
        "--units 2/3: train-00004-of-00012, train-00005-of-00012, train-00006-of-00012 and 1 more"
    )
    assert not (tmp_path / "manifest.json").exists()


def test_a_packed_data_set_is_made_in_parts_over_all_its_splits(tmp_path):
    market = ["--layout", "market", "--identities", 4, "--images-per-identity", 4]
    assert run("gen-captions", "synthetic", tmp_path / "market", *market).exit_code == 0
    words = ["pack", "market1501", tmp_path / "market"], ["--allow-count-mismatch", "--shards", 3, "--val-people", 1]
    assert run(*words[0], tmp_path / "one", *words[1]).exit_code == 0
    for number in (2, 1):
        assert run(*words[0], tmp_path / "root", *words[1], "--units", f"{number}/2").exit_code == 0
    assert run("gen-captions", "finalise", tmp_path / "root").exit_code == 0
    assert digests(tmp_path / "root") == digests(tmp_path / "one")


def test_a_part_of_a_complete_data_set_leaves_it_as_it_is(people, tmp_path):
    one = digests_of_one_run(people, tmp_path)
    (tmp_path / "data" / "train-00000-of-00012.tar").unlink()
    assert run(*finegpr_c(people, tmp_path, "--units", "1/3")).exit_code == 0
    assert digests(tmp_path) == one


def test_parts_cut_anew_are_named_by_the_last_cut(people, tmp_path):
    run(*finegpr_c(people, tmp_path, "--units", "1/2"))
    run(*finegpr_c(people, tmp_path, "--units", "3/4"))
    with pytest.raises(FileNotFoundError, match=r"lacks 3 of 12 shards.*--units 4/4: train-00009"):
        raise run("gen-captions", "finalise", tmp_path).exception


def test_parts_at_the_same_moment_do_not_fight(people, tmp_path):
    one = digests_of_one_run(people, tmp_path / "one")
    root = tmp_path / "root"
    parts = [
        subprocess.Popen([BIN / "passerby", *map(str, finegpr_c(people, root, "--units", f"{number}/2"))])
        for number in (1, 2)
    ]
    assert [part.wait() for part in parts] == [0, 0]
    run("gen-captions", "finalise", root)
    assert digests(root) == one


def digests_of_one_run(people, root):
    assert run(*finegpr_c(people, root)).exit_code == 0
    return digests(root)


def test_a_part_of_another_environment_is_refused(people, tmp_path):
    run(*finegpr_c(people, tmp_path, "--units", "1/2"))
    left = json.loads((tmp_path / "parts.json").read_text())
    left["header"]["versions"]["pillow"] = "0.1"
    (tmp_path / "parts.json").write_text(json.dumps(left))
    with pytest.raises(ValueError, match=r"versions: .*'pillow': '0\.1'.* there.*delete parts\.json"):
        raise run(*finegpr_c(people, tmp_path, "--units", "2/2")).exception


def test_a_part_with_another_configuration_is_refused(people, tmp_path):
    run(*finegpr_c(people, tmp_path, "--units", "1/2"))
    with pytest.raises(ValueError, match="seed: 0 there, 1 here"):
        raise run(*finegpr_c(people, tmp_path, "--units", "2/2", "--seed", 1)).exception


def test_finalise_counts_what_was_bad_in_all_parts(faulty, tmp_path):
    for number in (1, 2):
        assert run(*finegpr_c(faulty, tmp_path, "--units", f"{number}/2", "--max-bad", 1)).exit_code == 0
    with pytest.raises(ValueError, match=r"1 empty: more than 1\.00% of 72 inputs are bad"):
        raise run("gen-captions", "finalise", tmp_path).exception
    done = run("gen-captions", "finalise", tmp_path, "--max-bad", 1, "--json")
    assert json.loads(done.stdout)["reasons"] == {"empty": 1, "no attributes": 1}


def test_finalise_refuses_a_folder_where_no_part_has_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no part has run there"):
        raise run("gen-captions", "finalise", tmp_path).exception


@pytest.mark.parametrize("count", [1, 5, 12, 100])
@pytest.mark.parametrize("parts", [1, 3, 7, 50])
def test_the_parts_cover_all_units_once_and_evenly(count, parts):
    shares = [Part(number, parts).units(count) for number in range(1, parts + 1)]
    assert [unit for share in shares for unit in share] == [*range(count)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/-1", "1/2/3"])
def test_a_part_that_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        read_part(text)


def slurm(task, first, count, step=1):
    return {
        "SLURM_ARRAY_TASK_ID": str(task),
        "SLURM_ARRAY_TASK_MIN": str(first),
        "SLURM_ARRAY_TASK_COUNT": str(count),
        "SLURM_ARRAY_TASK_STEP": str(step),
    }


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([slurm(task, 0, 3) for task in (0, 1, 2)], ["1/3", "2/3", "3/3"]),  # --array=0-2
        ([slurm(task, 1, 2, 4) for task in (1, 5)], ["1/2", "2/2"]),  # --array=1-8:4
        ([slurm(9, 9, 1)], ["1/1"]),
    ],
)
def test_auto_is_the_place_of_the_task_in_its_array(array, expected):
    assert [str(read_part("auto", environment)) for environment in array] == expected


def test_auto_refuses_an_array_with_gaps():
    with pytest.raises(ValueError, match="2 tasks from 1, and 5 is one of them"):
        read_part("auto", slurm(5, 1, 2))  # --array=1,5


def test_auto_says_what_is_missing():
    with pytest.raises(ValueError, match=r"SLURM_ARRAY_TASK_MIN, SLURM_ARRAY_TASK_COUNT is not set"):
        read_part("auto", {"SLURM_ARRAY_TASK_ID": "3"})


def test_text_only_is_not_made_in_parts(people, tmp_path):
    words = finegpr_c(people, tmp_path / "a.parquet", "--text-only", "--units", "1/2")
    with pytest.raises(ValueError, match="leave --engine"):
        raise run(*words).exception


def test_the_slurm_scripts_do_what_their_page_says(people, tmp_path):
    root, one = tmp_path / "root", tmp_path / "one"
    assert run(*finegpr_c(people, one)[:-2]).exit_code == 0  # shards of the default size, as in the script
    given = {"IMAGES": people / "images", "ATTRIBUTES": people / "attributes.csv", "ROOT": root}
    environment = {**os.environ, "PATH": f"{tmp_path}:{BIN}:{os.environ['PATH']}"}
    environment |= {name: str(path) for name, path in given.items()}
    (tmp_path / "sbatch").write_text('#!/bin/bash\necho "$@" >> "$(dirname "$0")/submitted"; echo "17;cluster"\n')
    (tmp_path / "sbatch").chmod(0o755)

    def script(name, **slurm):
        subprocess.run(["bash", SLURM / name], check=True, env=environment | slurm, cwd=tmp_path, capture_output=True)

    script("submit.sh")
    array, last = (tmp_path / "submitted").read_text().splitlines()
    assert array.split()[-1] == "array.sh"
    assert last.split()[-2:] == ["--dependency=afterok:17", "finalise.sh"]
    for task in (2, 1):
        script("array.sh", **slurm(task, 1, 2))
    script("finalise.sh")
    assert digests(root) == digests(one)
