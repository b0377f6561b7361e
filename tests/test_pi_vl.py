"""What both stages of pi-VL compute, held against loops and CLIP's own towers; and what is left when they are over."""

from itertools import pairwise, product
from math import exp, log

import pytest
import tiny_parts
import torch
from torch import nn

from finetune.encoder_tuning import EncoderTuning
from finetune.pi_vl import Config, Searcher, rebuild
from finetune.prompt_tuning import PromptConfig, Prompts, PromptTuning
from finetune.seen import Seen
from finetune.stages import write_texts
from passerby.nets.clip_pair import load_pair, read_architecture
from passerby.nets.clip_reid import build_image_encoder
from passerby.nets.mobilenet import MobileNet
from passerby.nets.prompts import PART_NAMES
from passerby.optim import check_groups

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = (tiny_parts.HEIGHT, tiny_parts.WIDTH)
PEOPLE = 3


def config(**values):
    given = {"clip_model": "tiny-resnet", "clip_weights": "", "image_height": SIZE[0], "image_width": SIZE[1]}
    return Config(**{**given, **values})


def seeded_pair(name):
    torch.manual_seed(0)
    return load_pair(name, "")


def prompts():
    generator = torch.Generator().manual_seed(5)
    return Prompts(*(torch.randn(PEOPLE, 4, 32, generator=generator) for _ in range(2)))


def build(method):
    pair = seeded_pair(method.clip_model)
    is_student = method.student != "none"
    cameras = 3 if method.cameras else 0
    tuning = EncoderTuning(
        method,
        MobileNet(SIZE) if is_student else build_image_encoder(pair.model, SIZE, cameras=cameras),
        people=PEOPLE,
        embed_dim=64,
        tower=read_architecture(method.clip_model, ""),
        write_texts=lambda device: write_texts(method, prompts(), 0, device),
    )
    tuning.prepare([])
    return tuning


def make_batch():
    """Two images each of three people, part of one erased."""
    drawn = [tiny_parts.draw_person(person, image) for person in range(PEOPLE) for image in range(2)]
    parsing = torch.stack([torch.from_numpy(classes) for _, classes in drawn])
    parsing[1, 16:40] = 255
    return {
        "images": torch.stack([torch.from_numpy(pixels).permute(2, 0, 1) for pixels, _ in drawn]) / 64 - 1,
        "person_ids": torch.arange(PEOPLE).repeat_interleave(2),
        "camera_ids": torch.tensor([1, 2] * PEOPLE),
        "parsing": parsing,
        "keys": [str(number) for number in range(2 * PEOPLE)],
    }


def smoothed(logits, person, share=0.1):
    """Give the cross-entropy of one image by its definition."""
    total = sum(exp(each) for each in logits)
    target = [share / len(logits) + (1 - share) * (place == person) for place in range(len(logits))]
    return -sum(part * log(exp(each) / total) for part, each in zip(target, logits, strict=True))


def hardest(features, people, margin=0.3):
    losses = []
    for anchor, person in zip(features, people, strict=True):
        near = [(anchor - other).norm().item() for other, who in zip(features, people, strict=True) if who != person]
        far = [(anchor - other).norm().item() for other, who in zip(features, people, strict=True) if who == person]
        losses.append(max(0.0, max(far) - min(near) + margin))
    return sum(losses) / len(losses)


def aligned(pixels, cells, parsing, texts, people, *, is_mse):
    """Compare each pixel with its sentence, one after the other."""
    errors = []
    for image, person in enumerate(people):
        for row in range(cells.rows):
            for column in range(cells.columns):
                part = int(parsing[image, cells.first + row * cells.stride, cells.first + column * cells.stride])
                if part != 255:
                    text = texts[person % len(texts), part]
                    pixel = pixels[image, :, row, column]
                    cosine = torch.cosine_similarity(pixel, text, dim=0)
                    errors.append(((pixel - text).square().mean() if is_mse else 2 - 2 * cosine).item())
    return sum(errors) / len(errors)


