"""Word pieces: a vocabulary that depends on the captions alone, and pieces that other implementations find too."""

import json
import random

import pytest
import torch

from passerby.tokens import SPECIALS, Tokenizer

CAPTIONS = [
    "A woman with long hair, a red t-shirt and blue jeans.",
    "The man wears a red t-shirt; he also wears boots but no hat.",
    "It is dawn. A woman wears no boots.",
]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_captions(CAPTIONS, 200)


def longest_first(word, pieces):
    """WordPiece, written down again from its definition."""
    found, start = [], 0
    while start < len(word):
        for end in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:end]
            if piece in pieces:
                found.append(piece)
                start = end
                break
        else:
            return ["[UNK]"]
    return found


def test_text_comes_back_in_lower_case(tokenizer):
    ids, was_cut = tokenizer.encode("A woman with long hair wears boots.", 64)

    assert tokenizer.decode(ids) == "a woman with long hair wears boots."
    assert not was_cut


def test_the_order_of_captions_does_not_matter(tokenizer):
    shuffled = random.Random(0).sample(CAPTIONS, len(CAPTIONS))

    assert Tokenizer.from_captions(shuffled, 200).to_json() == tokenizer.to_json()


def test_frequent_words_are_one_piece_and_others_are_spelt():
    tokenizer = Tokenizer.from_captions(["boots boots hat"], 20)  # 5 specials, 2 x 6 letters: room for 3 words

    assert len(tokenizer.encode("boots", 64)[0]) == 3
    assert tokenizer.size == 19

    crowded = Tokenizer.from_captions(["boots boots hat"], 18)
    assert [len(crowded.encode(word, 64)[0]) - 2 for word in ("boots", "hat")] == [1, 3]


@pytest.mark.parametrize("word", ["boots", "bootshat", "redder", "wears", "shirts", "z", "redz"])
def test_pieces_are_the_longest_first(tokenizer, word):
    pieces = json.loads(tokenizer.to_json())

    assert tokenizer.encode(word, 64)[0][1:-1] == [pieces.index(piece) for piece in longest_first(word, pieces)]


def test_a_vocabulary_of_bert_gives_what_transformers_gives(tmp_path, tokenizer):
    from transformers import BertTokenizer

    path = tmp_path / "vocab.txt"
    pieces = [
        "[PAD]",
        "[unused0]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "a",
        "##s",
        "boot",
        "red",
        ",",
        "t",
        "-",
        "shirt",
    ]
    path.write_text("\n".join(pieces) + "\n")
    text = "A red t-shirt, boots, hats"

    ours = Tokenizer.from_file(path)

    theirs = BertTokenizer(vocab={piece: place for place, piece in enumerate(pieces)})
    assert ours.encode(text, 64)[0] == theirs(text)["input_ids"]
    assert (ours.pad_id, ours.unknown_id, ours.start_id, ours.end_id, ours.mask_id) == (0, 2, 3, 4, 5)


def test_a_cut_keeps_the_end(tokenizer):
    whole, _ = tokenizer.encode("a woman wears boots", 64)

    assert tokenizer.encode("a woman wears boots", 6) == (whole, False)
    ids, was_cut = tokenizer.encode("a woman wears boots", 5)
    assert was_cut
    assert ids == [*whole[:4], tokenizer.end_id]
    assert tokenizer.count("a woman wears boots") == 6


def test_words_begin_where_no_continuation_and_no_special_is(tokenizer):
    ids = torch.tensor(tokenizer.encode("a bootsx wears", 64)[0])

    # [CLS] a boots ##x wears [SEP]; x occurs in no caption, so that the word is unknown
    assert tokenizer.word_starts[ids].tolist() == [False, True, False, True, False]
    spelt = torch.tensor(tokenizer.encode("redder", 64)[0])
    assert tokenizer.word_starts[spelt].tolist() == [False, True, False, False, False, False]
    assert tokenizer.word_starts.dtype == torch.bool
    assert len(tokenizer.word_starts) == tokenizer.size


def test_json_makes_the_same_tokenizer(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())

    assert [again.encode(caption, 64) for caption in CAPTIONS] == [
        tokenizer.encode(caption, 64) for caption in CAPTIONS
    ]


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        (["[PAD]", "[UNK]", "a"], r"lacks \['\[CLS\]', '\[SEP\]', '\[MASK\]'\]"),
        ([*SPECIALS, "boots", "hat", "boots"], "'boots' is in the vocabulary twice"),
    ],
)
def test_a_vocabulary_that_cannot_serve_is_refused(tmp_path, pieces, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(pieces)

    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    with pytest.raises(ValueError, match=f"vocab.txt: .*{message}"):
        Tokenizer.from_file(tmp_path / "vocab.txt")


def test_a_vocabulary_needs_captions_and_room():
    with pytest.raises(ValueError, match="no captions"):
        Tokenizer.from_captions([], 100)
    with pytest.raises(ValueError, match="a vocabulary of 10 cannot hold 13"):
        Tokenizer.from_captions(["boots"], 10)
