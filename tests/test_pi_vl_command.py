"""`finetune pi-vl` as a user types it: two stages that learn, go on where they were, and fit together."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import tiny_parts
import torch
import typer
from torchvision.models import mobilenet_v2
from typer.testing import CliRunner

from finetune.pi_vl import rebuild
from finetune.schedules import PROMPT_PEAK
from finetune.validation import score_images
from passerby.checkpoint import checkpoint_path, load_checkpoint, load_encoder
from passerby.cli import pi_vl
from passerby.config import ConfigError
from passerby.nets.prompts import PART_NAMES
from passerby.training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

PRESET = """
[method]
clip_model = "tiny-vit"
clip_weights = ""
image_height = 64
image_width = 32
learning_rate = 1e-3
head_learning_rate = 1e-3
[prompts]
identity_epochs = 4
part_epochs = 4
batch_size = 16
images_a_person = 2
warmup_epochs = 2
learning_rate = 0.03
save_every = 3
[loop]
epochs = 14
batch_size = 16
images_a_person = 2
warmup_epochs = 2
warmup_factor = 0.1
milestones = [11]
log_every = 1
validate_every = 14
save_every = 10
best_by = ""
[data]
parsing = true
"""
STEPS_AN_EPOCH = 2
QUICK = ("prompts.identity_epochs=1", "prompts.part_epochs=1", "loop.epochs=1", "loop.warmup_epochs=1")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_parts.write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    path = tmp_path_factory.mktemp("configs") / "tiny.toml"
    path.write_text(PRESET)
    return path


@pytest.fixture(scope="module")
def run(root, preset, tmp_path_factory):
    """Both stages, from end to end."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = invoke(root, out, "--config", preset)
    assert done.exit_code == 0, done.output
    return out


def invoke(root, out, *words, settings=()):
    app = typer.Typer()
    pi_vl.register(app)
    told = [word for setting in settings for word in ("--set", setting)]
    words = [root, "--out", out, "--workers", 0, "--device", "cpu", *words, *told]
    return CliRunner().invoke(app, [str(word) for word in words])


def numbers(run: Path, name: str) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line[name] for line in lines if line["kind"] == "training" and name in line]


def test_both_stages_learn(run):
    people, parts = numbers(run / "prompts", "prompt_loss"), numbers(run / "prompts", "part_loss")
    assert (len(people), len(parts)) == (4 * STEPS_AN_EPOCH, 4 * STEPS_AN_EPOCH)
    assert people[-1] < 0.8 * people[0]
    assert min(parts[1:]) < parts[0]
    alignment, texts = numbers(run, "alignment_loss"), numbers(run, "text_loss")
    assert alignment[-1] < 0.5 * alignment[0]
    assert texts[-1] < 0.5 * texts[0]


def test_people_who_are_learnt_are_all_found(run):
    weights, table = load_encoder(run)
    searcher = rebuild(table)
    before = score(searcher, table)
    searcher.load_state_dict(weights)
    after = score(searcher, table)
    assert before["mAP"] < 0.7
    assert (after["rank_1"], after["mAP"]) == (1.0, 1.0)


def score(searcher, table):
    """Search each image that was learnt among all others."""
    drawn = [tiny_parts.draw_person(person, image)[0] for person in range(8) for image in range(4)]
    images = torch.stack([torch.from_numpy(pixels).permute(2, 0, 1) / 255 for pixels in drawn])
    mean, std = (torch.tensor(table[name])[:, None, None] for name in ("image_mean", "image_std"))
    batch = {
        "images": (images - mean) / std,
        "person_ids": torch.arange(8).repeat_interleave(4),
        "camera_ids": torch.arange(32),
    }
    with torch.no_grad():
        return score_images([batch], searcher.eval(), feature=table["test_feature"], distance=table["distance"])


def test_prompts_say_whose_they_are(run):
    weights, table = load_encoder(run / "prompts")
    assert table["people"] == [f"{person:04d}" for person in range(8)]
    assert (table["tokens"], table["embed_dim"], table["parts"]) == (4, 64, [*PART_NAMES])
    assert {name: tuple(each.shape) for name, each in weights.items()} == {"parts": (8, 4, 32), "whole": (8, 4, 32)}


def test_tokens_of_whole_people_are_those_after_the_identity_epochs(run, root, tmp_path, preset):
    weights = load_encoder(run / "prompts")[0]
    assert not torch.equal(weights["whole"], weights["parts"])

    stages = build_stages(root, tmp_path / "run", preset)
    model = stop_after(stages.prompts, 4 * STEPS_AN_EPOCH)

    torch.testing.assert_close(model["learner.context"], weights["whole"])


def test_phases_are_counted_in_epochs_however_many_passes_a_step_has(root, tmp_path, preset):
    stages = build_stages(root, tmp_path / "run", preset, *QUICK, "loop.accumulation=2")
    train(stages.prompts, is_resumed=False, on_progress=lambda now: None, on_note=lambda text: None)
    found = [len(numbers(tmp_path / "run/prompts", name)) for name in ("prompt_loss", "part_loss")]
    assert found == [STEPS_AN_EPOCH, STEPS_AN_EPOCH]


