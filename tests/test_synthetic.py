"""Synthetic pedestrians: who they are, what is drawn, and what lands on disk."""

import colorsys
import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from passerby.config import ConfigError
from passerby.readers.finegpr import list_images
from passerby.synthetic import (
    FINEGPR_NAMES,
    WORDS,
    Person,
    Settings,
    View,
    draw_person,
    draw_views,
    render,
    write_finegpr,
)
from passerby.synthetic.look import build_look
from passerby.synthetic.mesh import Coat, Part, Surface, build_mesh, tube
from passerby.synthetic.raster import rasterize
from passerby.synthetic.render import _majority

NOON = {"weather": 2, "illumination": 4, "scene": 2}
BARE = {
    "gender": "male", "hair": "short", "age": "adult", "dress": "no", "boots": "no", "shoes": "dark",
    "glasses": "no", "glasses_kind": "none", "hat": "no", "hat_kind": "none", "bag": "no", "bag_kind": "none",
    "umbrella": "no", "gloves": "no", "cellphone": "no", "cellphone_use": "none", "sleeve": "short", "top_length": "short",
    "upper_garment": "t-shirt", "lower_garment": "trousers", "upper_pattern": "plain", "lower_pattern": "plain",
    "upper_color": "blue", "lower_color": "gray",
}  # fmt: skip
WEARING = {
    "hat": {"hat": "yes", "hat_kind": "brimmed-hat"},
    "glasses": {"glasses": "yes", "glasses_kind": "sunglasses"},
    "bag": {"bag": "yes", "bag_kind": "backpack"},
    "umbrella": {"umbrella": "yes"},
    "gloves": {"gloves": "yes"},
    "cellphone": {"cellphone": "yes", "cellphone_use": "talking"},
    "dress": {
        "gender": "female",
        "dress": "yes",
        "upper_garment": "dress",
        "lower_garment": "none",
        "lower_color": "blue",
    },
    "boots": {"boots": "yes"},
}
BACKGROUND, HAT, HAIR, GLOVE, GLASSES, UPPER, DRESS, COAT, SOCKS, PANTS, SKIRT, FACE = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    12,
    13,
)
LEFT_ARM, RIGHT_ARM, LEFT_LEG, RIGHT_LEG, LEFT_SHOE, RIGHT_SHOE = 14, 15, 16, 17, 18, 19


def someone(identity: int = 7, **words: str) -> Person:
    return Person(identity, BARE | words)


def seen(camera: int = 2, **words: str):
    return render(someone(**words), View(camera, **NOON), seed=3)


def columns_of(parsing: np.ndarray, lip: int) -> float:
    return float(np.nonzero(parsing == lip)[1].mean())


# --- people


def test_attributes_follow_the_published_counts():
    people = [draw_person(0, identity).attributes for identity in range(1, 4001)]
    published = {
        ("gender", "male"): 770, ("age", "adult"): 1049, ("age", ""): 43, ("shoes", "dark"): 727, ("top_length", "long"): 716,
        ("boots", "yes"): 402, ("sleeve", "short"): 318, ("hair", "long"): 311, ("hat", "yes"): 109, ("dress", "yes"): 72,
        ("bag", "yes"): 25, ("glasses", "yes"): 14, ("upper_color", "black"): 0.276 * 1150, ("lower_color", "black"): 0.371 * 1150,
    }  # fmt: skip
    for (name, word), count in published.items():
        share = sum(person[name] == word for person in people) / len(people)
        expected = count / 1150
        # Four standard errors, and the few points that dresses add to long tops and move between colours.
        assert abs(share - expected) < 4 * (expected * (1 - expected) / len(people)) ** 0.5 + 0.03 * (expected > 0.1), (
            name,
            word,
        )


def test_balanced_attributes_are_near_even():
    people = [draw_person(0, identity, is_balanced=True).attributes for identity in range(1, 2001)]
    for name in FINEGPR_NAMES:
        counts = Counter(person[name] for person in people)
        words = [word for word in WORDS[name] if word]
        assert set(counts) == set(words)
        assert min(counts.values()) > 0.45 * len(people) / len(words), (name, counts)


