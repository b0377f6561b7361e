import time

import pytest
from jinja2 import UndefinedError

from captioning.render import TemplateError, TemplateFault, check_templates, draw_template, load_templates

VARIABLES = ("person", "hair", "view")
FULL = {"person": "older male", "hair": "short hair", "view": "left"}
EMPTY = dict.fromkeys(FULL, "")


def load(tmp_path, **files):
    for stem, text in files.items():
        (tmp_path / f"{stem}.j2").write_text(text, encoding="utf-8")
    return load_templates(tmp_path, variables=VARIABLES)


def faults_of(tmp_path, pattern):
    with pytest.raises(TemplateError) as caught:
        load(tmp_path, one=pattern)
    return [fault.message for fault in caught.value.faults]


def test_each_line_that_is_no_comment_is_a_pattern_named_by_its_place(tmp_path):
    templates = load(tmp_path, b="# comment\n\n{{ person }}\n  # also one\n{{ hair }}\n", a="{{ view }}")
    assert templates.names == ("a:1", "b:3", "b:5")
    assert [templates.render(index, FULL) for index in range(len(templates))] == ["Left.", "Older male.", "Short hair."]


def test_render_takes_name_or_index(tmp_path):
    templates = load(tmp_path, one="{{ person }}\n{{ hair }}")
    assert templates.render("one:2", FULL) == templates.render(1, FULL) == "Short hair."


def test_render_refuses_an_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="no template is named 'two:1'"):
        load(tmp_path, one="{{ person }}").render("two:1", FULL)


@pytest.mark.parametrize(
    ("pattern", "full", "empty"),
    [
        ("There is {{ person|a }}", "There is an older male.", "There is."),
        ("One {{ hair|as('with ~,') }} is seen", "One with short hair, is seen.", "One is seen."),
        ("One {{ hair|as('has ~') or 'is seen' }}", "One has short hair.", "One is seen."),
        ("One{% if view == 'left' %}, left{% else %}, not left{% endif %}", "One, left.", "One, not left."),
        ("{{ 'b' if not hair else 'c' }}", "C.", "B."),
        ("one. {{ hair }}. two", "One. Short hair. Two.", "One.. Two."),
    ],
)
def test_phrases_drop_with_their_words(tmp_path, pattern, full, empty):
    templates = load(tmp_path, one=pattern)
    assert (templates.render(0, FULL), templates.render(0, EMPTY)) == (full, empty)


def test_all_faults_of_all_files_are_reported_together(tmp_path):
    with pytest.raises(TemplateError) as caught:
        load(tmp_path, a="{{ person }}\n{{ person", b="\n{{ colour }} {{ gown }}\n{% for i in hair %}{% endfor %}")
    places = [(fault.file, fault.line) for fault in caught.value.faults]
    assert places == [("a.j2", 2), ("b.j2", 2), ("b.j2", 2), ("b.j2", 3), ("b.j2", 3)]
    assert "b.j2:2: unknown variable 'colour'; known are hair, person, view" in str(caught.value).splitlines()
    assert all(str(fault) in str(caught.value) for fault in caught.value.faults)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{{ 'a' * 10**9 }}", "Mul is not allowed"),
        ("{% for i in range(10**9) %}a{% endfor %}", "For is not allowed"),
        ("{{ ''.__class__.__mro__ }}", "Getattr is not allowed"),
        ("{{ ''['__class__'] }}", "Getitem is not allowed"),
        ("{{ person.format(hair) }}", "Call is not allowed"),
        ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "Call is not allowed"),
        ("{% set x = person ~ person %}{{ person }}", "Assign is not allowed"),
        ("{% macro x() %}{{ x() }}{% endmacro %}", "Macro is not allowed"),
        ("{% include '/etc/passwd' %}", "Include is not allowed"),
        ("{% extends 'a.j2' %}", "Extends is not allowed"),
        ("{{ range }}", "unknown variable 'range'"),
        ("{{ person|upper }}", "No filter named 'upper'"),
        ("{{ person|center(999999999) }}", "No filter named 'center'"),
        ("{{ person|a(1) }}", "filter 'a' has wrong arguments"),
        ("{{ person|as }}", "filter 'as' has wrong arguments"),
        ("{{ person|as('with') }}", "filter 'as' has wrong arguments"),
        ("{{ person|as('~~') }}", "filter 'as' has wrong arguments"),
        ("{{ person|as(hair) }}", "filter 'as' has wrong arguments"),
        ("{{ 3 }}", "3 is not allowed"),
        ("{{ person < hair }}", "only == and != can compare"),
        ("{{ person if hair }}", "needs an else"),
        ("{{ person is defined }}", "Test is not allowed"),
        ("{{ " + "(" * 900 + "person" + ")" * 900 + " }}", "nests too deeply"),
        ("{{ person" + "|a" * 900 + " }}", "nests too deeply"),
        ("{{ " + "not " * 450 + "person }}", "nests too deeply"),
        ("x" * 2001, "has 2001 characters; allowed are 2000"),
        ("{% if hair %}x", "Unexpected end of template"),
    ],
)
def test_what_could_escape_hang_or_fill_the_memory_is_refused(tmp_path, pattern, message):
    started_at = time.perf_counter()
    assert any(message in found for found in faults_of(tmp_path, pattern))
    assert time.perf_counter() - started_at < 2