def build_stages(root, out, preset, *settings):
    return pi_vl.build_stages(str(root), out, config=str(preset), settings=[*settings], workers=0, device="cpu")


def stop_after(job, steps):
    """Train until SIGTERM comes; give the model as its last checkpoint has it."""

    def ask(now):
        if now.step == steps - 1:
            os.kill(os.getpid(), signal.SIGTERM)  # heard in the next step

    assert not train(job, is_resumed=False, on_progress=ask, on_note=lambda text: None)
    return load_checkpoint(checkpoint_path(job.run, steps))["model"]


def test_a_run_that_was_stopped_among_its_prompts_goes_on_to_the_same_ones(root, preset, run, tmp_path):
    short = tmp_path / "short.toml"
    short.write_text(PRESET.replace("epochs = 14", "epochs = 1").replace("save_every = 3", "cache_gib = 0"))
    stop_after(build_stages(root, tmp_path / "run", short).prompts, 5)

    done = invoke(root, tmp_path / "run", "--resume")

    assert done.exit_code == 0, done.output
    assert "pi-vl prompts with" in done.output
    assert (tmp_path / "run/encoder.toml").exists()
    assert_same(tmp_path / "run/prompts", run / "prompts")


def test_a_run_that_was_stopped_later_goes_on_there(root, run, tmp_path):
    out = shutil.copytree(run, tmp_path / "run")
    for name in ("encoder.toml", "encoder.safetensors", "metrics.jsonl", "checkpoint-00000028.pt"):
        (out / name).unlink()

    done = invoke(root, out, "--resume")

    assert done.exit_code == 0, done.output
    assert "prompts" not in done.output
    assert "from step 20 to 28" in done.output
    assert_same(out, run)


def assert_same(run, other):
    expected, found = load_encoder(other)[0], load_encoder(run)[0]
    assert all(torch.allclose(found[name], each, atol=1e-5) for name, each in expected.items())


def test_a_folder_that_holds_a_run_is_left_alone(root, run, tmp_path):
    assert "holds a run; go on with --resume" in str(invoke(root, run).exception)
    other = invoke(root, run, "--resume", settings=["prompts.part_epochs=9"]).exception
    assert "another configuration (prompts.part_epochs: 4 there, 9 here)" in str(other)
    (tmp_path / "notes.txt").touch()
    assert "holds 'notes.txt' and is no run of ours" in str(invoke(root, tmp_path, "--config", "pi-vl-tiny").exception)


def test_prompts_serve_other_runs_of_the_same_people(root, preset, run, tmp_path):
    reused = ("--config", preset), [f"method.prompts={run / 'prompts'}", *QUICK]

    done = invoke(root, tmp_path / "run", *reused[0], settings=[*reused[1], "method.variant=clip-reid"])

    assert done.exit_code == 0, done.output
    assert not (tmp_path / "run/prompts").exists()
    assert not numbers(tmp_path / "run", "alignment_loss")
    before, after = load_encoder(run), load_encoder(tmp_path / "run")
    assert {name: each.shape for name, each in before[0].items()} == {
        name: each.shape for name, each in after[0].items()
    }
    assert before[1] == after[1]  # nothing of the head is left

    refusals = {
        "prompts.tokens=3": "tokens is 4 there and 3 here",
        "loop.seed=1": "clip is '",  # another random CLIP
    }
    for setting, message in refusals.items():
        refused = invoke(root, tmp_path / "other", *reused[0], settings=[*reused[1], setting]).exception
        assert message in str(refused)
        assert not (tmp_path / "other").exists()  # so that the next attempt is not told of a run
    fewer = tiny_parts.write_parts(tmp_path / "fewer", train=range(1, 9), val=range(9, 11))
    refused = invoke(fewer, tmp_path / "third", *reused[0], settings=reused[1]).exception
    assert "people are 8 there and 8 here, '0000' only on one side" in str(refused)
    edited = shutil.copytree(run / "prompts", tmp_path / "edited") / "encoder.toml"
    before, table = f"method.prompts={edited.parent}", edited.read_text()
    for there, instead, message in (
        ('"hat", "hair"', '"hair", "hat"', "parts are 20 there and 20 here, in another order"),
        ("embed_dim = 64", "embed_dim = 65", "embed_dim is 65 there and 64 here"),
    ):
        edited.write_text(table.replace(there, instead))
        refused = invoke(root, tmp_path / "third", *reused[0], settings=[before, *QUICK]).exception
        assert message in str(refused)
    nothing = invoke(root, tmp_path / "fourth", *reused[0], settings=[f"method.prompts={run}", *QUICK]).exception
    assert "holds no prompts, but 'pi-vl'; give RUN/prompts of finetune pi-vl" in str(nothing)


