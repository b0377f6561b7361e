"""VTBR against slow computations of its own definition, and whether it learns to see."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn

from passerby.nets.caption_decoder import TextualHead, reverse
from passerby.nets.resnet import build_resnet
from passerby.tokens import SPECIALS, Tokenizer
from pretrain import vtbr

CAPTIONS = ["a man in red.", "a woman wears blue bottoms and a green top.", "somebody in a green top.", "no one."]
CONFIG = vtbr.Config(
    architecture="resnet10t", image_height=64, image_width=64, text_length=20, width=64, layers=2, decoded_images=3
)


def make_batch(tokenizer, captions=CAPTIONS, padding=0):
    encoded = [tokenizer.encode(caption, CONFIG.text_length)[0] for caption in captions]
    longest = max(map(len, encoded)) + padding
    token_ids = torch.tensor([ids + [tokenizer.pad_id] * (longest - len(ids)) for ids in encoded])
    token_mask = torch.tensor([[place < len(ids) for place in range(longest)] for ids in encoded])
    images = torch.randn(len(captions), 3, 64, 64, generator=torch.Generator().manual_seed(5))
    return {"images": images, "token_ids": token_ids, "token_mask": token_mask}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_captions(CAPTIONS, 200)


@pytest.fixture(scope="module")
def method(tokenizer):
    """In evaluation mode; the head's matrices drawn apart and large, so that a mix-up shows."""
    method = vtbr.build(CONFIG, tokenizer, generator_seed=0).eval()
    torch.manual_seed(1)
    for parameter in method.textual_head.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return method


@pytest.fixture
def batch(tokenizer):
    return make_batch(tokenizer)


def naive_losses(method, batch):
    """Predict every token on its own, of every sample on its own, without padding: mean over all tokens, by direction."""
    head, losses = method.textual_head, {}
    for is_backward in (False, True):
        decoder, found = (head.backward_decoder if is_backward else head.forward_decoder), []
        for image, ids, mask in zip(batch["images"], batch["token_ids"], batch["token_mask"], strict=True):
            caption = ids[mask].tolist()[:: -1 if is_backward else 1]
            locations = head.project(method.visual_backbone(image[None]))
            for place in range(1, len(caption)):
                later = torch.ones(place, place).triu(diagonal=1).bool()
                states = decoder(head.embedding(torch.tensor([caption[:place]])), locations, tgt_mask=later)
                logits = (head.embedding.words.weight @ states[0, -1] + head.output.bias).tolist()
                found.append(math.log(sum(map(math.exp, logits))) - logits[caption[place]])
        losses["backward_loss" if is_backward else "forward_loss"] = sum(found) / len(found)
    return losses


@torch.no_grad()
def test_the_loss_is_that_of_a_loop_over_samples_and_tokens(method, batch):
    result = method(batch)
    expected = naive_losses(method, batch)
    assert result["loss"].item() == pytest.approx(expected["forward_loss"] + expected["backward_loss"], rel=1e-4)
    assert {name: loss.item() for name, loss in result["loss_components"].items()} == pytest.approx(expected, rel=1e-4)
    assert abs(expected["forward_loss"] - expected["backward_loss"]) > 0.01


@torch.no_grad()
def test_the_loss_is_of_full_precision_under_autocast(method, batch):
    with torch.autocast("cpu", torch.bfloat16):
        loss = method(batch)["loss"]
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(method(batch)["loss"].item(), rel=0.01)


@torch.no_grad()
@pytest.mark.parametrize("is_backward", [False, True])
def test_a_token_is_unseen_before_its_turn(method, batch, is_backward):
    head, ids = method.textual_head, batch["token_ids"][1:2]
    locations = head.project(method.visual_backbone(batch["images"][1:2]))
    before = head(locations, ids, is_backward=is_backward)
    for place in range(1, ids.shape[1]):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 1) % method.tokenizer.size
        after = head(locations, changed, is_backward=is_backward)
        assert torch.allclose(after[:, :place], before[:, :place], atol=1e-5)
        assert not torch.allclose(after[:, place:], before[:, place:], atol=1e-3)


@torch.no_grad()
def test_padding_changes_nothing(method, tokenizer, batch):
    padded = make_batch(tokenizer, padding=4)
    assert torch.allclose(method(padded)["loss"], method(batch)["loss"], rtol=1e-5)


