import random

import pytest
from hypothesis import given
from hypothesis.strategies import text

from passerby.text import WORD, article, capitalise, join_words, lint, tidy, with_article, words_of

GOOD = (
    "There is an older male with short hair, who wears a long black top with short sleeves, blue bottoms and dark shoes on "
    "an overcast afternoon. He carries no bag but wears a one-piece dress; a uniform lies an hour away."
)


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("adult male", "an adult male"),
        ("male", "a male"),
        ("older person", "an older person"),
        ("uniform", "a uniform"),
        ("unusual bag", "an unusual bag"),
        ("unimpressed man", "an unimpressed man"),
        ("European", "a European"),
        ("one-piece dress", "a one-piece dress"),
        ("used coat", "a used coat"),
        ("honest man", "an honest man"),
        ("hour", "an hour"),
        ("house", "a house"),
        ("8-year-old", "an 8-year-old"),
        ("orange top", "an orange top"),
        ("", ""),
    ],
)
def test_article_follows_the_sound(phrase, expected):
    assert with_article(phrase) == expected


@pytest.mark.parametrize(
    ("items", "expected"), [([], ""), (["A"], "A"), (["A", "B"], "A and B"), (["A", "B", "C"], "A, B and C")]
)
def test_words_are_joined_as_english_lists(items, expected):
    assert join_words(items) == expected


def test_conjunction_can_be_chosen():
    assert join_words(["dress", "hat"], "or") == "dress or hat"


def test_capitalise_starts_every_sentence_and_leaves_the_rest():
    assert capitalise("a man. he wears a BLACK top. it is noon.") == "A man. He wears a BLACK top. It is noon."
    assert capitalise("") == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \n b\t c ", "a b c."),
        ("a , b .", "a, b."),
        ("a.. ", "a."),
        ("a. . ", "a."),
        ("why ?", "why?"),
        (" ", ""),
        (" . ", ""),
    ],
)
def test_tidy_closes_gaps_and_ends_with_one_period(text, expected):
    assert tidy(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "A person.",
        "It is noon. She wears boots but no hat, glasses or dress and carries no bag.",
        'A man wears boots (black) and "new" shoes.',
        "A male in shoes is seen.",
        "A female wearing glasses has a pair of boots.",
        "A teenager wore trousers and carried a bag.",
        "She wears a hoodie decorated with a pattern alongside brown jeans.",
    ],
)
def test_lint_is_silent_on_good_english(text):
    assert lint(text) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("There is a adult male.", "wrong article 'a adult'"),
        ("An uniform is worn.", "wrong article 'An uniform'"),
        ("He wears an black top.", "wrong article 'an black'"),
        ("He wears a black shoes.", "article 'a' before plural 'shoes.'"),
        ("She has a long blue jeans and a bag.", "article 'a' before plural 'jeans'"),
        ("He wears wears boots.", "doubled word 'wears'"),
        ("He wears  boots.", "doubled space"),
        ("He wears boots , and a hat.", "space before punctuation"),
        ("He wears boots,and a hat.", "no space after punctuation"),
        ("he wears boots.", "lower-case sentence start"),
        ("He wears boots. she does not.", "lower-case sentence start"),
        ("He wears {{ top }}.", "leftover markup"),
        ("He wears a [MASK].", "leftover markup"),
        ("He wears lower_color.", "leftover markup"),
        ("He wears None.", "leftover 'None'"),
        ("A person, who wears, is seen.", "dangling 'wears,'"),
        ("A person with.", "dangling 'with.'"),
        ("He wears boots and.", "dangling 'and.'"),
        ("He wears boots, .", "doubled punctuation"),
        ("He wears boots,, and a hat.", "doubled punctuation"),
        ("He wears boots.. She runs.", "doubled punctuation"),
        (", a person is seen.", "punctuation at the start"),
        ("He wears boots", "no final period"),
        ("", "no final period"),
        ("He wears boots..", "doubled punctuation"),
        ("He has caf\u00e9 shoes.", "not ASCII"),
        ("He wears\nboots.", "newline"),
        ("He wears boots.\n", "newline"),
    ],
)
def test_lint_names_each_fault(text, message):
    assert message in lint(text)


def test_lint_finds_any_sign_that_does_not_belong():
    # The quick way past the detailed patterns must not hide what they would find.
    signs = random.Random(0)
    for _ in range(500):
        place = signs.randrange(1, len(GOOD) - 1)
        for sign in ("  ", "{", "_", "\n", "\u00e9", ",,", " ,", "..", " None "):
            assert lint(GOOD[:place] + sign + GOOD[place:]), (place, sign)


def test_article_alone_says_which():
    assert (article("hat"), article("Older man")) == ("a", "an")


@given(text(alphabet="aB9-'\u2019 \t\n,.\u00e9_\u0130"))
def test_words_are_those_of_the_whole_text(line):
    assert words_of(line) == WORD.findall(line.lower())
