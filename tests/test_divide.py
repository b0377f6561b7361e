from itertools import pairwise

import pytest

from captioning.divide import OPTIONAL, PHRASES, REQUIRED, load_phrases
from captioning.marked_yaml import WordsError

BANK = load_phrases()
SHIPPED = PHRASES.read_text()


@pytest.fixture
def edited(tmp_path):
    """Write the shipped bank with one text replaced; give the file and the line of the replacement."""

    def write(old, new):
        assert SHIPPED.count(old) >= 1
        path = tmp_path / "phrases.yaml"
        path.write_text(SHIPPED.replace(old, new, 1))
        return path, SHIPPED[: SHIPPED.index(old)].count("\n") + 1

    return write


@pytest.mark.parametrize(
    ("attribute", "count", "negatives"),
    [
        ("upper_clothes", 672, 0),
        ("lower_clothes", 228, 0),
        ("age", 4, 0),
        ("gender", 2, 0),
        ("action", 6, 0),
        ("hair", 5, 0),
        ("bag", 7, 1),
        ("glasses", 3, 1),
        ("smoke", 2, 1),
        ("hat", 4, 1),
        ("cellphone", 4, 1),
        ("umbrella", 2, 1),
        ("gloves", 2, 1),
        ("vehicle", 4, 1),
    ],
)
def test_each_attribute_has_its_count_of_phrases(attribute, count, negatives):
    phrases = BANK.phrases[BANK.block(attribute)]
    assert len(phrases) == count
    assert {phrase.attribute for phrase in phrases} == {attribute}
    assert sum(phrase.is_negative for phrase in phrases) == negatives


def test_the_bank_has_917_required_and_28_optional_prompts():
    counts = {True: 0, False: 0}
    for attribute in BANK.attributes:
        counts[attribute.is_required] += len(attribute.phrases)
    assert counts == {True: 917, False: 28}
    assert len(BANK.prompts) == 945


def test_ids_and_prompts_are_unique():
    assert len({phrase.id for phrase in BANK.phrases}) == len(set(BANK.prompts)) == 945


def test_the_blocks_lie_one_after_another():
    blocks = [BANK.block(name) for name in (*REQUIRED, *OPTIONAL)]
    assert blocks[0].start == 0
    assert blocks[-1].stop == 945
    assert all(first.stop == second.start for first, second in pairwise(blocks))


@pytest.mark.parametrize(
    ("phrase_id", "surface", "number", "prompt"),
    [
        (
            "upper_clothes.white.pure.t-shirt",
            "a white pure color t-shirt",
            "singular",
            "A photo of a person wearing a white pure color t-shirt.",
        ),
        (
            "upper_clothes.orange.plaid.wind_coat",
            "an orange plaid wind coat",
            "singular",
            "A photo of a person wearing an orange plaid wind coat.",
        ),
        (
            "lower_clothes.black.none.long_pants",
            "black long pants",
            "plural",
            "A photo of a person wearing black long pants.",
        ),
        (
            "lower_clothes.white.none.short_skirt",
            "a white short skirt",
            "singular",
            "A photo of a person wearing a white short skirt.",
        ),
        ("age.child", "child", "singular", "A photo of a child."),
        ("age.elderly", "elderly", "singular", "A photo of an elderly person."),
        ("gender.man", "man", "singular", "A photo of a man."),
        ("action.walking", "walking", "singular", "A photo of a person who is walking."),
        ("hair.bald", "a bald head", "singular", "A photo of a person with a bald head."),
        ("bag.backpack", "a backpack", "singular", "A photo of a person who carries a backpack."),
        ("bag.none", "", "singular", "A photo of a person who doesn't carry a bag."),
        ("glasses.sunglasses", "sunglasses", "plural", "A photo of a person who wears sunglasses."),
        ("smoke.cigarette", "a cigarette", "singular", "A photo of a person who is smoking a cigarette."),
        ("hat.ordinary", "an ordinary hat", "singular", "A photo of a person who wears an ordinary hat."),
        ("cellphone.looking", "a cell phone", "singular", "A photo of a person who is looking at a cell phone."),
        ("umbrella.umbrella", "an umbrella", "singular", "A photo of a person who holds an umbrella."),
        ("vehicle.bicycle", "a bicycle", "singular", "A photo of a person who is riding a bicycle."),
        ("vehicle.none", "", "singular", "A photo of a person who is not riding any vehicle."),
    ],
)
def test_a_phrase_reads_as_specified(phrase_id, surface, number, prompt):
    phrase = next(phrase for phrase in BANK.phrases if phrase.id == phrase_id)
    assert (phrase.surface, phrase.number, phrase.prompt) == (surface, number, prompt)


def test_clothes_keep_their_parts():
    phrase = next(phrase for phrase in BANK.phrases if phrase.id == "upper_clothes.khaki.striped.suit_jacket")
    assert (phrase.colour, phrase.pattern, phrase.garment) == ("khaki", "striped", "suit jacket")


