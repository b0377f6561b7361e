"""Words to numbers and back: a WordPiece vocabulary made of captions, or a local one of BERT."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers
from torch import Tensor

PAD, UNKNOWN, START, END, MASK = SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's names, so that its vocabularies serve as they are; `START` and `END` are VirTex's [SOS] and [EOS]."""

CONTINUES = "##"
"""Begins a piece that does not begin a word."""


class Tokenizer:
    """Cut lower-cased text into pieces of a vocabulary, the longest first (WordPiece).

    Args:
        pieces: The vocabulary; a piece's place is its id.

    Raises:
        ValueError: a special piece is missing, or a piece is there twice.
    """

    def __init__(self, pieces: Sequence[str]) -> None:
        ids = {piece: place for place, piece in enumerate(pieces)}
        if missing := [piece for piece in SPECIALS if piece not in ids]:
            raise ValueError(f"a vocabulary must hold {[*SPECIALS]}; this one of {len(pieces)} pieces lacks {missing}")
        if len(ids) < len(pieces):
            raise ValueError(f"the piece {Counter(pieces).most_common(1)[0][0]!r} is in the vocabulary twice")
        self._pieces = tuple(pieces)
        self.size = len(pieces)
        self.pad_id, self.unknown_id, self.start_id, self.end_id, self.mask_id = (ids[piece] for piece in SPECIALS)
        self._engine = Engine(models.WordPiece(ids, unk_token=UNKNOWN, continuing_subword_prefix=CONTINUES))
        self._engine.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._engine.decoder = decoders.WordPiece(prefix=CONTINUES)

    @classmethod
    def from_captions(cls, captions: Iterable[str], size: int) -> "Tokenizer":
        """Make a vocabulary of at most `size` pieces: specials, every letter, then whole words, the most frequent first.

        Captions that templates made have few hundred words, so each is one piece; a rare word is spelt in letters. The same
        captions give the same vocabulary in any order (the trainers of the usual libraries do not promise that).

        Raises:
            ValueError: there is no caption, or `size` does not hold the specials and the letters.
        """
        normalise = normalizers.BertNormalizer(lowercase=True).normalize_str
        split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
        counts = Counter(word for caption in captions for word, _ in split(normalise(caption)))
        letters = sorted({letter for word in counts for letter in word})
        pieces = [*SPECIALS, *letters, *(CONTINUES + letter for letter in letters)]
        if not counts:
            raise ValueError("there are no captions to make a vocabulary of")
        if len(pieces) > size:
            raise ValueError(f"a vocabulary of {size} cannot hold {len(pieces)} special pieces and letters; use more")
        words = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([*pieces, *[word for word in words if len(word) > 1][: size - len(pieces)]])

    @classmethod
    def from_file(cls, path: Path) -> "Tokenizer":
        """Read a `vocab.txt` of an uncased BERT: one piece a line.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is no vocabulary.
        """
        try:
            return cls(path.read_text(encoding="utf-8").splitlines())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Make the tokenizer again whose `to_json` gave the text."""
        return cls(json.loads(text))

    def to_json(self) -> str:
        """Give all that makes this tokenizer, as JSON."""
        return json.dumps(self._pieces, ensure_ascii=False)

    def encode(self, text: str, length: int) -> tuple[list[int], bool]:
        """Give the ids of a text between start and end, `length` at most, and whether pieces were cut off before the end."""
        body = self._engine.encode(text, add_special_tokens=False).ids
        return [self.start_id, *body[: length - 2], self.end_id], len(body) > length - 2

    def count(self, text: str) -> int:
        """Say how many tokens a text has, start and end among them."""
        return len(self._engine.encode(text, add_special_tokens=False).ids) + 2

    def decode(self, ids: Iterable[int]) -> str:
        """Give the text of some ids, without special pieces."""
        specials = {self.pad_id, self.start_id, self.end_id, self.mask_id}
        return str(self._engine.decode([number for number in ids if number not in specials]))

    @cached_property
    def word_starts(self) -> Tensor:
        """Whether a piece begins a word; specials do not. Bool (size,)."""
        return torch.tensor([piece not in SPECIALS and not piece.startswith(CONTINUES) for piece in self._pieces])
