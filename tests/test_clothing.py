"""Colours found in captions against the attributes that the captions were made of."""

import pytest
from typer.testing import CliRunner

from passerby.cli import generators
from passerby.shards.read import ShardDataset
from pretrain.clothing import clothing_colours, colour_accuracies


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man in a red top and blue bottoms.", {"upper": "red", "lower": "blue"}),
        ("Blue jeans, dark shoes and a short grey top.", {"upper": "gray", "lower": "blue"}),
        ("She wears green-toned tartan trousers.", {"lower": "green"}),
        ("White upper-body clothes, dark-colored lower-body clothes.", {"upper": "white", "lower": "black"}),
        ("With brown hair and a coat; red shoes and pants.", {}),
        ("A red jacket over a blue shirt.", {"upper": "red"}),
        ("Nobody.", {}),
    ],
)
def test_a_colour_belongs_to_the_clothes_behind_it(caption, expected):
    assert clothing_colours(caption) == expected


def test_accuracy_counts_what_the_right_caption_names():
    pairs = [
        ("a red top", "a red top and blue jeans"),
        ("a green top", "a red top"),
        ("no clothes", "a white top"),
        ("a red top", "a person"),
    ]
    assert colour_accuracies(pairs) == {"upper_colour_accuracy": 1 / 3, "lower_colour_accuracy": 0.0}
    assert colour_accuracies(pairs[1:]) == {"upper_colour_accuracy": 0.0}


def test_finegpr_captions_name_the_colours_of_the_table(people, tmp_path):
    table = people / "attributes.csv"
    words = ("--attributes", table, "--lambda", 1, "--out", tmp_path / "finegpr-c")
    for fields in generate("finegpr-c", people / "images", *words):
        named = {part: fields[f"{part}_color"] for part in ("upper", "lower")}
        mentioned = {part: colour for part, colour in named.items() if f"{part}_color" in fields["mentioned"]}
        assert clothing_colours(fields["caption"]) == mentioned, fields["caption"]


def test_luperson_captions_name_the_colours_that_were_matched(people, tmp_path):
    for fields in generate("luperson-t", people / "images", "--out", tmp_path / "a", "--clip-model", "none"):
        matched = {part: fields[f"{part}_clothes"].split(".")[1] for part in ("upper", "lower")}
        assert clothing_colours(fields["caption"]) == matched, fields["caption"]


def generate(*words):
    """Give the fields of the samples that a generator writes."""
    out = words[words.index("--out") + 1]
    done = CliRunner().invoke(generators, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return [sample["json"] for sample in ShardDataset(out)]
