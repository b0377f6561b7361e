"""The 456 templates of LUPerson-T as they lie on disk: families of sentences, and their listing in the paper's notation.

A family is one file of seven patterns: four styles, then three tails. Style 0 puts the optional attributes into the last
sentence, style 1 into a middle one, style 2 behind the subject (`with a hat`), style 3 into a participle (`wearing a hat`).
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from captioning.divide import OPTIONAL, Phrase
from captioning.marked_yaml import MarkedYaml, WordsError, digest_of
from captioning.render import Pattern, TemplateSet, check_patterns, compile_patterns, read_patterns
from captioning.synonyms import load_synonyms
from captioning.verbs import Tense, conjugate
from captioning.wording import Wording, variables
from templates import TEMPLATES

FAMILIES = TEMPLATES / "luperson_t" / "families"
"""The shipped families."""

LISTING = TEMPLATES / "luperson_t" / "templates_456.txt"
"""All shipped templates written out, for readers; `write_listing` makes it."""

STYLES, TAILS = 4, 3
TENSES: tuple[Tense, ...] = ("present", "past")

TAIL = re.compile(r"{{ *tail *}}")
VARIABLE = re.compile(r"{{ *(\w+) *(\| *a *)?}}")
CONDITION = re.compile(r"{% *if +(\w+) *%}")
SENTENCE_START = re.compile(r"(?:^|\.]? |\.\[ )[a-z]")

LISTING_HEAD = """\
# The templates of LUPerson-T in the paper's notation; made from families/, do not edit.
# <age> <gender> <upper clothes> <lower clothes> <action> <hair length>: blanks that every person fills.
# <options>: those of <bag> <glasses> <smoke> <hat> <cellphone> <umbrella> <gloves> <vehicle> that were selected, each with its
# verb. [...] is there only where one was. he, his: he, she or they, as the person is. Synonyms may stand for the other words.
"""


@dataclass(frozen=True, slots=True)
class Template:
    """One of the 456."""

    id: str
    """`f07-s2-t1-past`: family, style, tail, tense."""
    source: str
    """The pattern: style and tail, composed."""
    pattern: str
    """Its name in the pattern set."""
    variables: tuple[str, ...]
    """What the pattern needs, in the order in which it says it."""
    tense: Tense
    blanks: frozenset[str]
    """Under the policy `exact`: the optional attributes it needs and names."""


@dataclass(frozen=True, slots=True)
class Families:
    """Everything in a folder of families."""

    templates: tuple[Template, ...]
    patterns: TemplateSet
    digest: str


def load_families(folder: Path, *, variables: Collection[str]) -> Families:
    """Load every family of a folder.

    Args:
        folder: Holds one file `*.j2` a family, and `blanks.yaml`.
        variables: The names that a pattern may use beside `tail`.

    Raises:
        FileNotFoundError: there is no such folder.
        TemplateError: a pattern is wrong.
        WordsError: a family has another shape, or `blanks.yaml` is wrong.
    """
    pieces, pieces_digest = read_patterns(folder)
    check_patterns(pieces, variables=[*variables, "tail"])
    composed = _compose(folder, pieces)
    listed = (
        (f"{family}.j2", line, text) for family, texts in composed.items() for line, text in enumerate(texts, start=1)
    )
    patterns = compile_patterns(listed, variables=variables, digest=pieces_digest)
    blanks = _load_blanks(folder / "blanks.yaml")
    templates = []
    for family, place, tense in product(composed, range(STYLES * TAILS), TENSES):
        style, tail = divmod(place, TAILS)
        source = composed[family][place]
        templates.append(
            Template(
                id=f"{family}-s{style}-t{tail}-{tense}",
                source=source,
                pattern=f"{family}:{place + 1}",
                variables=tuple(dict.fromkeys(_names(source))),
                tense=tense,
                blanks=blanks.get(f"s{style}-t{tail}", frozenset()),
            )
        )
    digest = digest_of({"patterns": pieces_digest, "blanks": {place: sorted(names) for place, names in blanks.items()}})
    return Families(tuple(templates), patterns, digest)


def template_listing(folder: Path = FAMILIES) -> str:
    """Write all templates of a folder out in the paper's notation, one a line."""
    known = variables(load_synonyms())
    notations = {tense: _notation(known, tense) for tense in TENSES}
    lines = [
        f"{template.id:<17}  {_in_notation(template.source, notations[template.tense])}\n"
        for template in load_families(folder, variables=known).templates
    ]
    return LISTING_HEAD + "".join(lines)


