"""Learned prompts: their tokens, and the features of open_clip's own text tower."""

import open_clip
import pytest
import torch

from passerby.nets.clip_pair import load_pair
from passerby.nets.prompts import (
    AFTER,
    AFTER_WITH_PART,
    BEFORE,
    PART_NAMES,
    WHOLE,
    PromptEncoder,
    PromptLearner,
    encode_people,
    encode_table,
)

pytestmark = pytest.mark.usefixtures("one_thread")

PLACEHOLDER = 343
"""CLIP's token of `x`, which CLIP-ReID's code writes where the learned ones go."""

PART_IDS = [
    *([5994], [3801], [2225], [16078], [12906], [7067, 7080], [2595], [7356], [8774], [5003], [5519, 9949], [13365]),
    *([12386], [1710], [1823, 4793], [1155, 4793], [1823, 4924], [1155, 4924], [1823, 7342], [1155, 7342]),
]
"""From CLIP-ReID's tokenizer."""


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    return load_pair("tiny-vit", "")


@pytest.fixture
def learner(pair):
    torch.manual_seed(1)
    made = PromptLearner(*pair, people=3)
    torch.nn.init.normal_(made.context)  # as far from one another as words are from nothing
    return made


@pytest.fixture
def encoder(pair):
    return PromptEncoder(pair.model)


def whole(*people):
    return torch.tensor(people), torch.full((len(people),), WHOLE)


def read_in_full(pair, context, sentence):
    """Let open_clip's own tower read all 77 tokens, some words of which are replaced."""
    tokens = pair.tokenizer([sentence])
    is_placeholder = tokens[0] == PLACEHOLDER
    assert is_placeholder.sum() == len(context)

    def replace(_module, _arguments, embeddings):
        embeddings[0, is_placeholder] = context
        return embeddings

    hook = pair.model.token_embedding.register_forward_hook(replace)
    try:
        return pair.model.encode_text(tokens)[0]
    finally:
        hook.remove()


def test_sentences_have_the_tokens_of_the_papers_code(pair):
    assert pair.tokenizer([f"A photo of a x x x x {AFTER}"])[0, :12].tolist() == [
        *(49406, 320, 1125, 539, 320, 343, 343, 343, 343, 2533, 269, 49407)
    ]
    assert pair.tokenizer.encode(BEFORE) == [320, 1125, 539, 320]
    assert [pair.tokenizer.encode(AFTER_WITH_PART.format(part=part)) for part in PART_NAMES] == [
        [2533, *ids] for ids in PART_IDS
    ]


def test_ends_are_where_each_sentence_ends(learner):
    assert learner.ends.tolist() == [10 + len(ids) for ids in PART_IDS] + [11]


@torch.no_grad()
def test_features_of_people_are_those_of_the_whole_tower(pair, learner, encoder):
    features = encoder(learner(*whole(2, 0)))
    for person, found in zip((2, 0), features, strict=True):
        expected = read_in_full(pair, learner.context[person], "A photo of a x x x x person.")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(features[0], features[1], atol=1e-2)


@torch.no_grad()
def test_features_of_parts_are_those_of_the_whole_tower_whatever_their_length(pair, learner, encoder):
    kinds = torch.arange(len(PART_NAMES))
    features = encoder(learner(torch.full_like(kinds, 1), kinds))
    for part, found in zip(PART_NAMES, features, strict=True):
        expected = read_in_full(pair, learner.context[1], f"a photo of a x x x x person {part}")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_only_the_learned_tokens_learn_and_are_kept(pair, learner, encoder):
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    encoder(learner(*whole(0, 2))).square().sum().backward()
    assert list(learner.state_dict()) == ["context"]
    assert learner.context.shape == (3, 4, 32)
    assert learner.context.grad.abs().sum(dim=(1, 2)).bool().tolist() == [True, False, True]
    assert not any(each.requires_grad for each in encoder.parameters())
    assert all(torch.equal(weight, encoder.state_dict()[name]) for name, weight in before.items())
    assert pair.model.token_embedding.weight.grad is None


def test_learned_tokens_begin_small(pair):
    torch.manual_seed(0)
    context = PromptLearner(*pair, people=50).context
    assert context.std().item() == pytest.approx(0.02, rel=0.05)


def test_each_person_is_read_once_and_told_to_all_their_images(learner, encoder):
    reads = []
    encoder.register_forward_hook(lambda _, arguments, found: reads.append(len(found)))
    features = encode_people(learner, encoder, torch.tensor([2, 1, 2, 2]))
    assert reads == [2]
    torch.testing.assert_close(features, encoder(learner(*whole(2, 1, 2, 2))))


def test_a_table_holds_all_people_and_kinds_and_learns_nothing(learner, encoder):
    table = encode_table(learner, encoder, range(20), batch_size=7)
    assert table.shape == (3, 20, 64)
    assert not table.requires_grad
    expected = encoder(learner(torch.tensor([1, 2]), torch.tensor([14, 0])))
    torch.testing.assert_close(table[[1, 2], [14, 0]], expected.detach())
    torch.testing.assert_close(
        encode_table(learner, encoder, [WHOLE])[:, 0], encoder(learner(*whole(0, 1, 2))).detach()
    )


def test_too_many_learned_tokens_are_refused(pair):
    assert PromptLearner(*pair, people=1, tokens=68).context.shape == (1, 68, 32)
    with pytest.raises(ValueError, match="tokens is 69, which makes sentences of 78 tokens; this CLIP reads 77"):
        PromptLearner(*pair, people=1, tokens=69)


@pytest.mark.parametrize("option", [{"no_causal_mask": True}, {"pool_type": "last"}, {"proj_bias": True}])
def test_towers_that_cannot_be_cut_short_are_refused(option):
    vision = {"layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    model = open_clip.CLIP(64, vision, {"width": 32, "heads": 2, "layers": 1, "vocab_size": 100, **option})
    with pytest.raises(ValueError, match="no causal transformer that answers at its end token"):
        PromptEncoder(model)
