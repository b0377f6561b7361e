"""UniPT against slow computations of what the paper says, and as it learns."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_figures import CAPTIONS, make_batch
from torch import distributed, multiprocessing
from torch.nn import functional

from passerby.config import ConfigError, read_section, read_sections, read_table
from passerby.nets.vit import build_vit
from passerby.optim import check_groups
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.method import LoopConfig
from passerby.training.reading import DataConfig
from pretrain.masking import NOT_MASKED
from pretrain.unipt import Config, UniPT, build

CONFIGS = Path(__file__).parents[1] / "configs"
TINY = Config(
    architecture="vit_nano_patch8",
    text_architecture="bert_nano",
    image_height=32,
    image_width=16,
    embedding_width=24,
    text_length=20,
    dropout=0.0,
    temperature=0.07,
    is_temperature_learned=True,
    learning_rate=1e-3,
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_captions(CAPTIONS, 200)


def build_tiny(tokenizer, **changes) -> UniPT:
    return build(replace(TINY, **changes), tokenizer, generator_seed=0).eval()


def numbers(method, batch):
    return {name: value.item() for name, value in method(batch)["loss_components"].items()}


def test_an_image_embedding_is_the_maximum_of_a_1x1_convolution(tokenizer):
    method, images = build_tiny(tokenizer), make_batch(tokenizer, CAPTIONS[:3])["images"]
    # shape: (batch, width, tokens)
    tokens = method.image_encoder(images).transpose(1, 2)
    assert tokens.shape[2] == 1 + 4 * 2
    convolved = functional.conv1d(tokens, method.image_projection.weight[:, :, None], method.image_projection.bias)
    expected = functional.max_pool1d(convolved, convolved.shape[2]).squeeze(2)
    torch.testing.assert_close(method.embed_images(images), expected)


def test_a_text_embedding_sees_no_padding(tokenizer):
    method = build_tiny(tokenizer)
    batch = make_batch(tokenizer, [*CAPTIONS[:3], "A man in red and blue."])
    together = method.embed_texts(batch["token_ids"], batch["token_mask"])
    for row, mask, embedding in zip(batch["token_ids"], batch["token_mask"], together, strict=True):
        alone = row[mask][None]
        # shape: (tokens, width)
        tokens = method.text_encoder(alone, torch.ones_like(alone, dtype=torch.bool))[0]
        projected = torch.stack(
            [method.text_projection.weight @ token + method.text_projection.bias for token in tokens]
        )
        torch.testing.assert_close(embedding, projected.max(dim=0).values, atol=1e-5, rtol=1e-4)


def slow_contrast(method, batch, *, has_duplicates_masked):
    """Equation 1 by loops over single images and captions."""
    images = [method.embed_images(image[None])[0] for image in batch["images"]]
    texts = [
        method.embed_texts(row[mask][None], mask[mask][None])[0]
        for row, mask in zip(batch["token_ids"], batch["token_mask"], strict=True)
    ]
    captions = [tuple(row.tolist()) for row in batch["token_ids"]]
    scores = [[functional.cosine_similarity(i, t, dim=0) * method.temperature() for t in texts] for i in images]
    total = 0.0
    for i in range(len(images)):
        kept = [j for j in range(len(images)) if i == j or not (has_duplicates_masked and captions[i] == captions[j])]
        of_image = torch.stack([scores[i][j] for j in kept]).logsumexp(0) - scores[i][i]
        of_text = torch.stack([scores[j][i] for j in kept]).logsumexp(0) - scores[i][i]
        total += (of_image + of_text).item() / 2
    return total / len(images)


@pytest.mark.parametrize("mask_duplicates", [False, True])
def test_the_contrast_is_of_whole_captions(tokenizer, mask_duplicates):
    method = build_tiny(tokenizer, mask_duplicates=mask_duplicates)
    batch = make_batch(tokenizer, [*CAPTIONS[:3], CAPTIONS[1]])
    found = numbers(method, batch)
    expected = slow_contrast(method, batch, has_duplicates_masked=mask_duplicates)
    assert found["contrastive_loss"] == pytest.approx(expected, abs=1e-4)
    assert found["duplicate_share"] == 0.5
    assert found["scale"] == pytest.approx(1 / 0.07, rel=1e-5)


def test_only_the_masked_words_depend_on_the_seed(tokenizer):
    method = build_tiny(tokenizer)
    first, other = (numbers(method, make_batch(tokenizer, CAPTIONS[:4], seed=seed)) for seed in (1, 2))
    assert first["contrastive_loss"] == pytest.approx(other["contrastive_loss"], abs=1e-5)
    assert abs(first["masked_word_loss"] - other["masked_word_loss"]) > 1e-4


def test_the_loss_of_words_is_the_mean_over_those_masked(tokenizer):
    method, batch = build_tiny(tokenizer, beta=0.5, masked_share=0.4), make_batch(tokenizer, CAPTIONS[:4], seed=3)
    shown, labels = method.word_masking(batch["token_ids"], batch["token_mask"], batch["seed"])
    losses = []
    for row, mask, row_labels in zip(shown, batch["token_mask"], labels, strict=True):
        states = method.text_encoder(row[mask][None], mask[mask][None])[0]
        for state, label in zip(states, row_labels[mask].tolist(), strict=True):
            if label != NOT_MASKED:
                losses.append(-method.word_head(state).softmax(0)[label].log().item())
    found, expected = method(batch), sum(losses) / len(losses)
    assert found["loss_components"]["masked_word_loss"].item() == pytest.approx(expected, abs=1e-4)
    contrast = found["loss_components"]["contrastive_loss"].item()
    assert found["loss"].item() == pytest.approx(contrast + 0.5 * expected, abs=1e-4)


@pytest.mark.parametrize("changes", [{}, {"beta": 0.0, "is_temperature_learned": False}])
def test_every_parameter_is_trained_once_and_has_a_gradient(tokenizer, changes):
    method = build_tiny(tokenizer, **changes)
    groups = method.parameter_groups()
    check_groups(method, groups)
    assert all(parameter.ndim <= 1 for parameter in groups[1]["params"])
    assert groups[1]["weight_decay"] == 0
    method(make_batch(tokenizer, CAPTIONS[:2]))["loss"].backward()
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []
    method.build_optimizer(groups).step()


def test_the_seed_decides_the_weights_and_nothing_else(tokenizer):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again = (build(TINY, tokenizer, generator_seed=1).state_dict() for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = build(TINY, tokenizer, generator_seed=2).state_dict()
    assert not torch.equal(first["image_projection.weight"], other["image_projection.weight"])


def test_weights_that_are_named_are_those_it_begins_with(tokenizer, tmp_path):
    trained = build(TINY, tokenizer, generator_seed=7)
    torch.save(trained.image_encoder.state_dict(), tmp_path / "vit.pt")
    torch.save(trained.text_encoder.bert.state_dict(), tmp_path / "bert.pt")
    sources = {"image_weights": str(tmp_path / "vit.pt"), "text_weights": str(tmp_path / "bert.pt")}
    method = build_tiny(tokenizer, **sources, image_weights_grid=(4, 2))
    for ours, theirs in ((method.image_encoder, trained.image_encoder), (method.text_encoder, trained.text_encoder)):
        assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_the_encoder_can_be_built_again(tokenizer):
    method, images = build_tiny(tokenizer), make_batch(tokenizer, CAPTIONS[:2])["images"]
    encoder, table = method.encoder()
    rebuilt = build_vit(table["architecture"], (table["image_height"], table["image_width"])).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(images), method.image_encoder(images))
    assert (table["image_mean"], table["image_std"]) == (TINY.image_mean, TINY.image_std)


def test_it_learns_to_find_people_and_to_tell_words(tokenizer):
    method = build(replace(TINY, mask_duplicates=True), tokenizer, generator_seed=0)
    optimizer = method.build_optimizer(method.parameter_groups())
    losses = []
    for step in range(60):
        loss = method(make_batch(tokenizer, CAPTIONS, seed=step))["loss"]
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        scores = method.eval().evaluate([make_batch(tokenizer, CAPTIONS[:7]), make_batch(tokenizer, CAPTIONS[7:])])
    assert losses[-1] < losses[0] / 2
    assert scores["text_to_image_chance_at_1"] == pytest.approx(1 / 12)
    assert scores["text_to_image_recall_at_1"] > 0.7
    assert scores["masked_word_accuracy"] > scores["masked_word_chance"] + 0.2


SHARES = [[*CAPTIONS[:3], "A man in red, blue."], [CAPTIONS[0], *CAPTIONS[3:6]]]
"""Of two ranks: one caption is in both, and their texts are of different length."""


def contrast(tokenizer, shares):
    """Loss, share of duplicates and gradients of the samples of some ranks."""
    method = build_tiny(tokenizer, beta=0.0, gather=True, mask_duplicates=True)
    output = method(make_batch(tokenizer, [caption for share in shares for caption in share]))
    output["loss"].backward()
    named = [method.image_projection.weight, method.text_projection.weight, method.temperature.log_scale]
    values = [output["loss"].detach(), output["loss_components"]["duplicate_share"]]
    return values + [parameter.grad for parameter in named]


def run_rank(rank, tokenizer_json, meeting, results):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    values = contrast(Tokenizer.from_json(tokenizer_json), [SHARES[rank]])
    for value in values:
        distributed.all_reduce(value)
    if rank == 0:
        torch.save([value / 2 for value in values], results)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_learn_the_same_as_one(tokenizer, tmp_path):
    multiprocessing.spawn(run_rank, (tokenizer.to_json(), tmp_path / "meeting", tmp_path / "sums.pt"), nprocs=2)
    expected = contrast(tokenizer, SHARES)
    assert expected[1] == 0.25
    for found, right in zip(torch.load(tmp_path / "sums.pt"), expected, strict=True):
        torch.testing.assert_close(found, right, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["paper", "scratch", "tiny"])
def test_presets_fit(name):
    kinds = {"method": Config, "loop": LoopConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, read_table(CONFIGS / f"unipt-{name}.toml"))
    method = sections["method"]
    with torch.device("meta"):
        build_vit(method.architecture, (method.image_height, method.image_width))
    assert sections["loop"].best_by == "text_to_image_recall_at_1"
    assert method.is_temperature_learned == (name != "paper")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_length": 2}, "text_length is 2; it must be from 3"),
        ({"text_length": 513}, "text_length is 513"),
        ({"temperature": 0.0}, r"temperature is 0.0; it must be from 0.01 to 10"),
        ({"embedding_width": 0}, "embedding_width is 0"),
        ({"image_weights_grid": [16]}, r"image_weights_grid is \[16\]; it must be rows and columns"),
        ({"masked_share": 1.0}, r"masked_share is 1.0"),
        ({"dropout": -0.1}, r"dropout is -0.1"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        read_section(Config, values)
