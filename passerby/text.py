"""English in small pieces: articles, lists, tidy sentences, and a lint for what templates get wrong."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import eq

A_BEFORE_VOWEL = re.compile(r"uni(?!n|mp|dent)|use|usu|util|eu|ew|one\b|once|ukulele", re.IGNORECASE)
"""Starts of words that are spelt with a vowel and spoken with a consonant: uniform, European, one-piece."""

AN_BEFORE_CONSONANT = re.compile(r"hour|honest|honou?r|heir|8|11\b|18\b", re.IGNORECASE)
"""Starts that are spelt with a consonant (or a digit) and spoken with a vowel: hour, honest, 8-year-old."""

ARTICLES = frozenset(("a", "an", "A", "An"))

PLURAL_GARMENT = re.compile(
    r"(?:boots|clothes|(?:eye|sun)?glasses|flats|flip-flops|garments|gloves|heels|jeans|leggings|loafers|"
    r"(?:sweat)?pants|pumps|sandals|shoes|shorts|slacks|slippers|sneakers|socks|spectacles|stockings|tights|trainers|"
    r"trousers)(?![\w-])"
)
"""Plural nouns that "a" cannot introduce."""

PHRASE_END = re.compile(
    r"alongside|and|are|at|but|by|carried|clad|donned|for|from|had|held|in|is|of|on|or|over|paired|sported|that|to|under|was|were|"
    r"who|whose|with|wore|worn|.*ing|.*s|.*[,.;:!?]"
)
"""Words that end the noun phrase which an article opened."""

WORD = re.compile(r"[^\W_]+(?:[-'\u2019][^\W_]+)*")
"""A word, after lower-casing: letters and digits, with hyphens and apostrophes inside. All counts of words are counts of these."""

GAP = re.compile(r" (?=[,.;:!?])")

UNFINISHED = (
    "a also an and but carries carrying from has have having her his is its no of or that the their wearing wears while "
    "who whose with"
)
NEVER_LAST = frozenset(
    word + mark for words in (UNFINISHED, UNFINISHED.title()) for word in words.split() for mark in ",.;:!?"
)
"""Words that ask for another, before punctuation."""

WELL_FORMED = re.compile(r"[A-Z0-9][A-Za-z0-9'-]*+(?:(?:[,;:]? |[.!?] (?=[A-Z0-9]))[A-Za-z0-9'-]++)*+\.")
"""A text in which none of `MISSHAPES` can be found: the quick way past them."""

MISSHAPES = (
    ("doubled punctuation", re.compile(r"[,.;:!?]\s*[,.;:!?]")),
    ("punctuation at the start", re.compile(r"\A\W")),
    ("lower-case sentence start", re.compile(r"\A[a-z]|[.!?] [a-z]")),
    ("leftover markup", re.compile(r"[][{}%<>_]")),
    ("space before punctuation", re.compile(r"\s[,.;:!?]")),
    ("no space after punctuation", re.compile(r"[,.;:!?][A-Za-z]")),
    ("doubled space", re.compile(r" {2}")),
    ("newline", re.compile(r"[\r\n]")),
    ("no final period", re.compile(r"(?<!\.)\Z")),
    ("not ASCII", re.compile(r"[^\x00-\x7f]")),
)


def article(phrase: str) -> str:
    """Give "a" or "an", as `phrase` sounds."""
    return _article_before(phrase.partition(" ")[0])


@lru_cache(maxsize=1 << 12)
def _article_before(word: str) -> str:
    if word[:1] in "aeiouAEIOU":
        return "a" if A_BEFORE_VOWEL.match(word) else "an"
    return "an" if AN_BEFORE_CONSONANT.match(word) else "a"


def with_article(phrase: str) -> str:
    """Put "a" or "an" before `phrase`; an empty phrase stays empty.

    >>> with_article("older woman in a uniform")
    'an older woman in a uniform'
    """
    return f"{article(phrase)} {phrase}" if phrase else ""


def capitalise(text: str) -> str:
    """Start every sentence of `text` with a capital letter and leave all else as it is."""
    return ". ".join([sentence[:1].upper() + sentence[1:] for sentence in text.split(". ")])


def join_words(items: Sequence[str], conjunction: str = "and") -> str:
    """Join as English lists do, without a comma before the conjunction.

    >>> join_words(["a hat", "boots", "a bag"])
    'a hat, boots and a bag'
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def tidy(text: str) -> str:
    """Collapse white space, close gaps before punctuation, end with one period; blank text stays empty."""
    if "  " in text or not text.isprintable():  # other white space than blanks is not
        text = " ".join(text.split())
    text = GAP.sub("", text).strip(" ").rstrip(". ")
    return text if not text or text.endswith(("!", "?")) else text + "."


def words_of(text: str) -> list[str]:
    """Split into the words that all figures on text count; see `WORD`.

    >>> words_of("A man's T-shirt, size 8.")
    ['a', "man's", 't-shirt', 'size', '8']
    """
    words: list[str] = []
    for piece in text.lower().split():
        words += _words_in(piece)
    return words


@lru_cache(maxsize=1 << 16)
def _words_in(piece: str) -> list[str]:
    """Split what stands between blanks; captions repeat a few thousand such pieces."""
    return WORD.findall(piece)


def lint(text: str) -> list[str]:
    """List what is wrong with the English of a finished caption, one short message a fault; empty if good.

    Made for millions of captions: it knows the mistakes that templates make, not grammar at large.
    """
    words = text.split()
    faults = []
    if not WELL_FORMED.fullmatch(text):
        faults += [message for message, pattern in MISSHAPES if pattern.search(text)]
    if "None" in text:
        faults.append("leftover 'None'")
    if any(map(eq, words, words[1:])):
        faults += [f"doubled word {first!r}" for first, second in pairwise(words) if first == second]
    if not NEVER_LAST.isdisjoint(words):
        faults += [f"dangling {word!r}" for word in words if word in NEVER_LAST]
    faults += _article_faults(words)
    return faults


def _article_faults(words: list[str]) -> Iterator[str]:
    for place, word in enumerate(words[:-1], start=1):
        if word in ARTICLES:
            if word.lower() != article(words[place]):
                yield f"wrong article {f'{word} {words[place]}'!r}"
            for follower in words[place : place + 5]:
                if PLURAL_GARMENT.match(follower):
                    yield f"article {word!r} before plural {follower!r}"
                if PHRASE_END.fullmatch(follower):
                    break
