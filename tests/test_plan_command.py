"""`passerby plan`: what it counts is true, what it works out from measurements is right; times themselves are not judged."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import tiny_people
import typer
from conftest import digests
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import plan, pretrain, runs
from passerby.forecast import Room, count_cores, free_bytes, size_text, spread
from passerby.shards.read import ShardDataset
from passerby.training.forecast import Learning, TrainingForecast

PRESET = """
[loop]
steps = 30
batch_size = 8
accumulation = 2
best_by = "words_loss"
[data]
validation_share = 0.3
"""

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `passerby plan` with a preset `tiny-paper`."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tiny-paper.toml").write_text(PRESET)
    (tmp_path / "configs/reid-wide.toml").write_text("")
    (tmp_path / "configs/pi-vl-paper.toml").write_text("")
    monkeypatch.setattr(runs, "CONFIGS", tmp_path / "configs")
    monkeypatch.setitem(pretrain.METHODS, "tiny", "tiny_method")
    monkeypatch.setitem(plan.METHODS, "tiny", "pretrain")
    app = typer.Typer()
    plan.register(app)
    return lambda *words: CliRunner().invoke(app, ["--seconds", "0", "--device", "cpu", *map(str, words)])


@pytest.fixture
def told(invoke):
    """Give what `--json` says."""

    def ask(*words):
        done = invoke(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    return ask


def test_images_are_counted_and_what_is_bad_is_named(invoke, people, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(people / "images", images)
    paths = sorted(images.rglob("*.jpg"))
    paths[0].write_bytes(b"")
    paths[40].write_bytes(paths[40].read_bytes()[:-50])

    done = invoke(images, "--seconds", "60", "--shard-size", "20", "--json", "--workers", count_cores() + 1)

    told = json.loads(done.output)
    assert (told["images"], told["tried"]) == (72, 72)
    assert told["bad"] == {"empty": 1, "truncated": 1}
    whole = [path.stat().st_size for number, path in enumerate(paths) if number not in (0, 40)]
    assert told["mean_bytes"] == pytest.approx(sum(whole) / 70)
    assert told["shards"] == 4
    [bad, crowded] = told["warnings"]
    assert "2 of 72 images tried cannot be used (" in bad
    assert "--max-bad" in bad
    assert f"share {count_cores()} cores" in crowded
    lines = invoke(images, "--workers", 1).output
    assert "72, " in lines
    assert "1 worker take" in lines


def test_room_for_images_is_about_what_they_take(told, root, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for sample in ShardDataset(root):
        (images / f"{sample['__key__']}.jpg").write_bytes(sample["jpg"])

    room = told(images, "--out", tmp_path / "not" / "there")["room"]

    taken = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    assert room["needed_bytes"] == pytest.approx(taken, rel=0.5)
    assert room["free_bytes"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)


def test_a_disk_that_is_too_small_is_told():
    assert [*Room(needed_bytes=3_200_000, free_bytes=3_200_000).warnings] == []
    [warning] = Room(needed_bytes=3_200_000, free_bytes=5_000).warnings
    assert "the disk is too small: about 3.2 MB are needed, 5 KB are free" in warning
    assert free_bytes(Path("/nowhere/at/all")) == pytest.approx(shutil.disk_usage("/").free, rel=0.05)


def test_a_data_set_is_counted_without_a_method(told, invoke, root):
    samples = ShardDataset(root)
    before = digests(root)

    facts = told(root, "--world", 2, "--workers", 3, "--batch-size", 10)

    people = {sample["json"]["person_id"] for sample in samples}
    assert (facts["samples"], facts["people"]) == (len(samples), len(people))
    assert facts["shards"] == len(samples.manifest.shards)
    assert facts["steps_an_epoch"] == -(-len(samples) // 10)
    assert facts["learning"] is None
    assert facts["estimates"]["reading_hours_an_epoch"] > 0
    [streaming] = facts["warnings"]
    assert f"too few shards ({facts['shards']}) for 6 readers" in streaming
    assert "our own reader, by index, does not mind" in streaming
    assert digests(root) == before
    large = told(root, "--batch-size", 10_000, "--workers", 0)["warnings"]
    assert [each for each in large if f"larger than the {len(samples):,} samples" in each]
    assert "--config tells the rest" in invoke(root).output


def test_a_method_learns_for_a_moment_and_leaves_nothing(told, invoke, root, tmp_path):
    words = (root, "--config", "tiny-paper", "--out", tmp_path / "run", "--set", "method.text_length=4", "--world", 2)

    facts = told(*words)

    learning = facts["learning"]
    assert (facts["batch_size"], facts["accumulation"], learning["steps"]) == (8, 2, 30)
    assert learning["measured_steps"] == 1
    assert learning["step_seconds"] > 0
    assert facts["estimates"]["epochs"] == 30 / facts["steps_an_epoch"]
    assert facts["samples"] < len(ShardDataset(root))  # some people are held out
    [cut] = facts["notes"]
    assert f"{facts['samples']} of {facts['samples']} captions (100.0%) are longer than 4 tokens" in cut
    assert not (tmp_path / "run").exists()
    output = invoke(*words, "--batch-size", 12).output
    assert "note      " in output
    assert "of 12 an epoch, for 2 ranks with 2 passes a step, of 3 at most" in output
    assert "for 30 steps" in output


def test_room_for_checkpoints_is_what_they_take(told, root, tmp_path):
    from passerby.training.run import train

    job = pretrain.build_job(
        "tiny", str(root), tmp_path / "run", config="tiny-paper", settings=[], workers=0, device="cpu"
    )
    needed = told(root, "--config", "tiny-paper")["learning"]["room"]["needed_bytes"]

    train(job, is_resumed=False, on_progress=lambda now: None, on_note=lambda text: None)

    [path] = (tmp_path / "run").glob("checkpoint-*.pt")
    assert needed == pytest.approx(4 * path.stat().st_size, rel=0.5)  # two kept, the best, and one being written


@pytest.mark.parametrize(
    ("workers", "step_seconds", "expected"),
    [
        (2, 0.1, {"step_seconds": 0.16, "bottleneck": "reading", "balancing_workers": 4}),
        (4, 0.1, {"step_seconds": 0.1, "bottleneck": "learning", "balancing_workers": 4}),
        (0, 0.1, {"step_seconds": 0.42, "bottleneck": "reading", "balancing_workers": 4}),
    ],
)
def test_the_slower_of_reading_and_learning_decides(workers, step_seconds, expected):
    room = Room(needed_bytes=1, free_bytes=2)
    learning = Learning(
        device="cpu", step_seconds=step_seconds, measured_steps=5, memory_bytes=0, steps=3600, room=room
    )
    told = TrainingForecast(
        shards=64,
        samples=6400,
        people=10,
        world=2,
        workers=workers,
        cores=2,
        batch_size=64,
        accumulation=1,
        steps_an_epoch=100,
        examples_a_second=100.0,
        measured_examples=500,
        learning=learning,
        notes=(),
    )

    estimates = told.estimates

    assert estimates == pytest.approx({**expected, "hours": expected["step_seconds"], "epochs": 36})
    slow = [each for each in told.warnings if "CPU-bound" in each or "want 8 cores, and this machine has 2" in each]
    assert len(slow) == (2 if expected["bottleneck"] == "reading" else 0)
    assert replace(told, cores=8).warnings == slow[:1]


def test_what_the_run_would_refuse_is_refused(invoke, root, tmp_path):
    assert "a batch takes 16 people, and there are" in str(
        invoke(root, "--config", "reid-wide", "--set", "data.validation_share=0.4").exception
    )
    assert "cannot be shared by 8 ranks of 2 passes" in str(
        invoke(root, "--config", "tiny-paper", "--world", 8).exception
    )
    assert "--set loop.steps=3 changes a configuration; name one" in str(
        invoke(root, "--set", "loop.steps=3").exception
    )
    assert "pi-vl-paper is for none of vtbr, " in str(invoke(root, "--config", "pi-vl-paper").exception)
    Image.new("RGB", (8, 16)).save(tmp_path / "one.jpg")
    assert "is no data set, and --config" in str(invoke(tmp_path, "--config", "tiny-paper").exception)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[run]\nmethod = "mmet"\n[loop]\nsteps = 3', "mmet"),
        ('[run]\nmethod = "mmet"\n[loop]\nepochs = 3', "mmet-reid"),
        ('[run]\nmethod = "t2i"', "t2i"),
    ],
)
def test_a_run_says_its_method(tmp_path, text, name):
    (tmp_path / "config.toml").write_text(text)

    assert plan.method_of(str(tmp_path / "config.toml")) == name


def test_presets_say_theirs():
    names = {each: plan.method_of(each) for each in ("mmet-reid-tiny", "mmet-tiny", "unipt-scratch", "reid-paper")}

    assert names == {
        "mmet-reid-tiny": "mmet-reid",
        "mmet-tiny": "mmet",
        "unipt-scratch": "unipt",
        "reid-paper": "reid",
    }


@pytest.mark.parametrize("count", [1, 2, 5, 6, 72, 1000, 2_028_600])
def test_a_sample_comes_from_all_over(count):
    places = [*spread(count)]

    assert sorted(places) == [*range(count)]
    if count >= 50:  # then a tenth of them leaves no gap of more than a third
        first = sorted(places[: count // 10])
        assert max(after - before for before, after in pairwise([0, *first, count])) <= count / 3


@pytest.mark.parametrize(("hours", "text"), [(1 / 3600, "1 seconds"), (0.02, "1.2 minutes"), (1234.5, "1,234.5 hours")])
def test_times_are_worded(hours, text):
    assert plan.hours_text(hours) == text


def test_sizes_are_worded():
    assert [size_text(size) for size in (12, 4_100, 3.2e9, 5.4e15)] == ["12 bytes", "4.1 KB", "3.2 GB", "5,400.0 TB"]
