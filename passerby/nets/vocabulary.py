"""A byte-pair vocabulary cut down to given words: what a tiny text tower needs of CLIP's 49,408 tokens."""

import gzip
from collections.abc import Iterable
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, get_pairs

_HEADER = "#version: passerby, trimmed from open_clip's bpe_simple_vocab_16e6"
_BYTE_AND_SPECIAL_TOKENS = 2 * 256 + 2


def trim_vocabulary(texts: Iterable[str]) -> bytes:
    """Give the merges that the words of `texts` need, as a file for open_clip's `bpe_path`; the same bytes for the same words.

    Their tokens stay those of the whole vocabulary, only numbered anew: a merge is left out only where no word takes it, and
    the order of the others stays.
    """
    whole = SimpleTokenizer()
    used = {merge for word in sorted(_words(texts, whole)) for merge in _merges(word, whole)}
    lines = [" ".join(merge) for merge in sorted(used, key=whole.bpe_ranks.__getitem__)]
    # No trailing newline: open_clip would take the empty line after it for one more merge.
    return gzip.compress("\n".join([_HEADER, *lines]).encode(), mtime=0)


def vocabulary_size(vocabulary: bytes) -> int:
    """Count the tokens of a trimmed vocabulary, bytes and specials included."""
    return gzip.decompress(vocabulary).count(b"\n") + _BYTE_AND_SPECIAL_TOKENS


def unknown_words(texts: Iterable[str], vocabulary: Path) -> list[str]:
    """List the words that a trimmed vocabulary only knows by their bits, sorted: a tower trained with it never read them."""
    whole, trimmed = SimpleTokenizer(), SimpleTokenizer(bpe_path=str(vocabulary))
    known = {word: (whole.bpe(_spell(word, whole)), trimmed.bpe(_spell(word, whole))) for word in _words(texts, whole)}
    return sorted(word for word, (expected, read) in known.items() if expected != read)


def _words(texts: Iterable[str], tokenizer: SimpleTokenizer) -> set[str]:
    """Split as the tokenizer does before it merges anything."""
    return {word for text in texts for word in tokenizer.pat.findall(tokenizer.clean_fn(text))}


def _spell(word: str, tokenizer: SimpleTokenizer) -> str:
    """Spell a word with one printable character a byte, as the tokenizer does."""
    return "".join(tokenizer.byte_encoder[byte] for byte in word.encode())


def _merges(word: str, tokenizer: SimpleTokenizer) -> list[tuple[str, str]]:
    """Replay the merging of one word: the pair of lowest rank first, everywhere it occurs."""
    spelt = _spell(word, tokenizer)
    pieces = (*spelt[:-1], spelt[-1] + "</w>")
    merges: list[tuple[str, str]] = []
    while len(pieces) > 1:
        pair = min(get_pairs(pieces), key=lambda pair: tokenizer.bpe_ranks.get(pair, float("inf")))
        if pair not in tokenizer.bpe_ranks:
            break
        merges.append(pair)
        pieces = _merge(pieces, pair)
    return merges


def _merge(pieces: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    merged: list[str] = []
    place = 0
    while place < len(pieces):
        if pieces[place : place + 2] == pair:
            merged.append("".join(pair))
            place += 2
        else:
            merged.append(pieces[place])
            place += 1
    return tuple(merged)
