"""`pretrain METHOD ROOT` as a user types it, with the tiny method; and captions that are worded anew."""

import json
from pathlib import Path

import pytest
import tiny_people
import typer
from typer.testing import CliRunner

from passerby.cli import generators, pretrain, runs
from passerby.cli.reword import Rewording
from passerby.config import ConfigError, read_table
from passerby.shards.read import ShardDataset

PRESET = """
[loop]
steps = 3
batch_size = 8
log_every = 1
[data]
validation_share = 0.3
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    """Run `pretrain` with a preset `tiny-paper`."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/tiny-paper.toml").write_text(PRESET)
    monkeypatch.setattr(runs, "CONFIGS", tmp_path / "configs")
    monkeypatch.setitem(pretrain.METHODS, "tiny", "tiny_method")
    app = typer.Typer()
    pretrain.register(app)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def lines(run: Path):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_preset_trains_and_its_run_can_be_repeated(invoke, root, tmp_path):
    done = invoke(
        "tiny", root, "--out", tmp_path / "one", "--set", "loop.steps=4", "--set", "method.width=4", "--workers", 0
    )

    assert done.exit_code == 0, done.output
    assert "from step 0 to 4" in done.output
    assert f"written to {tmp_path / 'one'}: encoder.safetensors" in done.output
    assert read_table(tmp_path / "one/config.toml")["method"]["width"] == 4

    again = invoke("tiny", root, "--out", tmp_path / "two", "--config", tmp_path / "one/config.toml", "--workers", 1)

    assert again.exit_code == 0, again.output
    losses = [[line["loss"] for line in lines(tmp_path / run) if line["kind"] == "training"] for run in ("one", "two")]
    assert len(losses[0]) == 4
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)


def test_a_run_that_is_there_goes_on_only_if_asked(invoke, root, tmp_path):
    words = ("tiny", root, "--out", tmp_path / "run", "--workers", 0)
    assert invoke(*words, "--set", "loop.seed=3").exit_code == 0

    assert "holds a run; go on with --resume" in str(invoke(*words).exception)
    assert invoke(*words, "--resume").exit_code == 0  # with the configuration that it began with
    other = invoke(*words, "--resume", "--config", "tiny-paper").exception
    assert "another configuration (loop.seed: 3 there, 0 here)" in str(other)


def test_presets_and_misfits_are_told(invoke, root, tmp_path):
    out = ("--out", tmp_path / "run")

    assert "presets are tiny-paper" in str(invoke("tiny", root, *out, "--config", "big").exception)
    misfits = invoke("tiny", root, *out, "--set", "loop.speed=1", "--set", "augment.flip=2").exception
    assert isinstance(misfits, ConfigError)
    assert "loop.speed is unknown" in str(misfits)
    assert "augment.flip is 2" in str(misfits)
    (tmp_path / "other.toml").write_text('[run]\nmethod = "vtbr"\n' + PRESET)
    assert "is of a run of vtbr, not of tiny" in str(
        invoke("tiny", root, *out, "--config", tmp_path / "other.toml").exception
    )
    nowhere = invoke("tiny", tmp_path / "nowhere", *out).exception
    assert "nowhere is no data set" in str(nowhere)
    assert not (tmp_path / "run").exists()  # so that the next attempt is not told of a run


def test_captions_are_worded_anew_in_every_epoch(invoke, people, tmp_path):
    words = ["finegpr-c", people / "images", "--attributes", people / "attributes.csv", "--lambda", "0.8"]
    made = CliRunner().invoke(generators, [str(word) for word in (*words, "--out", tmp_path / "finegpr-c")])
    assert made.exit_code == 0, made.output
    root = tmp_path / "finegpr-c"
    fields = [sample["json"] for sample in ShardDataset(root)]

    reword = Rewording(root)

    texts = [[reword(each, epoch) for each in fields] for epoch in (0, 1)]
    assert texts[0] != texts[1]
    assert texts[0] == [reword(each, 0) for each in fields]
    named = [
        (each["upper_color"], text)
        for each, text in zip(fields, texts[1], strict=True)
        if "upper_color" in each["mentioned"]
    ]
    assert len(named) > 20
    assert all(color in text for color, text in named)  # other words, the same facts
    done = invoke("tiny", root, "--out", tmp_path / "run", "--set", "data.captions=rerender", "--workers", 0)
    assert done.exit_code == 0, done.output


def test_captions_that_nobody_can_word_anew_are_refused(invoke, root, tmp_path):
    refused = invoke("tiny", root, "--out", tmp_path / "run", "--set", "data.captions=rerender")

    assert "was not made by gen-captions" in str(refused.exception)
