"""MMET against slow computations of its losses, and as it learns."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_figures import CAPTIONS, make_batch
from torch.nn import functional

from passerby.config import ConfigError, read_section, read_sections, read_table
from passerby.nets.vit import build_vit
from passerby.optim import check_groups
from passerby.tokens import Tokenizer
from passerby.training.augment import Augmentation
from passerby.training.method import LoopConfig
from passerby.training.reading import DataConfig
from pretrain.masking import NOT_MASKED
from pretrain.mmet import MMET, Config, build
from pretrain.sight import draw_foreign_captions

CONFIGS = Path(__file__).parents[1] / "configs"
IMAGES, TEXTS, PAIRS = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
TINY = Config(
    architecture="vit_nano_patch8",
    text_architecture="bert_nano",
    multimodal_layers=1,
    image_height=32,
    image_width=16,
    text_length=20,
    masked_patch_share=0.4,
    masked_word_share=0.3,
    codebook_size=6,
    codebook_images=12,
    learning_rate=1e-3,
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_captions(CAPTIONS, 200)


def build_tiny(tokenizer, **changes) -> MMET:
    """Build it with weights so large that every input counts, and a codebook."""
    method = build(replace(TINY, **changes), tokenizer, generator_seed=0).eval()
    method.prepare([make_batch(tokenizer, CAPTIONS)])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in method.flava.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) / 20)
    return method


def surprise(logits, label):
    return -logits.softmax(0)[label].log().item()


def losses_of(method, batch):
    return {name: loss.item() for name, loss in method(batch)["loss_components"].items()}


def test_images_with_nothing_hidden_are_seen_as_by_the_encoder_alone(tokenizer):
    flava, images = build_tiny(tokenizer).flava, make_batch(tokenizer, CAPTIONS[:3])["images"]
    states = flava.see(images, torch.zeros(3, 8, dtype=torch.bool))
    torch.testing.assert_close(flava.image_encoder.norm(states), flava.image_encoder(images))


def test_nothing_but_the_place_is_left_of_a_hidden_patch(tokenizer):
    flava, images = build_tiny(tokenizer).flava, make_batch(tokenizer, CAPTIONS[:1])["images"]
    is_hidden = torch.arange(8)[None] == 3  # the second of the second row
    changed = images.clone()
    changed[:, :, 8:16, 8:] += 1
    torch.testing.assert_close(flava.see(images, is_hidden), flava.see(changed, is_hidden))
    assert not torch.allclose(flava.see(images, is_hidden), flava.see(images, is_hidden.roll(1, 1)))


def test_images_alone_lose_by_their_hidden_patches(tokenizer):
    method, batch = build_tiny(tokenizer, modality_weights=IMAGES), make_batch(tokenizer, CAPTIONS[:4])
    is_hidden, codes = method.hiding.of_images(batch)
    losses = []
    for image, row, row_codes in zip(batch["images"], is_hidden, codes, strict=True):
        states = method.flava.image_encoder.norm(method.flava.see(image[None], row[None]))[0]
        losses += [surprise(method.flava.patch_head(states[1 + p]), row_codes[p]) for p in range(8) if row[p]]
    assert len(losses) == 4 * 3
    assert losses_of(method, batch) == {"image_patch_loss": pytest.approx(sum(losses) / len(losses), abs=1e-4)}


def test_captions_alone_lose_by_their_hidden_words(tokenizer):
    method, batch = build_tiny(tokenizer, modality_weights=TEXTS), make_batch(tokenizer, CAPTIONS[:4])
    shown, labels = method.hiding.of_captions(batch)
    losses = []
    for row, mask, row_labels in zip(shown, batch["token_mask"], labels.tolist(), strict=True):
        states = method.flava.text_encoder(row[mask][None], mask[mask][None])[0]
        told = [place for place, label in enumerate(row_labels) if label != NOT_MASKED]
        losses += [surprise(method.flava.word_head(states[place]), row_labels[place]) for place in told]
    assert losses_of(method, batch) == {"text_word_loss": pytest.approx(sum(losses) / len(losses), abs=1e-4)}


def slow_pairs(method, batch):
    """All losses of pairs, one image and one caption at a time."""
    flava, count = method.flava, len(batch["images"])
    is_hidden, codes = method.hiding.of_images(batch)
    shown, labels = method.hiding.of_captions(batch)
    texts = [row[mask] for row, mask in zip(shown, batch["token_mask"], strict=True)]
    foreign = draw_foreign_captions(batch["token_ids"], method.config.mismatch_share, seed=int(batch["seed"]) + 2)
    found = {name: [] for name in ("multimodal_patch_loss", "multimodal_word_loss", "matching_loss")}
    for i, place in enumerate(foreign.tolist()):
        image_states = flava.see(batch["images"][i][None], is_hidden[i][None])
        text_states = flava.text_encoder(texts[place][None], torch.ones(1, len(texts[place]), dtype=torch.bool))
        pair, patches, words = flava.multimodal_encoder(
            image_states, text_states, torch.ones(text_states.shape[:2], dtype=torch.bool)
        )
        found["matching_loss"].append(surprise(flava.matching_head(pair[0]), int(place == i)))
        if place == i:
            told = [(flava.multimodal_patch_head(patches[0, p]), codes[i, p]) for p in range(8) if is_hidden[i, p]]
            found["multimodal_patch_loss"] += [surprise(*each) for each in told]
            told = [(flava.multimodal_word_head(words[0, t]), label) for t, label in enumerate(labels[i].tolist())]
            found["multimodal_word_loss"] += [surprise(*each) for each in told if each[1] != NOT_MASKED]
    assert 0 < (foreign == torch.arange(count)).sum() < count
    return {name: sum(losses) / len(losses) for name, losses in found.items()}


def slow_contrast(method, batch):
    """The contrast of whole images and captions by loops; equal captions are no negatives."""
    flava, captions = method.flava, [tuple(row.tolist()) for row in batch["token_ids"]]
    count = len(captions)
    images = [flava.image_projection(flava.image_encoder(image[None])[0, 0]) for image in batch["images"]]
    texts = [
        flava.text_projection(flava.text_encoder(row[mask][None], mask[mask][None])[0, 0])
        for row, mask in zip(batch["token_ids"], batch["token_mask"], strict=True)
    ]
    scores = [[functional.cosine_similarity(image, text, dim=0) / 0.07 for text in texts] for image in images]
    total = 0.0
    for i in range(count):
        kept = [j for j in range(count) if i == j or captions[i] != captions[j]]
        of_image = torch.stack([scores[i][j] for j in kept]).logsumexp(0) - scores[i][i]
        of_text = torch.stack([scores[j][i] for j in kept]).logsumexp(0) - scores[i][i]
        total += (of_image + of_text).item() / 2
    return total / count


def test_pairs_lose_by_what_is_hidden_and_by_what_belongs_together(tokenizer):
    method = build_tiny(tokenizer, modality_weights=PAIRS, mismatch_share=0.5, contrastive_weight=0.25)
    batch = make_batch(tokenizer, [*CAPTIONS[:4], "A man in red, blue.", CAPTIONS[1]])
    found, expected = losses_of(method, batch), slow_pairs(method, batch)
    expected["contrastive_loss"] = slow_contrast(method, batch)
    assert found == {name: pytest.approx(loss, abs=1e-4) for name, loss in expected.items()}
    total = sum(expected.values()) - 0.75 * expected["contrastive_loss"]
    assert method(batch)["loss"].item() == pytest.approx(total, abs=1e-4)


def test_what_a_pair_is_told_does_not_depend_on_the_padding(tokenizer):
    method = build_tiny(tokenizer)
    short, batch = make_batch(tokenizer, ["A man in red, blue."]), make_batch(tokenizer, CAPTIONS[:1])
    width = batch["token_ids"].shape[1] - short["token_ids"].shape[1]
    assert width > 0
    padded = {name: functional.pad(short[name], (0, width)) for name in ("token_ids", "token_mask")}
    states = []
    for text in (short, padded):
        text_states = method.flava.text_encoder(text["token_ids"], text["token_mask"])
        image_states = method.flava.see(batch["images"], torch.zeros(1, 8, dtype=torch.bool))
        states.append(method.flava.multimodal_encoder(image_states, text_states, text["token_mask"]))
    torch.testing.assert_close(states[0].pair, states[1].pair)
    torch.testing.assert_close(states[0].patches, states[1].patches)
    torch.testing.assert_close(states[0].words, states[1].words[:, : states[0].words.shape[1]])


def test_a_step_takes_images_captions_or_pairs_as_the_shared_seed_says(tokenizer):
    method, batch = build_tiny(tokenizer, modality_weights=(2.0, 1.0, 1.0)), make_batch(tokenizer, CAPTIONS[:2])
    kinds: Counter[str] = Counter()
    for shared_seed in range(80):
        kinds[next(iter(losses_of(method, {**batch, "shared_seed": torch.tensor(shared_seed)})))] += 1
    assert kinds["image_patch_loss"] == pytest.approx(40, abs=14)
    assert kinds["text_word_loss"] == pytest.approx(20, abs=12)
    assert kinds["multimodal_patch_loss"] == pytest.approx(20, abs=12)
    for shared_seed in range(5):  # of other ranks
        both = [{**batch, "seed": torch.tensor(seed), "shared_seed": torch.tensor(shared_seed)} for seed in (1, 2)]
        assert losses_of(method, both[0]).keys() == losses_of(method, both[1]).keys()


def test_patches_are_hidden_on_the_person_of_the_parsing_map(tokenizer):
    method, batch = build_tiny(tokenizer), make_batch(tokenizer, CAPTIONS[:3])
    parsing = torch.zeros(3, 32, 16, dtype=torch.uint8)
    parsing[:, 8:24, :8], parsing[:, 24:, 8:] = 5, 9
    is_hidden, _ = method.hiding.of_images({**batch, "parsing": parsing})
    assert is_hidden.nonzero().tolist() == [[row, place] for row in range(3) for place in (2, 4, 7)]


def test_codes_are_of_the_pixels_before_they_were_normalised(tokenizer):
    method, batch = build_tiny(tokenizer), make_batch(tokenizer, CAPTIONS[:3])
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (TINY.image_mean, TINY.image_std))
    pixels = torch.stack([image * std + mean for image in batch["images"]])
    assert torch.equal(method.hiding.of_images(batch).targets, method.hiding.target(pixels))


@pytest.mark.parametrize("modality_weights", [IMAGES, TEXTS, PAIRS])
def test_every_parameter_is_trained_once_and_has_a_gradient_in_every_step(tokenizer, modality_weights):
    method = build_tiny(tokenizer, modality_weights=modality_weights)
    groups = method.parameter_groups()
    check_groups(method, groups)
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    free = {name for name, parameter in method.named_parameters() if decays[id(parameter)] == 0 and parameter.ndim > 1}
    positions = "flava.text_encoder.bert.embeddings.position_embeddings.weight"
    assert free == {"flava.image_encoder.cls_token", "flava.image_encoder.pos_embed", positions}
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
    assert not torch.equal(first["flava.image_projection.weight"], other["flava.image_projection.weight"])


def test_the_encoder_can_be_built_again(tokenizer):
    encoder, table = build_tiny(tokenizer).encoder()
    rebuilt = build_vit(table["architecture"], (table["image_height"], table["image_width"])).eval()
    rebuilt.load_state_dict(encoder.state_dict())
    images = make_batch(tokenizer, CAPTIONS[:2])["images"]
    assert torch.equal(rebuilt(images), encoder(images))
    assert (table["image_mean"], table["image_std"]) == (TINY.image_mean, TINY.image_std)


def test_it_learns_to_tell_what_is_hidden_and_what_belongs_together(tokenizer):
    changes = {"modality_weights": (1.0, 1.0, 4.0), "masked_word_share": 0.15, "mismatch_share": 0.5}
    method = build(replace(TINY, **changes), tokenizer, generator_seed=0)
    method.prepare([make_batch(tokenizer, CAPTIONS)])
    optimizer = method.build_optimizer(method.parameter_groups())
    for step in range(120):
        loss = method(make_batch(tokenizer, CAPTIONS, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        batches = [make_batch(tokenizer, part, seed=7) for part in (CAPTIONS[:7], CAPTIONS[7:])]
        scores = method.eval().evaluate(batches)
    for name in ("image_patch", "text_word", "multimodal_patch", "multimodal_word"):
        assert scores[f"{name}_accuracy"] > scores[f"{name}_chance"] + 0.1, name
    assert scores["matching_accuracy"] > 0.7
    assert scores["text_to_image_recall_at_1"] > 0.3
    assert scores["codebook_use"] == 1
    assert 1 < scores["codebook_perplexity"] <= 6


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_presets_fit(name):
    kinds = {"method": Config, "loop": LoopConfig, "data": DataConfig, "augment": Augmentation}
    sections = read_sections(kinds, read_table(CONFIGS / f"mmet-{name}.toml"))
    method = sections["method"]
    with torch.device("meta"):
        build_vit(method.architecture, (method.image_height, method.image_width))
    assert sections["loop"].batch_size == {"paper": 64, "tiny": 32}[name]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"text_length": 2}, "text_length is 2; it must be from 3"),
        ({"multimodal_layers": 0}, "multimodal_layers is 0; it must be 1 or more"),
        ({"codebook_size": 1}, "codebook_size is 1; it must be 2 or more"),
        ({"codebook_images": 0}, "codebook_images is 0"),
        ({"masked_patch_share": 1.0}, r"masked_patch_share is 1.0"),
        ({"masked_word_share": -0.1}, r"masked_word_share is -0.1"),
        ({"mismatch_share": 1.0}, r"mismatch_share is 1.0"),
        ({"modality_weights": [0.0, 0.0, 0.0]}, r"modality_weights is \[0.0, 0.0, 0.0\]; none may be below 0"),
        ({"modality_weights": [1.0, -1.0, 1.0]}, r"modality_weights is \[1.0, -1.0, 1.0\]"),
        ({"mask_mode": "person"}, "mask_mode is 'person'"),
    ],
)
def test_what_does_not_fit_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        read_section(Config, values)


def test_pixels_are_told_by_their_squared_error_within_each_patch(tokenizer):
    method, batch = (
        build_tiny(tokenizer, modality_weights=IMAGES, patch_target="pixels"),
        make_batch(tokenizer, CAPTIONS[:4]),
    )
    is_hidden, _ = method.hiding.of_images(batch)
    pixels = batch["images"] * torch.tensor(TINY.image_std).view(3, 1, 1) + torch.tensor(TINY.image_mean).view(3, 1, 1)
    errors = []
    for i, p in is_hidden.nonzero().tolist():
        row, column = 8 * (p // 2), 8 * (p % 2)
        patch = pixels[i, :, row : row + 8, column : column + 8].flatten()
        wanted = (patch - patch.mean()) / patch.std(correction=0)
        states = method.flava.image_encoder.norm(method.flava.see(batch["images"][i][None], is_hidden[i][None]))[0]
        errors.append((method.flava.patch_head(states[1 + p]) - wanted).square().mean().item())
    assert losses_of(method, batch) == {"image_patch_loss": pytest.approx(sum(errors) / len(errors), rel=1e-3)}


def test_pixels_need_no_codebook_and_are_learnt(tokenizer):
    method = build(replace(TINY, patch_target="pixels"), tokenizer, generator_seed=0)
    method.prepare(iter(()))
    batch = make_batch(tokenizer, CAPTIONS)
    with torch.no_grad():
        before = method.eval().evaluate([batch])
    assert before["image_patch_chance"] == pytest.approx(1, abs=0.05)
    assert not {"codebook_use", "image_patch_accuracy"} & before.keys()
    optimizer = method.build_optimizer(method.parameter_groups())
    method.train()
    for step in range(60):
        shared = {"seed": torch.tensor(step % 3), "shared_seed": torch.tensor(step)}
        method({**batch, **shared})["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = method.eval().evaluate([batch])
    assert after["image_patch_error"] < 0.9 * before["image_patch_error"]
    assert after["multimodal_patch_error"] < 0.9 * before["multimodal_patch_error"]
