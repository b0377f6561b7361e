import io
import json
import pickle
import struct
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from PIL import Image

from passerby.images import ImageProblem, inspect_image
from passerby.readers import containers
from passerby.readers.inputs import build_inputs
from passerby.readers.luperson import open_source, read_names
from passerby.sample import KEY_PATTERN, Rejected, Sample
from passerby.shards.write import shard_name, write_shard


def jpeg(shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 16), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def write_images(folder: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(shade))
    return folder


def contents(source) -> dict[str, bytes]:
    """Read every image, in a copy of the source as another process would have it."""
    copy = pickle.loads(pickle.dumps(source))
    return {row["key"]: copy.read(row) for row in copy.inputs.to_pylist()}


def write_lmdb(folder: Path, images: dict[str, bytes], keys: object = None) -> Path:
    lmdb = pytest.importorskip("lmdb", reason="needs the lmdb package: pip install lmdb")
    with lmdb.open(str(folder), map_size=1 << 24) as environment, environment.begin(write=True) as transaction:
        for key, value in images.items():
            transaction.put(key.encode(), value)
    if keys is not None:
        (folder / "keys.pkl").write_bytes(pickle.dumps(keys))
    return folder


def write_arrow(folder: Path, split: str, names: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    table = pa.table(
        {
            "image": pa.array([jpeg(shade) for shade in range(len(names))], pa.binary()),
            "caption": [["A man.", "A guy."]] * len(names),
            "image_id": names,
            "split": [split] * len(names),
        }
    )
    with pa.ipc.new_file(str(folder / f"LUPerson_{split}.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


# Folders


def test_a_flat_folder_has_its_names_as_keys(tmp_path):
    source = open_source(write_images(tmp_path, "images/b.jpg", "images/a.jpg"))
    assert source.kind == "flat"
    assert source.inputs.to_pylist() == [
        {"key": "a", "path": "a.jpg", "person_id": "", "camera_id": -1},
        {"key": "b", "path": "b.jpg", "person_id": "", "camera_id": -1},
    ]
    assert contents(source) == {"a": jpeg(1), "b": jpeg(0)}


@pytest.mark.parametrize("middle", ["", "/0007"])
def test_a_tree_is_read_at_any_depth_and_equal_names_stay_apart(tmp_path, middle):
    names = [f"jp/{city}{middle}/00000012_0003.jpg" for city in ("osaka", "tokyo")]
    source = open_source(write_images(tmp_path, *names))
    assert source.kind == "tree"
    assert sorted(source.inputs["path"].to_pylist()) == names
    assert sorted(contents(source).values()) == sorted([jpeg(0), jpeg(1)])
    assert all(KEY_PATTERN.fullmatch(key) for key in contents(source))


def test_flat_on_demand_leaves_folders_alone(tmp_path):
    write_images(tmp_path, "a.jpg", "thumbnails/a.jpg", ".hidden.jpg")
    assert open_source(tmp_path, kind="flat").inputs["path"].to_pylist() == ["a.jpg"]
    assert open_source(tmp_path).inputs.num_rows == 2


def test_keys_do_not_depend_on_other_images(tmp_path):
    write_images(tmp_path, "x/a.jpg", "b (1).png", "c.jpg")
    together = {row["path"]: row["key"] for row in open_source(tmp_path).inputs.to_pylist()}
    (tmp_path / "c.jpg").unlink()
    for row in open_source(tmp_path).inputs.to_pylist():
        assert together[row["path"]] == row["key"]


@pytest.mark.parametrize(
    ("name", "person_id", "camera_id"),
    [
        ("0002_c1s1_000451_03.jpg", "0002", 1),
        ("0000_c1s1_000151_01.jpg", "", 1),  # Market-1501's background
        ("-1_c3s2_000151_01.jpg", "", -1),  # Market-1501's junk
        ("0002_c1_f0044158.jpg", "0002", 1),
        ("0001_c36_w01_l07_p09.jpg", "0001", 36),
        ("0000_c14_0031.jpg", "0000", 14),  # a person of RSTPReid
        ("deep/folder/0012_c02_w01_l01_p01.png", "0012", 2),
        ("01_02_0003_00000004.jpg", "", -1),
        ("person_c1s1_1.jpg", "", -1),
    ],
)
def test_names_tell_person_and_camera_where_they_do(tmp_path, name, person_id, camera_id):
    (row,) = open_source(write_images(tmp_path, name)).inputs.to_pylist()
    assert (row["person_id"], row["camera_id"]) == (person_id, camera_id)


def test_bad_files_stay_inputs_and_tell_what_is_wrong(tmp_path):
    write_images(tmp_path, "good.jpg")
    (tmp_path / "cut.jpg").write_bytes(jpeg(0)[:-20])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    source = open_source(tmp_path)
    reasons = {}
    for row in source.inputs.to_pylist():
        try:
            inspect_image(source.read(row))
        except ImageProblem as problem:
            reasons[row["key"]] = problem.reason
    assert source.inputs.num_rows == 5
    assert reasons == {"cut": "truncated", "empty": "empty", "link": "missing", "folder": "unreadable"}


# Lists of names


def write_list(path: Path, names: list[str]) -> Path:
    path.write_bytes("\n".join(names).encode() if path.suffix == ".txt" else pickle.dumps(names))
    return path


@pytest.mark.parametrize("file", ["cfs.txt", "CFS_list.pkl"])
def test_a_list_chooses_its_first_names(tmp_path, file):
    write_images(tmp_path / "images", *(f"{letter}.jpg" for letter in "abcd"))
    names = write_list(tmp_path / file, ["d.jpg", "b.jpg", "a.jpg", "c.jpg"])
    assert open_source(tmp_path, names=names, keep=2).inputs["key"].to_pylist() == ["b", "d"]
    assert open_source(tmp_path, names=names).inputs["key"].to_pylist() == ["a", "b", "c", "d"]


def test_without_a_list_the_first_keys_are_kept(tmp_path):
    assert open_source(write_images(tmp_path, "c.jpg", "a.jpg", "b.jpg"), keep=2).inputs["key"].to_pylist() == [
        "a",
        "b",
    ]


def test_a_name_given_twice_counts_once(tmp_path):
    names = write_list(tmp_path / "names.txt", ["b.jpg", "a.jpg", "b.jpg", "c.jpg", "a.jpg", "d.jpg"])
    assert read_names(names)["name"].to_pylist() == ["b.jpg", "a.jpg", "c.jpg", "d.jpg"]
    assert open_source(tmp_path, names=names, keep=3).inputs["key"].to_pylist() == ["a", "b", "c"]


def test_listed_images_that_are_missing_are_found_out_when_read(tmp_path):
    source = open_source(tmp_path, names=write_list(tmp_path / "names.txt", ["gone.jpg", ""]))
    (row,) = source.inputs.to_pylist()
    with pytest.raises(ImageProblem, match="no such file"):
        source.read(row)


def test_windows_line_ends_are_no_part_of_names(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"a.jpg\r\nb.jpg\r\n")
    assert read_names(tmp_path / "names.txt")["name"].to_pylist() == ["a.jpg", "b.jpg"]


def test_a_list_that_is_no_text_is_named(tmp_path):
    (tmp_path / "names.list").write_bytes(pickle.dumps(["a.jpg"]) + b"\xff")
    with pytest.raises(ValueError, match=r"names\.list is no UTF-8 text.*\.pkl"):
        read_names(tmp_path / "names.list")


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret.jpg", "a/../../secret.jpg", "a/.."])
def test_a_list_cannot_lead_out_of_the_folder(tmp_path, name):
    names = write_list(tmp_path / "names.txt", ["a.jpg", name])
    with pytest.raises(ValueError, match="leads out of"):
        open_source(tmp_path, names=names)


@pytest.mark.parametrize(
    "content", [["a.jpg", None], {"files": ["a.jpg"]}, "a.jpg", [["a.jpg"]], {"keys": ["a"], "pids": [1, 2]}, 7]
)
def test_a_pickle_of_something_else_is_no_list(tmp_path, content):
    (tmp_path / "names.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=r"names\.pkl holds no list of names"):
        read_names(tmp_path / "names.pkl")


def test_arrays_in_a_dict_and_numpy_scalars_are_read(tmp_path):
    value = {"keys": np.array(["a", "b"]), "pids": [np.int64(3), np.int64(4)]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value))
    assert read_names(tmp_path / "a.pkl").to_pylist() == [
        {"name": "a", "person_id": "3"},
        {"name": "b", "person_id": "4"},
    ]


# LMDB

IMAGES = {f"01_02_0003_{number:08d}": jpeg(number) for number in range(5)}


@pytest.mark.parametrize(
    ("keys", "people"),
    [
        (None, [""] * 5),
        ([*reversed(IMAGES)], [""] * 5),
        ({"keys": [*IMAGES], "pids": [7, 7, 8, 9, 9]}, ["7", "7", "8", "9", "9"]),
        ({"keys": np.array([*IMAGES]), "vids": np.arange(5)}, [""] * 5),
    ],
    ids=["no list", "list", "dict with people", "dict with videos"],
)
def test_an_lmdb_gives_its_values_as_they_are(tmp_path, keys, people):
    source = open_source(write_lmdb(tmp_path / "lmdb", IMAGES, keys))
    assert source.kind == "lmdb"
    assert source.inputs["person_id"].to_pylist() == people
    assert contents(source) == IMAGES


def open_environments() -> int:
    return containers._open_environment.cache_info().currsize


def test_no_open_lmdb_crosses_a_fork(tmp_path):
    source = open_source(write_lmdb(tmp_path / "lmdb", IMAGES))
    rows = source.inputs.to_pylist()
    assert source.read(rows[0]) == jpeg(0)
    assert open_environments() > 0
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert pool.submit(open_environments).result() == 0
        assert list(pool.map(source.read, rows)) == list(IMAGES.values())


def test_threads_may_read_an_lmdb_together(tmp_path):
    source = open_source(write_lmdb(tmp_path / "lmdb", IMAGES))
    rows = source.inputs.to_pylist()
    for _ in range(20):
        containers._open_environment.cache_clear()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(source.read, rows * 4)) == [*IMAGES.values()] * 4


def test_a_key_that_the_lmdb_lacks_is_an_image_problem(tmp_path):
    names = write_list(tmp_path / "keys.txt", ["01_02_0003_00000001", "nowhere"])
    source = open_source(write_lmdb(tmp_path / "lmdb", IMAGES), names=names)
    with pytest.raises(ImageProblem, match="no key 'nowhere'"):
        source.read(source.inputs.to_pylist()[1])


def test_a_damaged_lmdb_is_named(tmp_path):
    pytest.importorskip("lmdb", reason="needs the lmdb package: pip install lmdb")
    (tmp_path / "data.mdb").write_bytes(b"no data base" * 1000)
    with pytest.raises(ValueError, match="cannot be opened as an LMDB"):
        open_source(tmp_path)


def test_a_missing_lmdb_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lmdb", None)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(ModuleNotFoundError, match="pip install lmdb"):
        open_source(tmp_path)


# Tars


def write_foreign(path: Path, names: list[str]) -> None:
    with webdataset.TarWriter(str(path)) as writer:
        for shade, name in enumerate(names):
            writer.write({"__key__": name, "jpg": jpeg(shade), "json": {"a": 1}, "txt": "A man."})


def test_foreign_tars_are_read_at_their_offsets(tmp_path):
    write_foreign(tmp_path / "00000.tar", ["000000000", "000000001"])
    write_foreign(tmp_path / "00001.tar", ["000010000"])
    source = open_source(tmp_path)
    assert source.kind == "tars"
    assert contents(source) == {"000000000": jpeg(0), "000000001": jpeg(1), "000010000": jpeg(0)}


def test_equal_names_in_two_tars_stay_apart(tmp_path):
    for name in ("a", "b"):
        write_foreign(tmp_path / f"{name}.tar", ["0", "1"])
    source = open_source(tmp_path)
    assert sorted(source.inputs["path"].to_pylist()) == ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"]
    assert sorted(contents(source).values()) == sorted([jpeg(0), jpeg(1)] * 2)


def test_one_tar_with_folders_and_long_names_is_a_source(tmp_path):
    name = "x" * 60 + "/" + "y" * 120
    write_foreign(tmp_path / "a.tar", [name])
    source = open_source(tmp_path / "a.tar")
    assert source.inputs["path"].to_pylist() == [f"{name}.jpg"]
    assert [*contents(source).values()] == [jpeg(0)]


@pytest.fixture
def own(tmp_path):
    columns = pa.schema(
        [
            *((name, pa.string()) for name in ("key", "caption", "sha256", "path", "person_id")),
            ("camera_id", pa.int16()),
        ]
    )
    for shard in range(2):
        entries = []
        for number in range(3):
            key = f"k{shard}{number}"
            values = (key, "A man.", "", f"from/{key}.jpg", f"p{number}", number)
            entries.append(
                Sample(key, jpeg(3 * shard + number), "jpg", dict(zip(columns.names, values, strict=True)), "A man.")
            )
        entries.insert(1, Rejected("bad.jpg", "empty", "has no bytes", "bad"))
        write_shard(tmp_path, shard_name("train", shard, 2), entries, columns=columns, config_hash="0")
    (tmp_path / "manifest.json").write_text("{}")
    return tmp_path


def test_our_own_shards_keep_keys_and_people(own):
    source = open_source(own)
    assert source.inputs.select(["key", "path", "person_id", "camera_id"]).to_pylist()[4] == {
        "key": "k11",
        "path": "from/k11.jpg",
        "person_id": "p1",
        "camera_id": 1,
    }
    assert contents(source) == {
        f"k{shard}{number}": jpeg(3 * shard + number) for shard in range(2) for number in range(3)
    }


def test_our_own_tars_alone_are_read_as_foreign_ones(own):
    expected = contents(open_source(own))
    (own / "manifest.json").unlink()
    assert contents(open_source(own)) == expected


def test_a_tar_that_lost_its_end_is_noticed(own):
    source = open_source(own)
    tar = source.tars[1]
    tar.write_bytes(tar.read_bytes()[: source.inputs["image_offset"][5].as_py() + 10])
    with pytest.raises(ImageProblem, match="ends after 10 of its") as problem:
        source.read(source.inputs.to_pylist()[5])
    assert problem.value.reason == "truncated"


def test_a_cut_foreign_tar_is_named(tmp_path):
    write_foreign(tmp_path / "a.tar", ["0", "1"])
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:1800])
    with pytest.raises(ValueError, match=r"a\.tar cannot be read as a plain tar"):
        open_source(tmp_path)


