"""How many tokens a text has for CLIP, start and end among them; fast enough for millions of captions.

CLIP splits at white space first, so the tokens of a text are those of its pieces, and each piece is split once.
"""

import gzip
import re
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

SPECIAL_TOKENS = 2
"""Start and end."""

_WORD = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+")
_MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49_152 - 256 - 2
"""CLIP's vocabulary without single bytes and specials; the file has more."""

_MENDED = re.compile(r"&|<(?:start|end)_of_text>", re.IGNORECASE)
"""What may be HTML, and what is special to CLIP."""


class ClipTokens:
    """Counts tokens of CLIP's byte-pair vocabulary, which open_clip ships.

    Plain text is split here, which needs no PyTorch; what CLIP mends before it splits is left to open_clip.

    Source: Radford and others, "CLIP" (2021), `simple_tokenizer.py` of openai/CLIP.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Count the tokens of a text."""
        if not text.isascii() or not text.isprintable() or _MENDED.search(text):
            return SPECIAL_TOKENS + len(self._tokenizer.encode(text))
        known, pieces = self._known, text.lower().split()
        for piece in pieces:
            if piece not in known:
                known[piece] = sum(map(self._count, _WORD.findall(piece)))
        return SPECIAL_TOKENS + sum([known[piece] for piece in pieces])

    def _count(self, word: str) -> int:
        """Merge the pair of lowest rank, everywhere in the word, until no pair has a rank."""
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pair = min(pairwise(pieces), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            merged: list[str] = []
            for piece in pieces:
                if merged and (merged[-1], piece) == pair:
                    merged[-1] += piece
                else:
                    merged.append(piece)
            pieces = merged
        return len(pieces)

    @cached_property
    def _ranks(self) -> Mapping[tuple[str, ...], int]:
        package = find_spec("open_clip")  # not imported: it would bring PyTorch, and seconds
        assert package is not None, "a dependency"
        assert package.origin is not None, "a package with an __init__.py"
        lines = gzip.decompress((Path(package.origin).parent / _MERGES_FILE).read_bytes()).decode().split("\n")
        return {tuple(line.split()): rank for rank, line in enumerate(lines[1 : 1 + _MERGES])}

    @cached_property
    def _tokenizer(self) -> Any:  # noqa: ANN401  (open_clip has no types)
        from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415  (brings PyTorch)

        return SimpleTokenizer()