def test_every_word_of_every_attribute_occurs():
    people = [draw_person(0, identity, is_balanced=True).attributes for identity in range(1, 1501)]
    for name, words in WORDS.items():
        assert {person[name] for person in people} == {word for word in words if word}, name


def test_a_dress_is_one_garment_in_one_color():
    people = [draw_person(1, identity, is_balanced=True).attributes for identity in range(1, 301)]
    dressed = [person for person in people if person["dress"] == "yes"]
    assert dressed
    for person in dressed:
        assert (person["gender"], person["upper_garment"], person["lower_garment"]) == ("female", "dress", "none")
        assert (person["lower_color"], person["lower_pattern"]) == (person["upper_color"], person["upper_pattern"])
    assert all(person["lower_garment"] != "none" for person in people if person["dress"] == "no")


@pytest.mark.parametrize("thing", ["hat", "bag", "glasses"])
def test_a_kind_is_named_exactly_when_the_thing_is_there(thing):
    for identity in range(1, 200):
        words = draw_person(2, identity, is_balanced=True).attributes
        assert (words[f"{thing}_kind"] != "none") == (words[thing] == "yes")


def test_a_person_does_not_depend_on_who_else_is_drawn():
    assert draw_person(5, 40) == draw_person(5, 40)
    assert draw_person(5, 40).attributes != draw_person(5, 41).attributes != draw_person(6, 41).attributes


# --- geometry


def test_raster_agrees_with_a_naive_loop():
    source = np.random.default_rng(0)
    screen = source.uniform(-4, 28, (60, 2)).astype(np.float32)
    depth = source.uniform(2, 9, 60).astype(np.float32)
    triangles = source.integers(0, 60, (40, 3))
    hits = rasterize(screen, depth, triangles, height=24, width=20)
    expected = naive_raster(screen.astype(float), depth.astype(float), triangles, 24, 20)
    assert dict(zip(hits.samples.tolist(), hits.triangles.tolist(), strict=True)) == {
        k: v[1] for k, v in expected.items()
    }
    assert np.allclose(hits.depth, [expected[sample][0] for sample in hits.samples.tolist()], atol=1e-4)
    assert np.allclose(hits.weights.sum(1), 1, atol=1e-4)


def naive_raster(screen, depth, triangles, height, width):
    nearest = {}
    for index, corners in enumerate(triangles):
        (ax, ay), (bx, by), (cx, cy) = screen[corners]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area >= 0:
            continue
        for row in range(height):
            for column in range(width):
                x, y = column + 0.5, row + 0.5
                u = ((bx - x) * (cy - y) - (cx - x) * (by - y)) / area
                v = ((cx - x) * (ay - y) - (ax - x) * (cy - y)) / area
                w = 1 - u - v
                if min(u, v, w) >= 0:
                    z = u * depth[corners[0]] + v * depth[corners[1]] + w * depth[corners[2]]
                    nearest[row * width + column] = min(nearest.get(row * width + column, (np.inf, -1)), (z, index))
    return nearest


@pytest.mark.parametrize("axis", [(0, 1, 0), (0, -1, 0), (1, 0.2, 0)])
def test_normals_of_a_tube_point_outward(axis):
    line = np.linspace(0, 1, 5)[:, None] * np.array(axis, float)
    surface = Surface("test", lambda angle, along: Coat(np.zeros((len(angle), 3), np.float32), 0))
    mesh = build_mesh([Part(tube(line, 0.2, 0.3, columns=10), np.linspace(0, 1, 5, dtype=np.float32), surface)])
    direction = np.array(axis) / np.linalg.norm(axis)
    outward = mesh.vertices - np.outer(mesh.vertices @ direction, direction)
    assert ((mesh.normals * outward).sum(1) > 0.15).all()
    corners = mesh.vertices[mesh.triangles]
    faces = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((faces * outward[mesh.triangles].mean(1)).sum(1) > 0).all()


