"""The Ray engine on three nodes that are processes of this machine: jobs that die, fail and hang, and a whole data set."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import programs
import pytest
from conftest import digests
from ray_nodes import NODE

from captioning.attributes import read_attributes
from captioning.finegpr_c import Captioner, FineGprC
from captioning.finegpr_inputs import Options, prepare_inputs
from passerby import ray_run
from passerby.cli.engines import Spread
from passerby.engine import LocalEngine
from passerby.engine_ray import RayEngine
from passerby.generate import generate
from passerby.ray_run import ATTEMPTS, Incident
from passerby.readers.files import ImageFiles
from passerby.readers.finegpr import list_images
from passerby.runtime import atomic_file
from passerby.shards.write import meta_path, shard_names, tar_path
from templates import TEMPLATES

ray = pytest.importorskip("ray")


@dataclass(frozen=True)
class Square:
    def run_unit(self, index: int) -> int:
        return index * index


@dataclass(frozen=True)
class Troubled:
    """Does to some units what `trouble` says, and leaves a file for each attempt."""

    folder: Path
    trouble: dict[int, str]
    """By unit: `die`, `fail` or `refuse` always; `die once`, at the first attempt."""

    def run_unit(self, index: int) -> int:
        attempts = len(list(self.folder.glob(f"{index}.*")))
        (self.folder / f"{index}.{attempts}").touch()
        trouble, _, is_passing = self.trouble.get(index, "none").partition(" ")
        if not (is_passing and attempts):
            getattr(self, trouble)()
        return index

    def none(self) -> None:
        """Do nothing to the others."""

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fail(self) -> None:
        raise OSError(28, "No space left on device")

    def refuse(self) -> None:
        raise ValueError("two samples have the key 0001;\nkeys must be unique")


@dataclass(frozen=True)
class Outcome:
    results: list[int]
    error: str
    incidents: list[Incident]
    attempts: dict[int, int]


ORDER = [7, 3, 1, 2, 0, 4, 5, 6, *range(10, 20)]


@pytest.fixture(scope="module")
def troubled(cluster, tmp_path_factory):
    """A run with every trouble, and with more actors than find room."""
    folder = tmp_path_factory.mktemp("attempts")
    job = Troubled(folder, {7: "die", 2: "die once", 4: "fail", 6: "refuse"})
    incidents: list[Incident] = []
    engine = RayEngine(workers=20, name_unit="unit {}".format, on_incident=incidents.append)
    results = []

    def run() -> None:
        for result in engine(job, ORDER):
            results.append(result)  # noqa: PERF402  (those before the error are wanted)

    with pytest.raises(RuntimeError) as failure:
        run()
    attempts = {unit: len(list(folder.glob(f"{unit}.*"))) for unit in ORDER}
    return Outcome(results, str(failure.value), incidents, attempts)


def test_results_come_in_the_order_asked_for(troubled):
    assert troubled.results == [unit for unit in ORDER if unit not in (7, 4, 6)]


def test_a_unit_whose_actor_was_killed_runs_again(troubled):
    assert troubled.attempts[2] == 2
    (incident,) = [incident for incident in troubled.incidents if incident.name == "unit 2"]
    assert incident.what == "failed and runs again"
    assert "worker process has died" in incident.reason


def test_units_that_always_fail_are_set_aside_until_the_others_are_done(troubled):
    assert troubled.attempts == {unit: {2: 2, 4: ATTEMPTS, 7: ATTEMPTS}.get(unit, 1) for unit in ORDER}
    assert troubled.error.startswith("3 of 18 units failed, the others are done")
    assert "unit 4: OSError: [Errno 28] No space left on device; " in troubled.error
    set_aside = [incident.name for incident in troubled.incidents if incident.what == "is set aside"]
    assert sorted(set_aside) == ["unit 4", "unit 6", "unit 7"]


def test_an_error_of_the_user_keeps_its_line_and_is_not_tried_again(troubled):
    assert troubled.error.endswith("; unit 6: two samples have the key 0001; keys must be unique")
    assert troubled.attempts[6] == 1


@dataclass(frozen=True)
class ReadHere:
    def run_unit(self, index: int) -> str:
        return Path("word.txt").read_text()


def test_relative_paths_are_those_of_the_driver(cluster, tmp_path, monkeypatch):
    (tmp_path / "word.txt").write_text("here")
    monkeypatch.chdir(tmp_path)
    assert list(RayEngine(workers=1)(ReadHere(), [0])) == ["here"]


class Unreadable:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.listdir, ("/nowhere/weights",)


def test_a_job_that_no_actor_can_load_ends_the_run(cluster):
    incidents: list[Incident] = []
    with pytest.raises(RuntimeError, match=r"no worker of Ray could be started.*/nowhere/weights"):
        list(RayEngine(workers=3, on_incident=incidents.append)(Unreadable(), [0]))
    assert [incident.what for incident in incidents] == ["did not start"] * ATTEMPTS


def test_a_worker_that_fits_no_node_waits_until_one_joins(cluster):
    joined, told = [], []

    def join(incident: Incident) -> None:
        told.append(incident.reason)
        joined.append(cluster.add_node(**{**NODE, "num_cpus": 2}))

    engine = RayEngine(workers=1, cpus_each=2, address=cluster.address, on_incident=join)
    assert list(engine(Square(), [5])) == [25]
    assert told == ["a worker takes 2 CPU, and no node has more than 1 CPU, 0 GPU"]
    cluster.remove_node(*joined)


def test_a_worker_that_can_never_fit_is_refused(cluster):
    with pytest.raises(ValueError, match=r"a worker takes 1 CPU and 8 GPU, and this machine has \d CPU, 0 GPU"):
        list(RayEngine(workers=1, gpus_each=8)(Square(), [5]))


def test_no_workers_is_refused():
    with pytest.raises(ValueError, match="workers is 0"):
        list(RayEngine(workers=0)(Square(), [1]))


def test_without_ray_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'passerby\[ray\]'"):
        list(RayEngine(workers=1)(Square(), [1]))


def test_where_no_cluster_answers_the_error_says_so():
    script = "from passerby.engine_ray import RayEngine as E; list(E(workers=1, address='127.0.0.1:1')(object(), [0]))"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ConnectionError: no Ray cluster answers at 127.0.0.1:1; start one with ray start --head")


def test_incidents_are_told_and_kept_beside_the_shards(tmp_path, capsys):
    engine = Spread("ray", 1, 1, 0, "", None, as_json=False).build_engine(tmp_path, ["train-00000-of-00001"])
    for reason in ("it died", "it died again"):
        engine.on_incident(Incident(engine.name_unit(0), "failed and runs again", reason))
    lines = [json.loads(line) for line in (tmp_path / "retries.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in lines] == ["it died", "it died again"]
    assert "warning: train-00000-of-00001 failed and runs again: it died again\n" in capsys.readouterr().err


def recipe_of(people: Path, root: Path) -> FineGprC:
    """Give what `gen_captions` below makes."""
    options = Options(Fraction("0.8"), seed=0, image_fraction=Fraction(1), source="FineGPR")
    inputs = prepare_inputs(list_images(people / "images"), read_attributes(people / "attributes.csv"), options)
    mentioned = inputs.probabilities.mentioned(options.threshold)
    captioner = Captioner(options, inputs.people, mentioned, TEMPLATES / "finegpr_c")
    return FineGprC(root, ImageFiles(people / "images"), inputs, captioner, units=12)


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    """What one process writes."""
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    generate(recipe_of(people, root), engine=LocalEngine(1), max_bad=0)
    return digests(root)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_actors_writes_the_same_bytes(cluster, people, undisturbed, tmp_path, workers):
    generate(recipe_of(people, tmp_path), engine=RayEngine(workers=workers), max_bad=0)
    assert digests(tmp_path) == undisturbed


@dataclass(frozen=True)
class Disturbed:
    """A recipe whose units meet trouble in the middle of a shard, each at its first attempt."""

    recipe: FineGprC
    trouble: dict[int, str]
    """By unit: `die` or `hang`."""
    notes: Path

    def run_unit(self, index: int) -> object:
        note = self.notes / str(index)
        if index in self.trouble and not note.exists():
            note.touch()
            half_write(self.recipe, index, TROUBLES[self.trouble[index]])
        return self.recipe.run_unit(index)


TROUBLES: dict[str, Callable[[], None]] = {
    "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(600),
}


def half_write(recipe: FineGprC, index: int, trouble: Callable[[], None]) -> None:
    """Begin both files of a shard, and meet trouble."""
    name = shard_names(recipe.splits)[index]
    with (
        atomic_file(meta_path(recipe.root, name)) as table,
        atomic_file(tar_path(recipe.root, name)) as tar,
    ):
        for file in (table, tar):
            file.write(b"half")
            file.flush()
        trouble()


def test_killed_actors_and_late_units_leave_no_trace(cluster, people, undisturbed, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_run, "STRAGGLER_SECONDS", 0.2)
    incidents: list[Incident] = []
    engine = RayEngine(workers=3, on_incident=incidents.append)
    (notes := tmp_path / "notes").mkdir()

    def disturbed(job, indices, /):
        return engine(Disturbed(job, {1: "die", 4: "hang", 8: "die"}, notes), indices)

    generate(recipe_of(people, tmp_path / "root"), engine=disturbed, max_bad=0)
    assert digests(tmp_path / "root") == undisturbed
    whats = {incident.name: incident.what for incident in incidents if incident.name in ("1", "4", "8")}
    assert whats == {"1": "failed and runs again", "4": "is late and runs twice", "8": "failed and runs again"}


def test_a_run_from_the_command_line_is_quiet_and_writes_the_same_bytes(cluster, people, undisturbed, tmp_path):
    inputs = [people / "images", "--attributes", people / "attributes.csv", "--lambda", "0.8", "--shard-size", 6]
    words = ["finegpr-c", *inputs, "--out", tmp_path / "root", "--engine", "ray", "--workers", 2, "--json"]
    done = programs.run("gen-captions", *words, env={"RAY_ADDRESS": cluster.address})
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["kept"] == 72
    assert digests(tmp_path / "root") == undisturbed


@dataclass(frozen=True)
class Doomed:
    """A recipe of which a unit hangs on one node, in the middle of its shard, and all others wait until that is so."""

    recipe: FineGprC
    node: str
    note: Path

    def run_unit(self, index: int) -> object:
        if ray.get_runtime_context().get_node_id() == self.node:
            half_write(self.recipe, index, lambda: (self.note.touch(), time.sleep(600)))
        wait_for(self.note)
        return self.recipe.run_unit(index)


def wait_for(note: Path) -> None:
    while not note.exists():
        time.sleep(0.02)


def test_a_node_that_is_lost_in_the_middle_changes_no_byte(cluster, people, undisturbed, tmp_path):
    node = sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0]
    note, incidents = tmp_path / "hangs", []
    engine = RayEngine(workers=3, on_incident=incidents.append)

    def lose() -> None:
        wait_for(note)
        cluster.remove_node(node, allow_graceful=False)

    def doomed(job, indices, /):
        return engine(Doomed(job, node.node_id, note), indices)

    thread = threading.Thread(target=lose)
    thread.start()
    generate(recipe_of(people, tmp_path / "root"), engine=doomed, max_bad=0)
    thread.join()
    assert digests(tmp_path / "root") == undisturbed
    assert [incident.what for incident in incidents] == ["failed and runs again"]


@pytest.mark.slow  # 10 seconds, most of them for Ray to start
def test_ray_that_is_started_for_the_run_writes_the_same_bytes(people, undisturbed, tmp_path):
    inputs = [people / "images", "--attributes", people / "attributes.csv", "--lambda", "0.8", "--shard-size", 6]
    words = ["finegpr-c", *inputs, "--out", tmp_path / "root", "--engine", "ray", "--workers", 2, "--json"]
    done = programs.run("gen-captions", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert digests(tmp_path / "root") == undisturbed
