"""What the attributes of synthetic pedestrians are called: every word of the renderer's table in several wordings."""

from collections.abc import Mapping, Sequence

from passerby.synthetic.people import ACTIONS, COLORS
from passerby.text import with_article

UPPER_GARMENTS: Mapping[str, tuple[str, ...]] = {
    "t-shirt": ("t-shirt", "short sleeve shirt"),
    "shirt": ("shirt",),
    "blouse": ("blouse",),
    "tank-top": ("sleeveless tank top",),
    "sweater": ("sweater",),
    "hoodie": ("hoodie",),
    "jacket": ("jacket",),
    "suit-jacket": ("suit jacket",),
    "down-jacket": ("down jacket",),
    "coat": ("coat", "wind coat"),
}
"""Garments of the bank that name one of the renderer's. Not in it: a crop top, and a dress, which the bank does not know."""

LOWER_GARMENTS: Mapping[str, tuple[str, ...]] = {
    "trousers": ("long pants",),
    "jeans": ("jeans",),
    "leggings": ("leggings",),
    "shorts": ("shorts", "knee shorts"),
    "short-skirt": ("short skirt",),
    "long-skirt": ("long skirt",),
    "none": ("short skirt", "long skirt"),  # of a dress, what hangs below the waist
}


def table_wordings() -> dict[str, dict[str, tuple[str, ...]]]:
    """Give the wordings of every answer, by column."""
    return {
        "gender": {
            "male": ("a man", "a male person", "a guy", "a male pedestrian"),
            "female": ("a woman", "a female person", "a lady", "a female pedestrian"),
        },
        "hair": {word: (f"a person with {word} hair", f"a {word}-haired person") for word in ("long", "short")},
        "age": {
            "teenager": ("a teenager", "a young person", "a teenage person"),
            "adult": ("an adult", "an adult person", "a middle-aged person"),
            "older": ("an older person", "an elderly person", "an old person"),
        },
        "glasses": _worn("glasses"),
        "sleeve": {
            word: (f"a person with {word} sleeves", f"a person in a {word}-sleeved top") for word in ("short", "long")
        },
        "top_length": {
            "long": ("a person wearing a long top", "a person whose top reaches below the hips"),
            "short": ("a person wearing a short top", "a person whose top ends at the waist"),
        },
        "dress": _worn("a dress"),
        "boots": _worn("boots"),
        "hat": _worn("a hat"),
        "bag": _yes_or_no("carrying", "a bag", "bag"),
        "shoes": {
            word: (
                f"a person wearing {word} shoes",
                f"a person in {word} footwear",
                f"a person with {word}-colored shoes",
            )
            for word in ("dark", "light")
        },
        "upper_color": {word: _colored(word, "upper-body", "top") for word in COLORS},
        "lower_color": {word: _colored(word, "lower-body", "bottom") for word in COLORS},
        "upper_garment": _garments(UPPER_GARMENTS) | {"dress": ("a person wearing a dress", "a woman in a dress")},
        "lower_garment": _garments({name: words for name, words in LOWER_GARMENTS.items() if name != "none"}),
        "upper_pattern": _patterned("top", "upper-body clothes"),
        "lower_pattern": _patterned("bottom", "lower-body clothes"),
        "glasses_kind": _kinds(("glasses", "sunglasses"), "wearing", "glasses"),
        "hat_kind": _kinds(("a cap", "a brimmed hat", "a beanie", "a helmet"), "wearing", "hat"),
        "bag_kind": _kinds(
            ("a backpack", "a shoulder bag", "a sling bag", "a handbag", "a shopping bag", "a suitcase"),
            "carrying",
            "bag",
        ),
        "umbrella": _yes_or_no("holding", "an umbrella", "umbrella"),
        "gloves": _worn("gloves"),
        "cellphone": _yes_or_no("using", "a cell phone", "cell phone"),
        "cellphone_use": {
            "talking": ("a person talking on a cell phone", "a person with a cell phone at the ear"),
            "looking": ("a person looking at a cell phone", "a person reading from a cell phone"),
            "none": ("a person busy with no cell phone", "a person without any cell phone"),
        },
        "action": {word: (f"a person who is {word}", f"a {word} person") for word in ACTIONS},
    }


def _worn(thing: str) -> dict[str, tuple[str, ...]]:
    return _yes_or_no("wearing", thing, thing.removeprefix("a "))


def _yes_or_no(verb: str, thing: str, noun: str) -> dict[str, tuple[str, ...]]:
    return {
        "yes": (f"a person {verb} {thing}", f"a person with {thing}"),
        "no": (f"a person {verb} no {noun}", f"a person without {thing}"),
    }


def _colored(color: str, part: str, noun: str) -> tuple[str, ...]:
    return (
        f"a person wearing {color} {part} clothes",
        f"a person in a {color} {noun}",
        f"a person whose {noun} is {color}",
        f"a person with {color}-colored {part} clothes",
    )


def _garments(names: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    wordings: dict[str, tuple[str, ...]] = {}
    for name, garments in names.items():
        is_plural = garments[0].endswith(("pants", "jeans", "leggings", "shorts"))
        words = [garments[0] if is_plural else with_article(garments[0]), name.replace("-", " ")]
        wordings[name] = (f"a person wearing {words[0]}", f"a person in {words[0]}", f"a person dressed in {words[1]}")
    return wordings


def _patterned(noun: str, plural: str) -> dict[str, tuple[str, ...]]:
    words = {"plain": "plain", "striped": "striped", "plaid": "plaid", "printed": "patterned"}
    return {
        name: (f"a person wearing a {word} {noun}", f"a person in {word} {plural}", f"a person whose {noun} is {word}")
        for name, word in words.items()
    }


def _kinds(things: Sequence[str], verb: str, noun: str) -> dict[str, tuple[str, ...]]:
    """Name each kind as the table does: without its article, hyphens for spaces."""
    named: dict[str, tuple[str, ...]] = {
        thing.removeprefix("a ").replace(" ", "-"): (f"a person {verb} {thing}", f"a person with {thing}")
        for thing in things
    }
    return named | {"none": (f"a person {verb} no {noun}", f"a person without any {noun}")}