def test_majority_takes_a_most_frequent_class():
    labels = np.random.default_rng(1).integers(0, 4, (32, 16)).astype(np.uint8)
    for (row, column), chosen in np.ndenumerate(_majority(labels)):
        counts = Counter(labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist())
        assert counts[int(chosen)] == max(counts.values())


# --- pictures


@pytest.mark.parametrize(("camera", "sign"), [(10, 1), (28, -1)])
def test_angle_180_faces_image_right_and_0_faces_image_left(camera, sign):
    parsing = seen(camera).parsing
    assert sign * (columns_of(parsing, FACE) - columns_of(parsing, HAIR)) > 2


@pytest.mark.parametrize(("camera", "sign"), [(1, 1), (19, -1)])
@pytest.mark.parametrize(
    ("left", "right", "words"),
    [
        (LEFT_ARM, RIGHT_ARM, {}),
        (LEFT_ARM, RIGHT_ARM, {"upper_garment": "sweater", "sleeve": "long"}),  # hands only
        (LEFT_LEG, RIGHT_LEG, {"lower_garment": "shorts"}),
        (LEFT_SHOE, RIGHT_SHOE, {}),
        (LEFT_SHOE, RIGHT_SHOE, {"boots": "yes"}),
    ],
)
def test_left_and_right_are_the_persons(camera, sign, left, right, words):
    parsing = seen(camera, **words).parsing
    assert sign * (columns_of(parsing, left) - columns_of(parsing, right)) > 8


def test_the_face_shows_in_front_and_not_behind():
    front, back = (np.count_nonzero(seen(camera, hair="long").parsing == FACE) for camera in (1, 19))
    assert front > 150
    assert back < 0.2 * front


HUES = {
    "red": (340, 375),
    "yellow": (38, 62),
    "green": (85, 170),
    "blue": (200, 245),
    "purple": (255, 310),
    "brown": (10, 36),
}


@pytest.mark.parametrize("half", ["upper", "lower"])
@pytest.mark.parametrize("word", WORDS["upper_color"])
def test_a_color_word_names_the_color_seen(half, word):
    picture = render(someone(**{f"{half}_color": word}), View(3, 2, 3, 2), seed=3)
    cloth = picture.image[picture.parsing == (UPPER if half == "upper" else PANTS)]
    assert len(cloth) > 1000
    hue, saturation, value = colorsys.rgb_to_hsv(*(np.median(cloth, axis=0) / 255))
    if word in HUES:
        low, high = HUES[word]
        assert low <= (hue * 360 if hue * 360 >= low % 360 or high <= 360 else hue * 360 + 360) <= high
        assert saturation > 0.35
        assert (value < 0.62) if word == "brown" else (value > 0.2)
    else:
        assert saturation < 0.3
        low, high = {"black": (0.0, 0.3), "gray": (0.33, 0.64), "white": (0.68, 1.0)}[word]
        assert low <= value <= high


@pytest.mark.parametrize(
    ("lip", "camera", "words"),
    [
        (HAT, 2, WEARING["hat"]),
        (GLASSES, 2, WEARING["glasses"]),
        (GLOVE, 2, WEARING["gloves"]),
        (DRESS, 2, WEARING["dress"]),
        (COAT, 2, {"upper_garment": "coat", "sleeve": "long", "top_length": "long"}),
        (SOCKS, 2, {"lower_garment": "shorts"}),
        (SKIRT, 10, {"gender": "female", "lower_garment": "long-skirt"}),
        (LEFT_LEG, 28, {"lower_garment": "shorts"}),
        (LEFT_ARM, 28, {"upper_garment": "tank-top"}),
    ],
)
def test_parsing_shows_what_is_worn(lip, camera, words):
    assert np.count_nonzero(seen(camera, **words).parsing == lip) > 25
    plain = seen(camera, upper_garment="sweater", sleeve="long").parsing
    assert np.count_nonzero(plain == lip) < 25 or lip == LEFT_ARM


@pytest.mark.parametrize("kind", WORDS["hat_kind"][1:])
@pytest.mark.parametrize("camera", [1, 10, 19])
def test_every_hat_shows_from_every_side(kind, camera):
    picture = seen(camera, hat="yes", hat_kind=kind)
    assert "hat_kind" in picture.visible
    assert np.count_nonzero(picture.parsing == HAT) > 100


