"""`passerby parse` as a user types it, with a tiny network of random weights."""

import json
from io import BytesIO

import numpy as np
import pytest
import tiny_parts
import torch
import typer
from conftest import digests
from PIL import Image
from torch.nn import functional
from typer.testing import CliRunner

from passerby.cli import parse as parse_command
from passerby.nets.parser import name_parts, part_number, read_parts_table
from passerby.nets.prompts import PART_NAMES
from passerby.pack.maps import map_path
from passerby.pack.parse import encode_map
from passerby.shards.read import ShardDataset
from templates import TEMPLATES

pytestmark = pytest.mark.usefixtures("one_thread")

LIP = [
    *("Background", "Hat", "Hair", "Glove", "Sunglasses", "Upper-clothes", "Dress", "Coat", "Socks", "Pants"),
    *("Jumpsuits", "Scarf", "Skirt", "Face", "Left-arm", "Right-arm"),
    *("Left-leg", "Right-leg", "Left-shoe", "Right-shoe"),
]
ATR = [
    *("Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress", "Belt"),
    *("Left-shoe", "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm", "Right-arm", "Bag", "Scarf"),
]
SIZES = {"query/0001_c1.jpg": (30, 61), "0002_c1.png": (24, 48)}
"""Width and height, pixels."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Folders of the same weights with LIP's labels, and with two of them renamed."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    folder = tmp_path_factory.mktemp("networks")
    renamed = [{"Glove": "Mitten", "Coat": "Poncho"}.get(label, label) for label in LIP]
    for name, labels in (("lip", LIP), ("other", renamed)):
        torch.manual_seed(0)
        config = SegformerConfig(
            depths=[1] * 4,
            hidden_sizes=[8] * 4,
            num_attention_heads=[1] * 4,
            decoder_hidden_size=16,
            id2label=dict(enumerate(labels)),
            label2id={label: place for place, label in enumerate(labels)},
        )
        SegformerForSemanticSegmentation(config).save_pretrained(folder / name)
        SegformerImageProcessor(size={"height": 64, "width": 32}).save_pretrained(folder / name)
    return folder


@pytest.fixture
def images(tmp_path):
    for number, (path, (width, height)) in enumerate(SIZES.items()):
        place = tmp_path / "images" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(tiny_parts.draw_person(number, 0)[0]).resize((width, height))
        picture.save(place)
    return tmp_path / "images"


def parse(root, network, out, *words):
    app = typer.Typer()
    parse_command.register(app)
    told = [root, "--model", network, "--out", out, "--device", "cpu", *words]
    return CliRunner().invoke(app, [str(word) for word in told])


def read(path):
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)


def test_maps_are_as_large_as_their_images_and_say_what_the_network_says(networks, images, tmp_path):
    from transformers import SegformerForSemanticSegmentation

    done = parse(images, networks / "lip", tmp_path / "maps")

    assert done.exit_code == 0, done.output
    assert "made 2 + there already 0 + no map 0 = images 2" in done.output
    network = SegformerForSemanticSegmentation.from_pretrained(networks / "lip").eval()
    for path, (width, height) in SIZES.items():
        found = read(tmp_path / "maps" / map_path(path))
        assert found.shape == (height, width)
        with Image.open(images / path) as picture:
            small = np.asarray(picture.convert("RGB").resize((32, 64), Image.Resampling.BILINEAR)) / 255
        pixels = (torch.tensor(small) - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
        with torch.no_grad():
            logits = network(pixels.permute(2, 0, 1)[None].float()).logits
        enlarged = functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        assert (found == enlarged[0].argmax(0).numpy()).mean() > 0.97  # resampling differs by a level here and there


def test_the_same_images_give_the_same_maps_from_shards_and_in_any_batches(networks, tmp_path):
    root = tiny_parts.write_parts(tmp_path / "shards", train=range(2), val=range(2, 3))
    folder = tmp_path / "images"
    folder.mkdir()
    for sample in ShardDataset(root):
        (folder / sample["json"]["path"]).write_bytes(sample["jpg"])

    assert parse(root, networks / "lip", tmp_path / "one").exit_code == 0
    assert parse(folder, networks / "lip", tmp_path / "two", "--batch-size", 5).exit_code == 0

    found = digests(tmp_path / "one")
    assert len(found) == 3 * 4 + 1
    assert found == digests(tmp_path / "two")


def test_a_run_goes_on_but_not_with_another_network(networks, images, tmp_path):
    out = tmp_path / "maps"
    parse(images, networks / "lip", out)
    before = digests(out)
    (out / "0002_c1.png").unlink()

    done = parse(images, networks / "lip", out)

    assert "made 1 + there already 1 + no map 0 = images 2" in done.output
    assert digests(out) == before
    (tmp_path / "parts.yaml").write_text("hat: hair")
    other = parse(images, networks / "lip", out, "--mapping", tmp_path / "parts.yaml").exception
    assert "holds maps that were made otherwise (Hat: 'hat' there, 'hair' here)" in str(other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    assert "full is not empty" in str(parse(images, networks / "lip", tmp_path / "full").exception)


def test_labels_of_others_become_lips_as_a_file_says(networks, images, tmp_path):
    refused = parse(images, networks / "other", tmp_path / "maps").exception
    assert "has the labels Mitten, Poncho, which are not LIP's" in str(refused)
    assert "'Mitten: background', and give it as --mapping FILE" in str(refused)
    assert not (tmp_path / "maps").exists()
    every = {label.lower(): "ignored" for label in LIP}
    table = tmp_path / "parts.yaml"
    table.write_text("".join(f"{label}: {part}\n" for label, part in {**every, "MITTEN": "Upper-clothes"}.items()))
    table.write_text(table.read_text() + "poncho: coat\n")

    done = parse(images, networks / "other", tmp_path / "maps", "--mapping", table, "--json")

    assert done.exit_code == 0, done.output
    parse(images, networks / "lip", tmp_path / "plain")
    expected = dict.fromkeys(range(20), 255) | {3: 5, 7: 7}
    for path in map(map_path, SIZES):
        plain, found = read(tmp_path / "plain" / path), read(tmp_path / "maps" / path)
        assert np.array_equal(found, np.vectorize(expected.get)(plain))
    report = json.loads(done.stdout)
    assert (report["made"], report["problems"]) == (2, {})


def test_atrs_labels_are_known_by_name_and_not_by_place():
    table = read_parts_table(TEMPLATES / "parsing" / "parts.yaml")
    found = [part_number(part) for part in name_parts(ATR, table, source="atr")]
    assert found == [0, 1, 2, 4, 5, 12, 9, 6, 255, 18, 19, 13, 16, 17, 14, 15, 0, 11]
    assert [part_number(part) for part in name_parts(LIP, {}, source="lip")] == [*range(20)]


def test_an_image_that_cannot_be_read_is_named(networks, images, tmp_path):
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    done = parse(images, networks / "lip", tmp_path / "maps")
    assert done.exit_code == 1
    assert "no map: broken.jpg: " in done.output
    assert "made 2 + there already 0 + no map 1 = images 3" in done.output


def test_misuse_is_told_in_a_line(networks, images, tmp_path):
    def message(*words):
        return str(parse(*words).exception)

    assert "there is no folder nowhere; give one of transformers, or hub:" in message(images, "nowhere", tmp_path / "a")
    assert "is no network for segmentation" in message(images, images, tmp_path / "a")
    assert "there is no folder" in message(tmp_path / "none", networks / "lip", tmp_path / "a")
    (tmp_path / "empty").mkdir()
    assert "empty holds no images" in message(tmp_path / "empty", networks / "lip", tmp_path / "a")
    assert "among whose images the maps would be" in message(images, networks / "lip", images / "maps")
    tables = {"- a": "is no table of labels", "a: [": "is no YAML", "hat: crown": "names 'crown', which is no part"}
    for text, expected in tables.items():
        (tmp_path / "parts.yaml").write_text(text)
        mapping = ("--mapping", tmp_path / "parts.yaml")
        assert expected in message(images, networks / "lip", tmp_path / "a", *mapping)
    assert not (tmp_path / "a").exists()


def test_a_map_holds_numbers_whatever_its_colours():
    labels = np.arange(20, dtype=np.uint8).repeat(3).reshape(10, 6)
    with Image.open(BytesIO(encode_map(labels))) as picture:
        assert np.array_equal(np.asarray(picture), labels)
        assert picture.convert("RGB").getpixel((3, 0)) == (128, 0, 0)  # LIP's colour of a hat
    assert len(PART_NAMES) == 20
