"""Combine: selected phrases, 456 templates and a synonym table make the captions of LUPerson-T.

Source: UniPT, section 3.1, "Combine". The paper counts 456 templates and prints two; ours are 19 families of sentences, each
in 4 styles (how the clothes are put, and where the optional attributes go), with 3 tails (how the remaining required
attributes are said) and in 2 tenses. Half of 456, as in the paper's figure 6, is one tense of all.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from captioning.divide import OPTIONAL, REQUIRED, Phrase, PhraseBank
from captioning.families import FAMILIES, Template, load_families
from captioning.marked_yaml import digest_of
from captioning.synonyms import keep_canonical, load_synonyms, word_draw
from captioning.wording import Wording, variables
from passerby.runtime import draw
from passerby.text import lint

ATTRIBUTES = (*REQUIRED, *OPTIONAL)
"""In the order of the bank."""

LONGEST_CAPTION = 360
"""Characters. Beyond, only canonical words are used: those of a person with everything stay below the 100 tokens that UniPT's
text encoder reads, and captions up to here do (measured over 80,000 of crowded people with BERT's vocabulary)."""

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
        self._variables = variables(table)
        self._synonyms = table if use_synonyms else None
        self._policy = policy
        self._is_neutral = is_neutral
        self._seed = seed
        self._phrases = {phrase.id: phrase for phrase in bank.phrases if not phrase.is_negative}
        families = load_families(templates or FAMILIES, variables=self._variables)
        self.templates = families.templates
        self._patterns = families.patterns
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
            # The first steps of a shuffle, in a dictionary instead of a copy of the list: no template comes twice.
            place = index + draw(self._seed, key, index, "template") % (len(eligible) - index)
            template = eligible[swapped.get(place, place)]
            swapped[place] = swapped.get(index, index)
            choices.append(self.fill(template, phrases, key=key, index=index))
        return tuple(choices)

    def fill(self, template: Template, phrases: Mapping[str, Phrase], *, key: str, index: int = 0) -> CaptionChoice:
        """Write one caption with a given template; `phrases` come from `resolve`."""
        choose: Callable[[str, str], str] = keep_canonical
        if self._synonyms:
            choose = word_draw(self._synonyms, seed=self._seed, key=key, index=index)
        choice = self._write(template, phrases, choose)
        if len(choice.text) > LONGEST_CAPTION:
            choice = self._write(template, phrases, keep_canonical)
        return choice

    def _write(
        self, template: Template, phrases: Mapping[str, Phrase], choose: Callable[[str, str], str]
    ) -> CaptionChoice:
        optional = list(phrases.values())[len(REQUIRED) :]
        if self._policy == "exact":
            optional = [phrase for phrase in optional if phrase.attribute in template.blanks]
        wording = Wording(phrases, optional, template.tense, is_neutral=self._is_neutral, choose=choose)
        context = {name: self._variables[name](wording) for name in template.variables}
        return CaptionChoice(self._patterns.render(template.pattern, context), template.id, wording.substitutions)

    def resolve(self, picks: Mapping[str, str]) -> dict[str, Phrase]:
        """Look the phrases of an image up, in the order of the bank.

        Raises:
            ValueError: a pick is unknown, negative or missing.
        """
        phrases = {}
        for attribute in ATTRIBUTES:
            if attribute in picks:
                phrase = self._phrases.get(picks[attribute])
                if phrase is None or phrase.attribute != attribute:
                    raise ValueError(
                        f"{attribute} ({picks[attribute]}) is no phrase that a caption can name; see the phrase bank"
                    )
                phrases[attribute] = phrase
            elif attribute in REQUIRED:
                raise ValueError(f"no phrase was picked for {attribute}; every person has one")
        if len(phrases) < len(picks):
            unknown = ", ".join(sorted(picks.keys() - phrases.keys()))
            raise ValueError(f"unknown attributes ({unknown}), allowed: {', '.join(ATTRIBUTES)}")
        return phrases


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
    people = [combiner.resolve(picks) for picks in samples]
    for template in combiner.templates:
        for person, phrases in enumerate(people):
            for message in lint(combiner.fill(template, phrases, key=str(person)).text):
                found[f"{template.id}: {message}"] = None
    return list(found)
