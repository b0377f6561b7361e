"""`pretrain vtbr` with its presets, and `pretrain caption` as a user types them, on people of one colour each."""

import json
import shutil
from functools import partial

import pytest
import tiny_people
import torch
import typer
from typer.testing import CliRunner

from passerby.cli import caption, pretrain
from passerby.shards.read import ShardDataset
from passerby.training.augment import Augmentation
from passerby.training.batch import Collate, Preparation, ToDevice
from pretrain.captioner import load_captioner
from pretrain.decoding import beam_search

TINIER = (
    "method.image_height=64",
    "method.image_width=32",
    "method.width=64",
    "loop.steps=2",
    "loop.warmup_steps=0",
    "data.validation_share=0.3",
)


def invoke(*words):
    app = typer.Typer()
    pretrain.register(app)
    caption.register(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def captions_of(*words):
    done = invoke("caption", *words, "--json")
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "vtbr"
    settings = [word for setting in TINIER for word in ("--set", setting)]
    done = invoke("vtbr", root, "--out", out, "--config", "vtbr-tiny", *settings, "--workers", 0, "--device", "cpu")
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def images(root, tmp_path_factory):
    """Six images, in two folders."""
    folder = tmp_path_factory.mktemp("images")
    for sample in list(ShardDataset(root))[:12:2]:
        path = folder / sample["__key__"][:4] / f"{sample['__key__']}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(sample["jpg"])
    return folder


def test_a_run_measures_losses_and_exports_its_encoder(run):
    *_, last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert last["kind"] == "validation"
    assert last["loss"] == pytest.approx(last["forward_loss"] + last["backward_loss"])
    assert (run / "encoder.safetensors").is_file()
    assert 'architecture = "resnet10t"' in (run / "encoder.toml").read_text()


def test_the_paper_s_preset_is_a_configuration(tmp_path):
    job = pretrain.build_job("vtbr", "root", tmp_path, config="vtbr-paper", settings=[], workers=0, device="cpu")
    method, loop = job.sections["method"], job.sections["loop"]
    assert (method.architecture, loop.steps, loop.clip_norm) == ("resnet50", 500_000, 10.0)
    assert loop.validate_every % method.lookahead_steps == loop.save_every % method.lookahead_steps == 0


def test_new_images_are_seen_as_validation_sees_them(run, root, images):
    model = load_captioner(run, torch.device("cpu"))
    config = model.config
    prepare = Preparation(
        height_width=(config.image_height, config.image_width),
        text_length=config.text_length,
        tokenizer=model.tokenizer,
        how=Augmentation(),
        seed=0,
    )
    examples = [prepare(sample, 0, 0) for sample in list(ShardDataset(root))[:12:2]]
    to_device = ToDevice(torch.device("cpu"), config.image_mean, config.image_std)
    batch = to_device(Collate(model.tokenizer.pad_id)(examples), seed=0, shared_seed=0)
    with torch.no_grad():
        texts, scores = model.write_captions(batch["images"], partial(beam_search, beam_size=3))
    found = captions_of(run, images, "--beam", 3, "--batch-size", 4)
    assert [line["path"] for line in found] == sorted(str(path) for path in images.rglob("*.jpg"))
    assert [line["caption"] for line in found] == texts
    assert [line["log_probability"] for line in found] == pytest.approx(scores, abs=1e-3)
    assert len({*scores}) > 1  # of several colours


def test_the_seed_decides_drawn_captions(run, images):
    first, again, other = (captions_of(run, images, "--sample", 0.95, "--seed", seed) for seed in (1, 1, 2))
    assert first == again != other


def test_captions_are_printed_beside_their_paths(run, images):
    path = next(images.rglob("*.jpg"))
    (line,) = invoke("caption", run, path, "--beam", 1).stdout.splitlines()
    assert line == f"{path}: {captions_of(run, path, '--beam', 1)[0]['caption']}"


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_captioned(run, images, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    done = invoke("caption", run, folder)
    assert done.exit_code == 1
    assert len(done.stdout.splitlines()) == 6
    assert f"warning: {folder / 'broken.jpg'}: begins with b'no image'" in done.stderr
    assert "1 of 7 images could not be read" in done.stderr


def test_a_checkpoint_of_another_method_is_refused(tmp_path, images):
    torch.save({"method": "unipt"}, tmp_path / "checkpoint-00000001.pt")
    done = invoke("caption", tmp_path, images)
    assert "is of the method 'unipt'; only vtbr writes captions" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--beam", 2, "--sample", 0.9], "--beam 2 searches and --sample 0.9 draws; give one of them"),
        (["--sample", 1.5], "--sample is 1.5; it must be above 0 and at most 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(run, images, words, message):
    assert message in str(invoke("caption", run, images, *words).exception)


def test_folders_without_what_is_needed_are_refused(run, images, tmp_path):
    assert f"{tmp_path} holds no checkpoint" in str(invoke("caption", tmp_path, images).exception)
    assert f"{tmp_path} holds no images" in str(invoke("caption", run, tmp_path).exception)