def test_an_unknown_block_is_named():
    with pytest.raises(ValueError, match="no attribute 'shoes'"):
        BANK.block("shoes")


def test_the_digest_follows_the_words_and_not_the_layout(edited):
    path, _ = edited("version: 1", "# a remark\nversion:   1")
    assert load_phrases(path).digest == BANK.digest
    path, _ = edited("surface: walking", "surface: strolling")
    assert load_phrases(path).digest != BANK.digest


def test_a_garment_added_to_the_grid_comes_in_every_colour_and_pattern(edited):
    path, _ = edited("          - hoodie\n", "          - hoodie\n          - poncho\n")
    bank = load_phrases(path)
    assert len(bank.prompts) == 945 + 12 * 4
    assert "A photo of a person wearing a green striped poncho." in bank.prompts


def test_an_optional_attribute_may_be_left_out(tmp_path):
    start = SHIPPED.index("  vehicle:\n")
    path = tmp_path / "phrases.yaml"
    path.write_text(SHIPPED[:start])
    assert [attribute.name for attribute in load_phrases(path).attributes][-1] == "gloves"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: 2", "unknown value (2), allowed: 1"),
        ("  age:\n", "  shoes:\n", "unknown field (shoes), allowed: upper_clothes, lower_clothes, age"),
        ("          - hoodie\n", "          - shirt\n", "the id upper_clothes.black.pure.shirt is given twice"),
        ("surface: running", "surface: walking", "the prompt 'A photo of a person who is walking.' is given twice"),
        ("id: running", "id: walking", "the id action.walking is given twice"),
        (
            "negative: true, prompt: A photo of a person who doesn't carry",
            "noun: no, prompt: A ph",
            "0 negative phrases",
        ),
        ("negative: true", "negative: yes", "unknown value (yes), allowed: true, false"),
        ("number: plural", "number: dual", "unknown value (dual), allowed: singular, plural"),
        ("pronoun: she", "pronoun: it", "unknown pronoun (it), allowed: he, she, they"),
        ("modifier: young ~", "modifier: young", "`modifier` (young) must have one ~"),
        ("predicate: hair is long", "predicate: long hair", "`predicate` (long hair) must have the verb `is`"),
        (", modifier: elderly ~", "", "a phrase of age needs the field `modifier`"),
        ("noun: backpack", "colour: red", "a phrase of bag needs the field `noun`"),
        ("surface: standing", "surface: ständing", "expected ASCII words on one line"),
        ("[black, white", "[[black], white", "expected words (a list)"),
        ("view_dependent: false", "view_dependent: perhaps", "unknown value (perhaps), allowed: true, false"),
        ("prompt: A photo of a person who is {surface}.\n", "\n", "the phrase has no prompt"),
    ],
)
def test_a_fault_is_named(edited, old, new, message):
    path, _ = edited(old, new)
    with pytest.raises(WordsError) as caught:
        load_phrases(path)
    assert any(message in fault for fault in caught.value.faults), caught.value.faults


def test_a_fault_is_named_with_its_line(edited):
    path, line = edited("surface: squatting", "surfaces: squatting")
    with pytest.raises(WordsError) as caught:
        load_phrases(path)
    assert caught.value.faults[0].startswith(f"{path}:{line}: ")


def test_all_faults_are_named_together(tmp_path):
    path = tmp_path / "phrases.yaml"
    path.write_text(SHIPPED.replace("modifier: young ~", "modifier: young").replace("number: plural", "number: dual"))
    with pytest.raises(WordsError) as caught:
        load_phrases(path)
    assert len(caught.value.faults) == 1 + 3


@pytest.mark.parametrize("text", ["", "version: [1", "!!python/object/apply:os.system ['true']", "- a\n- b"])
def test_what_is_no_bank_is_refused(tmp_path, text):
    path = tmp_path / "phrases.yaml"
    path.write_text(text)
    with pytest.raises(WordsError, match=r"phrases\.yaml:1: "):
        load_phrases(path)


def test_a_grid_cannot_outgrow_the_bank(edited):
    many = ", ".join(f"colour{i}" for i in range(700))
    path, _ = edited("colours: [black,", f"colours: [{many},")
    with pytest.raises(WordsError, match="more than the 32767 phrases"):
        load_phrases(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.yaml"):
        load_phrases(tmp_path / "none.yaml")


@pytest.mark.slow  # open_clip takes ten seconds to import
def test_clip_reads_every_prompt_in_16_tokens():
    tokenizer = pytest.importorskip("open_clip.tokenizer").SimpleTokenizer()
    longest = max(len(tokenizer.encode(prompt)) for prompt in BANK.prompts)
    assert longest + 2 <= 16  # with start and end
