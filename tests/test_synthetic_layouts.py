"""Synthetic pedestrians in the layouts of Market-1501 and CUHK-PEDES."""

import json
import random
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import digests
from PIL import Image
from typer.testing import CliRunner

from passerby.cli import generators
from passerby.config import ConfigError
from passerby.readers.official import Counts, count_splits
from passerby.readers.reid import read_dataset
from passerby.synthetic import WORDS, Settings, View, draw_person, render, write_finegpr, write_market, write_pedes
from passerby.synthetic.figure import build_figure, draw_pose
from passerby.synthetic.layouts import DISTRACTOR_SIDE, JUNK_SIDE, STATIONS, draw_stations
from passerby.synthetic.look import build_look
from passerby.synthetic.people import COLORS
from passerby.synthetic.scene import heading_before, place_camera
from passerby.synthetic.wording import describe

MARKET = Settings(identities=5, images_per_identity=8, seed=3, height=64, width=32)
PEDES = Settings(identities=5, images_per_identity=3, seed=3, height=64, width=32, is_balanced=True)
NAME = re.compile(r"(-1|\d{4})_c([1-6])s1_(\d{6})_01\.jpg")


@pytest.fixture(scope="module")
def market(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("market") / "set"
    progress: list[int] = []
    report = write_market(out, MARKET, on_progress=progress.append)
    assert (report.identities, report.images, report.rendered) == (5, 5 * 8 + 2 * 2, 44)
    assert progress == [8, 16, 24, 32, 40]
    return out


@pytest.fixture(scope="module")
def pedes(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("pedes") / "set"
    assert write_pedes(out, PEDES).images == 15
    return out


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


# --- Market-1501's layout


def test_the_market_set_is_read_as_market1501(market):
    """Hand-worked: 3 people to train on; of the other 2, two queries each (8 images before 6 cameras) and one distractor."""
    inputs = read_dataset("market1501", market)
    assert count_splits(inputs.table) == {"train": Counts(24, 3), "query": Counts(4, 2), "gallery": Counts(14, 3)}
    assert inputs.dropped == {"junk (person -1)": 2}


def test_whoever_is_searched_was_not_trained_on_and_is_there_before_another_camera(market):
    rows = read_dataset("market1501", market).table.to_pylist()
    people = {
        split: {row["person_id"] for row in rows if row["split"] == split} for split in ("train", "query", "gallery")
    }
    assert people["query"] == people["gallery"] - {"0000"} == {"0004", "0005"}
    assert not people["train"] & people["gallery"]
    gallery = {(row["person_id"], row["camera_id"]) for row in rows if row["split"] == "gallery"}
    for query in (row for row in rows if row["split"] == "query"):
        assert any(person == query["person_id"] and camera != query["camera_id"] for person, camera in gallery)


@pytest.mark.parametrize(("images", "queries"), [(2, 1), (6, 1), (7, 1), (8, 2), (12, 6), (20, 6)])
def test_every_query_has_a_match_before_another_camera(images, queries):
    from passerby.synthetic.layouts import _market_pictures

    pictures = _market_pictures(Settings(2, images, 0, 64, 32), 2)
    cameras = {"query": [], "bounding_box_test": []}
    for picture in pictures[:images]:
        folder, name = picture.image.split("/")
        cameras[folder].append(NAME.fullmatch(name)[2])
    assert len(cameras["query"]) == queries == len(set(cameras["query"]))
    assert all(set(cameras["bounding_box_test"]) - {camera} for camera in cameras["query"])


def test_every_image_has_a_market_name_and_a_parsing_map(market):
    images = sorted(market.glob("[bq]*/*"))
    assert len(images) == 44
    frames = []
    for path in images:
        frames.append(NAME.fullmatch(path.name)[3])
        parsing = pixels(market / "parsing" / path.relative_to(market).with_suffix(".png"))
        assert parsing.shape == pixels(path).shape[:2] == (64, 32)
        assert parsing.max() < 20
        assert (parsing > 0).any()
    assert len(set(frames)) == 44


def test_a_camera_keeps_its_place_and_hour(market):
    """Of people's backgrounds, the nearest to each (but the person's own) is always one before the same camera."""
    seen = []
    for path in sorted(market.glob("bounding_box_train/*.jpg")):
        person, camera, _ = NAME.fullmatch(path.name).groups()
        is_ground = pixels(market / "parsing" / path.relative_to(market).with_suffix(".png")) == 0
        seen.append((person, camera, pixels(path)[is_ground].mean(0)))
    for person, camera, color in seen:
        others = [(np.linalg.norm(color - its), theirs) for whose, theirs, its in seen if whose != person]
        assert min(others)[1] == camera


def test_a_box_that_is_cut_out_is_a_part_of_the_whole_picture(market):
    """The whole is rendered again, and its map read at the middle of each element of the part."""
    sides = {"0000": DISTRACTOR_SIDE, "-1": JUNK_SIDE}
    for path in sorted(market.glob("bounding_box_test/*.jpg")):
        person, camera, frame = NAME.fullmatch(path.name).groups()
        if person not in sides:
            continue
        identity, number = divmod(int(frame), 100)
        station, view = draw_stations(MARKET.seed, identity, 10)[number]
        assert station == int(camera)
        azimuth = STATIONS[station - 1].azimuth
        whole = render(MARKET.person(identity), view, seed=MARKET.seed, height=64, width=32, azimuth=azimuth).parsing
        part = pixels(market / "parsing" / path.relative_to(market).with_suffix(".png"))
        side = sides[person]
        starts = np.arange(0, 1 - side, 0.002)
        rows = ((starts[:, None] + side * (np.arange(64) + 0.5) / 64) * 64).astype(int)
        columns = ((starts[:, None] + side * (np.arange(32) + 0.5) / 32) * 32).astype(int)
        found = any(
            np.array_equal(whole[row][:, column], part)
            for row in np.unique(rows, axis=0)
            for column in np.unique(columns, axis=0)
        )
        assert found


def test_junk_and_distractors_overlap_as_market1501_defines_them():
    assert 0.2 < JUNK_SIDE**2 < 0.5
    assert DISTRACTOR_SIDE**2 < 0.2


def test_a_camera_on_a_wall_looks_one_way_at_everybody():
    for identity, code in ((1, 1), (2, 14), (3, 36)):
        view = View(code, 1, 4, 2)
        person = draw_person(0, identity)
        look = build_look(person, 0)
        mesh = build_figure(person, look, draw_pose(person, look, random.Random(0)))
        camera = place_camera(view, mesh, random.Random(0), heading_before(view, 2.5), height=64, width=32)
        assert np.isclose(np.exp(1j * camera.azimuth), np.exp(2.5j))


def test_views_of_a_person_are_distinct_and_cameras_take_turns():
    views = draw_stations(0, 1, 54)
    assert len(set(views)) == 54
    assert [camera for camera, _ in views[:6]] == [camera for camera, _ in views[48:]]
    assert {camera for camera, _ in views[:6]} == {1, 2, 3, 4, 5, 6}
    for camera, view in views:
        away = abs(view.camera - STATIONS[camera - 1].middle) % 36
        assert min(away, 36 - away) <= 4


# --- both


def test_any_number_of_workers_writes_the_same_bytes(pedes, tmp_path):
    write_pedes(tmp_path / "pedes", PEDES, workers=2)
    assert digests(tmp_path / "pedes") == digests(pedes)


def test_a_rerun_makes_only_what_is_missing(market):
    before = digests(market)
    lost = sorted(market.glob("query/*.jpg"))[1]
    lost.unlink()
    assert write_market(market, MARKET).rendered == 1
    assert digests(market) == before


def test_layouts_do_not_share_a_folder(market):
    with pytest.raises(ConfigError, match="was made with other settings"):
        write_finegpr(market, MARKET)
    with pytest.raises(ConfigError, match=r"was made with other settings .*layout"):
        write_pedes(market, MARKET)


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (write_market, {"identities": 1}, "identities is 1; at least 2 is needed"),
        (write_pedes, {"identities": 2}, "identities is 2; at least 3 is needed"),
        (write_market, {"identities": 10_000}, "identities is 10000; the file names have four digits, 9999 at most"),
        (write_market, {"images_per_identity": 53}, "images_per_identity is 53; a person has 2…52 views"),
        (write_pedes, {"images_per_identity": 55}, "images_per_identity is 55; a person has 2…54 views"),
        (write_pedes, {"images_per_identity": 1}, "images_per_identity is 1; a person has 2…54 views"),
    ],
)
def test_an_impossible_size_is_refused_before_anything_is_written(tmp_path, write, change, message):
    settings = {"identities": 5, "images_per_identity": 3, "seed": 0, "height": 64, "width": 32}
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "set", Settings(**(settings | change)))
    assert not (tmp_path / "set").exists()


