"""What shards hold, by Python's tarfile, GNU tar, webdataset and open_clip's loader, and by our own reader."""

import hashlib
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from shard_samples import (
    COLUMNS,
    INPUTS_A_SHARD,
    NAMES,
    SHARDS,
    edit_manifest,
    make_entry,
    make_sample,
    numbers_of,
    table_of,
    tar_of,
    visible,
    write,
    write_all,
)

from passerby.runtime import TEMPORARY_SUFFIX
from passerby.sample import Rejected
from passerby.shards import read
from passerby.shards.manifest import finalise
from passerby.shards.read import ShardDataset
from passerby.shards.verify import verify
from passerby.shards.write import ShardRecord, read_record, shard_name, write_shard


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A data set of three shards, for tests that leave it as it is."""
    return write_all(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "root"))


def test_every_tar_reads_back_by_tarfile(sound):
    for index in range(SHARDS):
        samples = [make_sample(number) for number in numbers_of(index) if number % 7 != 3]
        expected = [
            (f"{sample.key}.{extension}", content)
            for sample in samples
            for extension, content in [
                ("jpg", sample.image),
                ("json", sample.fields),
                ("txt", sample.caption.encode()),
                ("parsing.png", sample.extras["parsing.png"]),
            ]
        ]
        with tarfile.open(tar_of(sound, index), "r:") as tar:
            contents = [(member.name, tar.extractfile(member).read()) for member in tar]
            assert [(name, json.loads(data) if name.endswith(".json") else data) for name, data in contents] == expected
            for member in tar:
                assert (member.mtime, member.mode, member.uid, member.gid) == (0, 0o444, 0, 0)
                assert (member.uname, member.gname, member.isreg(), member.pax_headers) == ("", "", True, {})


def test_the_table_places_every_member_where_tarfile_finds_it(sound):
    with tarfile.open(tar_of(sound), "r:") as tar:
        found = {member.name: (member.offset_data, member.size) for member in tar}
    rows = [row for row in pq.read_table(table_of(sound)).to_pylist() if row["status"] == "kept"]
    names = {"image": "jpg", "json": "json", "txt": "txt", "parsing.png": "parsing.png"}
    told = {
        f"{row['key']}.{extension}": (row[f"{name}_offset"], row[f"{name}_size"])
        for row in rows
        for name, extension in names.items()
    }
    assert told == found


def test_gnu_tar_lists_and_extracts_it(sound, tmp_path):
    listed = subprocess.run(["tar", "tvf", tar_of(sound)], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert listed.stdout.splitlines()[0].split() == [
        *("-r--r--r--", "0/0", str(len(make_sample(20).image)), "1970-01-01", "00:00", "0020_c1.jpg")
    ]
    subprocess.run(["tar", "xf", tar_of(sound), "-C", tmp_path], check=True)
    assert (tmp_path / "0020_c1.txt").read_text() == "A «person», number 20."


def test_the_tar_has_whole_blocks_and_two_empty_ones_at_the_end(sound):
    data = tar_of(sound).read_bytes()
    assert len(data) % 512 == 0
    assert data[-1024:] == bytes(1024)
    assert data[-1536:-1024] != bytes(512)


def test_the_table_has_a_row_for_every_input_in_order(sound):
    rows = pq.read_table(table_of(sound)).to_pylist()
    assert [row["key"] for row in rows] == [f"{number:04d}_c1" for number in numbers_of(1)]
    for number, row in zip(numbers_of(1), rows, strict=True):
        if number % 7 == 3:
            assert (row["status"], row["reason"], row["detail"]) == ("rejected", "truncated", "ends early")
            assert row["path"] == f"images/{number}\\udce9.jpg"
            assert row["caption"] is row["width"] is row["image_offset"] is None
        else:
            assert (row["status"], row["reason"], row["detail"]) == ("kept", None, None)
            assert {name: row[name] for name in COLUMNS.names} == make_sample(number).fields


def test_the_record_tells_what_the_shard_holds(sound):
    record = read_record(sound, NAMES[1])
    data = tar_of(sound).read_bytes()
    assert record == ShardRecord(
        name=NAMES[1],
        kept=17,
        reasons={"truncated": 3},
        first_key="0020_c1",
        last_key="0039_c1",
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        config_hash="config",
    )
    assert (record.split, record.quarantined) == ("train", 3)


def test_an_empty_shard_is_a_valid_tar(tmp_path):
    rejected = [make_entry(3), make_entry(10), Rejected("x.jpg", "missing", "no such file")]
    record = write(tmp_path, 0, rejected)
    assert (record.kept, record.reasons, record.first_key) == (0, {"missing": 1, "truncated": 2}, "")
    with tarfile.open(tar_of(tmp_path, 0), "r:") as tar:
        assert tar.getnames() == []
    assert pq.read_table(table_of(tmp_path, 0))["key"].to_pylist() == ["0003_c1", "0010_c1", None]
    assert write(tmp_path, 1, []).kept == 0


def test_a_shard_of_many_row_groups_is_whole(tmp_path):
    def entries():
        for number in range(9000):
            yield (
                Rejected(f"{number}.jpg", "missing", "")
                if number < 4500
                else replace(sample, key=f"k{number}", fields=fields(number))
            )

    def fields(number):
        return {**sample.fields, "key": f"k{number}"}

    sample = make_sample(1)
    write_shard(tmp_path, shard_name("train", 0, 1), entries(), columns=COLUMNS, config_hash="")
    finalise(tmp_path, {"train": 1}, {})
    assert [each["__key__"] for each in ShardDataset(tmp_path)] == [f"k{number}" for number in range(4500, 9000)]
    assert verify(tmp_path).problems == ()
    assert pq.read_metadata(tmp_path / "meta" / "train-00000-of-00001.parquet").num_row_groups > 1


def test_entries_go_to_the_disk_as_they_come(tmp_path):
    size_bytes = []

    def entries():
        for number in range(200):
            yield replace(make_sample(number), extras={"parsing.png": bytes(20_000)})
            (temporary,) = (tmp_path / "data").glob(f".*{TEMPORARY_SUFFIX}")
            size_bytes.append(temporary.stat().st_size)

    write(tmp_path, 0, entries())
    assert all(size >= 20_000 * (number - 20) for number, size in enumerate(size_bytes))


def test_the_same_entries_give_the_same_bytes_in_any_process(sound, tmp_path):
    code = "import sys; from shard_samples import *; write_all(Path(sys.argv[1]))"
    for seed in ("1", "2"):
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "PYTHONHASHSEED": seed,
            "TZ": "Asia/Tokyo",
        }
        subprocess.run([sys.executable, "-c", code, tmp_path / seed], check=True, env=environment)
        assert visible(tmp_path / seed) == visible(sound)
        assert all((tmp_path / seed / name).read_bytes() == (sound / name).read_bytes() for name in visible(sound))


def test_webdataset_reads_it(sound):
    import webdataset

    urls = [str(tar_of(sound, index)) for index in range(SHARDS)]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    ours = list(ShardDataset(sound))
    assert [sample["__key__"] for sample in samples] == [sample["__key__"] for sample in ours]
    for theirs, mine in zip(samples, ours, strict=True):
        assert (theirs["jpg"], theirs["parsing.png"]) == (mine["jpg"], mine["parsing.png"])
        assert (json.loads(theirs["json"]), theirs["txt"].decode()) == (mine["json"], mine["txt"])


def test_open_clips_own_loader_reads_it(sound):
    data = pytest.importorskip("open_clip_train.data")
    shards = f"{sound}/data/train-{{00000..00002}}-of-00003.tar"
    assert data.get_dataset_size(shards) == (51, 3)
    arguments = Namespace(
        val_data=shards, val_num_samples=51, dataset_resampled=False, batch_size=17, workers=0, world_size=1
    )
    info = data.get_wds_dataset(arguments, np.asarray, is_train=False, tokenizer=lambda text: [text])
    batches = list(info.dataloader)
    assert sorted(text for _, texts in batches for text in texts) == sorted(
        sample["txt"] for sample in ShardDataset(sound)
    )
    assert all(np.shape(images) == (17, 32, 16, 3) for images, _ in batches)


def test_samples_come_back_by_index_and_key_and_in_order(sound):
    dataset = ShardDataset(sound)
    numbers = [number for number in range(SHARDS * INPUTS_A_SHARD) if number % 7 != 3]
    assert len(dataset) == len(numbers)
    assert [sample["__key__"] for sample in dataset] == [f"{number:04d}_c1" for number in numbers]
    for position in (-1, 0, 16, 17, 50):
        expected = make_sample(numbers[position])
        for sample in (dataset[position], dataset[expected.key]):
            assert sample == {
                "__key__": expected.key,
                "jpg": expected.image,
                "json": expected.fields,
                "txt": expected.caption,
                "parsing.png": expected.extras["parsing.png"],
            }


def test_what_is_not_there_is_an_error(sound):
    dataset = ShardDataset(sound)
    for index in (51, -52):
        with pytest.raises(IndexError, match=f"no sample {index}"):
            dataset[index]
    for key in ("0003_c1", "", "nobody"):
        with pytest.raises(KeyError, match=f"'{key}'"):
            dataset[key]


def test_images_of_several_formats_keep_their_extension(tmp_path):
    webp = replace(make_sample(1), image_extension="webp")
    write_shard(tmp_path, shard_name("train", 0, 1), [make_sample(0), webp], columns=COLUMNS, config_hash="")
    finalise(tmp_path, {"train": 1}, {})
    dataset = ShardDataset(tmp_path)
    assert (dataset[0]["jpg"], dataset["0001_c1"]["webp"]) == (make_sample(0).image, webp.image)
    assert verify(tmp_path).problems == ()


def test_keys_with_one_hash_are_told_apart(sound, monkeypatch):
    dataset = ShardDataset(sound)
    monkeypatch.setattr(read, "hash_keys", lambda keys: np.full(len(keys), hash("0041_c1")))
    assert dataset["0041_c1"]["txt"] == "A «person», number 41."


def test_metadata_are_the_fields_of_the_samples(sound):
    dataset = ShardDataset(sound)
    table = dataset.metadata(["key", "width", "tags"])
    assert table.to_pylist() == [
        {name: sample["json"][name] for name in ("key", "width", "tags")} for sample in dataset
    ]
    assert dataset.metadata().num_rows == 51
    with pytest.raises(ValueError, match=r"no columns \['nothing'\]"):
        dataset.metadata(["nothing"])


def _texts(dataset):
    return [sample["txt"] for sample in dataset]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_a_data_set_that_was_open(sound, method):
    dataset = ShardDataset(sound)
    expected = _texts(dataset)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_texts, (dataset,)) == expected


def test_a_pickle_carries_no_sample(sound):
    dataset = ShardDataset(sound)
    dataset["0041_c1"]
    assert len(pickle.dumps(dataset)) < 400
    assert pickle.loads(pickle.dumps(dataset))[7] == dataset[7]


def test_no_more_tars_stay_open_than_allowed(root, monkeypatch):
    monkeypatch.setattr(read, "MAX_OPEN_TARS", 2)
    dataset = ShardDataset(root)
    texts = [dataset[index]["txt"] for index in (0, 20, 40, 1, 21, 41)]
    assert len(set(texts)) == 6
    targets = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.exists()]
    assert len([target for target in targets if target.is_relative_to(root)]) == 2


def test_the_reader_notices_files_that_are_not_the_manifests(root):
    os.truncate(tar_of(root), 5120)
    shutil.copy(table_of(root, 0), table_of(root, 2))
    edit_manifest(root, lambda stored: stored["shards"][2].update(kept=16))
    dataset = ShardDataset(root)
    with pytest.raises(ValueError, match="has 5120 bytes"):
        dataset[20]
    with pytest.raises(ValueError, match="has 17 samples, not 16"):
        dataset[40]
