"""Conditions in SQL: they keep what a naive filter keeps, and can ask for nothing but a row's own columns."""

import sys

import pyarrow as pa
import pytest
from person_shards import fields_of, keys_of, write_people_shards

from passerby.curate.rules import Rules
from passerby.curate.select import select
from passerby.curate.where import Condition, evaluate


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A data set for tests that leave it as it is."""
    return write_people_shards(tmp_path_factory.mktemp("sound") / "root")


CONDITIONS = [
    ("bag_confidence > 0.4 and bag <> ''", lambda row: row["bag_confidence"] > 0.4 and row["bag"] != ""),
    ("BAG = 'handbag' OR camera_id IN (2, 5)", lambda row: row["bag"] == "handbag" or row["camera_id"] in (2, 5)),
    ("bag LIKE '%pack'", lambda row: row["bag"].endswith("pack")),
    ("list_contains(tags, 'b')", lambda row: "b" in row["tags"]),
    ("len(tags) = 1 -- one", lambda row: len(row["tags"]) == 1),
    ("tags[1] = 'a'", lambda row: row["tags"][:1] == ["a"]),  # of an empty list it is null, and null keeps nothing
    ("bag_confidence BETWEEN 0.2 AND 0.5", lambda row: 0.2 <= row["bag_confidence"] <= 0.5),
    ("CASE WHEN bag = '' THEN camera_id = 1 ELSE true END", lambda row: row["bag"] != "" or row["camera_id"] == 1),
    ("TRY_CAST(person_id AS INTEGER) % 2 = 0", lambda row: row["person_id"] != "" and int(row["person_id"]) % 2 == 0),
    ("regexp_matches(caption, '[37][.]$')", lambda row: row["caption"][-2] in "37"),
    ("true", lambda row: True),
]


@pytest.mark.parametrize(("condition", "holds"), CONDITIONS)
def test_a_condition_keeps_what_a_naive_filter_keeps(sound, tmp_path, condition, holds):
    naive = [row["key"] for row in fields_of(sound) if holds(row)]
    select(sound, tmp_path / "out", Rules(where=condition))
    assert keys_of(tmp_path / "out") == naive
    assert naive


ATTACKS = [
    ("true; DROP TABLE samples", "must be one condition"),
    ("true); SELECT (1", "must be one condition"),
    ("true); COPY samples TO '/tmp/stolen.csv'; SELECT (1", "must be one condition"),
    ("true) ORDER BY (key", "goes on after its end"),
    ("true) LIMIT (1", "goes on after its end"),
    ("true) UNION SELECT * FROM read_csv('/etc/passwd') WHERE (true", "goes on after its end"),
    ("key IN (SELECT content FROM read_text('/etc/passwd'))", "holds a subquery"),
    ("EXISTS (FROM '/etc/passwd')", "holds a subquery"),
    ("(FROM samples LIMIT 1) IS NULL", "holds a subquery"),
    ("read_text('/etc/passwd') = ''", "may not call read_text"),
    ("getenv('HOME') = ''", "may not call getenv"),
    ("current_setting('home_directory') = ''", "may not call current_setting"),
    ("random() < 0.5", "may not call random"),
    ("now() > TIMESTAMP '2026-01-01'", "may not call now"),
    ("nextval('s') = 1", "may not call nextval"),
    ("count(*) > 1", "may not call count_star"),
    ("row_number() OVER () = 1", "holds a window"),
    ("COLUMNS('key') = ''", "holds a star"),
    ("len(list_filter(tags, lambda tag: true)) = 0", "may not call list_filter"),
    ("$1 = key", "goes on after its end|holds a parameter"),
    ("#1 = ''", "holds a positional reference"),
    ("", "must be one condition|may not call row"),
    ("key = 'a", "unterminated"),
    ("true /*", "unterminated"),
    ("bag", "'bag' is VARCHAR"),
    ("bag_confidence", "'bag_confidence' is DOUBLE"),
    ("CAST(bag AS INTEGER) = 1", "fails: Conversion Error"),
]


@pytest.mark.parametrize(("attack", "message"), ATTACKS)
def test_anything_but_a_condition_on_the_row_is_refused_in_one_line(sound, tmp_path, attack, message):
    with pytest.raises(ValueError, match=message) as caught:
        select(sound, tmp_path / "out", Rules(where=attack or " "))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "query", ["(SELECT content FROM read_text('/etc/hostname')) <> ''", "EXISTS (FROM '/etc/hostname')"]
)
def test_what_the_parser_let_through_would_still_find_no_file(query):
    with pytest.raises(ValueError, match=r"disabled by configuration|does not exist"):
        evaluate(Condition(query, ()), pa.table({"key": ["a"]}))


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("bag_confidense > 1", "'bag_confidense', which is no column; there are bag_confidence"),
        ("samples.bag = ''", r"'samples\.bag', which is no column"),
        ("zzz = 1", "'zzz', which is no column; there are status, reason"),
    ],
)
def test_an_unknown_column_is_answered_with_those_near_it(sound, tmp_path, condition, message):
    with pytest.raises(ValueError, match=message):
        select(sound, tmp_path / "out", Rules(where=condition))
    assert not (tmp_path / "out").exists()


def test_without_duckdb_the_extra_is_named(sound, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install passerby\[select\]"):
        select(sound, tmp_path / "out", Rules(where="true"))
    select(sound, tmp_path / "out", Rules(per_person=1))
