"""What a witness would say about a rendered person, in two or three short sentences, from what can be seen."""

import random
from collections.abc import Collection, Mapping, Sequence

_PEOPLE = {
    ("male", "teenager"): "boy",
    ("female", "teenager"): "girl",
    ("male", "older"): "older man",
    ("female", "older"): "older woman",
}
_PRONOUNS = {"male": "he", "female": "she"}
_THINGS = ("hat_kind", "glasses_kind", "gloves", "bag_kind", "umbrella", "cellphone")
_PLURALS = frozenset({"trousers", "jeans", "leggings", "shorts", "glasses", "sunglasses", "gloves", "boots", "shoes"})

_FIRST = ("{A} is {action}.", "The picture shows {a}, {action}.", "Here {a} is {action}.", "{A} can be seen {action}.")
_CLOTHES = ("{They} wears {clothes}.", "{They} is dressed in {clothes}.", "{They} has {clothes} on.")
_CARRIED = ("{They} has {things}.", "{They} can be seen with {things}.", "One also notices {things}.")


def describe(attributes: Mapping[str, str], visible: Collection[str], action: str, number: int) -> str:
    """Describe a person; captions of other numbers choose other words.

    Args:
        attributes: The person's, in the words of `people.WORDS`.
        visible: Names of those that can be seen; nothing is said of the others.
        action: What the person does.
        number: Chooses.
    """
    source = random.Random(number)  # noqa: S311  (words, not secrets)
    seen = {name: word for name, word in attributes.items() if name in visible and word not in ("", "no", "none")}
    person = _person(seen)
    pronoun = _PRONOUNS.get(seen.get("gender", ""), "the person")
    sentences = [source.choice(_FIRST).format(A=person.capitalize(), a=person, action=action)]
    clothes = [phrase for phrase in (_garment(seen, "upper"), _garment(seen, "lower"), _footwear(seen)) if phrase]
    things = [_thing(name, seen[name]) for name in _THINGS if name in seen]
    source.shuffle(clothes)
    source.shuffle(things)
    if clothes:
        sentences.append(source.choice(_CLOTHES).format(They=pronoun.capitalize(), clothes=_listed(clothes)))
    if things:
        sentences.append(source.choice(_CARRIED).format(They=pronoun.capitalize(), things=_listed(things)))
    return " ".join(sentences)


def _person(seen: Mapping[str, str]) -> str:
    gender = seen.get("gender", "")
    noun = _PEOPLE.get((gender, seen.get("age", "")), {"male": "man", "female": "woman"}.get(gender, "person"))
    return f"{_with_article(noun)} with {seen['hair']} hair" if "hair" in seen else _with_article(noun)


def _garment(seen: Mapping[str, str], half: str) -> str:
    garment = seen.get(f"{half}_garment")
    if garment is None:
        return ""
    pattern = seen.get(f"{half}_pattern", "plain")
    words = (seen.get(f"{half}_color", ""), "" if pattern == "plain" else pattern, _plain(garment))
    return _with_article(" ".join(word for word in words if word))


def _footwear(seen: Mapping[str, str]) -> str:
    if "shoes" not in seen:
        return ""
    return f"{seen['shoes']} {'boots' if 'boots' in seen else 'shoes'}"


def _thing(name: str, word: str) -> str:
    return _with_article({"gloves": "gloves", "umbrella": "umbrella", "cellphone": "phone"}.get(name, _plain(word)))


def _plain(word: str) -> str:
    return word if word == "t-shirt" else word.replace("-", " ")


def _with_article(phrase: str) -> str:
    if phrase.rsplit(maxsplit=1)[-1] in _PLURALS:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"
