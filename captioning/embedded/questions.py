"""What the embedded CLIP is asked about a synthetic pedestrian: every attribute as a question whose answers have many wordings.

Two kinds of questions: one for each column of the renderer's table (`upper_color`: FineGPR's words), and one for each attribute of
a phrase bank (`bank upper_clothes`: its 672 prompts compete), where `accepted_phrases` says once which phrases are true of whom.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from captioning.divide import Phrase, PhraseBank
from captioning.embedded.wordings import LOWER_GARMENTS, UPPER_GARMENTS, table_wordings
from captioning.synonyms import SynonymTable
from passerby.synthetic.people import ACTIONS
from passerby.text import with_article

Labels = Mapping[str, str]
"""Attribute and word, as in the renderer's table."""

FRAMES = ("A photo of {}.", "{}", "An image of {}.", "A picture of {} in the street.", "There is {}.")
"""What goes around a wording; the first is CLIP's."""

BANK = "bank "
"""Begins the name of a question that a phrase bank asks."""

PLAIN_ONLY = ("jeans", "leggings")
"""Garments that the bank knows without a pattern only; with one it can but call them long pants."""

PATTERNS: Mapping[str, tuple[str, ...]] = {
    "plain": ("pure color", ""),
    "striped": ("striped",),
    "plaid": ("plaid",),
    "printed": ("patterned",),
}
"""Patterns of the bank; "" where it has no word for plain."""

BANK_IDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "age": ("age", {"teenager": "young", "adult": "middle_aged", "older": "elderly"}),
    "gender": ("gender", {"male": "man", "female": "woman"}),
    "action": ("action", {name: name for name in ACTIONS}),
    "hair": ("hair", {"long": "long", "short": "short"}),
    "bag": (
        "bag_kind",
        {
            "backpack": "backpack",
            "shoulder-bag": "single_shoulder",
            "sling-bag": "sling",
            "handbag": "handbag",
            "shopping-bag": "shopping",
            "suitcase": "suitcase",
            "none": "none",
        },
    ),
    "glasses": ("glasses_kind", {"glasses": "glasses", "sunglasses": "sunglasses", "none": "none"}),
    "hat": (
        "hat_kind",
        {
            "cap": "baseball_cap",
            "brimmed-hat": "ordinary",
            "beanie": "ordinary",
            "helmet": "safety_helmet",
            "none": "none",
        },
    ),
    "cellphone": ("cellphone_use", {"talking": "talking", "looking": "looking", "none": "none"}),
    "umbrella": ("umbrella", {"yes": "umbrella", "no": "none"}),
    "gloves": ("gloves", {"yes": "gloves", "no": "none"}),
}
"""Attribute of the bank, the column that answers it, and the last part of the phrase's id for each word of the column."""

HALVES = {"upper_clothes": "upper", "lower_clothes": "lower"}
"""Attributes of the bank made of color, pattern and garment, and how the renderer's columns of the three begin."""

UNSEEN = ("smoke", "vehicle")
"""Attributes of the bank that nobody in the renders has: the answer is always the negative."""


@dataclass(frozen=True)
class Question:
    """One thing to ask about a picture."""

    name: str
    needs: frozenset[str]
    """Attributes that must be visible for the question to have an answer."""
    wordings: tuple[tuple[str, ...], ...]
    """Of each answer, the canonical one first."""
    accepts: Callable[[Labels], frozenset[int]]
    """Gives the answers that are true of these labels; none where that is unknown."""


def table_questions() -> list[Question]:
    """Give one question a column of the renderer's table, in its words."""
    questions = []
    for name, answers in table_wordings().items():
        places = {answer: frozenset([place]) for place, answer in enumerate(answers)}

        def accepts(labels: Labels, name: str = name, places: Mapping[str, frozenset[int]] = places) -> frozenset[int]:
            return places.get(labels[name], frozenset())

        questions.append(Question(name, frozenset([name]), tuple(answers.values()), accepts))
    return questions


def bank_questions(bank: PhraseBank, synonyms: SynonymTable) -> list[Question]:
    """Give one question an attribute of the bank; its answers are the phrases, canonical prompt first."""
    questions = []
    for attribute in bank.attributes:
        wordings = tuple((phrase.prompt, *rewordings(phrase, synonyms)) for phrase in attribute.phrases)

        def accepts(labels: Labels, phrases: Sequence[Phrase] = attribute.phrases) -> frozenset[int]:
            return accepted_phrases(phrases, labels)

        questions.append(Question(BANK + attribute.name, _needs(attribute.name), wordings, accepts))
    return questions


