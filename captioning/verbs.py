"""English verbs in the third person, in the two tenses of the templates."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

Tense = Literal["present", "past"]

IRREGULAR = {
    "bear": ("bears", "bore", "bearing"),
    "bring": ("brings", "brought", "bringing"),
    "draw": ("draws", "drew", "drawing"),
    "get": ("gets", "got", "getting"),
    "give": ("gives", "gave", "giving"),
    "go": ("goes", "went", "going"),
    "have": ("has", "had", "having"),
    "hold": ("holds", "held", "holding"),
    "keep": ("keeps", "kept", "keeping"),
    "lead": ("leads", "led", "leading"),
    "make": ("makes", "made", "making"),
    "put": ("puts", "put", "putting"),
    "ride": ("rides", "rode", "riding"),
    "speak": ("speaks", "spoke", "speaking"),
    "take": ("takes", "took", "taking"),
    "wear": ("wears", "wore", "wearing"),
}
"""Third person, past and participle of the verbs that carrying, wearing and riding need and no rule makes."""

SIBILANT_END = re.compile(r"(?:s|x|z|ch|sh)$")
CONSONANT_Y_END = re.compile(r"[^aeiou]y$")
DOUBLING = re.compile(r"[^aeiou]+[aeiou][^aeiouwxy]$")
"""One syllable, one vowel, one consonant: grip, gripped, gripping."""


@dataclass(frozen=True, slots=True)
class Verb:
    """The forms of one verb; words after the first stay, `look at` gives `looked at`."""

    base: str
    third: str
    past: str
    participle: str
    plural: str
    plural_past: str

    def finite(self, tense: Tense, *, is_plural: bool = False) -> str:
        """Give the form that agrees with a subject in the third person."""
        if tense == "past":
            return self.plural_past if is_plural else self.past
        return self.plural if is_plural else self.third


@cache
def conjugate(verb: str) -> Verb:
    """Conjugate a verb given as its infinitive.

    >>> conjugate("carry ~").past, conjugate("be dressed in").finite("present")
    ('carried ~', 'is dressed in')
    """
    head, blank, rest = verb.partition(" ")
    end = blank + rest
    if head == "be":
        # No "being dressed in": after a noun, "dressed in" is the participle.
        return Verb(verb, "is" + end, "was" + end, rest or "being", "are" + end, "were" + end)
    third, past, participle = IRREGULAR.get(head) or _regular(head)
    return Verb(verb, third + end, past + end, participle + end, verb, past + end)


def _regular(head: str) -> tuple[str, str, str]:
    if CONSONANT_Y_END.search(head):
        return head[:-1] + "ies", head[:-1] + "ied", head + "ing"
    third = head + ("es" if SIBILANT_END.search(head) else "s")
    if head.endswith("e"):
        return third, head + "d", head[:-1] + "ing"
    stem = head + head[-1] if DOUBLING.fullmatch(head) else head
    return third, stem + "ed", stem + "ing"