@pytest.mark.parametrize(
    ("variant", "similarity", "alignment"),
    [
        ("clip-reid", "product", "cosine"),
        ("part-text", "product", "cosine"),
        ("identity-aware", "product", "mse"),
        ("pi-vl", "cosine", "cosine"),
    ],
)
def test_the_loss_is_the_sum_that_the_papers_write(variant, similarity, alignment):
    weights = {"identity_weight": 0.25, "triplet_weight": 0.5, "text_weight": 2.0, "alignment_weight": 3.0}
    method = config(variant=variant, similarity=similarity, alignment=alignment, temperature=0.2, **weights)
    tuning, batch = build(method).eval(), make_batch()
    for classifier in tuning.classifiers:
        nn.init.normal_(classifier.weight, std=0.1)
    people = batch["person_ids"].tolist()

    def similar(images, texts):
        cosines = torch.cosine_similarity(images[:, None], texts, dim=2)
        return images @ texts.T if similarity == "product" else cosines / 0.2

    with torch.no_grad():
        told = tuning(batch)
        found = tuning.searcher.encoder(batch["images"])
        named = zip(tuning.necks, tuning.classifiers, (found.feature, found.projected), strict=True)
        logits = [classify(neck(each)) for neck, classify, each in named] + [
            similar(found.projected, tuning.whole_texts)
        ]
        pixels, cells = found.dense, tuning.searcher.encoder.cells
        if variant == "pi-vl":
            pixels, cells = tuning.head(found.levels), tuning.searcher.encoder.part_cells

    means = [
        sum(smoothed(row.tolist(), person) for row, person in zip(each, people, strict=True)) / len(people)
        for each in logits
    ]
    expected = {
        "identity_loss": means[0] + means[1],
        "triplet_loss": sum(hardest(each, people) for each in (found.last, found.feature, found.projected)),
        "text_loss": means[2],
    }
    total = 0.25 * expected["identity_loss"] + 0.5 * expected["triplet_loss"] + 2 * expected["text_loss"]
    if variant != "clip-reid":
        expected["alignment_loss"] = aligned(
            pixels, cells, batch["parsing"], tuning.part_texts, people, is_mse=alignment == "mse"
        )
        total += 3 * expected["alignment_loss"]
    assert {name: float(each) for name, each in told["loss_components"].items()} == pytest.approx(expected, rel=1e-4)
    assert float(told["loss"]) == pytest.approx(total, rel=1e-4)


def read_by_clip(pair, context, sentence):
    """Let CLIP's own text tower read a sentence whose words `x` are learned tokens."""
    tokens = pair.tokenizer([sentence])
    is_learned = tokens[0] == pair.tokenizer.encode("x")[0]

    def replace(_module, _arguments, embeddings):
        embeddings[0, is_learned] = context
        return embeddings

    hook = pair.model.token_embedding.register_forward_hook(replace)
    try:
        return pair.model.encode_text(tokens)[0]
    finally:
        hook.remove()


