import json

import pandas as pd
import pytest

from captioning.attributes import IDENTITY_SLOTS, read_attributes
from passerby.synthetic import FINEGPR_NAMES, WORDS

CODES = dict.fromkeys(IDENTITY_SLOTS, "01")
FIRST_WORDS = {slot: values[0] for slot, values in IDENTITY_SLOTS.items()}


def write_csv(path, *rows, columns=("id", *IDENTITY_SLOTS)):
    lines = [",".join(columns), *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("code", ["01", "1", "1.0", " 01 "])
def test_codes_and_words_mean_the_same(tmp_path, code):
    coded = write_csv(tmp_path / "codes.csv", ["1", *[code] * 13])
    worded = write_csv(tmp_path / "words.csv", ["0001", *FIRST_WORDS.values()])
    assert read_attributes(coded).people == read_attributes(worded).people == {"0001": FIRST_WORDS}


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json"])
def test_every_format_reads_alike(tmp_path, suffix):
    frame = pd.DataFrame([{"id": 3, **CODES}, {"id": 12, **CODES, "age": "02"}])
    path = tmp_path / f"table{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        path.write_text(json.dumps(frame.to_dict("records")))
    table = read_attributes(path)
    assert table.people == {"0003": FIRST_WORDS, "0012": {**FIRST_WORDS, "age": "adult"}}
    assert table.problems == ()


def test_json_may_map_people_to_records(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"0003": CODES}))
    assert read_attributes(path).people == {"0003": FIRST_WORDS}


@pytest.mark.parametrize("unknown", ["", "unknown", "NaN", "-1"])
def test_unknown_stays_unknown_and_is_never_no(tmp_path, unknown):
    path = write_csv(tmp_path / "table.csv", ["1", unknown], columns=("id", "hat"))
    table = read_attributes(path)
    assert table.people == {"0001": {}}
    assert table.problems == ()


def test_a_code_out_of_range_is_reported_with_file_and_line(tmp_path):
    path = write_csv(tmp_path / "table.csv", ["1", "01"], ["2", "07"], columns=("id", "age"))
    table = read_attributes(path)
    assert table.people == {"0001": {"age": "teenager"}, "0002": {}}
    (problem,) = table.problems
    assert str(problem).startswith("table.csv:3: person 0002: age is '07'; allowed are codes 1…3")


def test_columns_may_have_other_spellings(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["1", "GREY", "y"], columns=("Person ID", "Upper-body Colour", "Glass"))
    assert read_attributes(path).people == {"0001": {"upper_color": "gray", "glasses": "yes"}}


def test_an_unused_column_is_reported_once(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["1", "x"], ["2", "x"], columns=("id", "shoe size"))
    assert ["'shoe size'" in problem.message for problem in read_attributes(path).problems] == [True]


def test_a_second_row_of_a_person_is_reported_and_left_out(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["1", "male"], ["01", "female"], columns=("id", "gender"))
    table = read_attributes(path)
    assert table.people == {"0001": {"gender": "male"}}
    assert str(table.problems[0]) == "t.csv:3: person 0001 stands in line 2 already; the row is left out"


def test_a_row_without_a_person_is_reported(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["", "male"], ["1", "male"], columns=("id", "gender"))
    table = read_attributes(path)
    assert list(table.people) == ["0001"]
    assert table.problems[0].line == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("table.xlsx", "x", r"'\.xlsx'; allowed are \.csv"),
        ("table.json", "{", "is no JSON"),
        ("table.json", "[1]", "not a list of records"),
        ("table.parquet", "no parquet", "is damaged, or of another kind"),
        ("table.csv", "name,hat\nx,01\n", "no row with a person id"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_attributes(path)


def test_the_renderer_speaks_of_the_same_attributes():
    assert tuple(FINEGPR_NAMES) == tuple(IDENTITY_SLOTS)
    assert {slot: tuple(filter(None, WORDS[slot])) for slot in IDENTITY_SLOTS} == IDENTITY_SLOTS