@pytest.mark.parametrize("thing", WEARING)
def test_a_thing_worn_changes_the_picture_and_is_visible(thing):
    with_it, without = seen(3, **WEARING[thing]), seen(3)
    assert thing in with_it.visible
    assert np.count_nonzero(np.abs(with_it.image.astype(int) - without.image).max(-1) > 40) > 60


@pytest.mark.parametrize(
    ("name", "camera", "words"),
    [
        ("glasses", 19, WEARING["glasses"]),
        ("glasses_kind", 19, {}),
        ("glasses", 14, {}),
        ("glasses", 24, {}),
        ("age", 1, {"age": ""}),
    ],
)
def test_what_cannot_be_told_is_not_called_visible(name, camera, words):
    picture = seen(camera, **words)
    assert name not in picture.visible
    assert "upper_color" in picture.visible


@pytest.mark.parametrize(("camera", "is_visible"), [(1, False), (10, True), (19, True), (28, True)])
def test_a_ponytail_behind_the_head_tells_nothing_of_the_length(camera, is_visible):
    person = next(
        person
        for person in (someone(identity, hair="long") for identity in range(100))
        if build_look(person, 3).hair_style == "ponytail"
    )
    assert ("hair" in render(person, View(camera, **NOON), seed=3).visible) == is_visible


@pytest.mark.parametrize("camera", range(1, 37, 5))
def test_the_figure_fills_the_frame_as_a_detectors_crop(camera):
    rows, columns = np.nonzero(seen(camera).parsing)
    assert 0.80 <= (rows.max() - rows.min() + 1) / 256 <= 0.97
    assert columns.min() > 0
    assert columns.max() < 127


def test_night_is_darker_fog_is_flatter_and_snow_is_whiter():
    noon, midnight, fog, snow = (
        render(someone(), View(3, weather, illumination, 3), seed=3)
        for weather, illumination in ((2, 4), (2, 1), (4, 4), (7, 4))
    )
    assert midnight.image.mean() < 0.7 * noon.image.mean()
    assert fog.image[fog.parsing > 0].std() < 0.85 * noon.image[noon.parsing > 0].std()
    meadow, covered = (np.median(picture.image[-30:, :20].reshape(-1, 3), 0) for picture in (noon, snow))
    assert meadow[1] - meadow[2] > 35  # green
    assert np.ptp(covered) < 25
    assert covered.mean() > 170


def test_scenes_differ_and_stay_with_the_identity():
    pictures = [render(someone(), View(3, 2, 4, scene), seed=3).image for scene in range(1, 10)]
    corners = np.array([picture[-60:, :25].reshape(-1, 3).mean(0) for picture in pictures])
    distances = np.linalg.norm(corners[:, None] - corners[None], axis=-1)
    assert np.count_nonzero(distances[np.triu_indices(9, 1)] > 10) > 25


def test_images_of_a_person_differ_in_the_phase_of_the_gait():
    pictures = [render(someone(), View(10, weather, 3, 1), seed=3, height=128, width=64) for weather in range(1, 8)]
    strides = [np.ptp(np.nonzero(picture.parsing == PANTS)[1]) for picture in pictures if picture.action == "walking"]
    assert len(strides) >= 2
    assert max(strides) > 1.4 * min(strides)


def test_the_same_view_gives_the_same_picture_at_any_time():
    view = View(8, 6, 2, 4)
    first = render(draw_person(1, 2), view, seed=1)
    render(draw_person(1, 3), View(1, 1, 1, 1), seed=1)
    second = render(draw_person(1, 2), view, seed=1)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.parsing, second.parsing)
    assert not np.array_equal(first.image, render(draw_person(1, 2), view, seed=2).image)