@pytest.mark.parametrize(("whole_text", "place"), [("identity", 0), ("final", 1)])
@torch.no_grad()
def test_texts_are_what_clip_reads_in_the_tuned_sentences(whole_text, place):
    whole, parts = write_texts(config(whole_text=whole_text), prompts(), 0, torch.device("cpu"))
    pair, tokens = seeded_pair("tiny-resnet"), [prompts().whole, prompts().parts]
    assert (whole.shape, parts.shape) == ((PEOPLE, 64), (PEOPLE, 20, 64))
    for person in range(PEOPLE):
        expected = read_by_clip(pair, tokens[place][person], "A photo of a x x x x person.")
        torch.testing.assert_close(whole[person], expected, atol=1e-5, rtol=1e-4)
        expected = read_by_clip(pair, tokens[1][person], "A photo of a x x x x person left arm")
        torch.testing.assert_close(parts[person, PART_NAMES.index("left arm")], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_without_identities_all_people_share_the_texts_of_parts():
    parts = write_texts(config(variant="part-text"), prompts(), 0, torch.device("cpu")).parts
    pair = seeded_pair("tiny-resnet")
    assert parts.shape == (1, 20, 64)
    for place in (0, 5, 19):
        expected = pair.model.encode_text(pair.tokenizer([f"a photo of a person {PART_NAMES[place]}"]))[0]
        torch.testing.assert_close(parts[0, place], expected)


def test_background_that_is_ignored_draws_no_pixel():
    batch = make_batch()
    batch["parsing"][:] = 0
    assert float(build(config(background="ignore"))(batch)["loss_components"]["alignment_loss"]) == 0
    assert float(build(config())(batch)["loss_components"]["alignment_loss"]) > 0.1


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-resnet"])
@torch.no_grad()
def test_a_head_changes_nothing_of_what_is_searched_by(name):
    images = torch.randn(2, 3, *SIZE)
    with_head, without = (build(config(clip_model=name, variant=each)).eval() for each in ("pi-vl", "clip-reid"))
    assert with_head.head is not None
    (exported, table), (plain, plain_table) = with_head.encoder(), without.encoder()
    assert table == plain_table
    assert [*exported.state_dict()] == [*plain.state_dict()]
    assert torch.equal(exported.embed_images(images)["before_neck"], plain.embed_images(images)["before_neck"])
    again = rebuild(table).eval()
    again.load_state_dict(exported.state_dict())
    assert torch.equal(again.embed_images(images)["before_neck"], plain.embed_images(images)["before_neck"])
    found = with_head.searcher.encoder(images)
    assert torch.equal(exported.embed_images(images)["before_neck"], torch.cat([found.feature, found.projected], dim=1))


@pytest.mark.parametrize("options", [{}, {"clip_model": "tiny-vit", "cameras": True}, {"student": "mobilenet"}])
def test_every_weight_learns_at_its_rate(options):
    tuning = build(config(learning_rate=1e-3, head_learning_rate=4e-3, weight_decay=0.1, **options))
    groups = tuning.parameter_groups()
    check_groups(tuning, groups)
    rates = {id(each): group["lr"] for group in groups for each in group["params"]}
    assert {group["weight_decay"] for group in groups} == {0.1}
    for name, each in tuning.named_parameters():
        if each.requires_grad:
            expected = (4e-3 if name.startswith("head.") else 1e-3) * (2 if "bias" in name else 1)
            assert rates[id(each)] == pytest.approx(expected), name
    assert [name for name, each in tuning.named_parameters() if not each.requires_grad] == [
        f"necks.{place}.bias" for place in range(len(tuning.necks))
    ]
    tuning(make_batch())["loss"].backward()
    idle = [name for name, each in tuning.named_parameters() if each.requires_grad and each.grad is None]
    assert idle == []
    assert not tuning.whole_texts.requires_grad


def test_an_encoder_that_knows_cameras_is_told_them():
    searcher = Searcher(build_image_encoder(seeded_pair("tiny-vit").model, SIZE, cameras=3)).eval()
    nn.init.normal_(searcher.encoder.camera_embedding.weight)
    images = torch.zeros(2, 3, *SIZE)
    first, second = searcher.embed_images(images, torch.tensor([0, 2]))["before_neck"]
    assert not torch.allclose(first, second)
    with pytest.raises(ValueError, match="camera_id is 0 to 3 here, and the encoder learnt cameras 0 to 2"):
        searcher.embed_images(images, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="camera_id is unknown here"):
        searcher.embed_images(images)
    plain = Searcher(build_image_encoder(seeded_pair("tiny-vit").model, SIZE)).eval()
    assert torch.equal(*plain.embed_images(images, torch.tensor([-1, 7]))["before_neck"])


def build_prompt_tuning(*, identity_passes, counting="dedup", **options):
    pair = seeded_pair("tiny-resnet")
    encoder = build_image_encoder(pair.model, SIZE)
    people = tuple(f"{person:04d}" for person in range(PEOPLE))
    told = PromptConfig(learning_rate=0.1, counting=counting), config(**options)
    return PromptTuning(*told, pair, encoder, people, identity_passes=identity_passes).train()


@pytest.mark.parametrize("similarity", ["product", "cosine"])
@torch.no_grad()
def test_the_first_phase_pairs_images_with_the_sentences_about_their_people(similarity):
    tuning, batch = build_prompt_tuning(identity_passes=1, similarity=similarity), make_batch()
    pair, people = seeded_pair("tiny-resnet"), batch["person_ids"].tolist()
    texts = [read_by_clip(pair, each, "A photo of a x x x x person.") for each in tuning.learner.context]
    images = tuning.images(batch["images"]).projected
    found = torch.stack([torch.stack([image @ texts[person] for person in people]) for image in images])
    if similarity == "cosine":
        found /= torch.tensor([[image.norm() * texts[person].norm() * 0.07 for person in people] for image in images])
    expected = 0.0
    for products in (found, found.T):
        for row, person in zip(products.log_softmax(dim=1), people, strict=True):
            own = [value.item() for value, who in zip(row, people, strict=True) if who == person]
            expected -= sum(own) / len(own) / len(people)
    assert tuning(batch)["loss"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("counting", ["dedup", "literal"])
@torch.no_grad()
def test_the_second_phase_pairs_pixels_with_the_sentences_about_their_parts(counting):
    tuning, batch = build_prompt_tuning(identity_passes=0, counting=counting), make_batch()
    pair, dense = seeded_pair("tiny-resnet"), tuning.images(batch["images"]).dense.half().float()
    pixels, owners = [], []
    for image, person in enumerate(batch["person_ids"].tolist()):
        for row, column in product(range(4), range(2)):  # cells of 16 pixels
            part = int(batch["parsing"][image, 8 + 16 * row, 8 + 16 * column])
            if part != 255:
                pixels.append(dense[image, :, row, column])
                owners.append((person, part))
    texts = {
        (person, part): read_by_clip(
            pair, tuning.learner.context[person], f"A photo of a x x x x person {PART_NAMES[part]}"
        )
        for person, part in {*owners}
    }
    kinds = [*texts] if counting == "dedup" else owners  # literally, each pixel brings its sentence

    def similar(pixel, kind):
        return torch.cosine_similarity(pixel, texts[kind], dim=0).item() / 0.07

    def surprise(own, all_):
        return log(sum(map(exp, all_))) - own

    of_pixels = [
        surprise(similar(pixel, own), [similar(pixel, kind) for kind in kinds])
        for pixel, own in zip(pixels, owners, strict=True)
    ]
    of_texts = []
    for kind in kinds:
        column = [similar(pixel, kind) for pixel in pixels]
        own = [surprise(each, column) for each, owner in zip(column, owners, strict=True) if owner == kind]
        of_texts.append(sum(own) / len(own))
    expected = sum(of_pixels) / len(of_pixels) + sum(of_texts) / len(of_texts)
    assert tuning(batch)["loss"].item() == pytest.approx(expected, rel=1e-3)


def test_only_tokens_learn_and_both_phases_use_the_same():
    tuning, batch = build_prompt_tuning(identity_passes=2), make_batch()
    before = {name: each.clone() for name, each in tuning.state_dict().items()}
    optimizer = tuning.build_optimizer(tuning.parameter_groups())
    check_groups(tuning, tuning.parameter_groups())
    names, contexts = [], [tuning.learner.context.detach().clone()]
    for _ in range(4):
        optimizer.zero_grad()
        told = tuning(batch)
        told["loss"].backward()
        optimizer.step()
        names += told["loss_components"]
        contexts.append(tuning.learner.context.detach().clone())
    assert names == ["prompt_loss", "prompt_loss", "part_loss", "part_loss"]
    assert all(not torch.equal(one, other) for one, other in pairwise(contexts))
    changed = {name for name, each in tuning.state_dict().items() if not torch.equal(each, before[name])}
    assert changed == {"learner.context", "whole", "passes"}  # no statistic of the encoder's batch norms
    left, _ = tuning.encoder()
    assert torch.equal(left.whole, contexts[2])
    assert torch.equal(left.parts, contexts[4])


def test_a_batch_without_any_part_costs_nothing():
    tuning, batch = build_prompt_tuning(identity_passes=0), make_batch()
    batch["parsing"][:] = 255
    loss = tuning(batch)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert not tuning.learner.context.grad.any()


@torch.no_grad()
def test_what_was_seen_is_remembered_as_far_as_memory_goes():
    encoder = build_image_encoder(seeded_pair("tiny-resnet").model, SIZE).eval()
    looks = []
    encoder.register_forward_pre_hook(lambda _, arguments: looks.append(len(arguments[0])))
    images, keys = torch.randn(4, 3, *SIZE), ["a", "b", "c", "a"]
    images[3] = images[0]
    expected = encoder(images)
    a_sight_bytes = 64 * 4 + 64 * 4 * 2 * 2  # a vector in fp32, 4x2 of them in half precision
    for room, counts in ((10, [3, 1, 0]), (3, [3, 1, 1]), (0, [3, 2, 1])):
        looks.clear()
        seen = Seen(room * a_sight_bytes, has_dense=True)
        sights = [seen.look(encoder, images, keys), seen.look(encoder, images[[1, 0]], ["b", "d"])]
        seen.look(encoder, images[[0]], ["d"])
        assert looks == [count for count in counts if count]
        torch.testing.assert_close(sights[0].projected, expected.projected)
        torch.testing.assert_close(sights[0].dense, expected.dense.half())
        torch.testing.assert_close(sights[1].projected, expected.projected[[1, 0]])
    assert Seen(0, has_dense=False).look(encoder, images, keys).dense.numel() == 0