@pytest.mark.parametrize(
    "pattern",
    [
        "{{ person" + "|as('~b')" * 150 + " }}",
        "{{ person" + " or hair" * 60 + " }}",
        "{{ person" + " ~ hair" * 280 + " }}",
        "{% if person %}" * 70 + "x" + "{% endif %}" * 70,
    ],
)
def test_the_worst_allowed_patterns_are_quick_and_short(tmp_path, pattern):
    started_at = time.perf_counter()
    text = load(tmp_path, one=pattern).render(0, FULL)
    assert time.perf_counter() - started_at < 2
    assert len(text) < 2 * len(pattern)


def test_a_file_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "one.j2").write_bytes(b"caf\xe9")
    with pytest.raises(TemplateError, match=r"one\.j2:1: is not UTF-8"):
        load_templates(tmp_path, variables=VARIABLES)


def test_missing_folder_and_empty_folder_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_templates(tmp_path / "nowhere", variables=VARIABLES)
    with pytest.raises(TemplateError, match="no pattern"):
        load(tmp_path, one="# nothing but a comment")


def test_digest_follows_names_and_bytes(tmp_path):
    digests = []
    for number, files in enumerate(({"a": "{{ person }}"}, {"b": "{{ person }}"}, {"a": "{{ person }} "})):
        folder = tmp_path / str(number)
        folder.mkdir()
        digests.append(load(folder, **files).digest)
        assert load_templates(folder, variables=VARIABLES).digest == digests[-1]
    assert len(set(digests)) == 3


def test_a_variable_missing_from_the_context_is_an_error(tmp_path):
    with pytest.raises(UndefinedError, match="hair"):
        load(tmp_path, one="{{ hair }}").render(0, {})


def test_check_reports_each_fault_once_with_its_place(tmp_path):
    templates = load(
        tmp_path, good="There is {{ person or 'one' }}", bad="\nWith {{ hair }}\n{{ view }}\n{{ view }} a older"
    )
    faults = check_templates(templates, [FULL, EMPTY, EMPTY, {"person": "male", "view": ""}])
    assert faults == [
        TemplateFault("bad.j2", 2, "dangling 'With.'"),
        TemplateFault("bad.j2", 2, "'hair' is undefined"),
        TemplateFault("bad.j2", 3, "renders nothing"),
        TemplateFault("bad.j2", 4, "wrong article 'a older.'"),
        TemplateFault("bad.j2", 4, "wrong article 'A older.'"),
    ]


def test_draw_depends_on_key_seed_and_index_and_reaches_every_pattern(tmp_path):
    templates = load(tmp_path, one="{{ person }}\n" * 7)
    drawn = [draw_template(templates, key=str(key), seed=0) for key in range(500)]
    assert set(drawn) == set(range(7))
    assert drawn == [draw_template(templates, key=str(key), seed=0) for key in range(500)]
    assert drawn != [draw_template(templates, key=str(key), seed=1) for key in range(500)]
    assert drawn != [draw_template(templates, key=str(key), seed=0, index=1) for key in range(500)]