def test_small_pictures_show_the_same_things():
    large, small = (render(someone(), View(2, **NOON), seed=3, height=h, width=h // 2) for h in (256, 128))
    assert small.image.shape == (128, 64, 3)
    agree = (large.parsing[::2, ::2] == small.parsing).mean()
    assert agree > 0.97


@pytest.mark.parametrize(("code", "limit"), [("camera", 37), ("weather", 8), ("illumination", 0), ("scene", 10)])
def test_a_view_refuses_codes_out_of_range(code, limit):
    codes = {"camera": 1, "weather": 1, "illumination": 1, "scene": 1} | {code: limit}
    with pytest.raises(ValueError, match=f"{code} code {limit} is outside"):
        View(**codes)


# --- files

SMALL = {"identities": 3, "images_per_identity": 4, "seed": 11, "height": 64, "width": 32}


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "set"
    progress: list[int] = []
    report = write_finegpr(out, Settings(**SMALL), on_progress=progress.append)
    assert (report.images, report.rendered, progress) == (12, 12, [4, 8, 12])
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_layout_is_finegprs(data_set):
    images = list_images(data_set / "images")
    assert images["person_id"].to_pylist() == ["0001"] * 4 + ["0002"] * 4 + ["0003"] * 4
    assert min(images["scene_id"].to_pylist()) >= 1
    for path in images["path"].to_pylist():
        parsing = Image.open(data_set / "parsing" / Path(path).with_suffix(".png"))
        assert parsing.size == Image.open(data_set / "images" / path).size == (32, 64)
        assert set(np.unique(np.asarray(parsing))) <= set(range(20))


def test_tables_hold_the_words(data_set):
    with (data_set / "attributes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", *FINEGPR_NAMES]
    assert rows[1] == {"id": "0002"} | {name: draw_person(11, 2).attributes[name] for name in FINEGPR_NAMES}
    with (data_set / "labels.csv").open(newline="") as file:
        labels = list(csv.DictReader(file))
    assert [row["file"] for row in labels] == sorted(list_images(data_set / "images")["path"].to_pylist())
    for row in labels:
        assert set(row["visible"].split()) <= {*WORDS, "action"}
        assert row["action"] in ("standing", "walking", "running")
    assert "synthetic renders" in (data_set / "README.md").read_text()


def test_two_processes_write_the_same_bytes_as_one(data_set, tmp_path):
    write_finegpr(tmp_path / "two", Settings(**SMALL), workers=2)
    assert contents(tmp_path / "two") == contents(data_set)


def test_a_rerun_makes_only_what_is_missing(tmp_path):
    write_finegpr(tmp_path, Settings(**SMALL))
    before = contents(tmp_path)
    lost = sorted(tmp_path.glob("images/*/*.jpg"))[5]
    lost.unlink()
    assert write_finegpr(tmp_path, Settings(**SMALL)).rendered == 1
    assert contents(tmp_path) == before


def test_a_folder_of_other_settings_is_refused(data_set):
    with pytest.raises(ConfigError, match=r"other settings \(seed: 11 there, 12 here\)"):
        write_finegpr(data_set, Settings(**(SMALL | {"seed": 12})))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        write_finegpr(tmp_path, Settings(**SMALL))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("identities", 0, "identities is 0"),
        ("images_per_identity", 1765, "1…1764"),
        ("height", 31, "31 by 32 is too small"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, name, value, message):
    with pytest.raises(ValueError, match=message):
        write_finegpr(tmp_path / "new", Settings(**(SMALL | {name: value})))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("count", [1, 5, 36, 50, 1764])
def test_views_are_distinct_and_spread_over_the_cameras(count):
    views = draw_views(4, 9, count)
    assert len(set(views)) == len(views) == count
    assert len({view.scene for view in views}) == 1
    cameras = Counter(view.camera for view in views)
    assert max(cameras.values()) - min(cameras.values()) <= 1
    assert len(cameras) == min(count, 36)
    if 1 < count < 36:
        ordered = sorted(cameras)
        gaps = np.diff([*ordered, ordered[0] + 36])
        assert gaps.max() - gaps.min() <= 1


def test_importing_the_renderer_loads_no_heavy_library():
    code = "import sys, passerby.synthetic; print({'torch', 'pandas', 'pyarrow', 'open_clip'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
