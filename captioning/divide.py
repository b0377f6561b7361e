"""Divide: the phrase bank of LUPerson-T, what CLIP is asked about a person and how each answer is said.

Source: UniPT, section 3.1, "Divide". The paper names the 14 attributes and prints some of their phrases; the bank of
`templates/luperson_t/phrases.yaml` is ours, built from those.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Literal

import yaml

from captioning.marked_yaml import MarkedYaml, digest_of
from passerby.text import with_article
from templates import TEMPLATES

Number = Literal["singular", "plural"]

PHRASES = TEMPLATES / "luperson_t" / "phrases.yaml"
"""The shipped bank: 945 prompts for 14 attributes."""

REQUIRED: dict[str, tuple[str, ...]] = {
    "upper_clothes": (),
    "lower_clothes": (),
    "age": ("modifier", "noun"),
    "gender": ("adult", "child", "pronoun"),
    "action": (),
    "hair": ("adjective", "predicate"),
}
"""The attributes every person has, in the order of the bank, with the forms that each of their phrases has."""

OPTIONAL: tuple[str, ...] = ("bag", "glasses", "smoke", "hat", "cellphone", "umbrella", "gloves", "vehicle")
"""The attributes a person may have, in the order in which captions name them."""

OPTIONAL_FORMS = ("noun", "verb", "with")
"""The forms of their phrases."""

PRONOUNS = ("he", "she", "they")

AGE_NOUNS = ("adult", "child")
"""Which of a gender's two nouns an age takes: man or boy."""

CLOTHES = ("upper_clothes", "lower_clothes")
"""The attributes whose phrases may come from a grid."""

MAX_PHRASES = 32767
"""A pick is stored as a 16-bit index into the bank."""


@dataclass(frozen=True)
class Phrase:
    """One class of one attribute."""

    id: str
    """Unique name, `lower_clothes.black.none.jeans`."""
    attribute: str
    prompt: str
    """The sentence that CLIP reads."""
    surface: str = ""
    """What fills the blank, with its article; empty for a negative."""
    number: Number = "singular"
    is_negative: bool = False
    """Says that the optional attribute is absent; competes in the softmax and is never selected."""
    colour: str = ""
    pattern: str = ""
    garment: str = ""
    forms: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Other shapes of the phrase, by name; `~` marks the place of what the form is wrapped around."""


@dataclass(frozen=True)
class Attribute:
    """One attribute with its block of phrases."""

    name: str
    is_required: bool
    """Whether every person has it: the best phrase is selected always, not only above a probability."""
    view_dependent: bool
    """Whether two images of one person may differ in it, by what is done, carried or hidden from the camera."""
    phrases: tuple[Phrase, ...]


@dataclass(frozen=True)
class PhraseBank:
    """All attributes, in the order of their prompts."""

    version: int
    attributes: tuple[Attribute, ...]

    @cached_property
    def phrases(self) -> tuple[Phrase, ...]:
        """Give every phrase; its place is its index among the prompts."""
        return tuple(phrase for attribute in self.attributes for phrase in attribute.phrases)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Give what CLIP reads, one prompt a phrase."""
        return tuple(phrase.prompt for phrase in self.phrases)

    @cached_property
    def digest(self) -> str:
        """Hash the content; comments and layout do not matter."""
        return digest_of(asdict(self))

    def block(self, attribute: str) -> slice:
        """Give the place of one attribute's phrases among the prompts.

        Raises:
            ValueError: the bank has no such attribute.
        """
        start = 0
        for candidate in self.attributes:
            if candidate.name == attribute:
                return slice(start, start + len(candidate.phrases))
            start += len(candidate.phrases)
        names = ", ".join(candidate.name for candidate in self.attributes)
        raise ValueError(f"the phrase bank has no attribute {attribute!r}; it has {names}")


