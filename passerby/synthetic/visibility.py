"""Which attributes a viewer can tell from one picture."""

from collections.abc import Mapping

from passerby.synthetic.people import Person

_LEAST: Mapping[str, float] = {
    "hair": 0.004,
    "tail": 0.0015,
    "glasses": 0.0006,
    "hat": 0.004,
    "bag": 0.006,
    "umbrella": 0.01,
    "gloves": 0.0012,
    "hands": 0.0012,
    "cellphone": 0.0010,
    "face": 0.008,
    "shoes": 0.003,
    "upper": 0.03,
    "lower": 0.02,
}
"""Share of the picture that a feature must cover to be recognised."""

_THINGS = {
    "glasses": "glasses_kind",
    "hat": "hat_kind",
    "bag": "bag_kind",
    "cellphone": "cellphone_use",
    "umbrella": "",
    "gloves": "",
}
"""What a person may have, and the attribute that names its kind."""


def visible_attributes(person: Person, shares: Mapping[str, float], *, is_facing: bool) -> frozenset[str]:
    """Name the attributes that show.

    A thing that is absent shows as such when the place where it would be does; hats, bags and umbrellas are missed at once.
    An unknown age never shows.

    Args:
        person: Who is seen.
        shares: How much of the picture each feature covers, 0…1.
        is_facing: Whether the eyes look towards the camera.
    """
    words = person.attributes
    shown = {feature for feature, least in _LEAST.items() if shares.get(feature, 0.0) >= least}
    lower = "upper" if words["dress"] == "yes" else "lower"
    features = {
        "hair": "hair",
        "sleeve": "upper",
        "top_length": "upper",
        "dress": "upper",
        "boots": "shoes",
        "shoes": "shoes",
        **{f"upper_{aspect}": "upper" for aspect in ("color", "pattern", "garment")},
        **{f"lower_{aspect}": lower for aspect in ("color", "pattern", "garment")},
        **{thing: thing for thing in _THINGS if words[thing] == "yes"},
    }
    if "tail" in shares and "tail" not in shown:
        shown.discard("hair")  # a ponytail behind the head: it could as well be short
    visible = {"action", "gender"} | {name for name, feature in features.items() if feature in shown}
    absence_shows = {
        "glasses": is_facing and "face" in shown,
        "gloves": "hands" in shown,
        "cellphone": "hands" in shown,
        "hat": True,
        "bag": True,
        "umbrella": True,
    }
    visible |= {thing for thing in _THINGS if words[thing] == "no" and absence_shows[thing]}
    visible |= {"age"} if words["age"] else set()
    return frozenset(visible | {kind for thing, kind in _THINGS.items() if kind and thing in visible})
