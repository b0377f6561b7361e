"""The synonym table of LUPerson-T: words that may stand for others without changing what is said.

Source: UniPT, section 3.1, "Combine": "we thus also use synonym substitution to enrich the diversity". The paper's table was
never published. Ours works on the slots of a template before the sentence is made, never on the finished text: replacing
strings there is how the published captions came to "He leggings are grey".
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from captioning.marked_yaml import MarkedYaml, digest_of
from templates import TEMPLATES

SYNONYMS = TEMPLATES / "luperson_t" / "synonyms.yaml"
"""The shipped table."""

SECTIONS = (
    "noun",
    "age",
    "action",
    "colour",
    "pattern",
    "garment",
    "hair",
    "verb",
    "noun_verb",
    "with",
    "noun_object",
    "frame",
)
"""Kinds of slot: words about the person, their clothes, what they carry, and the frame of the sentence."""

CLASS_SECTIONS = ("age", "action", "colour", "pattern", "garment", "hair", "noun_object")
"""Sections whose canonical words are classes: a word that stood for two of them would say nothing true."""


AUDITED_SECTIONS = ("noun", "garment", "noun_object")
"""The sections that name things: WordNet orders nouns by kind, and knows little of kin among adjectives and phrases."""

Sides = Mapping[str, Mapping[str, tuple[str, ...]]]
"""What a slot draws from, by section and canonical word; the canonical word itself is among them."""

CANONICAL: Sides = {section: {} for section in SECTIONS}
"""No synonyms: every slot keeps its canonical word."""

WORD = re.compile(r"[a-z]+")
UNTELLING = frozenset({"a", "in", "is", "of", "on", "the", "with"})


@dataclass(frozen=True)
class SynonymTable:
    """What may stand for what, by section."""

    sections: Mapping[str, Mapping[str, tuple[str, ...]]]
    reviewed: frozenset[str] = frozenset()
    """Words that a person has judged where WordNet cannot."""

    @cached_property
    def sides(self) -> Sides:
        """Give the words to draw from: the canonical one as often as all others together."""
        return {
            section: {canonical: (canonical,) * len(words) + words for canonical, words in entries.items()}
            for section, entries in self.sections.items()
        }

    @cached_property
    def digest(self) -> str:
        """Hash the content; comments and layout do not matter."""
        return digest_of(dict(self.sections))


def load_synonyms(path: Path | None = None) -> SynonymTable:
    """Load a synonym table, by default the shipped one.

    Raises:
        FileNotFoundError: there is no such file.
        WordsError: the file breaks the schema, or a word stands for two classes; it names every fault with its line.
    """
    file = MarkedYaml(path or SYNONYMS)
    fields = file.fields(file.root, allowed=("version", *SECTIONS, "reviewed"), required=("version", *SECTIONS))
    if "version" in fields:
        file.choice(fields["version"], ("1",))
    sections = {name: _read_section(file, name, fields[name]) for name in SECTIONS if name in fields}
    reviewed = frozenset(word for word, _ in _words(file, fields["reviewed"])) if "reviewed" in fields else frozenset()
    file.raise_faults()
    return SynonymTable(sections, reviewed)


def audit_synonyms(table: SynonymTable) -> list[str]:
    """Ask WordNet about every word that stands for a class, and name those it does not know as kin.

    A word passes if it shares a word with its canonical one, if both share a synset or one is at most two steps above the
    other, or if the table lists it under `reviewed`, where a person has judged it. Without WordNet's data
    (`python -m nltk.downloader wordnet`) nothing is audited, and the only message says so.
    """
    from nltk.corpus import wordnet  # noqa: PLC0415 - a second that only an audit should cost

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return [
            "WordNet's data is not installed, nothing was audited; install it with `python -m nltk.downloader wordnet`"
        ]
    return [
        f"{section}: {word!r} for {canonical!r} is neither kin in WordNet nor reviewed"
        for section in AUDITED_SECTIONS
        for canonical, words in table.sections[section].items()
        for word in words
        if word not in table.reviewed and not _are_kin(canonical, word, wordnet.synsets)
    ]


def _are_kin(canonical: str, word: str, synsets: Callable[[str], Sequence[Any]]) -> bool:
    ours, theirs = (WORD.findall(text) for text in (canonical, word))
    if set(ours) & set(theirs) - UNTELLING:
        return True
    families = []
    for text in (ours, theirs):
        # The whole, "tank top", or what it is a kind of, "top".
        found = set(synsets("_".join(text))) or {synset for end in text[-1:] for synset in synsets(end)}
        above = {parent for synset in found for parent in synset.hypernyms()}
        families.append((found, above | {parent for synset in above for parent in synset.hypernyms()}))
    (own, own_above), (other, other_above) = families
    return bool(own & other or own & other_above or own_above & other)


def _read_section(file: MarkedYaml, section: str, node: yaml.Node) -> dict[str, tuple[str, ...]]:
    meanings: dict[str, str] = {}
    entries: dict[str, tuple[str, ...]] = {}
    listed = [(canonical, value) for canonical, _, value in file.entries(node)]
    if section in CLASS_SECTIONS:
        meanings = {canonical: canonical for canonical, _ in listed}
    for canonical, value in listed:
        words: dict[str, None] = {}
        for word, place in _words(file, value):
            meaning = meanings.setdefault(word, canonical) if section in CLASS_SECTIONS else canonical
            if meaning != canonical:
                file.fault(
                    place, f"{word!r} stands for {canonical!r} and for {meaning!r}; a word may mean one class only"
                )
            if word == canonical or word in words:
                file.fault(place, f"{word!r} is given twice for {canonical!r}")
            if word.count("~") != canonical.count("~"):
                file.fault(place, f"{word!r} must have as many ~ as {canonical!r}")
            words[word] = None
        entries[canonical] = tuple(words)
    return entries


def _words(file: MarkedYaml, node: yaml.Node) -> list[tuple[str, yaml.Node]]:
    """Read a list of words, or a list of such lists where one line is too short."""
    words: list[tuple[str, yaml.Node]] = []
    for item in file.items(node):
        words += file.texts(item) if isinstance(item, yaml.SequenceNode) else [(file.text(item), item)]
    return words
