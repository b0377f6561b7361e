import itertools
import json
from fractions import Fraction

import pytest

from captioning.attributes import SLOTS
from captioning.refine import ProbabilityTable, measure_probabilities, parse_threshold, read_probabilities

# FineGPR's published counts over 1,150 identities (attribute figure of the FineGPR repository; adult from VTBR's text).
PUBLISHED = {
    "gender": {"male": 770, "female": 380},
    "hair": {"long": 311, "short": 839},
    "age": {"teenager": 33, "adult": 1049, "older": 25},
    "glasses": {"yes": 14, "no": 1136},
    "sleeve": {"short": 318, "long": 832},
    "top_length": {"long": 716, "short": 434},
    "dress": {"yes": 72, "no": 1078},
    "boots": {"yes": 402, "no": 748},
    "hat": {"yes": 109, "no": 1041},
    "bag": {"yes": 25, "no": 1125},
    "shoes": {"dark": 727, "light": 423},
}
IMAGES = {"view": {"front": 9, "right": 9, "back": 9, "left": 9}}


def published_people():
    people = [{} for _ in range(1150)]
    for slot, counts in PUBLISHED.items():
        words = [word for word, count in counts.items() for _ in range(count)]
        for person, word in zip(people, words, strict=False):
            person[slot] = word
    return people


@pytest.fixture(scope="module")
def published():
    return measure_probabilities(published_people(), IMAGES)


def mentioned(table, threshold):
    return table.mentioned(parse_threshold(threshold))


def test_lambda_08_drops_what_vtbr_drops(published):
    every = {(slot, word) for slot, words in SLOTS.items() for word in words}
    dropped = {("age", "adult"), ("glasses", "no"), ("dress", "no"), ("hat", "no"), ("bag", "no")}
    assert every - mentioned(published, "0.8") == dropped


def test_075_08_and_09_select_alike_on_the_published_counts(published):
    assert mentioned(published, "0.75") == mentioned(published, "0.8") == mentioned(published, "0.9")


def test_lambda_one_mentions_everything(published):
    assert mentioned(published, "1") == {(slot, word) for slot, words in SLOTS.items() for word in words}


def test_the_kept_sets_are_nested(published):
    steps = [mentioned(published, text) for text in ("0", "0.1", "0.3", "0.5", "0.7", "0.8", "0.91", "1")]
    assert all(smaller <= larger for smaller, larger in itertools.pairwise(steps))


@pytest.mark.parametrize(("threshold", "is_kept"), [("0.7", True), ("7/10", True), ("0.6999999999999999999", False)])
def test_the_comparison_is_exact_and_inclusive(threshold, is_kept):
    people = [{"hat": "yes"}] * 7 + [{"hat": "no"}] * 3
    table = measure_probabilities(people, {})
    assert (("hat", "yes") in mentioned(table, threshold)) is is_kept


def test_unknown_slots_do_not_count_as_no():
    table = measure_probabilities([{"hat": "yes"}, {}, {}], {})
    row = next(row for row in table.rows if (row.slot, row.value) == ("hat", "yes"))
    assert (row.count, row.total) == (1, 1)


def test_views_count_by_image():
    table = measure_probabilities([{}], {"view": {"front": 3, "back": 1}})
    row = next(row for row in table.rows if row.value == "front")
    assert (row.count, row.total, row.level) == (3, 4, "image")


@pytest.mark.parametrize("text", ["-0.1", "1.5", "high", "nan", "1/0", "inf"])
def test_a_lambda_that_is_no_probability_is_refused(text):
    with pytest.raises(ValueError, match=text):
        parse_threshold(text)


def test_a_stored_table_applies_to_another_split(published, tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"probabilities": published.to_json(Fraction(4, 5))}))
    assert read_probabilities(manifest) == published


def test_a_manifest_without_probabilities_is_refused(tmp_path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    with pytest.raises(ValueError, match="stores no probabilities"):
        read_probabilities(manifest)


def test_a_stored_row_that_lacks_a_count_is_refused():
    with pytest.raises(ValueError, match="count"):
        ProbabilityTable.from_json([{"slot": "hat", "value": "yes"}])
