"""Which colours a caption gives to the clothes: a measure of what a model that writes captions has seen.

It finds words, not meaning, and knows those of the captions that this project generates.
"""

from collections.abc import Iterable

from passerby.text import words_of

PLAIN_COLOURS = "black white gray blue red yellow green brown pink purple orange khaki"
COLOURS = {**{colour: colour for colour in PLAIN_COLOURS.split()}, "grey": "gray", "dark": "black"}
"""Colour of a word, or of the part before its hyphen: "blue-toned". LUPerson-T says "dark" for black."""

UPPER = (
    "upper-body top shirt t-shirt tee tee-shirt blouse singlet sweater sweatshirt pullover jumper hoodie hoody jacket blazer "
    "puffer coat overcoat topcoat outercoat trench trenchcoat duster"
)
LOWER = "lower-body bottoms pants trousers slacks jeans denims leggings shorts bermudas skirt miniskirt mini maxi"
PARTS = {**dict.fromkeys(UPPER.split(), "upper"), **dict.fromkeys(LOWER.split(), "lower")}

ENDS_OF_PHRASES = frozenset(("and", "with", "shoes", "hair"))
"""A colour before one of these is not that of the clothes behind it."""


def clothing_colours(caption: str) -> dict[str, str]:
    """Find the colours of the upper and the lower clothes; what is not named is left out.

    >>> clothing_colours("In dark shoes and a long grey top, a man with blue-toned jeans walks.")
    {'upper': 'gray', 'lower': 'blue'}
    """
    found: dict[str, str] = {}
    colour = ""
    for word in words_of(caption):
        if word in PARTS and colour:
            found.setdefault(PARTS[word], colour)
        if word in PARTS or word in ENDS_OF_PHRASES:
            colour = ""
        colour = COLOURS.get(word.partition("-")[0], colour)
    return found


def colour_accuracies(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Say how often a caption names the colours that another one of the same image names.

    Args:
        pairs: The caption that is judged, and the one that is right.

    Returns:
        `upper_colour_accuracy` and `lower_colour_accuracy`, of the pairs whose right caption names such a colour; a part
        that none of them names is left out.
    """
    hits: dict[str, list[bool]] = {"upper": [], "lower": []}
    for judged, right in pairs:
        said = clothing_colours(judged)
        for part, colour in clothing_colours(right).items():
            hits[part].append(said.get(part) == colour)
    return {f"{part}_colour_accuracy": sum(found) / len(found) for part, found in hits.items() if found}
