import json
import math
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from passerby.sample import KEY_PATTERN, encode_json, key_from_path, printable

paths = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=200) | st.from_regex(
    r"[a-zA-Z0-9_/.-]{1,120}\.(jpg|png)", fullmatch=True
)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("0002_c1s1_000451_03.jpg", "0002_c1s1_000451_03"),
        ("-1_c1s1_000401_03.jpg", "-1_c1s1_000401_03"),
        ("query/0002_c1s1_000451_03.jpg", "query-0002_c1s1_000451_03-7d752a32e2d2"),
    ],
)
def test_keys_read_like_their_paths(path, key):
    assert key_from_path(path) == key


@pytest.mark.parametrize("path", ["a.png", "a.JPG", "a", "a.b.jpg", "./a.jpg", "x/a.jpg", "é.jpg", "a" * 81 + ".jpg"])
def test_any_path_but_a_plain_jpg_gets_a_hash(path):
    stem, _, digest = key_from_path(path).rpartition("-")
    assert len(digest) == 12
    assert stem == {"a.b.jpg": "a-b", "x/a.jpg": "x-a", "é.jpg": "e"}.get(path, "a" * (67 if len(path) > 80 else 1))


def test_a_name_without_ascii_is_named_by_its_hash():
    assert len(key_from_path("行人.jpg")) == 12


def test_a_long_path_keeps_its_end():
    key = key_from_path("folder/" * 30 + "0002_c1s1_000451_03.jpg")
    assert len(key) <= 80
    assert "0002_c1s1_000451_03-" in key


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", ".hidden.jpg", "..", ".", "a\\b.jpg", "a\nb.jpg", " "]
)
def test_a_hostile_path_gives_a_harmless_key(path):
    assert KEY_PATTERN.fullmatch(key_from_path(path))


@given(paths)
def test_every_path_has_a_key_and_always_the_same(path):
    key = key_from_path(path)
    assert KEY_PATTERN.fullmatch(key)
    assert key_from_path(path) == key


@given(st.lists(paths, min_size=2, unique=True))
def test_distinct_paths_have_distinct_keys(several):
    assert len({key_from_path(path) for path in several}) == len(several)


def test_names_that_fold_to_one_slug_have_distinct_keys():
    several = ["a/b.jpg", "a-b.jpg", "a b.jpg", "a//b.jpg", "a/b.png", "á/b.jpg", "a/b.jpeg", "a/b"]
    assert len({key_from_path(path) for path in several}) == len(several)


def test_a_path_that_is_no_unicode_has_a_key():
    assert key_from_path("caf\udce9.jpg") != key_from_path("caf\udcea.jpg")


scalars = (
    st.text(st.characters(codec="utf-8"))
    | st.integers(-(2**63), 2**64 - 1)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), scalars | st.lists(scalars)))
def test_fields_come_back_from_json_in_their_order(fields):
    decoded = json.loads(encode_json(fields))
    assert decoded == fields
    assert list(decoded) == list(fields)
    assert [type(value) for value in decoded.values()] == [type(value) for value in fields.values()]


def test_json_is_compact_utf_8():
    assert (
        encode_json(MappingProxyType({"b": "é", "a": [1, 2.5], "c": True})) == '{"b":"é","a":[1,2.5],"c":true}'.encode()
    )


@pytest.mark.parametrize(
    "value",
    [None, {}, {"a": 1}, [None], [[1]], (1,), b"x", math.nan, math.inf, [-math.inf], np.float64(1), 2**64, "\udce9"],
    ids=repr,
)
def test_what_json_could_not_give_back_is_refused(value):
    with pytest.raises(ValueError, match="width"):
        encode_json({"key": "a", "width": value})


@given(st.text())
def test_printable_text_is_utf_8_and_unchanged_where_it_was(text):
    shown = printable(text)
    shown.encode()
    assert shown == text or any("\ud800" <= character <= "\udfff" for character in text)


def test_bytes_of_another_encoding_are_spelt_out():
    assert printable("caf\udce9.jpg") == r"caf\udce9.jpg"
