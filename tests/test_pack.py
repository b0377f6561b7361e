"""`passerby pack`, as users run it: official data sets in their layouts become shards with splits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import digests
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import app
from passerby.pack.pack import hold_out
from passerby.readers.official import Counts, Facts, ReidInputs
from passerby.readers.reid import read_dataset
from passerby.shards.read import ShardDataset
from passerby.shards.verify import verify

MISMATCH = "--allow-count-mismatch"
FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
NAMES = {
    "train": [f"{person:04d}_c{camera}s1_000151_01.jpg" for person in range(1, 7) for camera in (1, 2)],
    "query": [f"{person:04d}_c1s1_000151_00.jpg" for person in (11, 12)],
    "gallery": ["0000_c3s1_000151_05.jpg", "-1_c1s1_000151_04.jpg"]
    + [f"{person:04d}_c2s1_000151_02.jpg" for person in (11, 12)],
}
PEDES = [
    ("train", 1, ["A man in red.", "He walks."]),
    ("train", 2, ["A woman in blue."]),
    ("val", 3, ["A boy.", "He runs.", "He has a bag."]),
    ("test", 4, ["A girl."]),
]


def draw_picture(path, number, size=(16, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "JPEG")


def draw_map(path, classes):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(classes).save(path)


def write_market(folder):
    for split, names in NAMES.items():
        for number, name in enumerate(names):
            draw_picture(folder / FOLDERS[split] / name, number)
    (folder / "query" / "Thumbs.db").touch()
    return folder


def write_maps(folder, market):
    for number, path in enumerate(sorted(market.rglob("*.jpg"))):
        classes = np.random.default_rng(number).choice([*range(20), 255], (32, 16)).astype(np.uint8)
        draw_map(folder / path.relative_to(market).with_suffix(".png"), classes)
    return folder


def write_pedes(folder):
    records = []
    for number, (split, person, captions) in enumerate(PEDES):
        path = f"CUHK01/{number:04d}.jpg"
        draw_picture(folder / "imgs" / path, number)
        records.append({"split": split, "captions": captions, "file_path": path, "id": person})
    (folder / "reid_raw.json").write_text(json.dumps(records))
    return folder


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    return write_market(tmp_path_factory.mktemp("official") / "Market-1501-v15.09.15")


@pytest.fixture(scope="module")
def maps(market, tmp_path_factory):
    return write_maps(tmp_path_factory.mktemp("maps"), market)


@pytest.fixture(scope="module")
def packed(market, maps, tmp_path_factory):
    """Market-1501 with maps, in two shards of training images."""
    root = tmp_path_factory.mktemp("packed") / "root"
    run("pack", "market1501", market, root, MISMATCH, "--parsing", maps, "--val-people", 2, "--shards", 2)
    return root


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception:
        raise result.exception
    return result


def report(*words):
    return json.loads(run("pack", *words, "--json").stdout)


def by_split(root, split):
    dataset = ShardDataset(root)
    return [dataset[index] for index in dataset.split(split)]


def test_every_image_lies_in_its_split_byte_for_byte(market, packed):
    assert verify(packed).problems == ()
    found = {
        split: {s["__key__"]: s for s in by_split(packed, split)} for split in ShardDataset(packed).manifest.splits
    }
    assert [*found] == ["train", "val", "query", "gallery"]
    train = {**found.pop("train"), **found.pop("val")}
    for split, samples in {"train": train, **found}.items():
        expected = [name for name in NAMES[split] if not name.startswith("-1")]
        assert samples.keys() == {name.removesuffix(".jpg") for name in expected}
        for name in expected:
            sample = samples[name.removesuffix(".jpg")]
            assert sample["jpg"] == (market / FOLDERS[split] / name).read_bytes()
            assert sample["json"]["path"] == f"{FOLDERS[split]}/{name}"
            assert (sample["json"]["person_id"], sample["json"]["camera_id"]) == (name[:4], int(name[6]))


def test_people_are_held_out_whole(packed):
    train, val = ({sample["json"]["person_id"] for sample in by_split(packed, split)} for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 2)
    assert not train & val
    assert {sample["json"]["split"] for sample in by_split(packed, "val")} == {"val"}


def test_who_is_held_out_depends_on_the_seed_alone(market):
    inputs = read_dataset("market1501", market)

    def held_out(seed):
        table = hold_out(inputs, people=3, seed=seed).table
        return {row["person_id"] for row in table.to_pylist() if row["split"] == "val"}

    assert held_out(1) == held_out(1)
    assert len({frozenset(held_out(seed)) for seed in range(9)}) > 1


def some_inputs(people, splits=("train",)):
    rows = [
        {"split": split, "key": f"{split}{person}", "path": f"{person}.jpg", "person_id": f"{person}"}
        for split in splits
        for person in range(people)
    ]
    counts = {split: Counts(people, people) for split in splits}
    return ReidInputs(Facts("Some set", counts, "", ""), Path(), pa.Table.from_pylist(rows))


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 5), ({"share": 0.2}, 10), ({"share": 0}, 0), ({"people": 7}, 7)]
)
def test_as_many_are_held_out_as_asked_for(options, expected):
    splits = hold_out(some_inputs(50), **options).table["split"].to_pylist()
    assert splits.count("val") == expected


@pytest.mark.parametrize(
    ("people", "options", "message"),
    [
        (4, {}, r"4 people to train on, and a val share of 0.1 leaves nobody for val; give --val-people from 1 to 3"),
        (4, {"share": 1.0}, "a val share of 1 leaves nobody for train"),
        (4, {"people": 4}, "4 people for val leaves nobody for train"),
        (4, {"people": 1, "share": 0.5}, "both a val share of 0.5 and 1 people for val are asked for; give one"),
    ],
)
def test_holding_out_nobody_or_everybody_is_refused(people, options, message):
    with pytest.raises(ValueError, match=message):
        hold_out(some_inputs(people), **options)


def test_an_official_val_stays_as_it_is():
    inputs = some_inputs(50, ("train", "val"))
    assert hold_out(inputs) is inputs
    with pytest.raises(ValueError, match="Some set has a val split; leave --val-share and --val-people away"):
        hold_out(inputs, share=0.1)


def test_the_report_counts_splits_and_what_was_left_out(market, packed, maps):
    told = report("market1501", market, packed, MISMATCH, "--parsing", maps, "--val-people", 2, "--shards", 2)
    assert told["splits"]["train"] == {"samples": 8, "shards": 2, "people": 4, "cameras": 2}
    assert told["splits"]["gallery"] == {"samples": 3, "shards": 1, "people": 3, "cameras": 2}
    assert told["dropped"] == {"not an image": 1, "junk (person -1)": 1}
    assert (told["seen"], told["kept"], told["quarantined"]) == (17, 17, 0)


def test_the_table_for_people_says_the_same(market, tmp_path):
    result = run("pack", "market1501", market, tmp_path / "root", MISMATCH, "--val-share", 0)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["train", "12", "1", "6", "2"] in lines
    assert "left out, junk (person -1): 1" in result.stdout
    assert "warning: query has 2 images of 2 people, published are 3,368 images of 750 people" in result.stderr


def test_any_number_of_workers_and_any_death_give_the_same_bytes(market, maps, packed, tmp_path):
    words = [
        "pack",
        "market1501",
        market,
        tmp_path / "root",
        MISMATCH,
        "--parsing",
        maps,
        "--val-people",
        2,
        "--shards",
        2,
    ]
    command = [str(word) for word in (Path(sys.executable).parent / "passerby", *words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while process.poll() is None and not [*tmp_path.glob("root/meta/*.parquet")]:
        time.sleep(0.01)  # until the first shard is done
    process.send_signal(signal.SIGKILL)
    process.communicate()
    run(*words, "--workers", 2)
    assert digests(tmp_path / "root") == digests(packed)


def test_maps_are_joined_byte_for_byte(market, maps, packed):
    for sample in ShardDataset(packed):
        assert sample["parsing.png"] == (maps / sample["json"]["path"]).with_suffix(".png").read_bytes()


def noise(mode, size=(32, 16), low=0, high=20):
    return Image.fromarray(np.random.default_rng(0).integers(low, high, size, dtype=np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (noise("RGB"), "is of mode RGB; it must be P or L"),
        (noise("L", (16, 32)), "is 32x16 pixels, its image 16x32; resize the map by nearest neighbour"),
        (noise("L", high=21), r"holds the value 20; allowed are 0 to 19, the classes of LIP, and 255"),
        (None, "lacks 1 maps of images to train on: bounding_box_train/0003_c1s1_000151_01.png; make them"),
    ],
    ids=["mode", "size", "value", "missing"],
)
def test_a_map_that_does_not_fit_is_named_before_anything_is_written(market, maps, tmp_path, picture, message):
    parsing = Path(shutil.copytree(maps, tmp_path / "maps"))
    path = parsing / "bounding_box_train" / "0003_c1s1_000151_01.png"
    path.unlink()
    if picture:
        picture.save(path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run("pack", "market1501", market, tmp_path / "root", MISMATCH, "--parsing", parsing, "--val-people", 1)
    assert not (tmp_path / "root").exists()


def test_a_palette_is_as_good_as_gray_and_an_empty_map_is_a_warning(market, maps, tmp_path):
    parsing = Path(shutil.copytree(maps, tmp_path / "maps"))
    with_palette = noise("L").convert("P")
    with_palette.save(parsing / "query" / "0011_c1s1_000151_00.png")
    draw_map(parsing / "query" / "0012_c1s1_000151_00.png", np.zeros((32, 16), np.uint8))
    words = ["pack", "market1501", market, tmp_path / "root", MISMATCH, "--parsing", parsing, "--val-people", 1]
    result = run(*words)
    assert "warning: 1 parsing maps show nobody, such as query/0012_c1s1_000151_00.png" in result.stderr
    assert Image.open(BytesIO(by_split(tmp_path / "root", "query")[0]["parsing.png"])).mode == "P"


def test_a_test_split_has_maps_for_all_or_for_none(market, maps, tmp_path):
    parsing = Path(shutil.copytree(maps, tmp_path / "maps"))
    (parsing / "query" / "0011_c1s1_000151_00.png").unlink()
    words = ["pack", "market1501", market, tmp_path / "root", MISMATCH, "--parsing", parsing, "--val-people", 1]
    result = run(*words)
    assert "query lacks 1 parsing maps, so none of its images gets one" in result.stderr
    has_map = {
        split: "parsing.png" in by_split(tmp_path / "root", split)[0] for split in ("train", "val", "query", "gallery")
    }
    assert has_map == {"train": True, "val": True, "query": False, "gallery": True}
    assert verify(tmp_path / "root").problems == ()
    assert "Parsing maps are in `train`, `val`, `gallery` alone" in (tmp_path / "root" / "README.md").read_text()


def test_captions_are_a_list_and_the_first_is_the_text(tmp_path):
    pedes = write_pedes(tmp_path / "CUHK-PEDES")
    told = report("cuhk-pedes", pedes, tmp_path / "root", MISMATCH)
    assert {split: counts["captions"] for split, counts in told["splits"].items()} == {"train": 3, "val": 3, "test": 1}
    for split, person, captions in PEDES:
        (sample,) = [s for s in by_split(tmp_path / "root", split) if s["json"]["person_id"] == str(person)]
        assert sample["json"]["captions"] == captions
        assert sample["txt"] == sample["json"]["caption"] == captions[0]
    assert verify(tmp_path / "root").problems == ()
    run("report", tmp_path / "root")
    figures = json.loads((tmp_path / "root" / "report.json").read_bytes())
    assert figures["captions"]["per_image"] == {"1": 2, "2": 1, "3": 1}
    assert figures["source"]["splits"] == {"train": 2, "val": 1, "test": 1}
    run("browse", tmp_path / "root", "--out", tmp_path / "page")
    page = json.loads((tmp_path / "page" / "samples.js").read_text().removeprefix("const DATA = ").rstrip(";\n"))
    shown = {field["name"]: field["values"] for field in page["fields"] if field["kind"] == "caption"}
    assert shown["caption_2"] == ["", "", "He has a bag.", ""]
    run("card", tmp_path / "root", "--contact", "privacy@example.org")
    assert "Vocabulary, words" in (tmp_path / "root" / "README.md").read_text()


def test_an_image_without_a_caption_among_captioned_ones_is_left_out(tmp_path):
    pedes = write_pedes(tmp_path / "CUHK-PEDES")
    records = json.loads((pedes / "reid_raw.json").read_bytes())
    records[1]["captions"] = [" "]
    (pedes / "reid_raw.json").write_text(json.dumps(records))
    told = report("cuhk-pedes", pedes, tmp_path / "root", MISMATCH, "--max-bad", 0.5)
    assert told["reasons"] == {"no caption": 1}


@pytest.mark.parametrize("dataset", ["market1501", "cuhk-pedes"])
def test_a_published_copy_comes_back_with_ones_own_images(market, tmp_path, dataset):
    folder = market if dataset == "market1501" else write_pedes(tmp_path / "CUHK-PEDES")
    options = ["--val-people", "1"] if dataset == "market1501" else []
    run("pack", dataset, folder, tmp_path / "root", MISMATCH, *options)
    run("publish", tmp_path / "root", tmp_path / "copy", "--workers", 1)
    run("hydrate", tmp_path / "copy", "--images", folder, "--out", tmp_path / "whole")
    assert digests(tmp_path / "whole") == digests(tmp_path / "root")


def test_damaged_images_are_counted_and_too_many_end_the_run(market, tmp_path):
    folder = Path(shutil.copytree(market, tmp_path / "market"))
    path = folder / "query" / NAMES["query"][0]
    path.write_bytes(path.read_bytes()[:-40])
    words = ["market1501", folder, tmp_path / "root", MISMATCH, "--val-share", 0]
    with pytest.raises(ValueError, match=r"1 truncated: more than 1.00% of 17 inputs are bad"):
        run("pack", *words)
    told = report(*words, "--max-bad", 0.1)
    assert (told["kept"], told["quarantined"], told["reasons"]) == (16, 1, {"truncated": 1})
    assert told["splits"]["query"]["samples"] == 1


@pytest.mark.parametrize(
    ("dataset", "options", "message"),
    [
        ("market", [], "no data set is called 'market'; known are market1501, dukemtmc-reid"),
        (
            "market1501",
            [],
            r"is no whole Market-1501: train has 12 images of 6 people, published are 12,936.*--allow-count",
        ),
        ("market1501", [MISMATCH, "--shards", "99"], "shards is 99, and the largest split has 10 images"),
        ("market1501", [MISMATCH, "--parsing", "nowhere"], "nowhere is no folder"),
        ("cuhk-pedes", [MISMATCH], "does not hold reid_raw.json"),
    ],
)
def test_a_mistake_is_one_line(market, tmp_path, dataset, options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run("pack", dataset, market, tmp_path / "root", *options)


def test_another_configuration_does_not_enter_a_packed_folder(market, packed):
    with pytest.raises(ValueError, match="was made with another configuration"):
        run("pack", "market1501", market, packed, MISMATCH)


def test_a_withdrawn_data_set_says_so_on_the_way_and_in_its_card(tmp_path):
    for folder, names in {
        "bounding_box_train": ["0001_c2_f0046182.jpg", "0005_c1_f0046182.jpg"],
        "query": ["0002_c1_f0046182.jpg"],
        "bounding_box_test": ["0002_c2_f0046182.jpg"],
    }.items():
        for number, name in enumerate(names):
            draw_picture(tmp_path / "DukeMTMC-reID" / folder / name, number)
    result = run("pack", "dukemtmc-reid", tmp_path / "DukeMTMC-reID", tmp_path / "root", MISMATCH, "--val-people", 1)
    assert "notice: Duke University withdrew DukeMTMC" in result.stderr
    card = " ".join((tmp_path / "root" / "README.md").read_text().split())
    assert "**Duke University withdrew DukeMTMC" in card
    assert "CC BY-NC-SA 4.0, until its authors withdrew the recordings" in card


def test_what_a_manifest_tells_of_its_source_is_no_template(packed, tmp_path):
    root = Path(shutil.copytree(packed, tmp_path / "root"))
    manifest = json.loads((root / "manifest.json").read_bytes())
    manifest["about"] = {"licence": "{{ 6 * 7 }}"}
    (root / "manifest.json").write_text(json.dumps(manifest))
    run("card", root)
    assert "{{ 6 * 7 }}" in (root / "README.md").read_text()


def test_renders_are_never_called_photographs(market, tmp_path):
    folder = Path(shutil.copytree(market, tmp_path / "market"))
    (folder / "synthetic.json").write_text("{}")
    run("pack", "market1501", folder, tmp_path / "root", MISMATCH, "--val-people", 1)
    card = (tmp_path / "root" / "README.md").read_text()
    assert "# Synthetic pedestrians in the layout of Market-1501" in card
    assert "**These are synthetic renders.**" in card


def test_stock_tar_readers_find_the_members_of_each_split(packed):
    for split, members in {"train": 3, "query": 3}.items():
        for path in (packed / "data").glob(f"{split}-*.tar"):
            with tarfile.open(path) as tar:
                kinds = [name.partition(".")[2] for name in tar.getnames()]
            assert kinds == ["jpg", "json", "parsing.png"] * (len(kinds) // members)


def test_croissant_gives_every_sample_of_every_split(packed, tmp_path):
    pytest.importorskip("mlcroissant")
    script = (
        "import sys, mlcroissant\n"
        "dataset = mlcroissant.Dataset(sys.argv[1] + '/croissant.json')\n"
        "assert not dataset.metadata.ctx.issues.errors\n"
        "print(*sorted((r['samples/key'] + b' ' + r['samples/split']).decode() for r in dataset.records('samples')), sep='\\n')\n"
    )
    command = [sys.executable, "-c", script, str(packed)]
    environment = {**os.environ, "CROISSANT_CACHE": str(tmp_path)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.split("\n")[:-1] == sorted(f"{s['__key__']} {s['json']['split']}" for s in ShardDataset(packed))