def accepted_phrases(phrases: Sequence[Phrase], labels: Labels) -> frozenset[int]:
    """Say which of an attribute's phrases are true of a person of the renderer, by their places.

    Of a dress, every upper garment with its color and pattern is accepted, and a skirt below.
    """
    attribute = phrases[0].attribute
    if half := HALVES.get(attribute):
        garments = accepted_garments(half, labels) or {phrase.garment for phrase in phrases}
        patterns = PATTERNS[labels[f"{half}_pattern"]]
        color = labels[f"{half}_color"]
        return frozenset(
            place
            for place, phrase in enumerate(phrases)
            if phrase.colour == color and phrase.garment in garments and phrase.pattern in patterns
        )
    if attribute in UNSEEN:
        return frozenset(place for place, phrase in enumerate(phrases) if phrase.is_negative)
    column, ids = BANK_IDS[attribute]
    wanted = f"{attribute}.{ids.get(labels[column], '')}"
    return frozenset(place for place, phrase in enumerate(phrases) if phrase.id == wanted)


def accepted_garments(half: str, labels: Labels) -> frozenset[str]:
    """Name the bank's garments that a person wears on one half of the body, "upper" or "lower"; none for the top of a dress."""
    name = labels[f"{half}_garment"]
    garments = (UPPER_GARMENTS if half == "upper" else LOWER_GARMENTS).get(name, ())
    if name in PLAIN_ONLY and labels[f"{half}_pattern"] != "plain":
        garments = LOWER_GARMENTS["trousers"]
    return frozenset((*garments, f"{labels['sleeve']} sleeve shirt") if name == "shirt" else garments)


def draw_wording(wordings: Sequence[str], random: Random) -> str:
    """Draw one wording: half of the time the canonical one in CLIP's frame, else any in any frame."""
    if random.random() < 0.5:
        return frame(wordings[0])
    return frame(random.choice(wordings), random.choice(FRAMES))


def frame(wording: str, around: str = FRAMES[0]) -> str:
    """Put a frame around a wording that is no sentence yet."""
    return wording if wording.endswith(".") else around.format(wording)


def rewordings(phrase: Phrase, synonyms: SynonymTable) -> tuple[str, ...]:
    """Give other wordings of a phrase's prompt: one synonym changed at a time."""
    sections = synonyms.sections
    if phrase.garment:
        colors = (phrase.colour, *sections["colour"].get(phrase.colour, ()))
        garments = (phrase.garment, *sections["garment"].get(phrase.garment, ()))
        pattern = f"{phrase.pattern} ~" if phrase.pattern else "~"
        patterns = (pattern, *sections["pattern"].get(pattern, ()))
        surfaces = [f"{color} {pattern.replace('~', phrase.garment)}" for color in colors]
        surfaces += [f"{phrase.colour} {other.replace('~', phrase.garment)}" for other in patterns]
        surfaces += [f"{phrase.colour} {pattern.replace('~', garment)}" for garment in garments]
        articled = surfaces if phrase.number == "plural" else [with_article(surface) for surface in surfaces]
    elif noun := phrase.forms.get("noun"):
        others = sections["noun_object"].get(noun, ())
        articled = list(others) if phrase.number == "plural" else [with_article(other) for other in others]
    elif phrase.attribute == "gender":
        articled = list(sections["noun"].get(phrase.surface, ()))
    else:
        articled = [*sections["hair"].get(phrase.surface, ()), *sections["action"].get(phrase.surface, ())]
    if not phrase.surface or phrase.surface not in phrase.prompt:
        return ()
    texts = [phrase.prompt.replace(phrase.surface, surface) for surface in articled]
    return tuple(dict.fromkeys(text for text in texts if text != phrase.prompt))


def _needs(attribute: str) -> frozenset[str]:
    if half := HALVES.get(attribute):
        return frozenset([f"{half}_color", f"{half}_garment", f"{half}_pattern"])
    return frozenset() if attribute in UNSEEN else frozenset([BANK_IDS[attribute][0]])