def test_a_student_learns_from_the_same_prompts(root, preset, run, tmp_path):
    torch.save(mobilenet_v2(width_mult=0.25).state_dict(), tmp_path / "mobilenet.pt")
    settings = [f"method.prompts={run / 'prompts'}", "method.student=mobilenet", *QUICK]
    settings.append(f"method.student_weights={tmp_path / 'mobilenet.pt'}")

    done = invoke(root, tmp_path / "run", "--config", preset, settings=settings)

    assert done.exit_code == 0, done.output
    weights, table = load_encoder(tmp_path / "run")
    searcher = rebuild(table).eval()
    searcher.load_state_dict(weights)
    assert searcher.embed_images(torch.zeros(2, 3, 64, 32))["before_neck"].shape == (2, 1280)
    assert len(numbers(tmp_path / "run", "alignment_loss")) == STEPS_AN_EPOCH


def test_misfits_are_told_in_a_line(root, preset, tmp_path):
    told = {
        "data.parsing=false": "data.parsing is false, and method.variant 'pi-vl' compares parts",
        "method.temperature=0": "temperature is 0.0; it must be above 0",
        "prompts.images_a_person=0": "prompts.images_a_person is 0; part-informed epochs compare images of a person",
        "prompts.identity_epochs=0": "identity_epochs is 0; it must be 1 or more",
        "prompts.part_epochs=-1": "part_epochs is -1; it must be 0 or more",
    }
    for setting, message in told.items():
        refused = invoke(root, tmp_path / "run", "--config", preset, settings=[setting]).exception
        assert isinstance(refused, ValueError)
        assert message in str(refused)
    student = ["method.student=mobilenet", "method.variant=identity-aware"]
    refused = invoke(root, tmp_path / "run", "--config", preset, settings=student).exception
    assert "variant is 'identity-aware'; a student takes clip-reid or pi-vl" in str(refused)
    assert isinstance(refused, ConfigError)
    clip = ("--clip-model", "RN50-quickgelu", "--clip-weights", "nowhere")
    refused = invoke(root, tmp_path / "run", "--config", preset, *clip).exception
    assert "weights 'nowhere' are neither a file nor a tag of RN50-quickgelu" in str(refused)
    second_stage = ["method.widening=wide", "prompts.identity_epochs=50"]
    refused = invoke(root, tmp_path / "run", "--config", preset, "--clip-model", "tiny-resnet", settings=second_stage)
    assert "widening is 'wide'; allowed are" in str(refused.exception)  # before the prompts are tuned
    assert not (tmp_path / "run").exists()


def test_data_without_maps_are_refused_and_the_remedy_is_told(preset, tmp_path):
    bare = tiny_parts.write_parts(tmp_path / "bare", has_map=False)
    refused = invoke(bare, tmp_path / "run", "--config", preset).exception
    assert "make them with passerby parse, and pack the images anew with passerby pack --parsing" in str(refused)
    baseline = ["method.variant=clip-reid", "data.parsing=false", *QUICK]
    assert invoke(bare, tmp_path / "baseline", "--config", preset, settings=baseline).exit_code == 0


def test_cameras_that_are_not_learnt_are_refused(root, preset, run, tmp_path):
    settings = [f"method.prompts={run / 'prompts'}", "method.cameras=true", *QUICK]
    done = invoke(root, tmp_path / "run", "--config", preset, settings=settings)
    assert done.exit_code == 0, done.output
    assert load_encoder(tmp_path / "run")[1]["cameras"] == 3  # 0, which nobody has, 1 and 2

    odd = tiny_parts.write_parts(tmp_path / "odd", val=range(8, 10), val_cameras=(1, 5))
    refused = invoke(odd, tmp_path / "odd-run", "--config", preset, settings=settings).exception
    assert "camera_id is 1 to 5 in val, and method.cameras=true learns those of the training images, 0 to 2" in str(
        refused
    )


@pytest.mark.parametrize("name", ["pi-vl-paper", "pi-vl-paper-vit"])
def test_presets_have_the_papers_rates(name, tmp_path):
    stages = pi_vl.build_stages("nowhere", tmp_path, config=name, settings=[], workers=0, device="cpu")
    loop, prompts = stages.encoder.sections["loop"], stages.prompts.sections["loop"]
    rate = stages.encoder.sections["method"].learning_rate
    golden = {1: 9.5e-7, 5: 2.75e-6, 29: 5e-6, 30: 5e-7, 50: 5e-8}
    if name == "pi-vl-paper":
        golden = {1: 3.815e-5, 9: 3.1535e-4, 39: 3.5e-4, 40: 3.5e-5, 70: 3.5e-6}
    assert {epoch: rate * loop.factor(epoch) for epoch in golden} == pytest.approx(golden)
    assert prompts.epochs == 80
    golden = {30: 2.422783e-4, 60: 5.210987e-5, 61: 4.736072e-5, 79: 1.134533e-6, 80: 1e-6}
    assert {epoch: PROMPT_PEAK * prompts.factor(epoch) for epoch in golden} == pytest.approx(golden, rel=1e-6)


def test_the_baseline_has_no_part_informed_epochs(tmp_path):
    settings = ["method.variant=clip-reid"]
    stages = pi_vl.build_stages("nowhere", tmp_path, config="pi-vl-paper", settings=settings, workers=0, device="cpu")
    assert stages.prompts.sections["loop"].epochs == 60
    assert not stages.prompts.sections["data"].parsing
