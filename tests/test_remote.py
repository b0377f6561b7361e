"""Data sets at URLs: the same samples as from the folder, by few requests, on a network that fails at times."""

import multiprocessing
import pickle
import shutil
from pathlib import Path

import pytest
from publish_samples import BUCKET, s3_behind_proxy
from shard_samples import NAMES, edit_manifest, write_all

from passerby import network
from passerby.network import read_ahead, retrying
from passerby.publish.hydrate import hydrate
from passerby.publish.target import FolderTarget, Upload
from passerby.shards import read
from passerby.shards.read import ShardDataset
from passerby.shards.remote import READS_AHEAD, Window
from passerby.shards.verify import verify
from passerby.storage import RemoteFolder

URL = f"s3://{BUCKET}/set"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "root"))


@pytest.fixture
def s3(monkeypatch, tmp_path):
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    monkeypatch.setattr(network, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3_behind_proxy(monkeypatch.setenv) as proxy:
        yield proxy


@pytest.fixture
def set_there(s3, sound):
    copy_to(URL, sound)
    s3.requests.clear()
    return s3


def copy_to(url, root):
    files = [path for path in root.rglob("*") if path.is_file()]
    uploads = [Upload(path.relative_to(root).as_posix(), path, path.stat().st_size) for path in files]
    FolderTarget(RemoteFolder(url)).send(uploads, workers=1, on_retry=print, on_done=lambda upload: None)


def test_a_url_gives_what_the_folder_gives(set_there, sound):
    here, there = ShardDataset(sound), ShardDataset(URL)
    assert len(there) == len(here)
    assert list(there) == list(here)
    for index in (0, 17, -1, "0041_c1"):
        assert there[index] == here[index]
    assert there.metadata() == here.metadata()
    for index, error in ((51, IndexError), ("nobody", KeyError)):
        with pytest.raises(error):
            there[index]


def test_a_sample_is_one_request_and_tables_are_fetched_once(set_there):
    dataset = ShardDataset(URL)
    dataset[0]
    set_there.requests.clear()
    dataset[1]
    assert [method for method, _ in set_there.requests] == ["GET"]
    dataset.metadata()
    set_there.requests.clear()
    dataset.metadata()
    ShardDataset(URL).metadata()
    assert {path for _, path in set_there.requests} == {f"/{BUCKET}/set/manifest.json"}


def test_a_pass_over_all_samples_reads_blocks(set_there, sound, monkeypatch):
    for block_bytes in (1, 20_000, 8 << 20):
        monkeypatch.setattr(read, "BLOCK_BYTES", block_bytes)
        set_there.requests.clear()
        assert list(ShardDataset(URL)) == list(ShardDataset(sound))
        reads = [path for method, path in set_there.requests if method == "GET" and path.endswith(".tar")]
        sizes = [record.size_bytes for record in ShardDataset(sound).manifest.shards]
        assert len(reads) == {1: 51, 8 << 20: 3}.get(block_bytes, sum(-(-size // block_bytes) for size in sizes))


def test_a_window_is_sliced_by_places_in_the_tar():
    assert Window(b"abcdef", 100)[102:105] == b"cde"


def test_reading_ahead_keeps_the_order_and_its_bound():
    begun = []
    results = read_ahead(lambda item: begun.append(item) or item * 2, range(50), at_once=READS_AHEAD)
    assert next(results) == (0, 0)
    assert len(begun) <= READS_AHEAD + 1
    assert list(results) == [(item, item * 2) for item in range(1, 50)]


@pytest.mark.parametrize("fault", ["503", "drop"])
def test_reading_outlives_failures_in_passing(set_there, sound, fault):
    set_there.fail(fault, "GET", f"{NAMES[1]}.tar", times=2)
    assert list(ShardDataset(URL)) == list(ShardDataset(sound))
    set_there.fail(fault, "GET", f"{NAMES[2]}.tar", times=2)
    assert verify(URL).problems == ()


def _texts(dataset):
    return [sample["txt"] for sample in dataset]


def test_other_processes_read_a_data_set_that_was_open(set_there):
    dataset = ShardDataset(URL)
    expected = _texts(dataset)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_texts, (dataset,)) == expected
    assert len(pickle.dumps(dataset)) < 400
    assert pickle.loads(pickle.dumps(dataset))[7] == dataset[7]


def test_verify_names_what_is_wrong_at_a_url(s3, root):
    data = bytearray((root / "data" / f"{NAMES[1]}.tar").read_bytes())
    data[700] ^= 1
    (root / "data" / f"{NAMES[1]}.tar").write_bytes(data)
    (root / "data" / f"{NAMES[2]}.tar").unlink()
    (root / "data" / "other.tar").write_bytes(b"")
    copy_to(URL, root)
    problems = verify(URL).problems
    assert problems == verify(root).problems
    assert [problem.message for problem in problems] == [
        "its jpg has another sha256 than the table says",
        f"{NAMES[2]}.tar is missing",
        "data/other.tar belongs to no shard of the manifest",
    ]


def test_workers_find_the_same_at_a_url(set_there):
    assert verify(URL, workers=2) == verify(URL)


def test_files_that_are_not_the_manifests_are_noticed(s3, root):
    shutil.copy(root / "meta" / f"{NAMES[0]}.parquet", root / "meta" / f"{NAMES[2]}.parquet")
    edit_manifest(root, lambda stored: stored["shards"][1].update(size_bytes=1 << 30))
    copy_to(URL, root)
    dataset = ShardDataset(URL)
    with pytest.raises(ValueError, match=f"{URL}/meta/{NAMES[2]}.parquet is not the one the manifest knows"):
        dataset[-1]
    with pytest.raises(ValueError, match=rf"{URL}/data/{NAMES[1]}.tar has \d+ bytes, not {1 << 30}"):
        dataset[20]


def test_what_is_no_data_set_is_one_line(s3, tmp_path):
    for location in (URL, "s3://nobody/set"):
        for reader in (ShardDataset, verify):
            with pytest.raises(FileNotFoundError, match=f"{location} is no data set"):
                reader(location)
    with pytest.raises(FileNotFoundError, match="no captions-only copy"):
        hydrate(URL, tmp_path, tmp_path / "out")


class _Error(OSError):
    def __init__(self, status):
        self.response = type("Response", (), {"status_code": status})


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (_Error(503), 6),
        (_Error(429), 6),
        (_Error(404), 1),
        (_Error(403), 1),
        (ConnectionResetError(), 6),
        (TimeoutError(), 6),
        (FileNotFoundError(), 1),
        (PermissionError(), 1),
        (ValueError(), 1),
    ],
)
def test_only_what_may_pass_is_tried_again(monkeypatch, error, calls):
    monkeypatch.setattr(network, "FIRST_WAIT_SECONDS", 0)
    made, told = [], []

    def call():
        made.append(1)
        raise error

    with pytest.raises(type(error)):
        retrying(call, told.append)
    assert (len(made), told) == (calls, [error] * (calls - 1))


def test_credentials_that_are_not_set_are_said_at_once(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(OSError, match="credentials"):
        ShardDataset(URL)
    assert s3.requests[2:] == []
