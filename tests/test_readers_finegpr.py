import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from passerby.readers.finegpr import camera_angle, camera_view, fraction_mask, list_images


def listed(tmp_path: Path, *names: str) -> list[dict[str, object]]:
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"pixels")
    return list_images(tmp_path).to_pylist()


@pytest.mark.parametrize(("camera", "angle"), [(1, 90), (10, 180), (19, 270), (28, 0), (36, 80)])
def test_cameras_turn_by_ten_degrees_from_the_front(camera, angle):
    assert camera_angle(camera) == angle


def test_the_nearest_side_names_the_view():
    sides = {"front": 90, "right": 180, "back": 270, "left": 0}
    for camera in range(1, 37):
        angle = camera_angle(camera)
        distance = {side: min((angle - centre) % 360, (centre - angle) % 360) for side, centre in sides.items()}
        assert distance[camera_view(camera)] == min(distance.values())


@pytest.mark.parametrize("bins", ["cardinal", "group9"])
def test_every_view_has_nine_cameras(bins):
    views = [camera_view(camera, bins) for camera in range(1, 37)]
    assert {view: views.count(view) for view in views} == dict.fromkeys(["front", "right", "back", "left"], 9)


def test_group9_calls_170_degrees_front():
    assert camera_view(9, "group9") == "front"
    assert camera_view(9) == "right"


@pytest.mark.parametrize("camera", [0, 37])
def test_a_camera_that_does_not_exist_has_no_view(camera):
    with pytest.raises(ValueError, match=str(camera)):
        camera_view(camera)


@pytest.mark.parametrize("folder", ["0007/", ""])
def test_tree_and_flat_subset_read_alike(tmp_path, folder):
    (row,) = listed(tmp_path, f"{folder}0007_c12_w02_l03_p04.jpg")
    assert row == {
        "path": f"{folder}0007_c12_w02_l03_p04.jpg",
        "person_id": "0007",
        "camera_id": 12,
        "weather_id": 2,
        "illumination_id": 3,
        "scene_id": 4,
        "key": "0007_c12_w02_l03_p04",
    }


def test_a_name_that_does_not_parse_is_listed_without_a_person(tmp_path):
    (row,) = listed(tmp_path, "holiday.jpg")
    assert (row["person_id"], row["camera_id"]) == ("", -1)


def test_odd_names_get_safe_keys_and_keep_their_person(tmp_path):
    names = ["0001_c01_w01_l01_p01 (copy).jpg", "früh/0001_c01_w01_l01_p02.v2.jpg", "0001_c01_w01_l01_p03.JPG"]
    rows = listed(tmp_path, *names)
    assert {row["person_id"] for row in rows} == {"0001"}
    assert all(
        str(row["key"]).replace("-", "").replace("_", "").isalnum() and len(str(row["key"])) <= 80 for row in rows
    )


def test_the_same_name_in_two_folders_gives_two_keys(tmp_path):
    rows = listed(tmp_path, "a/0001_c01_w01_l01_p01.jpg", "b/0001_c01_w01_l01_p01.jpg")
    assert len({row["key"] for row in rows}) == 2


def test_the_list_is_sorted_by_key_whatever_the_folder_says(tmp_path):
    rows = listed(tmp_path, "z/0001_c02_w01_l01_p01.jpg", "a/0003_c01_w01_l01_p01.jpg", "0002_c01_w01_l01_p01.jpg")
    keys = [row["key"] for row in rows]
    assert keys == sorted(keys)


def test_a_broken_link_is_listed_for_the_quarantine(tmp_path):
    (tmp_path / "0001_c01_w01_l01_p01.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert list_images(tmp_path).num_rows == 1


def test_a_file_name_in_another_encoding_does_not_stop_the_listing(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/0001_c01_w01_l01_p01_caf\xe9.jpg")).write_bytes(b"pixels")
    (row,) = list_images(tmp_path).to_pylist()
    assert row["person_id"] == "0001"


def test_a_text_file_lists_paths(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("0002_c01_w01_l01_p01.jpg\n\n0001/0001_c01_w01_l01_p01.jpg\n")
    assert list_images(names)["person_id"].to_pylist() == ["0001", "0002"]


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="no/such"):
        list_images(Path("no/such"))


def test_a_folder_without_images_says_what_is_an_image(tmp_path):
    with pytest.raises(ValueError, match=r"\.jpg"):
        list_images(tmp_path)


def full_grid(identities: int) -> pa.Table:
    rows = [
        {"person_id": f"{person:04d}", "camera_id": camera, "weather_id": weather, "illumination_id": light}
        for person in range(identities)
        for camera in range(1, 37)
        for weather in range(1, 8)
        for light in range(1, 8)
    ]
    return pa.Table.from_pylist(rows)


def test_half_the_images_are_882_a_person_and_balanced():
    images = full_grid(3)
    kept = images.filter(pa.array(fraction_mask(images, 1, 2, {"0000": 5, "0001": 8, "0002": 1}))).to_pandas()
    assert (kept.groupby("person_id").size() == 882).all()
    for column in ("camera_id", "weather_id", "illumination_id"):
        assert np.ptp(kept.groupby(["person_id", column]).size()) <= 36


def test_identities_with_other_offsets_keep_other_images():
    images = full_grid(2)
    mask = fraction_mask(images, 1, 2, {"0000": 0, "0001": 1})
    assert (mask[:1764] == ~mask[1764:]).all()
