"""The official Re-ID data sets, in tiny copies of their official layouts."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from passerby.readers.official import Counts, Facts, ReidInputs, check_counts, count_splits
from passerby.readers.reid import DATASETS, read_dataset
from passerby.sample import KEY_PATTERN, key_from_path


def drawn(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 16), (90, 60, 30)).save(buffer, kind)
    return buffer.getvalue()


PICTURE = {".jpg": drawn("JPEG"), ".jpeg": drawn("JPEG"), ".png": drawn("PNG")}


def put(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE.get(path.suffix.lower(), b"no image"))
    return folder


def rows(inputs: ReidInputs) -> list[tuple[str, str, str, str, int]]:
    return [tuple(row.values())[:5] for row in inputs.table.to_pylist()]


def paths(inputs: ReidInputs) -> list[str]:
    return inputs.table["path"].to_pylist()


MARKET = [
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c3s2_000051_01.jpg",
    "query/0001_c1s1_001051_00.jpg",
    "bounding_box_test/0001_c2s1_000301_00.jpg",
    "bounding_box_test/0000_c1s1_000151_01.jpg",
    "bounding_box_test/-1_c1s1_000401_03.jpg",
]


@pytest.fixture
def market(tmp_path) -> Path:
    return put(tmp_path / "Market-1501-v15.09.15", *MARKET)


def duke(folder: Path) -> Path:
    return put(
        folder,
        "bounding_box_train/0001_c2_f0046182.jpg",
        "query/0005_c8_f0084043.jpg",
        "bounding_box_test/0005_c3_f0084044.jpg",
        "bounding_box_test/7140_c4_f0000010.jpg",
    )


# --- folders of boxes


def test_market1501_is_split_by_folder_and_read_from_names(market):
    assert rows(read_dataset("market1501", market)) == [
        ("train", "0002_c1s1_000451_03", MARKET[0], "0002", 1),
        ("train", "0002_c3s2_000051_01", MARKET[1], "0002", 3),
        ("query", "0001_c1s1_001051_00", MARKET[2], "0001", 1),
        ("gallery", "0000_c1s1_000151_01", MARKET[4], "0000", 1),
        ("gallery", "0001_c2s1_000301_00", MARKET[3], "0001", 2),
    ]


def test_distractors_stay_and_junk_is_counted(market):
    put(market, "query/-1_c1s1_000401_00.jpg")
    inputs = read_dataset("market1501", market)
    assert inputs.dropped == {"junk (person -1)": 2}
    assert not any("/-1" in path for path in paths(inputs))
    assert count_splits(inputs.table)["gallery"] == Counts(2, 2)


def test_what_is_no_image_is_counted(market):
    put(market, "query/Thumbs.db", "bounding_box_test/.DS_Store", "bounding_box_train/._0002_c1s1_000451_03.jpg")
    assert read_dataset("market1501", market).dropped == {"junk (person -1)": 1, "not an image": 3}


def test_extensions_may_be_loud_or_repeated(market):
    put(market, "query/0001_c4s1_001051_00.JPG", "query/0001_c5s1_001051_00.jpg.jpg")
    keys = read_dataset("market1501", market).table["key"].to_pylist()
    assert {"0001_c4s1_001051_00", "0001_c5s1_001051_00"} <= set(keys)


def test_a_name_that_two_folders_share_gets_keys_of_its_paths(market):
    shared = put(market, "bounding_box_test/0001_c1s1_001051_00.jpg")
    by_path = {row[2]: row[1] for row in rows(read_dataset("market1501", shared))}
    for path in ("query/0001_c1s1_001051_00.jpg", "bounding_box_test/0001_c1s1_001051_00.jpg"):
        assert by_path[path] == key_from_path(path)
        assert KEY_PATTERN.fullmatch(by_path[path])


def test_the_parent_of_a_data_set_will_do(market):
    duke(market.parent / "DukeMTMC-reID")
    assert read_dataset("market1501", market.parent).root == market
    assert read_dataset("dukemtmc-reid", market.parent).root == market.parent / "DukeMTMC-reID"


def test_two_candidates_without_a_known_name_are_asked_about(tmp_path):
    put(tmp_path / "first", *MARKET)
    put(tmp_path / "second", *MARKET)
    with pytest.raises(ValueError, match=r"several folders with bounding_box_train.*: first, second; give one"):
        read_dataset("market1501", tmp_path)


def test_dukemtmc_is_read_with_its_notice(tmp_path):
    inputs = read_dataset("dukemtmc-reid", duke(tmp_path))
    assert [row[3:] for row in rows(inputs)] == [("0001", 2), ("0005", 8), ("0005", 3), ("7140", 4)]
    assert "withdrew DukeMTMC" in inputs.facts.notice
    assert read_dataset("market1501", put(tmp_path / "m", *MARKET)).facts.notice == ""


def lists(folder: Path, *, train: str, query: str, gallery: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {"train": train, "query": query, "gallery": gallery}.items():
        (folder / f"{name}.list").write_text(text, encoding="utf-8")
    return folder


OCCLUDED = {
    "train": "0001_c2_f0046182.jpg\n",
    "query": "0005_c8_f0084043.jpg\n7140_c4_f0000010.jpg\n\n",
    "gallery": "0005_c3_f0084044.jpg\n",
}
OCCLUDED_PATHS = [
    "bounding_box_train/0001_c2_f0046182.jpg",
    "query/0005_c8_f0084043.jpg",
    "bounding_box_test/7140_c4_f0000010.jpg",
    "bounding_box_test/0005_c3_f0084044.jpg",
]


@pytest.mark.parametrize("place", ["Occluded_Duke/DukeMTMC-reID", "DukeMTMC-reID", "Occluded_Duke"])
def test_occluded_duke_is_read_from_its_lists(tmp_path, place):
    lists(tmp_path / "Occluded_Duke", **OCCLUDED)
    duke(tmp_path / place)
    inputs = read_dataset("occluded-duke", tmp_path / "Occluded_Duke")
    assert paths(inputs) == OCCLUDED_PATHS
    assert inputs.table["split"].to_pylist() == ["train", "query", "query", "gallery"]
    assert inputs.root == tmp_path / place


def test_occluded_duke_is_read_from_folders(tmp_path):
    inputs = read_dataset("occluded-duke", duke(tmp_path / "Occluded_Duke"))
    assert [row[0] for row in rows(inputs)] == ["train", "query", "gallery", "gallery"]
    assert inputs.facts.counts["train"] == Counts(15_618, 702)


def test_a_query_that_is_in_the_gallery_too_has_two_keys_the_same_for_lists_and_folders(tmp_path):
    """The script takes queries from Duke's gallery, and the gallery has as many images as Duke's."""
    doubled = "7140_c4_f0000010.jpg"
    lists(tmp_path / "lists", **{**OCCLUDED, "gallery": f"0005_c3_f0084044.jpg\n{doubled}\n"})
    from_lists = read_dataset("occluded-duke", duke(tmp_path / "lists"))
    from_folders = read_dataset("occluded-duke", put(duke(tmp_path / "folders"), f"query/{doubled}"))
    assert paths(from_lists).count(f"bounding_box_test/{doubled}") == 2
    wanted = {"split", "key", "person_id", "camera_id"}
    both = (
        [{name: row[name] for name in wanted} for row in its.table.to_pylist()] for its in (from_lists, from_folders)
    )
    assert next(both) == next(both)
    keys = from_lists.table["key"].to_pylist()
    assert {key_from_path(f"{folder}/{doubled}") for folder in ("query", "bounding_box_test")} < set(keys)


def test_lists_without_dukemtmc_say_what_they_need(tmp_path):
    lists(tmp_path / "a" / "Occluded_Duke", **OCCLUDED)
    with pytest.raises(FileNotFoundError, match=r"does not hold DukeMTMC-reID for the lists in .*Occluded_Duke"):
        read_dataset("occluded-duke", tmp_path / "a")


def test_a_listed_image_that_is_missing_is_named_or_counted(tmp_path):
    lists(tmp_path, **{**OCCLUDED, "train": "0001_c2_f0046182.jpg\n0001_c2_f0000001.jpg\n../0001_c1_f0000002.jpg\n"})
    duke(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"train.list lists 3 images, of which 2 are not in .*--allow-missing"):
        read_dataset("occluded-duke", tmp_path)
    inputs = read_dataset("occluded-duke", tmp_path, allow_missing=True)
    assert paths(inputs) == OCCLUDED_PATHS
    assert inputs.dropped == {"listed, but missing": 2}


# --- CUHK03-NP


def cuhk03_folders(folder: Path) -> Path:
    for cut, index in (("detected", 1), ("labeled", 2)):
        put(
            folder / cut,
            f"bounding_box_train/0003_c1_{index}.png",
            f"query/0001_c2_{index}.png",
            f"bounding_box_test/0001_c1_{index}.png",
        )
    return folder


@pytest.mark.parametrize(("cut", "index"), [("detected", 1), ("labeled", 2)])
def test_cuhk03_np_reads_the_cut_that_is_asked_for(tmp_path, cut, index):
    assert rows(read_dataset(f"cuhk03-np-{cut}", cuhk03_folders(tmp_path / "CUHK03-NP").parent)) == [
        ("train", f"0003_c1_{index}", f"{cut}/bounding_box_train/0003_c1_{index}.png", "0003", 1),
        ("query", f"0001_c2_{index}", f"{cut}/query/0001_c2_{index}.png", "0001", 2),
        ("gallery", f"0001_c1_{index}", f"{cut}/bounding_box_test/0001_c1_{index}.png", "0001", 1),
    ]


def cuhk03_protocol(folder: Path, *, gallery: int = 4) -> Path:
    """Write the protocol as MATLAB 5, with cells of text and indices from 1."""
    scipy_io = pytest.importorskip("scipy.io", reason="reads the .mat form; pip install passerby[cuhk03]")
    names = ["5_002_1_01.png", "1_001_2_06.png", "1_001_1_01.png", "5_002_2_07.png"]
    put(folder, *(f"images_detected/{name}" for name in names))
    cells = np.empty((4, 1), dtype=object)
    cells[:, 0] = names
    content = {
        "filelist": cells,
        "labels": np.array([[1467], [1], [1], [1467]], np.uint16),
        "train_idx": np.array([[3], [2]], np.uint16),
        "query_idx": np.array([[1]], np.uint16),
        "gallery_idx": np.array([[gallery]], np.uint16),
    }
    scipy_io.savemat(folder / "cuhk03_new_protocol_config_detected.mat", content)
    return folder


def test_cuhk03_np_reads_the_protocol_file(tmp_path):
    """Hand-worked: indices count from 1, and the camera is the view, not the pair of cameras in front."""
    assert rows(read_dataset("cuhk03-np-detected", cuhk03_protocol(tmp_path))) == [
        ("train", "1_001_1_01", "images_detected/1_001_1_01.png", "0001", 1),
        ("train", "1_001_2_06", "images_detected/1_001_2_06.png", "0001", 2),
        ("query", "5_002_1_01", "images_detected/5_002_1_01.png", "1467", 1),
        ("gallery", "5_002_2_07", "images_detected/5_002_2_07.png", "1467", 2),
    ]


def test_cuhk03_np_names_and_counts_what_is_missing(tmp_path):
    (cuhk03_protocol(tmp_path) / "images_detected" / "5_002_2_07.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 are not in .*: images_detected/5_002_2_07.png"):
        read_dataset("cuhk03-np-detected", tmp_path)
    inputs = read_dataset("cuhk03-np-detected", tmp_path, allow_missing=True)
    assert (len(inputs.table), inputs.dropped) == (3, {"listed, but missing": 1})


def test_a_damaged_protocol_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"points outside its own list of 4 names"):
        read_dataset("cuhk03-np-detected", cuhk03_protocol(tmp_path, gallery=5))
    (tmp_path / "cuhk03_new_protocol_config_detected.mat").write_bytes(b"MATLAB no more" * 20)
    with pytest.raises(ValueError, match=r"is not the file of CUHK03's new protocol"):
        read_dataset("cuhk03-np-detected", tmp_path)


def test_a_protocol_file_without_scipy_says_what_to_install(tmp_path, monkeypatch):
    folder = cuhk03_protocol(tmp_path)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ModuleNotFoundError, match=r"is read by scipy: pip install passerby\[cuhk03\]"):
        read_dataset("cuhk03-np-detected", folder)


def test_a_protocol_file_without_images_says_where_they_come_from(tmp_path):
    (tmp_path / "cuhk03_new_protocol_config_labeled.mat").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"images_labeled is missing, .* cut them out of cuhk-03.mat"):
        read_dataset("cuhk03-np-labeled", tmp_path)


# --- MSMT17


def msmt17(folder: Path, train: str = "train", test: str = "test") -> Path:
    listed = {
        "train": (train, ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_001_14_0114noon_0017_2.jpg 1"]),
        "val": (train, ["0000/0000_002_03_0303afternoon_0020_1.jpg 0"]),
        "query": (test, ["0000/0000_000_15_0302morning_0015_0.jpg 0 "]),
        "gallery": (test, ["0000/0000_000_01_0303morning_0008_0.jpg 0", ""]),
    }
    for name, (half, lines) in listed.items():
        put(folder, *(f"{half}/{line.split()[0]}" for line in lines if line))
        (folder / f"list_{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_msmt17_keeps_the_people_of_both_halves_apart(tmp_path):
    shared = ("train/0000/0000_000_01_0303morning_0008_0.jpg", "test/0000/0000_000_01_0303morning_0008_0.jpg")
    inputs = read_dataset("msmt17-v1", msmt17(tmp_path / "MSMT17_V1").parent)
    assert rows(inputs) == [
        ("train", "0001_001_14_0114noon_0017_2", "train/0001/0001_001_14_0114noon_0017_2.jpg", "train-0001", 14),
        ("train", key_from_path(shared[0]), shared[0], "train-0000", 1),
        ("query", "0000_000_15_0302morning_0015_0", "test/0000/0000_000_15_0302morning_0015_0.jpg", "test-0000", 15),
        ("gallery", key_from_path(shared[1]), shared[1], "test-0000", 1),
    ]
    assert inputs.dropped == {"in the validation list": 1}


def test_msmt17_trains_on_the_validation_list_if_told(tmp_path):
    without, whole = (read_dataset(name, msmt17(tmp_path)) for name in ("msmt17-v1", "msmt17-v1-trainval"))
    assert count_splits(whole.table)["train"] == Counts(3, 2)
    assert whole.dropped == {}
    assert set(rows(without)) < set(rows(whole))
    train = [row[1] for row in rows(whole) if row[0] == "train"]
    assert train == sorted(train)
    assert (without.facts.counts["train"], whole.facts.counts["train"]) == (
        Counts(30_248, 1_041),
        Counts(32_621, 1_041),
    )


def test_msmt17_versions_are_not_mixed(tmp_path):
    masked = msmt17(tmp_path / "MSMT17_V2", "mask_train_v2", "mask_test_v2")
    inputs = read_dataset("msmt17-v2", masked)
    assert inputs.table["person_id"].to_pylist() == ["train-0001", "train-0000", "test-0000", "test-0000"]
    assert "masked faces" in inputs.facts.source
    with pytest.raises(FileNotFoundError, match=r"does not hold .* and the folders train and test"):
        read_dataset("msmt17-v1", masked)


def test_msmt17_counts_images_that_no_list_names(tmp_path):
    put(msmt17(tmp_path), "train/0009/0009_000_01_0303morning_0008_0.jpg")
    assert read_dataset("msmt17-v1-trainval", tmp_path).dropped == {"in no list": 1}


def test_folder_names_never_say_which_camera_it_was(tmp_path):
    """The expressions of other loaders search the whole path, and find a camera in `data_c1`."""
    path = "9999_000_09_0303morning_0001_0/0000_000_01_0303morning_0008_0.jpg"
    folder = put(msmt17(tmp_path / "data_c1" / "9999_000_09_0303morning_0001_0"), f"train/{path}")
    (folder / "list_train.txt").write_text(f"{path} 0\n", encoding="utf-8")
    assert rows(read_dataset("msmt17-v1", folder))[0][3:] == ("train-0000", 1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("query", "0000/0000_000_15_0302morning_0015_0.jpg\n", r"list_query.txt: line 1 is '0000/.*; a line reads"),
        ("train", "0000/0000_000_01_0303morning_0008_0.jpg 0\n" * 2, r"1 images are listed more than once"),
        (
            "train",
            "0000/holiday.jpg 0\n",
            r"1 file names are none of MSMT17 V1: train/0000/holiday.jpg; they read like",
        ),
    ],
)
def test_a_damaged_list_is_one_line(tmp_path, name, text, message):
    (msmt17(tmp_path) / f"list_{name}.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_dataset("msmt17-v1", tmp_path)


def test_msmt17_names_what_is_missing(tmp_path):
    (msmt17(tmp_path) / "test/0000/0000_000_15_0302morning_0015_0.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"lists 5 images, of which 1 are not in .*0015_0.jpg"):
        read_dataset("msmt17-v1", tmp_path)
    inputs = read_dataset("msmt17-v1-trainval", tmp_path, allow_missing=True)
    assert inputs.dropped == {"listed, but missing": 1}


# --- FineGPR


@pytest.mark.parametrize("is_flat", [True, False])
def test_finegpr_trains_on_everybody_with_viewpoints_for_cameras(tmp_path, is_flat):
    names = ["0001_c01_w01_l01_p01.jpg", "0002_c36_w07_l07_p09.jpg"]
    put(tmp_path / "images", *(name if is_flat else f"{name[:4]}/{name}" for name in names))
    put(tmp_path / "parsing", *(f"{name[:-4]}.png" for name in names))
    inputs = read_dataset("finegpr", tmp_path)
    assert [(row[0], row[1], *row[3:]) for row in rows(inputs)] == [
        ("train", "0001_c01_w01_l01_p01", "0001", 1),
        ("train", "0002_c36_w07_l07_p09", "0002", 36),
    ]
    assert inputs.facts.counts == {"train": Counts(4_600 if is_flat else 2_028_600, 1_150)}


# --- captions


def pedes(folder: Path, name: str, records: list[dict[str, object]], images: str = "imgs") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(records), encoding="utf-8")
    listed = [record.get("file_path", record.get("img_path")) for record in records]
    put(folder, *(f"{images}/{path}" for path in listed if path))
    return folder


CUHK = [
    {"split": "train", "captions": ["A  man.", "He walks.\n"], "file_path": "CUHK01/0363004.png", "id": 1},
    {"split": "val", "captions": ["A woman.", "She runs."], "file_path": "Market/0002_c1s1_000451_03.jpg", "id": 2},
    {"split": "TEST", "captions": ["A boy.", " "], "file_path": "cam_a/001_45.jpg", "id": "13003"},
]


def cuhk_pedes(folder: Path, *changes: dict[str, object]) -> Path:
    return pedes(folder / "CUHK-PEDES", "reid_raw.json", [*CUHK, *({**CUHK[0], **change} for change in changes)])


def test_cuhk_pedes_takes_split_and_person_from_fields(tmp_path):
    inputs = read_dataset("cuhk-pedes", cuhk_pedes(tmp_path).parent)
    assert inputs.table.drop_columns("key").to_pylist() == [
        {
            "split": "train",
            "path": "imgs/CUHK01/0363004.png",
            "person_id": "1",
            "camera_id": -1,
            "captions": ["A man.", "He walks."],
        },
        {
            "split": "val",
            "path": "imgs/Market/0002_c1s1_000451_03.jpg",
            "person_id": "2",
            "camera_id": -1,
            "captions": ["A woman.", "She runs."],
        },
        {
            "split": "test",
            "path": "imgs/cam_a/001_45.jpg",
            "person_id": "13003",
            "camera_id": -1,
            "captions": ["A boy."],
        },
    ]
    assert inputs.dropped == {"empty caption": 1}
    assert count_splits(inputs.table) == {"train": Counts(1, 1, 2), "val": Counts(1, 1, 2), "test": Counts(1, 1, 1)}


ICFG = [
    {"split": "train", "captions": ["One."], "file_path": "test/0627/0627_010_05_0303afternoon_1591_0.jpg", "id": 0},
    {"split": "train", "captions": ["Two."], "file_path": "test/0627/0627_010_05_0303afternoon_1591_0.jpg", "id": 0},
    {"split": "test", "captions": ["Three."], "file_path": "train/0001/0001_000_14_0303noon_0001_0.jpg", "id": 3102,
     "processed_tokens": [[["three"]]]},
]  # fmt: skip


@pytest.mark.parametrize("name", ["ICFG-PEDES.json", "ICFG_PEDES.json"])
@pytest.mark.parametrize("images", ["imgs", "ICFG_PEDES"])
def test_icfg_pedes_joins_a_path_that_is_listed_twice(tmp_path, name, images):
    inputs = read_dataset("icfg-pedes", pedes(tmp_path, name, ICFG, images))
    assert inputs.dropped == {"listed twice, captions joined": 1}
    assert inputs.table.select(["split", "person_id", "camera_id", "captions"]).to_pylist() == [
        {"split": "train", "person_id": "0", "camera_id": 5, "captions": ["One.", "Two."]},
        {"split": "test", "person_id": "3102", "camera_id": 14, "captions": ["Three."]},
    ]


RSTP = {"id": 0, "img_path": "0000_c14_0031.jpg", "captions": ["His shirt.His bag.", "Two."], "split": "train"}


def test_rstpreid_has_its_own_name_for_paths(tmp_path):
    inputs = read_dataset("rstpreid", pedes(tmp_path, "data_captions.json", [RSTP]))
    row = ("train", "0000_c14_0031", "imgs/0000_c14_0031.jpg", "0", 14)
    assert rows(inputs) == [row]
    assert inputs.table["captions"].to_pylist() == [["His shirt.His bag.", "Two."]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_path": "a.jpg", "split": "valid"}, r"entry 3 has the split 'valid'; known are train, val, test"),
        ({"file_path": "a.jpg", "captions": "one"}, r"entry 3 has no captions \(a list of texts\)"),
        ({"file_path": "a.jpg", "id": None}, r"entry 3 has the id None; it must be the number of a person"),
        ({"file_path": "a.jpg", "id": -1}, r"entry 3 has the id -1"),
        ({"file_path": None}, r"entry 3 has no file_path"),
        ({"file_path": "a.jpg", "split": "test"}, r"1 people are in more than one split: 1; a person belongs to one"),
        (
            {"id": 7},
            r"entry 3 says that CUHK01/0363004.png shows person 7 of train, an entry before it person 1 of train",
        ),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        read_dataset("cuhk-pedes", cuhk_pedes(tmp_path, change))


@pytest.mark.parametrize(
    ("text", "message"),
    [("[{]", "is no JSON"), ('{"a": 1}', "holds dict; CUHK-PEDES is a list"), ("[]", "lists no image")],
)
def test_a_damaged_caption_list_is_one_line(tmp_path, text, message):
    (cuhk_pedes(tmp_path) / "reid_raw.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_dataset("cuhk-pedes", tmp_path)


def test_captioned_images_that_are_missing_are_named_or_counted(tmp_path):
    folder = cuhk_pedes(tmp_path)
    (folder / "imgs/CUHK01/0363004.png").unlink()
    put(folder, "imgs/cam_b/other.jpg")
    with pytest.raises(FileNotFoundError, match=r"lists 3 images, of which 1 are not in .*: imgs/CUHK01/0363004.png"):
        read_dataset("cuhk-pedes", tmp_path)
    inputs = read_dataset("cuhk-pedes", tmp_path, allow_missing=True)
    assert inputs.dropped == {"empty caption": 1, "listed, but missing": 1, "in no list": 1}
    assert len(inputs.table) == 2


def test_a_caption_list_without_image_folder_says_so(tmp_path):
    (tmp_path / "reid_raw.json").write_text("[]", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"has no folder imgs for the images of reid_raw.json"):
        read_dataset("cuhk-pedes", tmp_path)


# --- all of them

COPIES = {
    "market1501": lambda folder: put(folder, *MARKET),
    "dukemtmc-reid": duke,
    "occluded-duke": duke,
    "cuhk03-np-detected": cuhk03_folders,
    "cuhk03-np-labeled": cuhk03_folders,
    "msmt17-v1": msmt17,
    "msmt17-v1-trainval": msmt17,
    "msmt17-v2": lambda folder: msmt17(folder, "mask_train_v2", "mask_test_v2"),
    "msmt17-v2-trainval": lambda folder: msmt17(folder, "mask_train_v2", "mask_test_v2"),
    "finegpr": lambda folder: put(folder, "0001_c01_w01_l01_p01.jpg"),
    "cuhk-pedes": cuhk_pedes,
    "icfg-pedes": lambda folder: pedes(folder, "ICFG-PEDES.json", ICFG),
    "rstpreid": lambda folder: pedes(folder, "data_captions.json", [RSTP]),
}


@pytest.mark.parametrize("name", list(DATASETS))
def test_every_table_has_the_same_form(tmp_path, name):
    inputs = read_dataset(name, COPIES[name](tmp_path))
    columns = {"split": pa.string(), "key": pa.string(), "path": pa.string(), "person_id": pa.string()}
    assert inputs.table.schema == pa.schema({**columns, "camera_id": pa.int16(), "captions": pa.list_(pa.string())})
    assert all((inputs.root / path).is_file() for path in paths(inputs))
    assert inputs.table["captions"].null_count == 0
    assert set(inputs.table["split"].to_pylist()) <= set(inputs.facts.counts)
    assert inputs.facts.source
    assert inputs.facts.licence


# --- wrong folders, wrong counts


@pytest.mark.parametrize("name", list(DATASETS))
def test_a_wrong_folder_is_one_line_with_a_cure(tmp_path, name):
    (tmp_path / "holiday").mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=r"give|holds no image") as caught:
        read_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"nowhere\S* is no folder; give"):
        read_dataset(name, tmp_path / "nowhere")


def test_another_data_set_is_recognised_by_its_names(tmp_path):
    with pytest.raises(
        ValueError, match=r"4 file names are none of Market-1501: bounding_box_train/0001_c2_f0046182.jpg, .*, …"
    ):
        read_dataset("market1501", duke(tmp_path))


def test_a_folder_without_images_is_named(market):
    (market / MARKET[2]).unlink()
    with pytest.raises(ValueError, match=r"query holds no image; allowed are .jpg"):
        read_dataset("market1501", market)


def test_an_unknown_data_set_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match=r"'marked1501'; known are market1501, dukemtmc-reid, .*rstpreid"):
        read_dataset("marked1501", tmp_path)


def sized(counts: dict[str, Counts], found: dict[str, tuple[int, int, int]]) -> ReidInputs:
    """Make inputs of given sizes: people take turns, captions are dealt out round by round."""
    records = [
        {
            "split": split,
            "key": f"{split}{i}",
            "person_id": str(i % people),
            "captions": ["x"] * len(range(i, captions, images)),
        }
        for split, (images, people, captions) in found.items()
        for i in range(images)
    ]
    return ReidInputs(Facts("Some set", counts, "", ""), Path("somewhere"), pa.Table.from_pylist(records))


def test_counts_that_agree_differ_in_nothing():
    counts = {"train": Counts(5, 2, 7), "test": Counts(3, 3, 3)}
    assert check_counts(sized(counts, {"train": (5, 2, 7), "test": (3, 3, 3)}), allow_mismatch=False) == []


def test_counts_that_disagree_are_told_together():
    inputs = sized({"train": Counts(5, 2, 7), "val": Counts(9, 9)}, {"train": (5, 2, 6), "test": (3, 3, 3)})
    expected = [
        "train has 5 images of 2 people with 6 captions, published are 5 images of 2 people with 7 captions",
        "val has 0 images of 0 people, published are 9 images of 9 people",
        "test has 3 images of 3 people with 3 captions, published are 0 images of 0 people",
    ]
    assert check_counts(inputs, allow_mismatch=True) == expected
    with pytest.raises(
        ValueError, match=r"Some set: .*train has .*; val has .*; test has .*--allow-count-mismatch"
    ) as caught:
        check_counts(inputs, allow_mismatch=False)
    assert "\n" not in str(caught.value)
