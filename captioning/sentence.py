"""The language of FineGPR-C: from the attributes that are mentioned to a sentence, and back.

Each value is one whole word of the caption, so a caption says exactly what refined selecting kept, and `parse_caption`
can tell. Skin and ethnicity are in no attribute and in no word; "left" and "right" only ever name the view, so that a
mirrored image needs no more than the two words swapped.

Source: the sentence patterns published with FineGPR-C (its caption figure) and with MMET, listed first in
`templates/finegpr_c`. Beside them we prefer English to the letter: "male teenager" to "teenager male", "on a foggy
night" to "in a foggy night", "wears a hat" to "takes a hat", and a semicolon, "and" or period to their comma splice.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from captioning.attributes import IDENTITY_SLOTS, IMAGE_SLOTS, SLOTS
from captioning.render import TemplateSet, draw_template
from passerby.text import join_words, with_article

NOTHING = "There is a person."
"""The caption of nothing."""

VARIABLES: dict[str, str] = {
    "person": "older male",
    "pedestrian": "older male pedestrian",
    "they": "he",
    "hair": "short hair",
    "clothes": "a long black top with short sleeves, blue bottoms and dark shoes",
    "clothes_upward": "dark shoes, blue bottoms and a long black top with short sleeves",
    "clothes_paired": "a long black top with short sleeves paired with blue bottoms and dark shoes",
    "clothes_formal": "long black upper-body clothes with short sleeves, blue lower-body clothes, and dark shoes",
    "looks": "short hair, a long black top with short sleeves, blue bottoms and dark shoes",
    "has_clothes": "has short hair and wears a long black top with short sleeves, blue bottoms and dark shoes",
    "has_extras": "has short hair and wears boots and a hat but carries no bag",
    "extras": "boots and a hat but no bag",
    "wears_extras": "wears boots and a hat but carries no bag",
    "wears_extras_reversed": "carries no bag but wears a hat and boots",
    "also": "also wears boots and a hat but carries no bag",
    "view": "left",
    "scene": "at midnight in foggy weather",
    "conditions": "in foggy weather at midnight",
    "report": "it is midnight and the weather is foggy",
}
"""What a pattern can use, each as it reads for `EXAMPLE`; a phrase of which nothing is mentioned is empty."""

EXAMPLE = {
    "gender": "male",
    "hair": "short",
    "age": "older",
    "sleeve": "short",
    "top_length": "long",
    "boots": "yes",
    "hat": "yes",
    "bag": "no",
    "shoes": "dark",
    "upper_color": "black",
    "lower_color": "blue",
    "view": "left",
    "weather": "foggy",
    "illumination": "midnight",
}

WORN = {"dress": "a dress", "boots": "boots", "hat": "a hat", "glasses": "glasses"}
CARRIED = {"bag": "a bag"}
EXTRAS = WORN | CARRIED
"""Slots of yes or no, with what is said for yes; for no it is "no" and the slot's name."""

TIMES = {
    "midnight": "at midnight",
    "dawn": "at dawn",
    "forenoon": "in the forenoon",
    "noon": "at noon",
    "afternoon": "in the afternoon",
    "dusk": "at dusk",
    "night": "at night",
}
SPANS = ("forenoon", "afternoon", "night")
"""Times that last, so that one can say "on a foggy night"."""
SKIES = ("sunny", "cloudy", "overcast", "foggy")
"""Weathers that a day can be; blizzard and snowlight are nouns, and no day is neutral."""


def caption(
    mentioned: Mapping[str, str], *, key: str, seed: int, templates: TemplateSet, index: int = 0
) -> tuple[str, str]:
    """Say what is mentioned of one image, in a pattern drawn for it.

    Args:
        mentioned: The word of each slot to name, as in `attributes.SLOTS`; other slots are not named.
        key: Key of the image, or of whatever shall share a pattern.
        seed: Seed of the run.
        templates: The patterns.
        index: Which caption of the image.

    Returns:
        The caption, and the name of its pattern.
    """
    chosen = draw_template(templates, key=key, seed=seed, index=index)
    text = templates.render(chosen, _phrases(tuple(mentioned.items()))) if mentioned else NOTHING
    return text, templates.names[chosen]


def phrases(mentioned: Mapping[str, str]) -> dict[str, str]:
    """Word all of `VARIABLES`; what is not mentioned leaves its phrases shorter or empty.

    >>> phrases({"age": "older", "view": "left"})["person"]
    'older person'
    """
    return dict(_phrases(tuple(mentioned.items())))


