"""MMET downstream: its tokens and losses against slow computations, as it learns, and as a user begins it with a run."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
import tiny_people
import torch
from tiny_figures import CAPTIONS, make_batch

from configs import CONFIGS
from finetune import mmet
from finetune.data import DataConfig
from finetune.job import EpochConfig
from finetune.mmet import Config, Mmet
from passerby.checkpoint import chosen_checkpoint, load_checkpoint, load_encoder
from passerby.config import ConfigError, read_section, read_sections, read_table
from passerby.nets.flava import Flava
from passerby.nets.weights import load_weights
from passerby.optim import check_groups
from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.write import shard_name, write_shard
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation

MODALITIES = ("multimodal", "image", "text")
SHAPES = {
    "architecture": "vit_nano_patch8",
    "text_architecture": "bert_nano",
    "multimodal_layers": 2,
    "image_height": 32,
    "image_width": 16,
    "text_length": 30,
}
TINY = Config(**SHAPES, encoder_learning_rate=1e-3, head_learning_rate=1e-2)
PEOPLE, IMAGES = 6, 2

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_captions(CAPTIONS, 200)


def build_tiny(tokenizer, **changes) -> Mmet:
    torch.manual_seed(0)
    return Mmet(replace(TINY, **changes), tokenizer, people=PEOPLE).eval()


def make_people(tokenizer):
    """Two images of each person, of other noise, by other cameras, in other words."""
    captions = [words for caption in CAPTIONS[:PEOPLE] for words in (caption, caption.replace("A man in", "in"))]
    batch = make_batch(tokenizer, captions)
    noise = torch.randn(batch["images"].shape, generator=torch.Generator().manual_seed(1)) / 10
    return {
        **batch,
        "images": batch["images"] + noise,
        "person_ids": torch.arange(PEOPLE).repeat_interleave(IMAGES),
        "camera_ids": torch.arange(IMAGES).repeat(PEOPLE),
        "keys": [str(place) for place in range(PEOPLE * IMAGES)],
    }


def test_tokens_are_those_of_the_net_that_was_trained_in_advance(tokenizer):
    torch.manual_seed(3)
    flava = Flava(
        architecture="vit_nano_patch8",
        height_width=(32, 16),
        text_architecture="bert_nano",
        vocabulary_size=tokenizer.size,
        pad_id=tokenizer.pad_id,
        multimodal_layers=2,
        patch_outputs=5,
    ).eval()
    searcher = build_tiny(tokenizer).searcher
    for name in mmet.ENCODERS["multimodal"]:
        getattr(searcher, name).load_state_dict(getattr(flava, name).state_dict())
    batch = make_people(tokenizer)
    images, text = batch["images"], (batch["token_ids"], batch["token_mask"])

    seen = flava.see(images, torch.zeros(len(images), 4 * 2, dtype=torch.bool))
    pair = flava.multimodal_encoder(seen, flava.text_encoder(*text), text[1]).pair
    torch.testing.assert_close(searcher.embed_pairs(images, *text)["before_neck"], pair)
    torch.testing.assert_close(searcher.embed_images(images)["before_neck"], flava.image_encoder.norm(seen)[:, 0])
    torch.testing.assert_close(searcher.embed_texts(*text)["before_neck"], flava.text_encoder(*text)[:, 0])
    # the neck is that of pairs
    assert [*searcher.embed_pairs(images, *text)] == ["before_neck", "after_neck"]
    assert [*searcher.embed_images(images)] == [*searcher.embed_texts(*text)] == ["before_neck"]


def test_what_a_pair_is_found_by_does_not_depend_on_its_batch(tokenizer):
    searcher = build_tiny(tokenizer).searcher
    alone, padded = make_batch(tokenizer, ["red, white."]), make_batch(tokenizer, ["red, white.", CAPTIONS[0]])
    of_alone, of_padded = (
        searcher.embed_pairs(each["images"][:1], each["token_ids"][:1], each["token_mask"][:1])
        for each in (alone, padded)
    )
    assert not padded["token_mask"][0].all()
    torch.testing.assert_close(of_padded["after_neck"], of_alone["after_neck"])


@torch.no_grad()
@pytest.mark.parametrize("modality", MODALITIES)
def test_the_loss_is_that_of_people_and_of_hard_triplets(tokenizer, modality):
    method, batch = build_tiny(tokenizer, modality=modality), make_people(tokenizer)
    method.classifier.weight.data.normal_()
    method.searcher.neck.running_mean.normal_()
    method.searcher.neck.running_var.uniform_(0.2, 4)
    output = method(batch)
    searcher, text = method.searcher, (batch["token_ids"], batch["token_mask"])
    before = {
        "multimodal": lambda: searcher.embed_pairs(batch["images"], *text),
        "image": lambda: searcher.embed_images(batch["images"]),
        "text": lambda: searcher.embed_texts(*text),
    }[modality]()["before_neck"].double()

    labels = batch["person_ids"].tolist()
    identity = triplets = 0.0
    for row, label in zip(before, labels, strict=True):
        neck = searcher.neck
        normalised = (row - neck.running_mean) / (neck.running_var + neck.eps).sqrt() * neck.weight
        logits = method.classifier.weight.double() @ normalised
        identity += float(logits.exp().sum().log() - logits[label]) / len(labels)
        distances = [
            (float((row - other).norm()), other_label) for other, other_label in zip(before, labels, strict=True)
        ]
        positive = max(distance for distance, other in distances if other == label)
        negative = min(distance for distance, other in distances if other != label)
        triplets += max(0.0, positive - negative + 0.3) / len(labels)
    parts = {name: value.item() for name, value in output["loss_components"].items()}
    assert parts == pytest.approx({"identity_loss": identity, "triplet_loss": triplets}, rel=1e-3)
    assert output["loss"].item() == pytest.approx(identity + triplets, rel=1e-3)


@pytest.mark.parametrize("modality", MODALITIES)
def test_only_what_the_modality_needs_is_there_and_all_of_it_learns(tokenizer, modality):
    method = build_tiny(tokenizer, modality=modality)
    method(make_people(tokenizer))["loss"].backward()
    idle = [name for name, each in method.named_parameters() if each.requires_grad and each.grad is None]
    assert idle == []
    assert {name for name, _ in method.searcher.named_children()} == {*mmet.ENCODERS[modality], "neck"}
    groups = method.parameter_groups()
    check_groups(method, groups)
    found = {id(parameter): (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            is_new = name.startswith(("searcher.neck", "classifier"))
            is_free = parameter.ndim == 1 or name.endswith(("cls_token", "pos_embed", "position_embeddings.weight"))
            assert found[id(parameter)] == (1e-2 if is_new else 1e-3, 0.0 if is_free else 0.1), name


@pytest.mark.parametrize("modality", ["image", "text"])
def test_an_encoder_that_is_not_there_is_named(tokenizer, modality):
    searcher, batch = build_tiny(tokenizer, modality=modality).searcher, make_people(tokenizer)
    text = batch["token_ids"], batch["token_mask"]
    with pytest.raises(ValueError, match=f"learnt method.modality={modality} and have no multimodal_encoder"):
        searcher.embed_pairs(batch["images"], *text)
    with pytest.raises(ValueError, match=r"have no (text|image)_encoder"):
        searcher.embed_texts(*text) if modality == "image" else searcher.embed_images(batch["images"])


@pytest.mark.parametrize("modality", ["multimodal", "image"])
def test_a_handful_of_people_is_learnt_until_each_finds_the_other_image(tokenizer, modality):
    method, batch = build_tiny(tokenizer, modality=modality), make_people(tokenizer)
    optimizer = method.build_optimizer(method.parameter_groups())
    first = method(batch)["loss"].item()
    method.train()
    for _ in range(20):
        optimizer.zero_grad()
        loss = method(batch)["loss"]
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = method.eval().evaluate([batch])
    assert scores["rank_1"] == scores["mAP"] == 1
    assert loss.item() < first / 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_length": 600}, "text_length is 600; it must be from 3"),
        ({"multimodal_layers": 0}, "multimodal_layers is 0; it must be 1 or more"),
        ({"modality": "sound"}, "modality is 'sound'"),
    ],
)
def test_what_does_not_fit_is_told(values, message):
    with pytest.raises(ConfigError, match=message):
        read_section(Config, values)


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_presets_are_whole(name):
    kinds = {"method": Config, "loop": EpochConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, read_table(CONFIGS / f"mmet-reid-{name}.toml"))
    if name == "paper":
        assert sections["method"] == Config()
        assert (sections["loop"].batch_size, sections["loop"].images_a_person) == (64, 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"), people=12, images=2)


@pytest.fixture(scope="module")
def pretrained(invoke, root, tmp_path_factory):
    """A run of two steps."""
    run = tmp_path_factory.mktemp("runs") / "mmet"
    shapes = ["image_height=32", "image_width=16", "text_length=30", "codebook_size=8", "codebook_images=8"]
    settings = [*(f"method.{shape}" for shape in shapes), "loop.steps=2", "loop.warmup_steps=0", "loop.batch_size=8"]
    sets = [word for setting in settings for word in ("--set", setting)]
    done = invoke("pretrain", "mmet", root, "--out", run, "--config", "mmet-tiny", "--workers", 0, *sets)
    assert done.exit_code == 0, done.exception
    return run


def tune(invoke, root, run, *words):
    settings = ["loop.epochs=1", "loop.batch_size=8", "loop.images_a_person=2", "data.validation_share=0.3"]
    sets = [word for setting in settings for word in ("--set", setting)]
    return invoke("finetune", "mmet", root, "--out", run, "--workers", 0, *sets, *words)


def test_a_run_brings_shapes_words_and_weights(invoke, root, pretrained, tmp_path):
    done = tune(invoke, root, tmp_path / "run", "--init", pretrained)

    assert done.exit_code == 0, done.exception
    method = read_table(tmp_path / "run/config.toml")["method"]
    assert {name: method[name] for name in SHAPES} == SHAPES
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (numbers,) = [line for line in lines if line["kind"] == "validation"]
    assert {"rank_1", "mAP", "mINP"} <= numbers.keys()

    weights, table = load_encoder(tmp_path / "run")
    searcher = mmet.rebuild(table)
    load_weights(searcher, weights, source="the export")
    assert searcher.tokenizer.decode(searcher.tokenizer.encode("Someone wears red.", 30)[0]) == "someone wears red."
    begun = load_checkpoint(chosen_checkpoint(pretrained))
    assert table["tokenizer"] == begun["data"]["tokenizer"]
    assert (table["kind"], table["modality"], table["test_feature"]) == ("mmet", "multimodal", "after_neck")
    # few steps at 1e-5 are close to where they began
    name = "multimodal_encoder.image_projection.weight"
    assert 0 < (weights[name] - begun["model"][f"flava.{name}"]).abs().max() < 1e-3


def test_an_image_with_several_captions_is_one_image(invoke, root, pretrained, tmp_path):
    done = tune(invoke, root, tmp_path / "run", "--init", pretrained)
    people = int(done.output.split("images of ")[1].split(" people")[0])
    steps = int(done.output.split("to ")[1].split("\n")[0])
    assert steps == people // 4  # of two images each, in batches of four people


def test_images_alone_need_no_captions(invoke, pretrained, tmp_path):
    def without_captions(person, image):
        sample = tiny_people.make_person(person, image)
        fields = {name: value for name, value in sample.fields.items() if not name.startswith("caption")}
        return Sample(sample.key, sample.image, "jpg", fields, "")

    samples = [without_captions(person, image) for person in range(12) for image in range(2)]
    root, columns = tmp_path / "shards", pa.schema([(name, pa.string()) for name in samples[0].fields])
    write_shard(root, shard_name("train", 0, 1), samples, columns=columns, config_hash="tiny")
    finalise(root, {"train": 1}, {"config": {"recipe": "tiny"}, "has_captions": False})
    refused = tune(invoke, root, tmp_path / "pairs", "--init", pretrained)
    assert "has no captions; pack a data set that has some, such as cuhk-pedes" in str(refused.exception)

    done = tune(invoke, root, tmp_path / "run", "--init", pretrained, "--set", "method.modality=image")
    assert done.exit_code == 0, done.exception
    weights, table = load_encoder(tmp_path / "run")
    assert table["tokenizer"] == ""
    assert {name.partition(".")[0] for name in weights} == {"image_encoder", "neck"}
    searcher = mmet.rebuild(table)
    load_weights(searcher, weights, source="the export")
    assert searcher.tokenizer is None


def test_a_run_of_another_method_is_refused(invoke, root, pretrained, tmp_path):
    words = ("--init", pretrained, "--set", "data.validation_share=0.3", "--workers", 0)
    refused = invoke("finetune", "t2i", root, "--out", tmp_path / "t2i", *words)
    assert "is a run of mmet; this begins with a run of `pretrain unipt`" in str(refused.exception)
