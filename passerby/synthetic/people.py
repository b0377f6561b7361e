"""Who the pedestrians are: attributes in FineGPR's words, drawn near its counts or evenly."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from passerby.runtime import draw

COLORS = ("black", "white", "red", "purple", "gray", "yellow", "blue", "green", "brown")

FINEGPR_NAMES = (
    "gender",
    "hair",
    "age",
    "glasses",
    "sleeve",
    "top_length",
    "dress",
    "boots",
    "hat",
    "bag",
    "shoes",
    "upper_color",
    "lower_color",
)
"""The columns of FineGPR's attribute table, in its order."""

WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gender": ("male", "female"),
        "hair": ("long", "short"),
        "age": ("teenager", "adult", "older", ""),
        "glasses": ("yes", "no"),
        "sleeve": ("short", "long"),
        "top_length": ("long", "short"),
        "dress": ("yes", "no"),
        "boots": ("yes", "no"),
        "hat": ("yes", "no"),
        "bag": ("yes", "no"),
        "shoes": ("dark", "light"),
        "upper_color": COLORS,
        "lower_color": COLORS,
        "upper_garment": (
            *("t-shirt", "shirt", "blouse", "tank-top", "sweater"),
            *("hoodie", "jacket", "suit-jacket", "down-jacket", "coat", "dress"),
        ),
        "lower_garment": ("trousers", "jeans", "leggings", "shorts", "short-skirt", "long-skirt", "none"),
        "upper_pattern": ("plain", "striped", "plaid", "printed"),
        "lower_pattern": ("plain", "striped", "plaid", "printed"),
        "glasses_kind": ("none", "glasses", "sunglasses"),
        "hat_kind": ("none", "cap", "brimmed-hat", "beanie", "helmet"),
        "bag_kind": ("none", "backpack", "shoulder-bag", "sling-bag", "handbag", "shopping-bag", "suitcase"),
        "umbrella": ("yes", "no"),
        "gloves": ("yes", "no"),
        "cellphone": ("yes", "no"),
        "cellphone_use": ("none", "talking", "looking"),
    }
)
"""Every attribute of a person and its words. An age of "" is unknown, as for 43 people of FineGPR; it looks adult."""

ACTIONS = ("standing", "walking", "running")
"""What a person does; drawn for each image."""

# Source: FineGPR's attribute figure, counts of 1,150 people; the four ages (with 43 unknown) add up to all of them.
_FINEGPR_WEIGHTS: Mapping[str, Sequence[float]] = {
    "gender": (770, 380),
    "age": (33, 1049, 25, 43),
    "glasses": (14, 1136),
    "sleeve": (318, 832),
    "top_length": (716, 434),
    "boots": (402, 748),
    "hat": (109, 1041),
    "bag": (25, 1125),
    "shoes": (727, 423),
    "upper_color": (0.276, 0.136, 0.096, 0.032, 0.143, 0.039, 0.127, 0.097, 0.054),
    "lower_color": (0.371, 0.070, 0.065, 0.0, 0.192, 0.016, 0.172, 0.054, 0.060),
}
_LONG_HAIR = {"male": 0.065, "female": 0.69}
"""Makes 311 of 1,150 with FineGPR's genders; the table gives no joint counts, so the split is ours."""
_DRESS = 72 / 380
"""Among women; FineGPR's 72 dresses are taken to be theirs."""
_EXTRAS: Mapping[str, float] = {"umbrella": 0.03, "gloves": 0.04, "cellphone": 0.08}
"""Shares of those with a thing FineGPR does not annotate."""
_PATTERNS = {"upper_pattern": (0.61, 0.15, 0.1, 0.14), "lower_pattern": (0.85, 0.05, 0.05, 0.05)}

_UPPER_GARMENTS = {
    ("short", "short"): ("t-shirt", "shirt", "blouse", "tank-top"),
    ("short", "long"): ("t-shirt", "shirt", "blouse", "tank-top"),
    ("long", "short"): ("sweater", "hoodie", "jacket", "down-jacket", "blouse", "shirt"),
    ("long", "long"): ("sweater", "hoodie", "jacket", "down-jacket", "suit-jacket", "coat", "shirt"),
}
"""Garments by (sleeve, top length)."""


