"""Combine: selected phrases, 456 templates and a synonym table make the captions of LUPerson-T.

Source: UniPT, section 3.1, "Combine". The paper counts 456 templates and prints two; ours are 19 families of sentences, each
in 4 styles (how the clothes are put, and where the optional attributes go), with 3 tails (how the remaining required
attributes are said) and in 2 tenses. Half of 456, as in the paper's figure 6, is one tense of all.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from captioning.divide import REQUIRED, Phrase, PhraseBank
from captioning.families import FAMILIES, Template, load_families
from captioning.marked_yaml import digest_of
from captioning.synonyms import CANONICAL, Sides, load_synonyms
from captioning.wording import Wording, variables
from passerby.runtime import draw
from passerby.text import lint

_REQUIRED = frozenset(REQUIRED)

LONGEST_CAPTION = 360
"""Characters. Beyond, only canonical words are used: those of a person with everything stay below the 100 tokens that UniPT's
text encoder reads, and captions up to here do (measured over 80,000 of crowded people with BERT's vocabulary)."""

_DRAWN_BYTES = 64
"""Of the number that chooses template and words, as digits to mixed bases; 40 slots of 1,000 words each leave 100 bits."""

Policy = Literal["conditional", "exact"]


class CaptionChoice(NamedTuple):
    """One caption and what was drawn for it."""

    text: str
    template: str
    synonyms: Mapping[str, str]
    """The word of each slot whose word is not the canonical one."""


class Combiner:
    """Makes captions from picks; they depend on the words, the options and (seed, key, caption index) alone."""

    def __init__(
        self,
        bank: PhraseBank,
        templates: Path | None = None,
        synonyms: Path | None = None,
        *,
        policy: Policy = "conditional",
        is_neutral: bool = False,
        use_synonyms: bool = True,
        seed: int,
    ) -> None:
        """Load and check the words.

        Args:
            bank: Phrases that the picks are from.
            templates: Folder of sentence families; by default the shipped ones.
            synonyms: Synonym table; by default the shipped one.
            policy: `conditional` names every selected optional attribute, in clauses that vanish where there is none. `exact`
                reads the paper literally: a template has fixed blanks, is drawn only where all of them were selected, and
                names no others.
            is_neutral: Say nothing of age and gender.
            use_synonyms: Draw synonyms; otherwise keep the canonical words.
            seed: Seed of the run.

        Raises:
            FileNotFoundError: a file or folder is missing.
            WordsError: the synonym table, the blanks or the shape of a family is wrong.
            TemplateError: a template is wrong.
        """
        table = load_synonyms(synonyms)
        says = variables(table)
        self._sides = table.sides if use_synonyms else CANONICAL
        self._policy = policy
        self._is_neutral = is_neutral
        self._seed = seed
        self._phrases = {
            attribute.name: {phrase.id: phrase for phrase in attribute.phrases if not phrase.is_negative}
            for attribute in bank.attributes
        }
        families = load_families(templates or FAMILIES, variables=says)
        self.templates = families.templates
        self._patterns = families.patterns
        self._says = {
            template.pattern: tuple((name, says[name]) for name in template.variables) for template in self.templates
        }
        self.digest = digest_of({"templates": families.digest, "synonyms": table.digest})

    def captions(self, picks: Mapping[str, str], *, key: str, count: int = 1) -> tuple[CaptionChoice, ...]:
        """Write `count` captions of one image, each from another template.

        Args:
            picks: Phrase id of every required attribute and of the selected optional ones.
            key: Key of the image.
            count: Captions wanted; the first ones are the same for any count.

        Raises:
            ValueError: a pick is unknown, negative or missing, or fewer templates fit than captions are wanted.
        """
        phrases = self.resolve(picks)
        eligible = self.templates
        if self._policy == "exact":
            eligible = tuple(template for template in eligible if template.blanks <= phrases.keys())
        if not 1 <= count <= len(eligible):
            raise ValueError(f"count ({count}) must be from 1 to {len(eligible)}, the templates that fit image {key}")
        swapped: dict[int, int] = {}
        choices = []
        for index in range(count):
            number = draw(self._seed, key, index, size=_DRAWN_BYTES)
            number, place = divmod(number, len(eligible) - index)
            # The first steps of a shuffle, in a dictionary instead of a copy of the list: no template comes twice.
            place += index
            template = eligible[swapped.get(place, place)]
            swapped[place] = swapped.get(index, index)
            choices.append(self.fill(template, phrases, number))
        return tuple(choices)

    def fill(self, template: Template, phrases: Mapping[str, Phrase], number: int) -> CaptionChoice:
        """Write one caption with a given template.

        Args:
            template: One of `templates`.
            phrases: What `resolve` gives.
            number: Drawn for this caption; it chooses the synonyms.
        """
        choice = self._write(template, phrases, self._sides, number)
        if len(choice.text) > LONGEST_CAPTION:
            choice = self._write(template, phrases, CANONICAL, number)
        return choice

    def _write(self, template: Template, phrases: Mapping[str, Phrase], sides: Sides, number: int) -> CaptionChoice:
        optional = list(phrases.values())[len(REQUIRED) :]
        if self._policy == "exact":
            optional = [phrase for phrase in optional if phrase.attribute in template.blanks]
        wording = Wording(phrases, optional, template.tense, is_neutral=self._is_neutral, sides=sides, number=number)
        context = {name: say(wording) for name, say in self._says[template.pattern]}
        return CaptionChoice(self._patterns.render(template.pattern, context), template.id, wording.substitutions)

    def resolve(self, picks: Mapping[str, str]) -> dict[str, Phrase]:
        """Look the phrases of an image up, in the order of the bank.

        Raises:
            ValueError: a pick is unknown, negative or missing.
        """
        try:
            phrases = {name: known[picks[name]] for name, known in self._phrases.items() if name in picks}
        except KeyError:
            raise ValueError(self._fault(picks)) from None
        if len(phrases) < len(picks) or not phrases.keys() >= _REQUIRED:
            raise ValueError(self._fault(picks))
        return phrases

    def _fault(self, picks: Mapping[str, str]) -> str:
        """Say what is wrong with picks that cannot be resolved."""
        for attribute, known in self._phrases.items():
            if attribute in picks and picks[attribute] not in known:
                return f"{attribute} ({picks[attribute]}) is no phrase that a caption can name; see the phrase bank"
        if missing := [attribute for attribute in REQUIRED if attribute not in picks]:
            return f"no phrase was picked for {missing[0]}; every person has one"
        unknown = ", ".join(sorted(picks.keys() - self._phrases.keys()))
        return f"unknown attributes ({unknown}), allowed: {', '.join(self._phrases)}"


def example_picks(bank: PhraseBank, count: int = 24) -> list[dict[str, str]]:
    """Give picks to try words on: every class of the small attributes, and each optional attribute there and not there."""
    people = []
    for person in range(count):
        picks = {}
        for place, attribute in enumerate(bank.attributes):
            phrases = [phrase for phrase in attribute.phrases if not phrase.is_negative]
            if attribute.is_required or (person + place) % 4 == 0:
                picks[attribute.name] = phrases[(person * (len(phrases) // count + 1) + place) % len(phrases)].id
        people.append(picks)
    return people


def check_combiner(combiner: Combiner, samples: Iterable[Mapping[str, str]]) -> list[str]:
    """Fill every template with every sample's picks and lint the English; each fault once, in the order of the templates."""
    found: dict[str, None] = {}
    people = [(combiner.resolve(picks), draw(0, str(place), size=_DRAWN_BYTES)) for place, picks in enumerate(samples)]
    for template in combiner.templates:
        for phrases, number in people:
            for message in lint(combiner.fill(template, phrases, number).text):
                found[f"{template.id}: {message}"] = None
    return list(found)
