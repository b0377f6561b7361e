"""Labels beside what a data set says: who is compared with whom, and the scores by hand and by a naive loop."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from captioning.attributes import IDENTITY_SLOTS
from captioning.divide import load_phrases
from passerby.report.labels import LabelMap, names_value, read_label_map, read_labels
from passerby.report.measure import Measurement, measure
from passerby.report.sources import open_source
from templates import TEMPLATES

ROWS = [
    # person, gender and its confidence, hat and its confidence, upper clothes
    ("1", "gender.man", 0.9, "hat.cap", 0.95, "upper_clothes.red.pure.coat"),
    ("1", "gender.woman", 0.6, "", 0.3, "upper_clothes.red.plaid.t-shirt"),
    ("2", "gender.woman", 0.8, "", 0.1, "upper_clothes.blue.pure.coat"),
    ("3", "gender.woman", 0.7, "hat.helmet", 0.99, "upper_clothes.blue.pure.coat"),
    ("9", "gender.man", 0.5, "", 0.2, "upper_clothes.red.pure.coat"),
]


@pytest.fixture
def captions(tmp_path):
    names = ("person_id", "gender", "gender_confidence", "hat", "hat_confidence", "upper_clothes")
    rows = [
        {
            "key": f"k{place}",
            "caption": "A man.",
            **dict(zip(names, row, strict=True)),
            "shoes": ("dark", "")[place % 2],
        }
        for place, row in enumerate(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "captions.parquet")
    return tmp_path / "captions.parquet"


def agreement(captions, labels: str, label_map: LabelMap | None = None) -> dict:
    (captions.parent / "labels.csv").write_text(labels)
    read = read_labels(captions.parent / "labels.csv", label_map or LabelMap())
    return measure(Measurement(open_source(str(captions)), read))["fidelity"]["agreement"]


def test_labels_of_people_count_for_each_of_their_images(captions):
    found = agreement(captions, "id,gender\n1,man\n2,woman\n3,man\n4,man\n")
    assert found["labels"] == {
        "name": "labels.csv",
        "rows": 4,
        "rows_unmatched": 1,
        "matched_by": "person_id",
        "images_matched": 4,
    }
    scores = found["attributes"]["gender"]
    assert scores["compared"] == 4
    assert scores["classes"] == {"man": {"images": 3, "correct": 1}, "woman": {"images": 1, "correct": 1}}
    assert scores["accuracy"] == 0.5
    assert scores["balanced_accuracy"] == pytest.approx((1 / 3 + 1) / 2, abs=1e-6)
    assert scores["majority_share"] == 0.75
    # answers and confidences: right 0.9, wrong 0.6, right 0.8, wrong 0.7; each in a bin of its own
    assert scores["ece"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.7) / 4)
    assert scores["thresholds"][2] == {"confidence": 0.7, "coverage": 0.75, "accuracy": pytest.approx(2 / 3, abs=1e-6)}
    assert scores["thresholds"][-1] == {"confidence": 0.99, "coverage": 0.0, "accuracy": None}


def test_labels_of_images_count_for_one(captions):
    found = agreement(captions, "key,gender\nk0,man\nk4,woman\n")
    assert found["labels"]["matched_by"] == "key"
    assert found["attributes"]["gender"]["accuracy"] == 0.5


def test_yes_and_no_ask_whether_there_is_one(captions):
    scores = agreement(captions, "key,hat\nk0,yes\nk1,no\nk2,yes\nk3,no\n")["attributes"]["hat"]
    assert scores["compared_as"] == "present or not"
    assert scores["classes"] == {"no": {"images": 2, "correct": 1}, "yes": {"images": 2, "correct": 1}}
    # an empty answer is as sure as its phrase was unlikely: right 0.95, right 0.7, wrong 0.9, wrong 0.99
    assert scores["ece"] == pytest.approx(abs(1 - 0.95 + 0 - 0.99) / 4 + (0.3 + 0.9) / 4)


def test_none_is_a_value_where_others_have_names(captions):
    scores = agreement(captions, "key,hat\nk0,cap\nk1,none\nk3,cap\n")["attributes"]["hat"]
    assert scores["compared_as"] == "values"
    assert scores["classes"] == {"cap": {"images": 2, "correct": 1}, "none": {"images": 1, "correct": 1}}


def test_what_cannot_be_compared_is_counted_with_its_reason(captions):
    scores = agreement(captions, "key,gender,shoes,sleeve\nk0,male,dark,long\nk1,,dark,long\nk2,woman,dark,long\n")
    assert scores["left_out"] == ["sleeve"]
    assert scores["attributes"]["gender"]["not_compared"] == {
        "no label": 1,
        "no value 'male' occurs; if it is one, --label-map can say so": 1,
    }
    assert scores["attributes"]["gender"]["compared"] == 1
    assert scores["attributes"]["shoes"]["not_compared"] == {"no value in the data set": 1}
    assert scores["attributes"]["shoes"]["ece"] is None


def test_a_label_map_says_what_words_and_columns_are_called(captions, tmp_path):
    (tmp_path / "map.yaml").write_text(
        "sex: {attribute: gender, male: man}\ncolour: {attribute: upper_clothes, green: green}\n"
    )
    label_map = read_label_map(tmp_path / "map.yaml")
    found = agreement(captions, "key,sex,colour\nk0,male,red\nk1,male,green\nk2,woman,blue\n", label_map)["attributes"]
    assert found["sex"]["attribute"] == "gender"
    assert found["sex"]["classes"] == {"male": {"images": 2, "correct": 1}, "woman": {"images": 1, "correct": 1}}
    # no image is green, but the map vouches for the word: the model never chose it, and is wrong
    assert found["colour"]["classes"]["green"] == {"images": 1, "correct": 0}
    assert found["colour"]["accuracy"] == pytest.approx(2 / 3, abs=1e-6)


def test_a_rival_that_no_image_got_is_a_word_of_the_data_set(tmp_path):
    rows = [{"key": "k", "caption": "A man.", "age": "age.young", "runners_up": ["age.elderly"]}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    scores = agreement(tmp_path / "a.parquet", "key,age\nk,elderly\n")["attributes"]["age"]
    assert (scores["compared"], scores["accuracy"]) == (1, 0.0)


def test_scores_are_those_of_a_naive_loop(tmp_path):
    generator = random.Random(0)
    said, known = [], []
    for place in range(400):
        label = generator.choice(("short", "long", "long", "bald"))
        value = label if generator.random() < 0.6 else generator.choice(("short", "long"))
        confidence = generator.choice((round(generator.random(), 6), generator.randrange(16) / 15))
        known.append({"key": f"{place}", "caption": "A.", "hair": f"hair.{value}", "hair_confidence": confidence})
        said.append((place, label))
    pq.write_table(pa.Table.from_pylist(known), tmp_path / "a.parquet")
    text = "key,hair\n" + "".join(f"{place},{label}\n" for place, label in said)
    scores = agreement(tmp_path / "a.parquet", text)["attributes"]["hair"]
    pairs = [
        (row["hair_confidence"], row["hair"] == f"hair.{label}") for row, (_, label) in zip(known, said, strict=True)
    ]
    error = 0.0
    for place in range(15):
        low, high = place / 15, (place + 1) / 15
        inside = [pair for pair in pairs if low < pair[0] <= high or (place == 0 and pair[0] == 0)]
        if inside:
            accuracy = sum(right for _, right in inside) / len(inside)
            error += len(inside) / 400 * abs(accuracy - sum(confidence for confidence, _ in inside) / len(inside))
    assert scores["ece"] == pytest.approx(error, abs=2e-6)
    recalls = []
    for name in ("bald", "long", "short"):
        of_class = [right for (_, right), (_, label) in zip(pairs, said, strict=True) if label == name]
        recalls.append(sum(of_class) / len(of_class))
    assert scores["balanced_accuracy"] == pytest.approx(sum(recalls) / 3, abs=1e-6)
    for step in scores["thresholds"]:
        above = [right for confidence, right in pairs if confidence >= step["confidence"]]
        assert step["coverage"] == pytest.approx(len(above) / 400)
        assert step["accuracy"] == pytest.approx(sum(above) / len(above), abs=1e-6)


@pytest.mark.parametrize(
    ("label", "value", "is_named"),
    [
        ("upper.black.pure.t-shirt", "upper.black.pure.t-shirt", True),
        ("black.pure.t-shirt", "upper.black.pure.t-shirt", True),
        ("t-shirt", "upper.black.pure.t-shirt", True),
        ("black", "upper.black.pure.t-shirt", True),
        ("shirt", "upper.black.pure.t-shirt", False),
        ("upper", "upper.black.pure.t-shirt", False),
        ("long", "long", True),
        ("none", "", True),
        ("yes", "", False),
        ("", "", False),
    ],
)
def test_a_label_names_an_id_or_a_part_of_it(label, value, is_named):
    assert names_value(label, value, "upper") is is_named


def test_the_shipped_map_translates_finegpr_into_luperson_t():
    label_map, phrases = read_label_map(TEMPLATES / "report" / "finegpr_labels.yaml"), load_phrases().phrases
    for column, words in label_map.words.items():
        attribute = label_map.attributes.get(column, column)
        assert words.keys() == set(IDENTITY_SLOTS[column])
        for word in words.values():
            assert any(names_value(word, phrase.id, attribute) for phrase in phrases), (column, word)


def test_csv_parquet_and_json_say_the_same(tmp_path):
    rows = [{"person_id": "0001", "hat": "yes", "age": ""}, {"person_id": "0002", "hat": "no", "age": "3"}]
    (tmp_path / "a.csv").write_text("person_id,hat,age\n0001,yes,\n0002,no,3\n")
    pq.write_table(
        pa.table({"person_id": ["0001", "0002"], "hat": [True, False], "age": pa.array([None, 3])}),
        tmp_path / "a.parquet",
    )
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for suffix in ("csv", "parquet", "json"):
        labels = read_labels(tmp_path / f"a.{suffix}", LabelMap())
        assert labels.ids.to_pylist() == ["0001", "0002"]
        assert {name: column.to_pylist() for name, column in labels.columns.items()} == {
            "hat": ["yes", "no"],
            "age": ["", "3"],
        }


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a.csv", "name,hat\na,yes\n", "no column key or person_id or id"),
        ("a.csv", "id,hat\na,yes\na,no\n", "two rows for id 'a'"),
        ("a.csv", "", "cannot be read as labels"),
        ("a.json", "[1]", "a list of objects"),
        ("a.xls", "", "not '.xls'"),
        ("a.parquet", "boo", "cannot be read as labels"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path, name, text, fault):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=fault):
        read_labels(tmp_path / name, LabelMap())


def test_a_map_of_unknown_columns_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("id,hat\na,yes\n")
    with pytest.raises(ValueError, match="names hut"):
        read_labels(tmp_path / "a.csv", LabelMap({"hut": "hat"}))


@pytest.mark.parametrize("text", ["boo", "hat: cap", "hat: {a: [b]}", "hat: {a", "\ud800"])
def test_what_is_no_label_map_is_refused(tmp_path, text):
    (tmp_path / "map.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError, match=r"map\.yaml is no"):
        read_label_map(tmp_path / "map.yaml")
