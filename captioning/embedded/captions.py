"""Whole captions of synthetic pedestrians, composed of what can be seen: retrieval is trained and measured with them."""

from collections.abc import Collection
from random import Random

from captioning.embedded.questions import Labels
from passerby.text import capitalise, join_words, tidy, with_article

_DROPPED = 0.15
"""Share of the clauses that a drawn caption leaves out, so that a clause means the same whatever stands beside it."""

_PLURALS = frozenset({"trousers", "jeans", "leggings", "shorts"})
_NOUNS = {"male": ("man", "male", "guy"), "female": ("woman", "female", "lady")}
_AGES = {"teenager": "teenage", "adult": "adult", "older": "older"}


def compose(labels: Labels, visible: Collection[str], random: Random | None = None) -> str:
    """Write a caption of what can be seen.

    Args:
        labels: Every attribute of the picture.
        visible: Names of the attributes to speak of.
        random: Draws words, the order of the clauses and which to leave out; without it all are said, in one order.
    """
    seen = {name: word for name, word in labels.items() if name in visible and word}
    clauses = [*_worn(seen), *_carried(seen)]
    if random is not None:
        clauses = [clause for clause in clauses if random.random() >= _DROPPED]
        random.shuffle(clauses)
    worn = [text for verb, text in clauses if verb == "wearing"]
    carried = [f"{verb} {text}" for verb, text in clauses if verb != "wearing"]
    hair = f" with {seen['hair']} hair" if "hair" in seen else ""
    parts = [_person(seen, random) + hair]
    if "action" in seen:
        parts.append(seen["action"])
    if worn:
        parts.append(f"wearing {join_words(worn)}")
    return tidy(capitalise(", ".join([*parts, *carried])))


def _person(seen: Labels, random: Random | None) -> str:
    nouns = _NOUNS.get(seen.get("gender", ""), ("person",))
    noun = random.choice(nouns) if random else nouns[0]
    return with_article(f"{_AGES[seen['age']]} {noun}" if "age" in seen else noun)


def _worn(seen: Labels) -> list[tuple[str, str]]:
    texts = [_upper(seen)]
    if seen.get("lower_garment") != "none" and seen.get("dress") != "yes":
        texts.append(_garment(seen, "lower", seen.get("lower_garment", "bottom"), []))
    if "shoes" in seen:
        texts.append(f"{seen['shoes']} {'boots' if seen.get('boots') == 'yes' else 'shoes'}")
    texts += [with_article(seen[name].replace("-", " ")) for name in ("hat_kind",) if seen.get(name, "none") != "none"]
    texts += [seen["glasses_kind"]] if seen.get("glasses_kind", "none") != "none" else []
    texts += ["gloves"] if seen.get("gloves") == "yes" else []
    return [("wearing", text) for text in texts]


def _upper(seen: Labels) -> str:
    lengths = [f"{seen['top_length']}"] if "top_length" in seen and seen.get("dress") != "yes" else []
    sleeves = [f"{seen['sleeve']}-sleeved"] if "sleeve" in seen else []
    return _garment(seen, "upper", seen.get("upper_garment", "top"), [*lengths, *sleeves])


def _garment(seen: Labels, half: str, garment: str, adjectives: list[str]) -> str:
    words = [seen.get(f"{half}_color", ""), seen.get(f"{half}_pattern", ""), *adjectives, garment.replace("-", " ", 1)]
    text = " ".join(word for word in words if word).replace("t shirt", "t-shirt").replace("printed", "patterned")
    return text if garment in _PLURALS else with_article(text)


def _carried(seen: Labels) -> list[tuple[str, str]]:
    clauses = []
    if seen.get("bag_kind", "none") != "none":
        clauses.append(("carrying", with_article(seen["bag_kind"].replace("-", " "))))
    if seen.get("umbrella") == "yes":
        clauses.append(("holding", "an umbrella"))
    if seen.get("cellphone") == "yes":
        clauses.append(("using", "a cell phone"))
    return clauses
