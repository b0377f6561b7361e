"""Image Re-ID from end to end: who is learnt, from which weights, at which rates, and what comes out."""

import json
import re

import numpy as np
import pytest
import timm
import tiny_reid
import torch
from programs import run
from typer.testing import CliRunner

from finetune import reid
from finetune.data import DataConfig, open_people
from finetune.initial import load_initial
from finetune.job import EpochConfig, build_job
from finetune.losses import identity_loss, triplet_loss
from finetune.validation import score_images
from passerby.checkpoint import load_encoder, save_encoder
from passerby.cli import tuners
from passerby.nets.image_encoder import ImageEncoder
from passerby.optim import check_groups
from passerby.training.augment import Augmentation
from passerby.training.batch import Collate, ToDevice
from passerby.training.run import train

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"architecture": "resnet10t", "image_height": 64, "image_width": 32}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_reid.write_reid(tmp_path_factory.mktemp("reid") / "root")


def job(root, run, *, method=None, augment=None, share=0.3, **loop):
    loop = {"epochs": 3, "batch_size": 12, "images_a_person": 3, "warmup_epochs": 1, "log_every": 1} | loop
    sections = {
        "method": reid.Config(**(SMALL | (method or {}))),
        "loop": EpochConfig(**({"milestones": (3,), "validate_every": 1} | loop)),
        "data": DataConfig(validation_share=share),
        "augment": Augmentation(**(augment or {})),
    }
    return build_job("reid", reid, sections, root=str(root), run=run, device="cpu")


def run_job(job, *, is_resumed=False):
    return train(job, is_resumed=is_resumed, on_progress=lambda now: None, on_note=lambda text: None)


def open_tiny(root, **changes):
    order = EpochConfig(epochs=1, batch_size=6, images_a_person=2).order
    told = {"build_order": order, "seed": 0, "state": {}} | changes
    return open_people(root, told.pop("config", DataConfig()), Augmentation(), (64, 32), **told)