def load_phrases(path: Path | None = None) -> PhraseBank:
    """Load a phrase bank, by default the shipped one.

    >>> bank = load_phrases()
    >>> len(bank.prompts), bank.phrases[0].surface
    (945, 'a black pure color t-shirt')

    Raises:
        FileNotFoundError: there is no such file.
        WordsError: the file breaks the schema; it names every fault with its line.
    """
    file = MarkedYaml(path or PHRASES)
    names = ("version", "required", "optional")
    fields = file.fields(file.root, allowed=names, required=names)
    version = file.choice(fields["version"], ("1",)) if "version" in fields else "1"
    reader = _BankReader(file)
    attributes = [
        *reader.attributes(fields.get("required"), tuple(REQUIRED), is_required=True),
        *reader.attributes(fields.get("optional"), OPTIONAL, is_required=False),
    ]
    reader.check_unique()
    file.raise_faults()
    return PhraseBank(int(version), tuple(attributes))


class _BankReader:
    """The schema of a phrase bank; keeps where each phrase stands, to name repeated ones."""

    def __init__(self, file: MarkedYaml) -> None:
        self.file = file
        self.places: list[tuple[Phrase, yaml.Node]] = []

    def attributes(self, node: yaml.Node | None, known: tuple[str, ...], *, is_required: bool) -> Iterator[Attribute]:
        """Read one of the two sets, its attributes in the order of `known`."""
        if node is None:
            return
        nodes = self.file.fields(node, allowed=known, required=known if is_required else ())
        for name in known:
            if name in nodes:
                yield self.attribute(name, nodes[name], is_required=is_required)

    def attribute(self, name: str, node: yaml.Node, *, is_required: bool) -> Attribute:
        """Read one attribute with all its phrases."""
        allowed = ["view_dependent", "prompt", "phrases"]
        allowed += ["grids"] if name in CLOTHES else [] if is_required else ["verb", "with"]
        fields = self.file.fields(node, allowed=allowed, required=("view_dependent",))
        shared = {key: self.file.text(value) for key, value in fields.items() if key in ("prompt", "verb", "with")}
        first = len(self.places)
        for grid in self.file.items(fields["grids"]) if "grids" in fields else ():
            self.grid(name, grid, shared.get("prompt", "{surface}"))
        for entry in self.file.items(fields["phrases"]) if "phrases" in fields else ():
            self.phrase(name, entry, shared, is_required=is_required)
        phrases = tuple(phrase for phrase, _ in self.places[first:])
        negatives = sum(phrase.is_negative for phrase in phrases)
        if not is_required and negatives != 1:
            self.file.fault(node, f"{name} has {negatives} negative phrases, allowed: exactly 1")
        if negatives == len(phrases):
            self.file.fault(node, f"{name} has no phrase to select; add one to `phrases`")
        is_view_dependent = "view_dependent" in fields and self.file.flag(fields["view_dependent"])
        return Attribute(name, is_required, is_view_dependent, phrases)

    def grid(self, attribute: str, node: yaml.Node, prompt: str) -> None:
        """Read colours x patterns x garments: every combination is one phrase."""
        fields = self.file.fields(node, allowed=("colours", "patterns", "singular", "plural"), required=("colours",))
        colours = self.file.texts(fields["colours"]) if "colours" in fields else []
        patterns = [("none", "")]
        if "patterns" in fields:
            patterns = [(name, self.file.text(value)) for name, _, value in self.file.entries(fields["patterns"])]
        numbers: tuple[Number, ...] = ("plural", "singular")
        garments = [
            (garment, place, number)
            for number in numbers
            if number in fields
            for garment, place in self.file.texts(fields[number])
        ]
        if not garments:
            self.file.fault(node, "the grid has no garments; list them under `singular` or `plural`")
        if len(self.places) + len(colours) * len(patterns) * len(garments) > MAX_PHRASES:
            self.file.fault(node, f"with this grid the bank has more than the {MAX_PHRASES} phrases it can hold")
            return
        for (colour, _), (pattern_id, pattern), (garment, place, number) in product(colours, patterns, garments):
            surface = _with_number(" ".join(filter(None, (colour, pattern, garment))), number)
            phrase = Phrase(
                id=".".join((attribute, colour, pattern_id, garment)).replace(" ", "_"),
                attribute=attribute,
                prompt=prompt.replace("{surface}", surface),
                surface=surface,
                number=number,
                colour=colour,
                pattern=pattern,
                garment=garment,
            )
            self.places.append((phrase, place))

    def phrase(self, attribute: str, node: yaml.Node, shared: dict[str, str], *, is_required: bool) -> None:
        """Read one entry of `phrases`."""
        fields = self.file.fields(node, allowed=_allowed_fields(attribute), required=("id",))
        texts = {key: self.file.text(value) for key, value in fields.items() if key not in ("number", "negative")}
        number: Number = "singular"
        if "number" in fields and self.file.choice(fields["number"], ("singular", "plural")) == "plural":
            number = "plural"
        is_negative = "negative" in fields and self.file.flag(fields["negative"])
        surface, forms = "", {}
        if not is_negative:
            forms = self.forms(attribute, node, shared | texts)
            surface = texts.get("surface", "") if is_required else _with_number(forms.get("noun", ""), number)
            if not surface:
                self.file.fault(
                    node, f"a phrase of {attribute} needs the field `{'surface' if is_required else 'noun'}`"
                )
        prompt = texts.get("prompt", "")
        if not is_negative:
            prompt = prompt or shared.get("prompt", "").replace("{surface}", surface)
        if not prompt:
            self.file.fault(node, "the phrase has no prompt; give it one, or give its attribute one with {surface}")
        phrase_id = f"{attribute}.{texts.get('id', '')}"
        self.places.append((Phrase(phrase_id, attribute, prompt, surface, number, is_negative, forms=forms), node))

    def forms(self, attribute: str, node: yaml.Node, texts: Mapping[str, str]) -> dict[str, str]:
        """Gather the forms of a phrase that can be selected, and check that templates can use them."""
        defaults = {"with": "with ~", "noun": "adult" if attribute == "age" else ""}
        forms = {}
        for form in REQUIRED.get(attribute, OPTIONAL_FORMS):
            if text := texts.get(form) or defaults.get(form):
                forms[form] = text
            elif form != "noun":  # the surface of an optional phrase: missed there
                self.file.fault(node, f"a phrase of {attribute} needs the field `{form}`")
        for form in ("verb", "with", "modifier", "adjective"):
            if forms.get(form, "~").count("~") != 1:
                self.file.fault(node, f"`{form}` ({forms[form]}) must have one ~ where the noun goes")
        if " is " not in forms.get("predicate", " is "):
            self.file.fault(
                node, f"`predicate` ({forms['predicate']}) must have the verb `is`, as `hair is short` does"
            )
        for owner, form, words in (("gender", "pronoun", PRONOUNS), ("age", "noun", AGE_NOUNS)):
            if attribute == owner and forms.get(form, words[0]) not in words:
                self.file.fault(node, f"unknown {form} ({forms[form]}), allowed: {', '.join(words)}")
        return forms

    def check_unique(self) -> None:
        """Note every id and every prompt that an earlier phrase has already."""
        ids: set[str] = set()
        prompts: set[str] = set()
        for phrase, node in self.places:
            if phrase.id in ids:
                self.file.fault(node, f"the id {phrase.id} is given twice; ids are unique in a bank")
            elif phrase.prompt in prompts:
                self.file.fault(
                    node, f"the prompt {phrase.prompt!r} is given twice; CLIP cannot tell equal prompts apart"
                )
            ids.add(phrase.id)
            prompts.add(phrase.prompt)


def _allowed_fields(attribute: str) -> tuple[str, ...]:
    if attribute in OPTIONAL:
        return ("id", "prompt", "number", "negative", *OPTIONAL_FORMS)
    return ("id", "prompt", "surface", *(("number",) if attribute in CLOTHES else ()), *REQUIRED[attribute])


def _with_number(noun: str, number: Number) -> str:
    return with_article(noun) if number == "singular" else noun