def write_listing() -> None:
    """Regenerate the listing of the shipped templates."""
    LISTING.write_text(template_listing(), encoding="utf-8")


def _compose(folder: Path, pieces: Iterable[Pattern]) -> dict[str, list[str]]:
    """Put every tail of a family into every style: family -> 12 patterns, styles first."""
    families: dict[str, list[tuple[int, str]]] = {}
    for file, line, text in pieces:
        families.setdefault(file.removesuffix(".j2"), []).append((line, text))
    faults = [f"{folder / family}.j2:{fault}" for family, lines in families.items() for fault in _shape_faults(lines)]
    if faults:
        raise WordsError(faults)
    composed: dict[str, list[str]] = {}
    for family, lines in families.items():
        texts = [text for _, text in lines]
        for style, tail in product(texts[:STYLES], texts[STYLES:]):
            before, after = TAIL.split(style)
            composed.setdefault(family, []).append(before + tail + after)
    return composed


def _shape_faults(lines: Sequence[tuple[int, str]]) -> Iterator[str]:
    if len(lines) != STYLES + TAILS:
        yield f"1: a family has {STYLES} styles and then {TAILS} tails, one a line; this one has {len(lines)} lines"
        return
    for place, (line, text) in enumerate(lines):
        found = list(_names(text)).count("tail")
        if place < STYLES and (found != 1 or not TAIL.search(text)):
            yield f"{line}: a style must say {{{{ tail }}}} once ({found} times)"
        elif place >= STYLES and found:
            yield f"{line}: a tail cannot hold another tail"


def _names(source: str) -> Iterator[str]:
    """Name the variables of a pattern in the order of the text."""
    for match in re.finditer(f"{VARIABLE.pattern}|{CONDITION.pattern}", source):
        yield match[1] or match[3]


def _load_blanks(path: Path) -> dict[str, frozenset[str]]:
    """Read which optional attributes each style and tail has as fixed blanks."""
    if not path.exists():
        return {}
    file = MarkedYaml(path)
    places = [f"s{style}-t{tail}" for style, tail in product(range(STYLES), range(TAILS))]
    blanks = {}
    for place, node in file.fields(file.root, allowed=places).items():
        blanks[place] = frozenset(file.choice(item, OPTIONAL) for item in file.items(node))
    file.raise_faults()
    return blanks


def _in_notation(source: str, words: Mapping[str, str]) -> str:
    text = CONDITION.sub("[", source).replace("{% endif %}", "]")
    text = VARIABLE.sub(lambda match: f"{'a ' if match[2] else ''}{words[match[1]]}", text)
    return SENTENCE_START.sub(lambda match: match[0].upper(), text)


def _notation(known: Mapping[str, Callable[[Wording], str]], tense: Tense) -> dict[str, str]:
    """Give what each variable says while every blank stays a blank."""
    blanks: dict[str, tuple[str, dict[str, str]]] = {
        "upper_clothes": ("<upper clothes>", {}),
        "lower_clothes": ("<lower clothes>", {}),
        "age": ("", {"modifier": "<age> ~", "noun": "adult"}),
        "gender": ("", {"adult": "<gender>", "pronoun": "he"}),
        "action": ("<action>", {}),
        "hair": ("<hair length>", {"adjective": "<hair length> ~", "predicate": "hair is <hair length>"}),
    }
    phrases = {name: Phrase(name, name, "", surface, forms=forms) for name, (surface, forms) in blanks.items()}
    wording = Wording(phrases, (), tense)
    carry = conjugate("carry <options>")
    return {name: say(wording) for name, say in known.items()} | {
        "pair": "a pair of <lower clothes>",
        "lower_is": conjugate("be").finite(tense, is_plural=True),
        "carries": carry.finite(tense),
        "he_carries": f"he {carry.finite(tense)}",
        "carrying": carry.participle,
        "with_items": "with <options>",
        "rest": f"he also {carry.finite(tense)}",
    }
