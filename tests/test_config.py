"""Strict reading of configurations: everything that is wrong at once, and nothing that is not asked for."""

import tomllib
from dataclasses import dataclass
from typing import Literal

import pytest

from passerby.config import ConfigError, apply_settings, read_section, read_sections, read_table, to_table, to_toml


@dataclass(frozen=True, kw_only=True)
class Loop:
    steps: int
    rate: float = 0.5
    schedule: Literal["cosine", "linear"] = "cosine"
    is_fast: bool = False
    milestones: tuple[float, ...] = ()

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; it must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class Data:
    size: tuple[int, int] = (256, 128)
    name: str = ""


KINDS = {"loop": Loop, "data": Data}
GOOD = {"loop": {"steps": 3, "rate": 1, "milestones": [0.5, 1]}, "data": {"size": [4, 5], "name": 'a "b"\n\x7f\\ é'}}


def test_tables_become_dataclasses():
    sections = read_sections(KINDS, GOOD)

    assert sections == {
        "loop": Loop(steps=3, rate=1.0, milestones=(0.5, 1.0)),
        "data": Data(size=(4, 5), name='a "b"\n\x7f\\ é'),
    }
    assert type(sections["loop"].rate) is float


def test_toml_gives_back_what_was_written(tmp_path):
    table = to_table(read_sections(KINDS, GOOD))
    text = to_toml({"answer": 42, "tiny": 1e-08, **table})

    assert tomllib.loads(text) == {"answer": 42, "tiny": 1e-08, **table}

    (tmp_path / "config.toml").write_text(to_toml(table))
    assert read_sections(KINDS, read_table(tmp_path / "config.toml")) == read_sections(KINDS, GOOD)


@pytest.mark.parametrize(
    ("section", "values", "fault"),
    [
        ("loop", {}, "loop.steps is missing"),
        ("loop", {"steps": 3, "rates": 1}, r"loop.rates is unknown \(did you mean rate\?\)"),
        ("data", {"zebra": 1}, r"data.zebra is unknown \(there are size, name\)"),
        ("loop", {"steps": 3.0}, "loop.steps is 3.0, which is no int"),
        ("loop", {"steps": True}, "loop.steps is True, which is no int"),
        ("loop", {"steps": 3, "is_fast": 1}, "loop.is_fast is 1, which is no bool"),
        ("loop", {"steps": 3, "rate": "0.1"}, "loop.rate is '0.1', which is no float"),
        ("loop", {"steps": 3, "schedule": "cos"}, "loop.schedule is 'cos', which is no choice of cosine, linear"),
        ("data", {"size": [1, 2, 3]}, r"data.size is \[1, 2, 3\], which is no list as tuple\[int, int\] takes it"),
        ("data", {"size": [1, 2.5]}, r"data.size is \[1, 2.5\], which is no int"),
        ("loop", {"steps": 0}, "loop.steps is 0; it must be 1 or more"),
    ],
)
def test_a_misfit_is_named_with_its_section(section, values, fault):
    with pytest.raises(ConfigError, match=fault):
        read_sections(KINDS, {**GOOD, section: values})


def test_all_misfits_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        read_sections(KINDS, {"loop": {"speed": 1}, "data": {"size": 3}, "colour": {}})

    assert str(caught.value).count(";") == 4  # the section, its choices, two of loop, one of data
    assert all(name in str(caught.value) for name in ("[colour]", "loop.speed", "loop.steps", "data.size"))

    with pytest.raises(ConfigError, match=r"^name is 3, which is no str$"):
        read_section(Data, {"name": 3})


def test_settings_replace_values():
    changed = apply_settings(GOOD, ["loop.steps=7", "loop.schedule=linear", "data.size=[8, 9]", "extra.name = 'x = y'"])

    assert changed["loop"] == {**GOOD["loop"], "steps": 7, "schedule": "linear"}
    assert changed["data"]["size"] == [8, 9]
    assert changed["extra"] == {"name": "x = y"}
    assert GOOD["loop"]["steps"] == 3


@pytest.mark.parametrize("setting", ["steps=3", "loop.steps", "loop.a.b=3", "loop.=3"])
def test_a_setting_of_another_form_is_refused(setting):
    with pytest.raises(ConfigError, match=r"sets nothing; write section.name=value"):
        apply_settings(GOOD, [setting])


@pytest.mark.parametrize(
    ("text", "message"), [("steps 3", "is no TOML"), ("steps = 3", r"\['steps'\] must stand in a section")]
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)

    with pytest.raises(ConfigError, match=f"bad.toml.*{message}"):
        read_table(tmp_path / "bad.toml")
