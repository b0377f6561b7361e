"""Whole-word masking against a caption cut into words by hand."""

import pytest
import torch

from passerby.tokens import Tokenizer
from pretrain.masking import NOT_MASKED, WordMasking

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES = [*SPECIALS, "a", "man", "wears", "blue", "jea", "##n", "##s", ".", "shirt", "##y"]
LENGTH = 24


@pytest.fixture
def tokenizer():
    return Tokenizer(PIECES)


def encode(tokenizer, captions):
    rows = [tokenizer.encode(caption, LENGTH)[0] for caption in captions]
    ids = torch.tensor([row + [tokenizer.pad_id] * (LENGTH - len(row)) for row in rows])
    return ids, torch.tensor([[place < len(row) for place in range(LENGTH)] for row in rows])


def words_of(row, mask):
    """Places of each word, found piece by piece."""
    words = []
    for place, (number, is_token) in enumerate(zip(row.tolist(), mask.tolist(), strict=True)):
        piece = PIECES[number]
        if not is_token or piece in ("[CLS]", "[SEP]"):
            continue
        if piece.startswith("##"):
            words[-1].append(place)
        else:
            words.append([place])
    return words


def test_a_word_is_masked_in_all_its_pieces_or_in_none(tokenizer):
    ids, mask = encode(
        tokenizer, ["a man wears blue jeans. a shirty man wears jeans", "jeans", "a zebra wears jeans ."]
    )
    masking = WordMasking(tokenizer, 0.3)
    several_pieces = 0
    for seed in range(60):
        _, labels = masking(ids, mask, torch.tensor(seed))
        for row, row_mask, row_labels in zip(ids, mask, labels, strict=True):
            inside = set()
            for word in words_of(row, row_mask):
                states = {bool(row_labels[place] != NOT_MASKED) for place in word}
                assert len(states) == 1
                several_pieces += states == {True} and len(word) > 1
                inside.update(word)
            outside = [place for place in range(LENGTH) if place not in inside]
            assert (row_labels[outside] == NOT_MASKED).all()
    assert several_pieces > 20


def test_labels_are_the_tokens_that_were_there_and_nothing_else_changes(tokenizer):
    ids, mask = encode(tokenizer, ["a man wears blue jeans.", "a zebra wears jeans ."] * 8)
    shown, labels = WordMasking(tokenizer, 0.3)(ids, mask, torch.tensor(3))
    is_masked = labels != NOT_MASKED
    assert torch.equal(labels[is_masked], ids[is_masked])
    assert torch.equal(shown[~is_masked], ids[~is_masked])


@pytest.mark.parametrize(
    ("caption", "share", "tokens"),
    [
        ("a man wears a blue shirt a man wears a blue shirt . .", 0.15, 2),  # 14 one-piece words: round(2.1)
        ("a man wears a blue shirt a man wears a blue shirt . .", 0.5, 7),
        ("a man", 0.15, 1),  # round(0.3) is 0, but one word at least
        ("jeans", 0.15, 3),  # one word of three pieces
        ("a zebra", 0.15, 1),  # an unknown word is a word of its own
    ],
)
def test_words_are_drawn_until_the_share_is_reached(tokenizer, caption, share, tokens):
    ids, mask = encode(tokenizer, [caption] * 50)
    _, labels = WordMasking(tokenizer, share)(ids, mask, torch.tensor(0))
    assert ((labels != NOT_MASKED).sum(dim=1) == tokens).all()


def test_every_word_is_drawn_equally_often(tokenizer):
    ids, mask = encode(tokenizer, ["a man wears blue jeans ."] * 6000)
    _, labels = WordMasking(tokenizer, 0.1)(ids, mask, torch.tensor(0))
    hits = (labels != NOT_MASKED).float().mean(dim=0)
    for word in words_of(ids[0], mask[0]):
        assert hits[word[0]] == pytest.approx(1 / 6, abs=0.02)


def test_masked_tokens_are_hidden_random_or_shown_80_10_10(tokenizer):
    ids, mask = encode(tokenizer, ["a man wears blue jeans. a shirty man wears jeans"] * 4000)
    shown, labels = WordMasking(tokenizer, 0.5)(ids, mask, torch.tensor(1))
    is_masked = labels != NOT_MASKED
    before, after = ids[is_masked], shown[is_masked]
    ordinary = len(PIECES) - len(SPECIALS)
    hidden, same = (after == tokenizer.mask_id).float().mean(), (after == before).float().mean()
    assert hidden == pytest.approx(0.8, abs=0.01)
    assert same == pytest.approx(0.1 + 0.1 / ordinary, abs=0.01)
    drawn = after[(after != tokenizer.mask_id) & (after != before)]
    assert set(drawn.tolist()) == set(range(len(SPECIALS), len(PIECES)))


def test_the_seed_decides(tokenizer):
    ids, mask = encode(tokenizer, ["a man wears blue jeans."] * 8)
    masking = WordMasking(tokenizer, 0.3)
    first, again, other = (masking(ids, mask, torch.tensor(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.token_ids, again.token_ids)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.labels, other.labels)


def test_a_caption_without_words_has_nothing_to_tell(tokenizer):
    ids, mask = encode(tokenizer, ["", "a man"])
    shown, labels = WordMasking(tokenizer, 0.15)(ids, mask, torch.tensor(0))
    assert torch.equal(shown[0], ids[0])
    assert (labels[0] == NOT_MASKED).all()