def test_the_command_writes_the_layout_that_is_asked_for(tmp_path):
    out = tmp_path / "set"
    size = ["--identities", "2", "--images-per-identity", "2", "--height", "32", "--width", "16"]
    result = CliRunner().invoke(generators, ["synthetic", str(out), "--layout", "market", *size, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"identities": 2, "images": 6, "rendered": 6}
    assert "synthetic renders" in (out / "README.md").read_text(encoding="utf-8")
    assert (out / "attributes.csv").read_text(encoding="utf-8").count("\n") == 3
    assert len(read_dataset("market1501", out).table) == 5


# --- CUHK-PEDES's layout


def test_the_pedes_set_is_read_as_cuhk_pedes(pedes):
    inputs = read_dataset("cuhk-pedes", pedes)
    assert count_splits(inputs.table) == {"train": Counts(9, 3, 18), "val": Counts(3, 1, 6), "test": Counts(3, 1, 6)}
    assert inputs.dropped == {}
    for path in inputs.table["path"].to_pylist():
        assert (pedes / "parsing" / path).with_suffix(".png").is_file()


def test_captions_say_what_shows_and_nothing_else(pedes):
    for record in json.loads((pedes / "reid_raw.json").read_text(encoding="utf-8")):
        with Image.open((pedes / "parsing/imgs" / record["file_path"]).with_suffix(".png")) as picture:
            visible, action = set(picture.info["visible"].split()), picture.info["action"]
        attributes = draw_person(PEDES.seed, record["id"], is_balanced=True).attributes
        shows = {name: word for name, word in attributes.items() if name in visible}
        for caption in record["captions"]:
            words = set(re.findall(r"[a-z-]+", caption.lower()))
            assert action in words
            assert words & set(COLORS) == {shows[name] for name in ("upper_color", "lower_color") if name in shows}
            assert words & {"plaid", "striped", "printed"} == (
                {shows.get("upper_pattern", "plain"), shows.get("lower_pattern", "plain")} - {"plain"}
            )
            assert ("umbrella" in words) == (shows.get("umbrella") == "yes")
            assert ("backpack" in words) == (shows.get("bag_kind") == "backpack")
            assert ("hair" in words) == ("hair" in shows)


def test_two_captions_of_an_image_differ_in_their_words_and_people_are_in_order(pedes):
    records = json.loads((pedes / "reid_raw.json").read_text(encoding="utf-8"))
    assert all(len(record["captions"]) == 2 for record in records)
    assert [record["id"] for record in records] == sorted(record["id"] for record in records)
    assert sum(first != second for first, second in (record["captions"] for record in records)) > 10


SOMEBODY = {name: words[-1] for name, words in WORDS.items()} | {"upper_color": "blue", "lower_garment": "jeans"}


@pytest.mark.parametrize(
    ("attributes", "visible", "wanted"),
    [
        ({"gender": "male", "age": "older"}, {"gender", "age"}, "an older man"),
        ({"gender": "female", "age": "teenager", "hair": "long"}, {"gender", "age", "hair"}, "a girl with long hair"),
        ({"gender": "female"}, set(), "a person"),
        ({"upper_garment": "suit-jacket"}, {"upper_garment", "upper_color"}, "a blue suit jacket"),
        ({"upper_garment": "t-shirt"}, {"upper_garment"}, "a t-shirt"),
        ({"umbrella": "yes"}, {"umbrella"}, "an umbrella"),
        ({"boots": "yes", "shoes": "dark"}, {"shoes", "boots"}, "dark boots"),
        ({"boots": "no", "shoes": "light"}, {"shoes", "boots"}, "light shoes"),
        ({"hat_kind": "cap", "gloves": "yes"}, {"hat_kind", "gloves"}, "a cap"),
    ],
)
def test_phrases_are_whole(attributes, visible, wanted):
    captions = {describe(SOMEBODY | attributes, visible, "walking", number) for number in range(30)}
    assert len(captions) > 3
    for caption in captions:
        assert wanted in caption.lower()
        assert re.fullmatch(r"([A-Z][a-z, -]+\.)( [A-Z][a-z, -]+\.)*", caption), caption


def test_nothing_is_listed_with_a_comma_before_the_last():
    attributes = SOMEBODY | {"hat_kind": "cap", "glasses_kind": "glasses", "bag_kind": "backpack"}
    caption = describe(attributes, {"hat_kind", "glasses_kind", "bag_kind"}, "walking", 0)
    things = r"(?:a cap|glasses|a backpack)"
    assert re.search(rf"{things}, {things} and {things}\.$", caption)


def test_another_person_is_described_in_other_words():
    captions = [describe(draw_person(0, i, is_balanced=True).attributes, WORDS, "standing", 0) for i in range(1, 6)]
    assert all(first != second for first, second in combinations(captions, 2))