@torch.no_grad()
def test_the_image_is_looked_at_in_both_directions(method, batch):
    other = method({**batch, "images": batch["images"].flip(0)})["loss_components"]
    for name, loss in method(batch)["loss_components"].items():
        assert abs(other[name] - loss) > 0.001


def test_reversed_captions_keep_their_padding_on_the_right(batch):
    ids, mask = batch["token_ids"], batch["token_mask"]
    for row, given, is_token in zip(reverse(ids, mask).tolist(), ids.tolist(), mask.tolist(), strict=True):
        length = sum(is_token)
        assert row == given[:length][::-1] + given[length:]


def test_the_output_is_the_embedding_and_stays_it(method, tokenizer):
    rebuilt = vtbr.build(CONFIG, tokenizer, generator_seed=9)
    rebuilt.load_state_dict(method.state_dict())
    for each in (method, rebuilt, copy.deepcopy(method)):
        assert each.textual_head.output.weight is each.textual_head.embedding.words.weight
    assert torch.equal(rebuilt.textual_head.output.weight, method.textual_head.output.weight)


def test_decoders_begin_equal_and_learn_apart(tokenizer, batch):
    method = vtbr.build(CONFIG, tokenizer, generator_seed=0)
    optimizer = method.build_optimizer(method.parameter_groups())
    head = method.textual_head
    weights = [decoder.layers[0].linear1.weight for decoder in (head.forward_decoder, head.backward_decoder)]
    assert torch.equal(*weights)
    method(batch)["loss"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    optimizer.step()
    assert not torch.equal(*weights)


@pytest.mark.parametrize(("width", "expected"), [(1024, 0.02), (256, 0.04)])
def test_matrices_begin_as_large_as_virtex_s(width, expected):
    head = TextualHead(visual_width=32, vocabulary_size=99, text_length=20, width=width, layers=1, dropout=0.1)
    for name, parameter in head.named_parameters():
        if parameter.ndim > 1:
            assert parameter.std().item() == pytest.approx(expected, rel=0.05), name


def test_a_seed_decides_the_weights_and_nothing_else(tokenizer):
    state = torch.get_rng_state()
    first, again, other = (
        vtbr.build(CONFIG, tokenizer, generator_seed=seed).visual_backbone.conv1[0].weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("words", "text_length", "expected"),
    # counted in VirTex's code with VTBR's settings
    [(10_000, 30, 69_482_320), (10_000, 40, 69_492_560), (520, 64, 59_800_136)],
)
def test_the_paper_s_model_has_virtex_s_size(words, text_length, expected):
    tokenizer = Tokenizer([*SPECIALS, *(f"word{number}" for number in range(words - len(SPECIALS)))])
    with torch.device("meta"):
        method = vtbr.Vtbr(vtbr.Config(text_length=text_length), tokenizer)
    assert sum(parameter.numel() for parameter in method.parameters()) == expected


def test_every_parameter_has_the_learning_rate_and_decay_of_the_paper():
    tokenizer = Tokenizer([*SPECIALS, "a"])
    with torch.device("meta"):
        method = vtbr.Vtbr(vtbr.Config(), tokenizer)
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    found = [
        (names.pop(id(parameter)), group["lr"], group["weight_decay"])
        for group in method.parameter_groups()
        for parameter in group["params"]
    ]
    assert not names
    settings = [(rate, decay) for _, rate, decay in found]
    # VirTex's rule: of 202 tensors 159 are the CNN's, and 26 match `textual.(embedding|transformer).*(norm.*|bias)`
    assert [settings.count(each) for each in ((0.2, 1e-4), (1e-3, 1e-4), (1e-3, 0.0))] == [159, 17, 26]
    assert all(rate == 0.2 for name, rate, _ in found if name.startswith("visual_backbone."))
    decayed = {name for name, rate, decay in found if rate == 1e-3 and decay}
    assert {"textual_head.output.bias", "textual_head.visual_projection.bias"} < decayed


def test_lookahead_takes_every_second_step_half_way_back(method):
    """Against SGD with momentum, L2 decay and slow weights, spelt out; interrupted between two slow steps."""
    config = replace(CONFIG, lookahead_steps=2, lookahead_alpha=0.5, momentum=0.9)
    maker = vtbr.Vtbr.build_optimizer.__get__(copy.copy(method))
    maker.__self__.config = config
    target, rate, decay = torch.tensor([1.0, -2.0]), 0.1, 0.01
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    fast, slow, velocity = weight.detach().clone(), weight.detach().clone(), torch.zeros(2)
    optimizer = maker([{"params": [weight], "lr": rate, "weight_decay": decay}])
    for step in range(1, 8):
        weight.grad = 2 * (weight.detach() - target)
        optimizer.step()
        velocity = 0.9 * velocity + 2 * (fast - target) + decay * fast
        fast = fast - rate * velocity
        if step % 2 == 0:
            fast = slow = 0.5 * fast + 0.5 * slow
        assert torch.allclose(weight, fast, atol=1e-6), step
        if step == 3:
            state = copy.deepcopy(optimizer.state_dict())
            optimizer = maker([{"params": [weight], "lr": rate, "weight_decay": decay}])
            optimizer.load_state_dict(state)


@torch.no_grad()
def test_evaluation_is_a_mean_over_tokens_not_over_batches(method, tokenizer, batch):
    parts = [make_batch(tokenizer, CAPTIONS[:1]), make_batch(tokenizer, CAPTIONS[1:])]
    parts[0]["images"], parts[1]["images"] = batch["images"][:1], batch["images"][1:]
    numbers = method.evaluate(iter(parts))
    expected = naive_losses(method, batch)
    assert {name: numbers[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert numbers["loss"] == pytest.approx(sum(expected.values()), rel=1e-4)


def test_an_overfitted_model_names_the_colours_it_sees():
    """One picture for each pair of colours, the top's above and the bottoms' below."""
    colours = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0)}
    outfits = [*itertools.product(colours, repeat=2)]
    tokenizer = Tokenizer.from_captions(["red top, green bottoms"], 100)
    batch = make_batch(tokenizer, [f"{top} top, {bottom} bottoms" for top, bottom in outfits])
    halves = torch.tensor([[[colours[top]], [colours[bottom]]] for top, bottom in outfits])
    # shape: (outfits, 3, 64, 32)
    batch["images"] = halves.permute(0, 3, 1, 2).repeat_interleave(32, dim=2).repeat_interleave(32, dim=3)
    rates = {"visual_learning_rate": 0.1, "textual_learning_rate": 0.1}
    config = replace(CONFIG, layers=1, dropout=0.0, decoded_images=4, **rates)
    method = vtbr.build(config, tokenizer, generator_seed=0)
    optimizer = method.build_optimizer(method.parameter_groups())
    for _ in range(50):
        optimizer.zero_grad()
        method(batch)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        numbers = method.eval().evaluate([batch])
    assert numbers["upper_colour_accuracy"] == numbers["lower_colour_accuracy"] == 1.0
    assert numbers["loss"] < 0.5


@pytest.mark.parametrize("architecture", ["resnet50", "resnet18"])
def test_the_resnet_is_torchvision_s(architecture):
    ours, theirs = build_resnet(architecture).eval(), torchvision.models.get_model(architecture).eval()
    weights = {name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(weights)
    theirs.avgpool = theirs.fc = nn.Identity()
    images = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        features = ours(images)
        assert features.shape == (1, ours.num_features, 2, 1)
        assert torch.allclose(features.flatten(1), theirs(images), atol=1e-4)


def test_the_encoder_is_the_resnet_alone(method):
    encoder, table = method.encoder()
    build_resnet(table["architecture"]).load_state_dict(encoder.state_dict())
    assert table == {
        "architecture": "resnet10t",
        "image_height": 64,
        "image_width": 64,
        "image_mean": (0.485, 0.456, 0.406),
        "image_std": (0.229, 0.224, 0.225),
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [({"width": 100}, "width is 100; it must be a multiple of 64"), ({"text_length": 2}, "text_length is 2")],
)
def test_a_config_that_cannot_be_built_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        vtbr.Config(**values)


def test_an_architecture_that_is_no_resnet_is_refused(tokenizer):
    with pytest.raises(ValueError, match="architecture is 'vit_small_patch16_224', which is no ResNet"):
        vtbr.build(replace(CONFIG, architecture="vit_small_patch16_224"), tokenizer, generator_seed=0)