def test_a_compressed_tar_is_named(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.add(write_images(tmp_path / "images", "a.jpg") / "a.jpg", "a.jpg")
    with pytest.raises(ValueError, match=r"a\.tar cannot be read as a plain tar"):
        open_source(tmp_path / "a.tar")


def test_an_absurd_member_is_not_even_read(tmp_path):
    write_foreign(tmp_path / "a.tar", ["0"])
    source = open_source(tmp_path)
    with pytest.raises(ImageProblem, match="bytes, more than"):
        source.read({**source.inputs.to_pylist()[0], "image_size": 1 << 40})


# UniPT's Arrow files


def test_unipts_arrow_files_are_read_row_by_row(tmp_path):
    write_arrow(tmp_path / "arrow", "train", [f"{number:04d}.jpg" for number in (4, 2, 0, 1, 3)])
    write_arrow(tmp_path / "arrow", "val", ["0009.jpg"])
    source = open_source(tmp_path / "arrow")
    assert source.kind == "arrow"
    shades = {"0004": 0, "0002": 1, "0000": 2, "0001": 3, "0003": 4, "0009": 0}
    assert contents(source) == {key: jpeg(shade) for key, shade in sorted(shades.items())}


def test_one_arrow_file_is_a_source(tmp_path):
    write_arrow(tmp_path, "test", ["a.jpg"])
    assert contents(open_source(tmp_path / "LUPerson_test.arrow")) == {"a": jpeg(0)}


def test_an_image_in_two_splits_has_two_keys(tmp_path):
    write_arrow(tmp_path, "train", ["a.jpg", "b.jpg"])
    write_arrow(tmp_path, "val", ["a.jpg"])
    assert sorted(open_source(tmp_path).inputs["path"].to_pylist()) == [
        "LUPerson_train/a.jpg",
        "LUPerson_train/b.jpg",
        "LUPerson_val/a.jpg",
    ]


def test_an_arrow_row_without_image_is_an_image_problem(tmp_path):
    table = pa.table({"image": pa.array([None], pa.binary()), "image_id": ["a.jpg"]})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    source = open_source(tmp_path)
    with pytest.raises(ImageProblem, match=r"row 0 of a\.arrow has no image"):
        source.read(source.inputs.to_pylist()[0])


def test_another_arrow_file_is_named_with_its_columns(tmp_path):
    table = pa.table({"image_id": ["a.jpg"], "picture": [b""]})
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(ValueError, match=r"no column image; it has image_id, picture"):
        open_source(tmp_path)
    (tmp_path / "a.arrow").write_bytes(b"ARROW1" + struct.pack("<I", 7))
    containers._arrow_table.cache_clear()
    with pytest.raises(ValueError, match="is damaged, or of another kind"):
        open_source(tmp_path)


# What cannot be opened


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give a folder of images"):
        open_source(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", ["auto", "flat", "tree", "tars", "arrow"])
def test_a_folder_without_images_says_what_was_looked_for(tmp_path, kind):
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match=r"holds no image; looked for \.jpg.*data\.mdb, \*\.tar and \*\.arrow"):
        open_source(tmp_path, kind=kind)


def test_a_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "notes.md").touch()
    with pytest.raises(ValueError, match=r"notes\.md is a file of no kind known here"):
        open_source(tmp_path / "notes.md")


@pytest.mark.parametrize("keep", [0, -3])
def test_keeping_nothing_is_a_mistake(tmp_path, keep):
    with pytest.raises(ValueError, match=f"keep is {keep}"):
        open_source(tmp_path, keep=keep)


def test_two_images_of_one_key_are_named():
    keys = {"key": pa.array(["k", "j", "k"])}
    with pytest.raises(ValueError, match=r"a\.jpg and c\.jpg have one key, k"):
        build_inputs(pa.array(["a.jpg", "b.jpg", "c.jpg"]), keys)


def test_names_cannot_choose_from_tars(tmp_path):
    write_foreign(tmp_path / "a.tar", ["0"])
    with pytest.raises(ValueError, match="cannot choose from tars"):
        open_source(tmp_path, names=write_list(tmp_path / "names.txt", ["0"]))


def test_json_beside_images_is_no_image(tmp_path):
    write_images(tmp_path, "a.jpg")
    (tmp_path / "a.json").write_text(json.dumps({}))
    assert open_source(tmp_path).inputs.num_rows == 1