def parse_caption(text: str) -> dict[str, str]:
    """Read the mentioned words back out of a caption, whichever of our patterns made it, in the order of `SLOTS`."""
    text = text.lower()
    found = {slot: match[1] for slot, pattern in VALUES.items() if (match := pattern.search(text))}
    absent = {slot for items in NEGATIONS.findall(text) for slot in ITEM.findall(items)}
    found |= {slot: "no" if slot in absent else "yes" for slot in ITEM.findall(text)}
    return {slot: found[slot] for slot in SLOTS if slot in found}


def examples() -> Iterator[dict[str, str]]:
    """Yield what a pattern has to cope with: much, any one thing missing, any one value alone, and nothing.

    `check_templates(templates, map(phrases, examples()))` tries a user's patterns on them.
    """
    yield EXAMPLE
    yield EXAMPLE | dict.fromkeys(EXTRAS, "no")
    for slot in EXAMPLE:
        yield {other: word for other, word in EXAMPLE.items() if other != slot}
    for slot, words in SLOTS.items():
        yield from ({slot: word} for word in words)
    yield {}


def _any(slot: str) -> str:
    return f"({'|'.join(SLOTS[slot])})"


TOP = "(?:top|upper-body clothes)"
BOTTOMS = "(?:bottoms|lower-body clothes)"
VALUES = {
    **{slot: re.compile(rf"\b{_any(slot)}\b") for slot in ("gender", "age", *IMAGE_SLOTS)},
    "hair": re.compile(rf"\b{_any('hair')} hair\b"),
    "sleeve": re.compile(rf"\b{_any('sleeve')}(?:-sleeved| sleeves)\b"),
    "top_length": re.compile(rf"\b{_any('top_length')} (?:{_any('upper_color')} )?{TOP}\b"),
    "upper_color": re.compile(rf"\b{_any('upper_color')} {TOP}\b"),
    "lower_color": re.compile(rf"\b{_any('lower_color')} {BOTTOMS}\b"),
    "shoes": re.compile(rf"\b{_any('shoes')} shoes\b"),
}
"""Where a caption says a value: the word alone, or the word before the noun that owns it."""

ITEM = re.compile(rf"\b(?:{'|'.join(EXTRAS)})\b")
NEGATIONS = re.compile(rf"\bno (?:{ITEM.pattern}(?:, | or )?)+")
"""What a caption says is not there: "no boots, hat or bag"."""

Words = tuple[tuple[str, str], ...]
"""Slots with their words, as the key of a cache."""


@lru_cache(maxsize=4096)  # the images of a person come together, and many differ in the camera only
def _phrases(words: Words) -> Mapping[str, str]:
    return {
        **_identity_phrases(tuple([word for word in words if word[0] in IDENTITY_SLOTS])),
        **_image_phrases(tuple([word for word in words if word[0] in IMAGE_SLOTS])),
    }


@lru_cache(maxsize=256)
def _identity_phrases(words: Words) -> Mapping[str, str]:
    said = dict(words)
    hair = [f"{said['hair']} hair"] if "hair" in said else []
    top, bottoms, shoes = _top(said, is_formal=False), _plural(said, "lower_color", "bottoms"), _plural(said, "shoes")
    clothes, below = [*top, *bottoms, *shoes], join_words([*bottoms, *shoes])
    formal = [*_top(said, is_formal=True), *_plural(said, "lower_color", "lower-body clothes"), *shoes]
    extras, wears_extras = _extras(said), _wears_extras(said, is_reversed=False)
    has_hair = [f"has {phrase}" for phrase in hair]
    is_also = bool(clothes) and bool(extras) and not extras.startswith("no ")
    return {
        **_nouns(said),
        "hair": join_words(hair),
        "clothes": join_words(clothes),
        "clothes_upward": join_words(clothes[::-1]),
        "clothes_paired": " paired with ".join([*top, *filter(None, [below])]),
        "clothes_formal": ", and ".join([", ".join(formal[:-1]), formal[-1]])
        if len(formal) > 2
        else join_words(formal),
        "looks": join_words([*hair, *clothes]),
        "has_clothes": " and ".join([*has_hair, f"wears {join_words(clothes)}"] if clothes else has_hair),
        "has_extras": " and ".join([*has_hair, wears_extras] if extras else has_hair),
        "extras": extras,
        "wears_extras": wears_extras,
        "wears_extras_reversed": _wears_extras(said, is_reversed=True),
        "also": f"also {wears_extras}" if is_also else wears_extras,  # nobody "also wears no boots"
    }


