"""One example of each fault that hostile containers of images and data sets have shown."""

import io
import shutil
import struct
import tarfile

import lmdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_samples import NAMES, edit_manifest, table_of, write_all

from passerby.readers.caption_files import open_caption_files
from passerby.readers.luperson import open_source
from passerby.shards.embeddings import read_embeddings
from passerby.shards.manifest import read_manifest
from passerby.shards.read import ShardDataset
from passerby.shards.stored import read_stored


def rows_of(path):
    files = open_caption_files(str(path))
    return [row for table in files.batches(0) for row in table.to_pylist()]


# --- containers


def test_an_lmdb_that_was_cut_does_not_end_the_process(tmp_path):
    (tmp_path / "whole").mkdir()
    with (
        lmdb.open(str(tmp_path / "whole"), map_size=1 << 20) as environment,
        environment.begin(write=True) as transaction,
    ):
        for number in range(5):
            transaction.put(b"%d" % number, bytes(9000))
    whole = (tmp_path / "whole" / "data.mdb").read_bytes()
    (tmp_path / "cut").mkdir()
    for size in range(8192, len(whole), 4096):
        (tmp_path / "cut" / "data.mdb").write_bytes(whole[:size])
        with pytest.raises(ValueError, match=rf"data.mdb is cut off: it has {size:,} of"):
            open_source(tmp_path / "cut")


def arrow(path, **columns):
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        ([10**12], ["a"], "has images of the type int64"),
        ([b"x"], pa.array([None], pa.string()), "has 1 images without image_id"),
        ([b"x"], [{"a": 1}], "a.arrow is damaged, or of another kind: Unsupported cast"),
    ],
)
def test_columns_of_another_type_are_refused(tmp_path, images, names, message):
    with pytest.raises(ValueError, match=message):
        open_source(arrow(tmp_path / "a.arrow", image=images, image_id=names))


def test_an_offset_that_leads_out_of_an_arrow_file_is_found(tmp_path):
    path = arrow(tmp_path / "a.arrow", image=[b"x" * 99] * 3, image_id=["a", "b", "c"])
    offsets = struct.pack("<4i", 0, 99, 198, 297)
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, struct.pack("<4i", 0, 99, 1 << 30, 297)))
    with pytest.raises(ValueError, match=r"a\.arrow is damaged"):
        open_source(path)


def test_a_link_in_a_tar_of_captions_is_passed_over(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        caption = tarfile.TarInfo("b.txt")
        caption.size = 6
        tar.addfile(caption, io.BytesIO(b"A man."))
    assert [row["captions"] for row in rows_of(tmp_path / "a.tar")] == [["A man."]]


# --- our own data sets


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("sound") / "root")


@pytest.fixture
def root(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "root")


@pytest.mark.parametrize("count", [-1, 1 << 70, True])
def test_a_manifest_cannot_count_below_nothing_or_beyond_all(root, count):
    edit_manifest(root, lambda stored: stored["shards"][0].update(kept=count))
    with pytest.raises(ValueError, match=r"manifest\.json is malformed"):
        read_manifest(root)


@pytest.mark.parametrize("offset", [-600, 1 << 40, None])
def test_a_table_cannot_place_a_sample_outside_its_tar(root, offset):
    path = table_of(root)
    table = pq.read_table(path)
    places = [offset, *table["image_offset"].to_pylist()[1:]]
    column = table.schema.get_field_index("image_offset")
    pq.write_table(table.set_column(column, "image_offset", pa.array(places, pa.int64())), path)
    with pytest.raises(ValueError, match=rf"{NAMES[1]}\.parquet places members outside their tar"):
        [*ShardDataset(root)]
    with pytest.raises(ValueError, match=rf"{NAMES[1]}\.tar has no image of .* run passerby verify"):
        [*read_stored(root, NAMES[1])]


def test_text_that_is_no_utf8_is_found_in_a_table(root):
    path = table_of(root)
    table = pq.read_table(path)
    keys = [b"\xff", *(key.encode() for key in table["key"].to_pylist()[1:])]
    column = pa.Array.from_buffers(pa.string(), len(keys), pa.array(keys, pa.binary()).buffers())
    pq.write_table(table.set_column(table.schema.get_field_index("key"), "key", column), path)
    with pytest.raises(ValueError, match=rf"{NAMES[1]}\.parquet is damaged, or of another kind: .*UTF"):
        ShardDataset(root)["0001_c1"]
    with pytest.raises(ValueError, match=rf"{NAMES[1]}\.parquet is damaged, or of another kind: .*UTF"):
        open_source(root)


def test_a_feature_cache_of_other_types_is_refused(tmp_path):
    arrow(tmp_path / "a.arrow", key=["a"], features=[[1.0]])
    with pytest.raises(ValueError, match=r"has the columns key \(string\), features \(list.*not key"):
        read_embeddings(tmp_path / "a.arrow", {})
