"""The words of one LUPerson-T caption: what each variable of a template says about one person.

Every slot is drawn once a caption, when a template first needs it; articles, plurals, tenses and pronouns follow the words drawn.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from captioning.divide import OPTIONAL, REQUIRED, Phrase
from captioning.synonyms import CANONICAL, Sides, SynonymTable
from captioning.verbs import Tense, conjugate
from passerby.text import join_words, with_article

POSSESSIVES = {"he": "his", "she": "her", "they": "their"}

MOST_ITEMS = 3
"""Longest list that a sentence can open with; what else the person has follows in a sentence of its own."""


class Wording:
    """One person's phrases, one tense, and the synonyms drawn so far."""

    def __init__(
        self,
        phrases: Mapping[str, Phrase],
        optional: Sequence[Phrase],
        tense: Tense,
        *,
        is_neutral: bool = False,
        sides: Sides = CANONICAL,
        number: int = 0,
    ) -> None:
        """Start a caption.

        Args:
            phrases: The phrase of each required attribute.
            optional: What else to mention, in the order of the bank.
            tense: Tense of all finite verbs.
            is_neutral: Say "person" and "they", and nothing of age and gender.
            sides: What may stand for the canonical words, by section; see `SynonymTable.sides`.
            number: Drawn for this caption; its digits, to mixed bases, choose among the sides, slot after slot.
        """
        self.phrases = phrases
        self.optional = optional
        self.tense: Tense = tense
        self.is_neutral = is_neutral
        self.pronoun = "they" if is_neutral else phrases["gender"].forms["pronoun"]
        self.sides = sides
        self.number = number
        self.words: dict[str, str] = {}
        """The word of each slot used so far."""
        self.substitutions: dict[str, str] = {}
        """Those of them that are not canonical."""

    def say(self, slot: str, section: str, canonical: str) -> str:
        """Give the word of a slot, the same one throughout the caption."""
        word = self.words.get(slot)
        if word is None:
            word = canonical
            sides = self.sides[section].get(canonical)
            if sides is not None:
                self.number, side = divmod(self.number, len(sides))
                word = sides[side]
                if word != canonical:
                    self.substitutions[slot] = word
            self.words[slot] = word
        return word

    def noun(self) -> str:
        """`man`."""
        if self.is_neutral:
            return self.say("noun", "noun", "person")
        return self.say("noun", "noun", self.phrases["gender"].forms[self.phrases["age"].forms["noun"]])

    def person(self) -> str:
        """`young man`."""
        if self.is_neutral:
            return self.noun()
        return self.say("age", "age", self.phrases["age"].forms["modifier"]).replace("~", self.noun())

    def haired_person(self) -> str:
        """`short-haired young man`."""
        adjective = self.say("hair_adjective", "hair", self.phrases["hair"].forms["adjective"])
        return adjective.replace("~", self.person())

    def action(self) -> str:
        """`walking`."""
        return self.say("action", "action", self.phrases["action"].surface)

    def hair(self) -> str:
        """`short hair`."""
        return self.say("hair", "hair", self.phrases["hair"].surface)

    def his(self) -> str:
        """`his`."""
        return POSSESSIVES[self.pronoun]

    def his_hair_is(self) -> str:
        """`his hair is short`."""
        predicate = self.say("hair_predicate", "hair", self.phrases["hair"].forms["predicate"])
        return (
            f"{self.his()} {predicate}"
            if self.tense == "present"
            else f"{self.his()} {predicate.replace(' is ', ' was ', 1)}"
        )

    def upper(self) -> str:
        """`a blue striped shirt`."""
        return self.clothes("upper_clothes", plural_start="")

    def lower(self) -> str:
        """`black long pants`."""
        return self.clothes("lower_clothes", plural_start="")

    def pair(self) -> str:
        """`a pair of black long pants`, but `a black short skirt`."""
        return self.clothes("lower_clothes", plural_start="a pair of ")

    def clothes(self, attribute: str, *, plural_start: str) -> str:
        """Name the upper or lower clothes."""
        phrase = self.phrases[attribute]
        if not phrase.garment:
            return phrase.surface
        words = self.say(f"{attribute}_garment", "garment", phrase.garment)
        if phrase.pattern:
            words = self.say(f"{attribute}_pattern", "pattern", f"{phrase.pattern} ~").replace("~", words)
        # "blue-colored pure color shirt" would say it twice
        colour = phrase.colour if "color" in words else self.say(f"{attribute}_colour", "colour", phrase.colour)
        words = f"{colour} {words}"
        return plural_start + words if phrase.number == "plural" else with_article(words)

    def lower_is(self) -> str:
        """`are`, or `is` after a skirt."""
        return conjugate("be").finite(self.tense, is_plural=self.phrases["lower_clothes"].number == "plural")

    def verb(self, base: str) -> str:
        """`wears`: the verb of a template, after a noun."""
        return conjugate(self.say(base, "verb", base)).finite(self.tense)

    def plural_verb(self, base: str) -> str:
        """`form`: the verb of a template, after several nouns."""
        return conjugate(self.say(base, "verb", base)).finite(self.tense, is_plural=True)

    def he_verb(self, base: str) -> str:
        """`he wears`: the same after the pronoun, `they wear`."""
        verb = conjugate(self.say(base, "verb", base))
        return f"{self.pronoun} {verb.finite(self.tense, is_plural=self.pronoun == 'they')}"

    def frame(self, canonical: str) -> str:
        """`in this image`: words of the sentence that say nothing about the person."""
        return self.say(canonical, "frame", canonical)

    def carries(self) -> str:
        """`carries a backpack and wears a hat and gloves`; empty where nothing was selected."""
        return self.handled(self.optional, is_plural=False)

    def he_carries(self) -> str:
        """`he carries a backpack`, `they carry a backpack`."""
        return (
            f"{self.pronoun} {self.handled(self.optional, is_plural=self.pronoun == 'they')}" if self.optional else ""
        )

    def carrying(self) -> str:
        """`carrying a backpack`."""
        return self.handled(self.optional, is_plural=None)

    def with_items(self) -> str:
        """`with a backpack and a hat`, `on a bicycle with gloves`: the first few things."""
        listed: list[str] = []
        apart: list[str] = []
        for phrase in self.optional[:MOST_ITEMS]:
            pattern = self.say(f"{phrase.attribute}_with", "with", phrase.forms["with"])
            words = pattern.replace("~", self.thing(phrase))
            if words.startswith("with "):
                listed.append(words.removeprefix("with "))
            else:
                apart.append(words)
        return join_words(apart) + (" " if apart and listed else "") + ("with " if listed else "") + join_words(listed)

    def rest(self) -> str:
        """`he also rides a bicycle`: what `with_items` left unsaid."""
        if len(self.optional) <= MOST_ITEMS:
            return ""
        words = self.handled(self.optional[MOST_ITEMS:], is_plural=self.pronoun == "they")
        return f"{self.pronoun} {self.frame('also')} {words}"

    def handled(self, phrases: Sequence[Phrase], *, is_plural: bool | None) -> str:
        """Say what is done with each thing, things of one verb together; without a number, in participles."""
        things: dict[str, list[str]] = {}
        for phrase in phrases:
            things.setdefault(phrase.forms["verb"], []).append(self.thing(phrase))
        clauses = []
        for canonical, listed in things.items():
            verb = conjugate(self.say(canonical, "noun_verb", canonical))
            form = verb.participle if is_plural is None else verb.finite(self.tense, is_plural=is_plural)
            clauses.append(form.replace("~", join_words(listed)))
        return join_words(clauses)

    def thing(self, phrase: Phrase) -> str:
        """`a backpack`."""
        noun = self.say(phrase.attribute, "noun_object", phrase.forms["noun"])
        return noun if phrase.number == "plural" else with_article(noun)