def as_batch(people, positions):
    collated = Collate(0)([people[position, 0] for position in positions])
    to_device = ToDevice(torch.device("cpu"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    return to_device(collated, seed=0, shared_seed=0)


def test_people_of_the_split_train_are_learnt_and_those_of_val_validate(root):
    data = open_tiny(root)
    assert data.people == tuple(sorted(data.people))
    assert len(data.people) == len(tiny_reid.TRAIN)
    names = data.train.samples.metadata(["person_id"])["person_id"].to_pylist()
    for people, split in ((data.train, "train"), (data.held_out, "val")):
        assert people.indices.tolist() == [*people.samples.split(split)]
    for position in range(len(data.train)):
        example = data.train[position, 0]
        assert data.people[example["person_id"]] == names[data.train.indices[position]]
        assert example["camera_id"] in tiny_reid.CAMERAS
        assert example["token_ids"] == []
    others = {data.held_out[position, 0]["person_id"] for position in range(len(data.held_out))}
    assert len(others) == len(tiny_reid.VAL)
    assert min(others) >= len(data.people)


def test_where_there_is_no_val_people_of_train_are_held_out(tmp_path):
    samples = [tiny_reid._sample("train", *each) for person in range(10) for each in tiny_reid._places(person)]
    root = tiny_reid.write_splits(tmp_path / "root", {"train": samples}, columns=tiny_reid.COLUMNS, shards=2)
    data = open_tiny(root, config=DataConfig(validation_share=0.3))
    names = np.array(data.train.samples.metadata(["person_id"])["person_id"].to_pylist())
    assert not {*names[data.held_out.indices]} & {*data.people}
    assert {*names[data.held_out.indices]} | {*data.people} == {*names}
    assert open_tiny(root, config=DataConfig(validation_share=0.0)).held_out is None
    with pytest.raises(
        ValueError, match=r"of the 10 people .* data.validation_share of 1e-09 leaves nobody for validation"
    ):
        open_tiny(root, config=DataConfig(validation_share=1e-9))


def test_a_run_goes_on_with_the_people_it_began_with(root):
    data = open_tiny(root)
    assert open_tiny(root, state=data.state).people == data.people
    with pytest.raises(ValueError, match="has not the people that the run began with"):
        open_tiny(root, state={"people": ["0001"]})


def test_the_loss_is_that_of_identities_and_triplets(root):
    data = open_tiny(root)
    method = reid.build(reid.Config(**SMALL, margin=0.3), data, seed=1)
    batch = as_batch(data.train, range(8))
    output = method(batch)
    features = method.searcher.encoder(batch["images"])
    mean, variance = features.mean(dim=0), features.var(dim=0, unbiased=False)
    logits = (features - mean) / (variance + method.searcher.neck.eps).sqrt() @ method.classifier.weight.T
    expected = identity_loss(logits, batch["person_ids"], smoothing=0.1) + triplet_loss(
        features, batch["person_ids"], margin=0.3
    )
    assert float(output["loss"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert sum(map(float, output["loss_components"].values())) == pytest.approx(
        float(output["loss"].detach()), rel=1e-6
    )


def test_every_parameter_is_trained_once_but_the_bias_of_the_neck(root):
    method = reid.build(reid.Config(**SMALL), open_tiny(root), seed=0)
    check_groups(method, method.parameter_groups())
    frozen = [name for name, parameter in method.named_parameters() if not parameter.requires_grad]
    assert frozen == ["searcher.neck.bias"]
    assert method.classifier.bias is None
    assert float(method.classifier.weight.detach().std()) == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize("architecture", ["resnet10t", "resnet50"])
def test_the_last_stage_keeps_its_resolution_and_its_weights(architecture):
    torch.manual_seed(0)
    kept, halved = (ImageEncoder(architecture, (64, 32), last_stride=stride).eval() for stride in (1, 2))
    kept.load_state_dict(halved.state_dict())
    images = torch.randn(2, 3, 64, 32)
    assert kept.backbone(images).shape[2:] == (4, 2)
    assert halved.backbone(images).shape[2:] == (2, 1)
    assert torch.equal(kept(images), kept.backbone(images).mean(dim=(2, 3)))


def test_an_encoder_begins_with_all_weights_of_a_run_or_with_none(tmp_path):
    encoder = ImageEncoder("resnet10t", (64, 32))
    (tmp_path / "run").mkdir()
    save_encoder(tmp_path / "run", encoder.backbone, {"architecture": "resnet10t", "image_height": 64})
    other = ImageEncoder("resnet10t", (64, 32))
    assert load_initial(other, str(tmp_path / "run"), architecture="resnet10t").startswith("begins with all 8")
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"holds a resnet10t, and method\.architecture is resnet18"):
        load_initial(ImageEncoder("resnet18", (64, 32)), str(tmp_path / "run"), architecture="resnet18")
    with pytest.raises(FileNotFoundError, match="there are no weights at"):
        load_initial(other, str(tmp_path / "nothing"), architecture="resnet10t")


def test_an_encoder_begins_with_a_checkpoint_of_timm(tmp_path):
    weights = timm.create_model("resnet10t", num_classes=7).state_dict()
    torch.save(weights, tmp_path / "timm.pt")
    encoder = ImageEncoder("resnet10t", (64, 32))
    load_initial(encoder, str(tmp_path / "timm.pt"), architecture="resnet10t")
    assert torch.equal(encoder.backbone.conv1[0].weight, weights["conv1.0.weight"])
    del weights["layer1.0.conv1.weight"]
    torch.save(weights, tmp_path / "torn.pt")
    with pytest.raises(ValueError, match=r"another architecture: lacks layer1\.0\.conv1\.weight"):
        load_initial(encoder, str(tmp_path / "torn.pt"), architecture="resnet10t")


def test_people_who_are_learnt_by_heart_are_all_found(tmp_path):
    """Eight people, as often as it takes."""
    samples = [tiny_reid._sample("train", *each) for person in range(8) for each in tiny_reid._places(person)]
    root = tiny_reid.write_splits(tmp_path / "root", {"train": samples}, columns=tiny_reid.COLUMNS, shards=1)
    done = job(
        root,
        tmp_path / "run",
        share=0.0,
        method={"learning_rate": 1e-3, "last_stride": 2},
        epochs=20,
        batch_size=16,
        images_a_person=4,
        best_by="",
        milestones=(16,),
        warmup_epochs=2,
    )
    assert run_job(done)
    weights, table = load_encoder(tmp_path / "run")
    searcher = reid.ReidSearcher(table).eval()
    searcher.load_state_dict(weights)
    people = open_tiny(root, config=DataConfig(validation_share=0.0)).train
    config = reid.Config(**SMALL)
    collated = Collate(0)([people[position, 0] for position in range(len(people))])
    batch = ToDevice(torch.device("cpu"), config.image_mean, config.image_std)(collated, seed=0, shared_seed=0)
    with torch.no_grad():
        for feature, distance in (("after_neck", "cosine"), ("before_neck", "euclidean")):
            scores = score_images([batch], searcher, feature=feature, distance=distance)
            assert (scores["mAP"], scores["rank_1"], scores["mINP"]) == (1, 1, 1)


def test_rates_go_by_epoch_and_the_best_epoch_by_people_held_out(root, tmp_path):
    done = job(root, tmp_path / "run", epochs=4, warmup_epochs=2, milestones=(4,), augment={"flip": 0.5, "crop": "pad"})
    assert run_job(done)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if line["kind"] == "training"]
    steps_an_epoch = len(rates) // 4
    peak = reid.Config().learning_rate
    expected = [peak * (0.01 + 0.99 / 2), peak, peak, peak / 10]
    assert rates == pytest.approx([rate for rate in expected for _ in range(steps_an_epoch)])
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [line["step"] for line in validations] == [steps_an_epoch * epoch for epoch in (1, 2, 3, 4)]
    best = max(validations, key=lambda line: line["mAP"])
    assert validations[-1]["best_step"] == best["step"]
    assert 0 <= best["mAP"] <= 1


def test_the_command_builds_upon_a_run_and_says_what_it_wrote(root, tmp_path):
    encoder = ImageEncoder("resnet10t", (64, 32))
    (tmp_path / "vtbr").mkdir()
    table = {"architecture": "resnet10t", "image_height": 64, "image_width": 32, "image_mean": [0.5, 0.5, 0.5]}
    save_encoder(tmp_path / "vtbr", encoder.backbone, {**table, "image_std": [0.25, 0.25, 0.25]})
    words = ["finetune", "reid", root, "--init", tmp_path / "vtbr", "--out", tmp_path / "run", "--config", "reid-paper"]
    words += ["--device", "cpu", "--workers", "0"]
    for setting in ("loop.epochs=1", "loop.batch_size=12", "loop.images_a_person=3", "loop.validate_every=1"):
        words += ["--set", setting]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "learns from 36 images of 6 people, and validates on 12 images of 2 people" in done.stderr
    _, found = load_encoder(tmp_path / "run")
    assert found == table | {
        "image_std": [0.25, 0.25, 0.25],
        "kind": "reid",
        "trained_on": str(root),
        "last_stride": 1,
        "test_feature": "before_neck",
        "distance": "euclidean",
    }
    again = run(*words)
    assert again.returncode == 2
    assert "holds a run; go on with --resume" in again.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("method.test_feature=nose", "test_feature is 'nose'; allowed are before_neck, after_neck"),
        ("loop.images_a_person=5", r"images_a_person is 5; it must divide batch_size \(64\), or be 0"),
        ("method.last_stride=3", "last_stride is 3; it must be 1 or 2"),
        (
            "loop.batch_size=64",
            "a batch takes 16 people, and there are 6 to learn from; set loop.batch_size to 24 or less",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(root, tmp_path, setting, message):
    words = ["reid", root, "--out", tmp_path / "run", "--set", setting, "--workers", "0", "--device", "cpu"]
    done = CliRunner().invoke(tuners, [str(word) for word in words])
    assert isinstance(done.exception, ValueError)
    (line,) = str(done.exception).splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "run").exists()