def _nouns(said: Mapping[str, str]) -> dict[str, str]:
    age, gender = said.get("age", ""), said.get("gender", "")
    they = {"male": "he", "female": "she"}.get(gender, "this person")
    if age == "teenager":
        teenager = f"{gender} teenager".strip()
        return {"person": teenager, "pedestrian": teenager, "they": they}
    adjectives = f"{age} {gender}".strip()
    person = f"{age} person".strip() if adjectives in ("", "older") else adjectives
    return {"person": person, "pedestrian": f"{adjectives} pedestrian".strip(), "they": they}


def _top(said: Mapping[str, str], *, is_formal: bool) -> list[str]:
    """Word the upper garment, if anything is said of it: "a black top" or, formal, "black upper-body clothes"."""
    sleeve, length, color = (said.get(slot, "") for slot in ("sleeve", "top_length", "upper_color"))
    if not (sleeve or length or color):
        return []
    sleeved = f"{sleeve}-sleeved" if sleeve and not length else ""
    noun = " ".join([word for word in (length, sleeved, color, "upper-body clothes" if is_formal else "top") if word])
    phrase = noun if is_formal else with_article(noun)
    return [f"{phrase} with {sleeve} sleeves" if sleeve and length else phrase]  # never "a long short-sleeved top"


def _plural(said: Mapping[str, str], slot: str, noun: str = "shoes") -> list[str]:
    return [f"{said[slot]} {noun}"] if slot in said else []


def _extras(said: Mapping[str, str]) -> str:
    """List what is worn or carried beside the clothes, then what is not: "boots and a hat but no bag"."""
    present = join_words([phrase for slot, phrase in EXTRAS.items() if said.get(slot) == "yes"])
    absent = join_words([slot for slot in EXTRAS if said.get(slot) == "no"], "or")
    return " but ".join([*filter(None, [present]), *filter(None, [absent and f"no {absent}"])])


def _wears_extras(said: Mapping[str, str], *, is_reversed: bool) -> str:
    """Say the same with verbs; reversed is the other order in all: what is absent, what is carried, and hats first."""
    step = -1 if is_reversed else 1
    clauses = []
    for value in ("yes", "no"):
        verbs = [
            _verb_phrase(verb, items, said, value, step) for verb, items in (("wears", WORN), ("carries", CARRIED))
        ]
        clauses.append(" and ".join(list(filter(None, verbs))[::step]))
    if not is_reversed and "carries" not in clauses[0] and all(clauses):
        clauses[1] = clauses[1].removeprefix("wears ")  # "wears boots but no hat"
    return " but ".join(list(filter(None, clauses))[::step])


def _verb_phrase(verb: str, items: Mapping[str, str], said: Mapping[str, str], value: str, step: int) -> str:
    slots = [slot for slot in items if said.get(slot) == value][::step]
    if not slots:
        return ""
    return (
        f"{verb} no {join_words(slots, 'or')}"
        if value == "no"
        else f"{verb} {join_words([items[slot] for slot in slots])}"
    )


@lru_cache(maxsize=1024)
def _image_phrases(words: Words) -> Mapping[str, str]:
    said = dict(words)
    weather, time = said.get("weather", ""), said.get("illumination", "")
    nouns = {"": "", "blizzard": "there is a blizzard", "snowlight": "there is snowlight"}
    report = [f"it is {time}" if time else "", nouns.get(weather, f"the weather is {weather}")]
    return {
        "view": said.get("view", ""),
        "scene": _scene(weather, time),
        "conditions": _conditions(weather, time),
        "report": " and ".join(filter(None, report)),
    }


def _scene(weather: str, time: str) -> str:
    """Say the time, then the weather, or both in one phrase: "on a foggy night"."""
    if weather in SKIES and time in SPANS:
        return f"on {with_article(f'{weather} {time}')}"
    if weather == "neutral" and time in SPANS:
        return f"on {with_article(time)} of neutral weather"
    nouns = {"blizzard": "during a blizzard", "snowlight": "amid snowlight"}
    return f"{TIMES.get(time, '')} {nouns.get(weather, _in_weather(weather))}".strip()


def _conditions(weather: str, time: str) -> str:
    """Say the weather, then the time: "in snowlight during the afternoon"."""
    at_time = TIMES.get(time, "")
    return f"{_in_weather(weather)} {at_time.replace('in the', 'during the') if weather else at_time}".strip()


def _in_weather(weather: str) -> str:
    return {"": "", "blizzard": "in a blizzard", "snowlight": "in snowlight"}.get(weather, f"in {weather} weather")