def variables(synonyms: SynonymTable) -> dict[str, Callable[[Wording], str]]:
    """Give every variable a template may use, with what it says; verbs and frames come from the synonym table.

    A verb `wear` gives `wears`, `he_wears` and (after several nouns) `wear`; a frame `in this image` gives `in_this_image`.

    Raises:
        ValueError: a frame would hide another variable.
    """
    known: dict[str, Callable[[Wording], str]] = {
        "is": lambda wording: conjugate("be").finite(wording.tense),
        "are": lambda wording: conjugate("be").finite(wording.tense, is_plural=True),
        "he_is": lambda wording: wording.he_verb("be"),
        "he": lambda wording: wording.pronoun,
        "his": Wording.his,
        "noun": Wording.noun,
        "person": Wording.person,
        "haired_person": Wording.haired_person,
        "action": Wording.action,
        "hair": Wording.hair,
        "his_hair_is": Wording.his_hair_is,
        "upper": Wording.upper,
        "lower": Wording.lower,
        "pair": Wording.pair,
        "lower_is": Wording.lower_is,
        "carries": Wording.carries,
        "he_carries": Wording.he_carries,
        "carrying": Wording.carrying,
        "with_items": Wording.with_items,
        "rest": Wording.rest,
    }
    for base in synonyms.sections["verb"]:
        third = conjugate(base).third
        known[third] = partial(Wording.verb, base=base)
        known[f"he_{third}"] = partial(Wording.he_verb, base=base)
        known[base] = partial(Wording.plural_verb, base=base)
    for canonical in synonyms.sections["frame"]:
        name = canonical.replace(" ", "_")
        if name in known or name in (*REQUIRED, *OPTIONAL):
            raise ValueError(
                f"the frame {canonical!r} of the synonym table has the name of another variable; rename it"
            )
        known[name] = partial(Wording.frame, canonical=canonical)
    return known
