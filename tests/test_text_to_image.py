"""Text-to-image Re-ID: its features and losses against slow computations, as it learns, and as a user begins it with a run."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import tiny_people
import torch
from safetensors.torch import save_file
from tiny_figures import CAPTIONS, make_batch
from torch.nn import functional

from configs import CONFIGS
from finetune import text_to_image
from finetune.data import DataConfig
from finetune.job import EpochConfig
from finetune.text_to_image import Config, TextToImage
from passerby.checkpoint import chosen_checkpoint, load_checkpoint, load_encoder
from passerby.config import ConfigError, read_section, read_sections, read_table
from passerby.nets.text import TextEncoder
from passerby.nets.vit import build_vit
from passerby.nets.weights import load_weights
from passerby.optim import check_groups
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation

TINY = Config(
    architecture="vit_nano_patch8",
    text_architecture="bert_nano",
    image_height=32,
    image_width=16,
    embedding_width=24,
    text_length=20,
    dropout=0.0,
    prototypes=2,
)
SETTINGS = [
    f"method.{name}={value}"
    for name, value in {"image_height": 32, "image_width": 16, "embedding_width": 24, "text_length": 30}.items()
]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_captions(CAPTIONS, 200)


def build_tiny(tokenizer, **changes) -> TextToImage:
    torch.manual_seed(0)
    return TextToImage(replace(TINY, **changes), tokenizer, people=len(CAPTIONS)).eval()


def make_pairs(tokenizer, captions=CAPTIONS, *, seed=0):
    """One person a caption."""
    people = torch.tensor([CAPTIONS.index(caption) for caption in captions])
    return {**make_batch(tokenizer, captions, seed=seed), "person_ids": people, "keys": captions}


def test_global_features_are_maxima_and_prototypes_see_no_class_token(tokenizer):
    searcher, batch = build_tiny(tokenizer).searcher, make_pairs(tokenizer)
    found = searcher.embed_images(batch["images"])
    states = searcher.image_encoder(batch["images"])
    # shape: (batch, tokens, width)
    convolved = functional.conv1d(
        states.transpose(1, 2), searcher.image_projection.weight[:, :, None], searcher.image_projection.bias
    ).transpose(1, 2)
    assert convolved.shape[1:] == (1 + 4 * 2, 24)
    torch.testing.assert_close(found["global"], convolved.max(dim=1).values)
    torch.testing.assert_close(found["pgu"], searcher.pgu(convolved[:, 1:]).reshape(len(CAPTIONS), 2 * 512))


def test_what_a_text_is_found_by_does_not_depend_on_its_batch(tokenizer):
    searcher = build_tiny(tokenizer).searcher
    searcher.text_projection.bias.data -= 10  # no value is above those of the padding, were they zeros
    short, long = "red, and white.", CAPTIONS[0]
    alone = make_batch(tokenizer, [short])
    padded = make_batch(tokenizer, [short, long])
    assert not padded["token_mask"][0].all()
    of_alone, of_padded = (searcher.embed_texts(each["token_ids"], each["token_mask"]) for each in (alone, padded))
    for feature in ("global", "pgu", "sum"):
        torch.testing.assert_close(of_padded[feature][:1], of_alone[feature])


def test_the_sum_ranks_as_the_sum_of_both_cosines(tokenizer):
    searcher, batch = build_tiny(tokenizer).searcher, make_pairs(tokenizer)
    images, texts = (
        searcher.embed_images(batch["images"]),
        searcher.embed_texts(batch["token_ids"], batch["token_mask"]),
    )
    cosines = {
        name: functional.cosine_similarity(images[name][:, None], texts[name][None], dim=2)
        for name in ("global", "pgu", "sum")
    }
    torch.testing.assert_close(2 * cosines["sum"], cosines["global"] + cosines["pgu"])


def slow_identity_loss(classifiers, images, texts, labels):
    """Equation 4, one classifier and one sample at a time."""
    width = images.shape[1] // len(classifiers)
    total = 0.0
    for part, classifier in enumerate(classifiers):
        for features in (images, texts):
            for row, label in zip(features[:, part * width : (part + 1) * width], labels, strict=True):
                logits = classifier.weight @ row + classifier.bias
                total += (logits.exp().sum().log() - logits[label]) / len(labels) / len(classifiers)
    return total


def test_the_loss_is_that_of_both_features(tokenizer):
    method, batch = build_tiny(tokenizer, gamma=0.5), make_pairs(tokenizer)
    for name, parameter in method.named_parameters():
        if "classifiers" in name:
            parameter.data.normal_()
    output = method(batch)
    images = method.searcher.embed_images(batch["images"])
    texts = method.searcher.embed_texts(batch["token_ids"], batch["token_mask"])
    parts = {name: value.item() for name, value in output["loss_components"].items()}
    for feature, count in (("global", 1), ("pgu", 2)):
        classifiers = method.classifiers[feature].by_part
        assert len(classifiers) == count
        expected = slow_identity_loss(classifiers, images[feature], texts[feature], batch["person_ids"])
        assert parts[f"{feature}_identity_loss"] == pytest.approx(expected.item(), rel=1e-4)
        assert parts[f"{feature}_ranking_loss"] > 0
    assert output["loss"].item() == pytest.approx(
        parts["global_identity_loss"]
        + parts["global_ranking_loss"]
        + 0.5 * (parts["pgu_identity_loss"] + parts["pgu_ranking_loss"]),
        rel=1e-5,
    )


def test_negatives_and_their_parity_reach_the_loss(tokenizer):
    batch, other = make_pairs(tokenizer), make_pairs(tokenizer, seed=1)
    ranking = {
        parity: [
            build_tiny(tokenizer, ranking_parity=parity)(each)["loss_components"]["pgu_ranking_loss"].item()
            for each in (batch, batch, other)
        ]
        for parity in ("paper", "lgur")
    }
    for first, again, drawn_anew in ranking.values():
        assert first == again != drawn_anew
    assert ranking["paper"] != ranking["lgur"]


def test_without_gamma_there_are_no_prototypes(tokenizer):
    method, batch = build_tiny(tokenizer, gamma=0.0, test_feature="global"), make_pairs(tokenizer)
    assert not [name for name, _ in method.named_parameters() if "pgu" in name]
    assert {*method(batch)["loss_components"]} == {"global_identity_loss", "global_ranking_loss"}
    assert {*method.searcher.embed_images(batch["images"])} == {"global"}
    check_groups(method, method.parameter_groups())
    _, table = method.encoder()
    assert table["prototypes"] == 0
    load_weights(text_to_image.rebuild(table), method.searcher.state_dict(), source="the export")


def test_every_parameter_learns_at_the_rate_of_its_part(tokenizer):
    method = build_tiny(tokenizer)
    method(make_pairs(tokenizer))["loss"].backward()
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []
    groups = method.parameter_groups()
    check_groups(method, groups)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    expected = {
        "searcher.image_": 1e-4,
        "searcher.text_": 1e-5,
        "searcher.pgu.prototypes": 1e-4,
        "searcher.pgu.layers": 1e-4,
        "searcher.pgu.heads": 1e-3,
        "classifiers": 1e-3,
    }
    for name, parameter in method.named_parameters():
        (rate,) = [rate for beginning, rate in expected.items() if name.startswith(beginning)]
        assert rates[id(parameter)] == rate, name
    assert {group["weight_decay"] for group in groups} == {0.0}


def test_a_handful_of_pairs_is_learnt_until_every_text_finds_its_image(tokenizer):
    rates = dict.fromkeys(("image_learning_rate", "text_learning_rate", "pgu_learning_rate"), 1e-3)
    method, batch = build_tiny(tokenizer, **rates), make_pairs(tokenizer, CAPTIONS[:6])
    optimizer = method.build_optimizer(method.parameter_groups())
    before = method.evaluate([batch])
    method.train()
    for step in range(45):
        optimizer.zero_grad()
        method({**batch, "seed": torch.tensor(step)})["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        after = method.eval().evaluate([batch])
    assert before["rank_1"] < 0.5
    assert after["rank_1"] == after["pgu_rank_1"] == after["sum_rank_1"] == after["mAP"] == 1
    assert after["global_rank_1"] > before["global_rank_1"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_length": 2}, "text_length is 2; it must be from 3"),
        ({"prototypes": 0}, "prototypes is 0; it must be 1 or more"),
        ({"gamma": -1.0}, "gamma is -1.0; it must be 0 or more"),
        ({"gamma": 0.0}, "test_feature is 'pgu'; with gamma=0 there is only global"),
        ({"test_feature": "local"}, "test_feature is 'local'"),
        ({"init": "runs/unipt", "vocabulary": "vocab.txt"}, "brings weights and vocabulary; leave 'vocab.txt' out"),
    ],
)
def test_what_does_not_fit_is_told(values, message):
    with pytest.raises(ConfigError, match=message):
        read_section(Config, values)


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_presets_are_whole(name):
    kinds = {"method": Config, "loop": EpochConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, read_table(CONFIGS / f"t2i-{name}.toml"))
    assert sections["loop"].images_a_person == 0
    if name == "paper":
        assert sections["method"] == Config()
        rates = [sections["loop"].factor(epoch) for epoch in (1, 19, 20, 39, 40, 49, 50, 60)]
        assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_local_files_bring_weights_and_words(tokenizer, tmp_path):
    torch.manual_seed(5)
    vit = build_vit("vit_nano_patch8", (16, 16))
    text = TextEncoder("bert_nano", vocabulary_size=tokenizer.size, pad_id=tokenizer.pad_id)
    save_file(vit.state_dict(), tmp_path / "vit.safetensors")
    (tmp_path / "bert").mkdir()
    save_file(text.bert.state_dict(), tmp_path / "bert/model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(json.loads(tokenizer.to_json())))
    config = replace(
        TINY,
        image_weights=str(tmp_path / "vit.safetensors"),
        image_weights_grid=(2, 2),
        text_weights=str(tmp_path / "bert"),
        vocabulary=str(tmp_path / "vocab.txt"),
    )
    words = text_to_image.make_tokenizer(config, [])
    method = text_to_image.build(config, SimpleNamespace(tokenizer=words, people=["1", "2"]), seed=0)

    assert words.to_json() == tokenizer.to_json()
    loaded = method.searcher.image_encoder.state_dict()
    assert loaded["pos_embed"].shape[1] == 1 + 4 * 2
    for name, weight in vit.state_dict().items():
        assert name == "pos_embed" or loaded[name].equal(weight), name
    for name, weight in text.state_dict().items():
        assert method.searcher.text_encoder.state_dict()[name].equal(weight), name


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn(tokenizer):
    data = SimpleNamespace(tokenizer=tokenizer, people=["1", "2"])
    torch.manual_seed(9)
    undisturbed = torch.rand(1)
    torch.manual_seed(9)
    first, again, other = (text_to_image.build(TINY, data, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.rand(1) == undisturbed
    name = "searcher.pgu.prototypes"
    assert first[name].equal(again[name])
    assert not first[name].equal(other[name])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"), people=12, images=2)


@pytest.fixture(scope="module")
def unipt(invoke, root, tmp_path_factory):
    """A run of two steps."""
    run = tmp_path_factory.mktemp("runs") / "unipt"
    words = [word for setting in [*SETTINGS, "loop.steps=2", "loop.warmup_steps=0"] for word in ("--set", setting)]
    done = invoke("pretrain", "unipt", root, "--out", run, "--config", "unipt-tiny", "--workers", 0, *words)
    assert done.exit_code == 0, done.exception
    return run


def tune(invoke, root, run, *words):
    settings = ["loop.epochs=1", "loop.validate_every=1", "method.prototypes=2", "data.validation_share=0.3"]
    sets = [word for setting in settings for word in ("--set", setting)]
    return invoke("finetune", "t2i", root, "--out", run, "--workers", 0, *sets, *words)


def test_a_run_of_unipt_brings_shapes_words_and_weights(invoke, root, unipt, tmp_path):
    done = tune(invoke, root, tmp_path / "run", "--init", unipt, "--set", "loop.batch_size=8")

    assert done.exit_code == 0, done.exception
    method = read_table(tmp_path / "run/config.toml")["method"]
    assert (method["architecture"], method["embedding_width"], method["text_length"]) == ("vit_nano_patch8", 24, 30)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    (numbers,) = [line for line in lines if line["kind"] == "validation"]
    assert {"rank_1", "rank_5", "rank_10", "mAP", "pgu_rank_1", "global_rank_1", "sum_mAP"} <= numbers.keys()

    weights, table = load_encoder(tmp_path / "run")
    searcher = text_to_image.rebuild(table).eval()
    load_weights(searcher, weights, source="the export")
    pretrained = load_checkpoint(chosen_checkpoint(unipt))
    assert table["tokenizer"] == pretrained["data"]["tokenizer"]
    assert table["kind"] == "text-to-image"
    # three steps at a learning rate of 1e-5 are close to where they began
    words = weights["text_encoder.bert.embeddings.word_embeddings.weight"]
    begun = pretrained["model"]["text_encoder.bert.embeddings.word_embeddings.weight"]
    assert 0 < (words - begun).abs().max() < 1e-3
    batch = make_batch(searcher.tokenizer, CAPTIONS[:2])
    assert searcher.embed_texts(batch["token_ids"], batch["token_mask"])["pgu"].shape == (2, 2 * 512)


def test_without_a_run_the_words_are_those_of_all_captions(invoke, root, tmp_path):
    shapes = [
        f"method.{name}={value}"
        for name, value in {"architecture": "vit_nano_patch8", "text_architecture": "bert_nano"}.items()
    ]
    words = [
        word
        for setting in [*SETTINGS, *shapes, "method.text_length=8", "loop.batch_size=8"]
        for word in ("--set", setting)
    ]
    done = tune(invoke, root, tmp_path / "run", *words)
    assert done.exit_code == 0, done.exception
    assert "are longer than 8 tokens and lose their end" in done.output
    table = load_encoder(tmp_path / "run")[1]
    assert '"someone"' in table["tokenizer"]  # of second captions alone
    people = int(done.output.split("learns from ")[1].split(" images")[0].replace(",", ""))
    steps = int(done.output.split("to ")[1].split("\n")[0])
    assert steps == -(-2 * people // 8)  # both captions of every image


def test_a_run_that_was_interrupted_goes_on_to_the_same_numbers(invoke, root, unipt, tmp_path):
    words = ("--init", unipt, "--set", "loop.batch_size=8", "--set", "loop.epochs=2", "--set", "loop.save_every=1")
    assert tune(invoke, root, tmp_path / "whole", *words).exit_code == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    max((tmp_path / "cut").glob("checkpoint-*.pt")).unlink()
    resumed = tune(invoke, root, tmp_path / "cut", *words, "--resume")
    assert resumed.exit_code == 0, resumed.exception
    assert "from step 0 " not in resumed.output
    whole, cut = (load_encoder(tmp_path / name)[0] for name in ("whole", "cut"))
    for name, weight in whole.items():
        torch.testing.assert_close(cut[name], weight)


@pytest.mark.parametrize("init", ["nowhere", "reid"])
def test_other_beginnings_are_refused(invoke, root, tmp_path, init):
    if init == "reid":
        settings = ("--set", "loop.epochs=1", "--set", "loop.batch_size=8", "--set", "data.validation_share=0.3")
        size = ("--set", "method.image_height=32", "--set", "method.image_width=16")
        done = invoke(
            "finetune",
            "reid",
            root,
            "--out",
            tmp_path / "reid",
            "--config",
            "reid-tiny",
            *settings,
            *size,
            "--workers",
            0,
        )
        assert done.exit_code == 0, done.exception
    done = tune(invoke, root, tmp_path / "run", "--init", tmp_path / init)
    messages = {
        "nowhere": "is no folder of a run that reached its end; give one of `pretrain unipt`",
        "reid": "is a run of reid; this begins with a run of `pretrain unipt`",
    }
    assert messages[init] in str(done.exception)