@dataclass(frozen=True)
class Person:
    """Everything that stays the same within an identity.

    A dress is one garment over both halves: `lower_garment` is `none`, and the lower color and pattern repeat the upper.
    `shoes` is the tone of the footwear, boots included.
    """

    identity: int
    attributes: Mapping[str, str]


def draw_person(seed: int, identity: int, *, is_balanced: bool = False) -> Person:
    """Draw the person of a number: the same for the same seed, whoever else is drawn.

    Args:
        seed: Seed of the data set.
        identity: Number of the person.
        is_balanced: Draw the words of each attribute about evenly (a dress stays with a quarter of the people)
            instead of near FineGPR's counts.
    """
    source = random.Random(draw(seed, str(identity), purpose="person"))  # noqa: S311  (looks, not secrets)
    chosen: dict[str, str] = {}
    for name, weights in _FINEGPR_WEIGHTS.items():
        words = WORDS[name]
        even = [1.0 if word else 0.0 for word in words]
        chosen[name] = source.choices(words, even if is_balanced else weights)[0]
    is_female = chosen["gender"] == "female"
    chosen["hair"] = _long_or_short(source, 0.5 if is_balanced else _LONG_HAIR[chosen["gender"]])
    chosen["dress"] = _yes_or_no(source, (0.5 if is_balanced else _DRESS) if is_female else 0.0)
    for name, share in _EXTRAS.items():
        chosen[name] = _yes_or_no(source, 0.35 if is_balanced else share)
    for name, weights in _PATTERNS.items():
        chosen[name] = source.choices(WORDS[name], None if is_balanced else weights)[0]
    chosen |= _draw_garments(source, chosen, is_balanced=is_balanced)
    chosen |= _draw_kinds(source, chosen)
    if chosen["dress"] == "yes":
        chosen |= {"lower_color": chosen["upper_color"], "lower_pattern": chosen["upper_pattern"], "top_length": "long"}
    return Person(identity, MappingProxyType({name: chosen[name] for name in WORDS}))


def _draw_garments(source: random.Random, chosen: Mapping[str, str], *, is_balanced: bool) -> dict[str, str]:
    if chosen["dress"] == "yes":
        return {"upper_garment": "dress", "lower_garment": "none"}
    is_female = chosen["gender"] == "female"
    uppers = _UPPER_GARMENTS[chosen["sleeve"], chosen["top_length"]]
    upper = source.choice([name for name in uppers if is_female or name != "blouse"])
    lowers = {"trousers": 5.0, "jeans": 5.0, "shorts": 2.0 if chosen["sleeve"] == "short" else 0.5}
    if is_female:
        lowers |= {"leggings": 3.0, "short-skirt": 1.5, "long-skirt": 1.5}
    if upper == "coat":  # which would hide them
        lowers = {name: weight for name, weight in lowers.items() if name not in ("shorts", "short-skirt")}
    if is_balanced:
        lowers = {name: 1.0 if name in ("trousers", "jeans", "shorts") else 2.0 for name in lowers}
    return {"upper_garment": upper, "lower_garment": source.choices(list(lowers), list(lowers.values()))[0]}


def _draw_kinds(source: random.Random, chosen: Mapping[str, str]) -> dict[str, str]:
    """Name the kind of what is worn or carried; two hands hold an umbrella, a phone and a bag at most two at a time."""
    bags = list(WORDS["bag_kind"][1:])
    hats = list(WORDS["hat_kind"][1:])
    kinds = {
        "glasses_kind": source.choice(("glasses", "sunglasses")) if chosen["glasses"] == "yes" else "none",
        "hat_kind": source.choice(hats) if chosen["hat"] == "yes" else "none",
        "bag_kind": source.choice(bags) if chosen["bag"] == "yes" else "none",
        "cellphone_use": source.choice(("talking", "looking")) if chosen["cellphone"] == "yes" else "none",
    }
    if chosen["umbrella"] == "yes" and kinds["cellphone_use"] != "none" and kinds["bag_kind"] in bags[3:]:
        kinds["bag_kind"] = source.choice(bags[:3])
    return kinds


def _yes_or_no(source: random.Random, share: float) -> str:
    return "yes" if source.random() < share else "no"


def _long_or_short(source: random.Random, share: float) -> str:
    return "long" if source.random() < share else "short"
