"""Images at a URL: the data set that a local copy of them gives, by few requests, on a network that fails at times."""

import shutil
import tarfile
from io import BytesIO
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest
import webdataset
from cloud_samples import bucket, copy_up
from conftest import digests
from PIL import Image
from shard_samples import write_all

from passerby.images import ImageProblem
from passerby.readers import files, tars
from passerby.readers.files import ImageFiles
from passerby.readers.luperson import open_source
from passerby.readers.tars import spans_of
from passerby.storage import RemoteFolder

CLIP = ("--clip-model", "none", "--shard-size", "30")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory, people):
    with bucket(tmp_path_factory.mktemp("cache")) as proxy:
        copy_up(people, "s3://bucket/people")
        yield proxy


@pytest.fixture
def s3(proxy):
    proxy.requests.clear()
    proxy.fault = lambda method, path: None
    return proxy


def got(proxy, part):
    return [path for method, path in proxy.requests if method == "GET" and part in path]


def contents(source):
    rows = source.inputs.to_pylist()
    return dict(zip((row["key"] for row in rows), source.read_all(rows), strict=True))


def jpeg(shade):
    file = BytesIO()
    Image.new("L", (16, 32), shade).save(file, "JPEG")
    return file.getvalue()


def write_foreign(folder, name, keys):
    folder.mkdir(exist_ok=True)
    with webdataset.TarWriter(str(folder / name)) as writer:
        for shade, key in enumerate(keys):
            writer.write({"__key__": key, "jpg": jpeg(shade), "txt": "A man."})


def said(done):
    assert isinstance(done.exception, ValueError | OSError), done.output
    return str(done.exception)


def test_attributes_and_images_at_a_url_give_the_bytes_of_a_local_copy(s3, people, tmp_path, invoke):
    broken = Path(shutil.copytree(people, tmp_path / "people"))
    first, second, *_ = sorted((broken / "images").rglob("*.jpg"))
    first.write_bytes(first.read_bytes()[:-30])
    second.write_bytes(b"")
    url = copy_up(broken, "s3://bucket/broken")
    s3.requests.clear()
    options = ("--lambda", "0.8", "--shard-size", "20", "--max-bad", "0.1")
    for place, out in ((broken, tmp_path / "local"), (url, tmp_path / "remote")):
        words = (f"{place}/images", "--attributes", f"{place}/attributes.csv", "--out", out)
        assert invoke("gen-captions", "finegpr-c", *words, *options).exit_code == 0
    assert digests(tmp_path / "remote") == digests(tmp_path / "local")
    assert len(got(s3, "delimiter=&")) == 1
    assert sorted(got(s3, ".jpg")) == sorted(set(got(s3, ".jpg")))
    assert len(got(s3, ".jpg")) == 72


def test_crops_at_a_url_give_the_bytes_of_a_local_copy(s3, people, tmp_path, invoke):
    for place, out in ((people, tmp_path / "local"), ("s3://bucket/people", tmp_path / "remote")):
        assert invoke("gen-captions", "luperson-t", f"{place}/images", "--out", out, *CLIP).exit_code == 0
    assert digests(tmp_path / "remote") == digests(tmp_path / "local")


def test_our_own_renders_are_known_at_a_url(s3, people):
    from passerby.generate import source_name

    assert source_name("s3://bucket/people/images", "FineGPR") == "FineGPR"
    RemoteFolder("s3://bucket/renders").create("synthetic.json", b"{}")
    for url in ("s3://bucket/renders", "s3://bucket/renders/images/"):
        assert source_name(url, "FineGPR") == "synthetic pedestrians"


def test_images_are_read_several_at_once_and_in_order(s3, people):
    source = open_source("s3://bucket/people/images")
    barrier = Barrier(8)

    def wait_for_seven_others(method, path):
        if method == "GET" and path.endswith(".jpg") and not barrier.broken:
            try:
                barrier.wait(timeout=20)
            except BrokenBarrierError:
                return "503"
        return None

    s3.fault = wait_for_seven_others
    read = contents(source)
    assert not barrier.broken
    assert read == contents(open_source(people / "images"))


@pytest.mark.parametrize("fault", ["503", "drop"])
def test_reading_outlives_failures_in_passing(s3, people, fault):
    source = open_source("s3://bucket/people/images", keep=3)
    s3.fail(fault, "GET", ".jpg", times=3)
    assert contents(source) == contents(open_source(people / "images", keep=3))


def test_a_network_that_keeps_failing_ends_the_run_and_blames_no_image(s3, tmp_path, invoke):
    s3.fail("503", "GET", ".jpg", times=1000)
    message = said(invoke("gen-captions", "luperson-t", "s3://bucket/people/images", "--out", tmp_path / "out", *CLIP))
    assert message.startswith("s3://bucket/people/images/0")
    assert "SlowDown" in message
    assert not list(tmp_path.rglob("*.parquet"))


def test_an_image_that_vanished_or_is_absurd_is_told_as_in_a_folder(s3, monkeypatch):
    there = ImageFiles(RemoteFolder("s3://bucket/people/images"))
    with pytest.raises(ImageProblem, match="no such file") as missing:
        there.read({"path": "gone.jpg", "size_bytes": 9})
    assert missing.value.reason == "missing"
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    with pytest.raises(ImageProblem, match="has 11 bytes, more than 10") as absurd:
        there.read({"path": "large.jpg", "size_bytes": 11})
    assert absurd.value.reason == "too many bytes"


def test_a_list_of_names_chooses_without_a_listing(s3, people, tmp_path):
    names = [path.relative_to(people / "images").as_posix() for path in sorted((people / "images").rglob("*.jpg"))]
    (tmp_path / "names.txt").write_text("\n".join([*names[5:2:-1], "gone.jpg"]))
    here, there = (open_source(place, names=tmp_path / "names.txt") for place in (people, "s3://bucket/people"))
    assert there.inputs == here.inputs
    assert list(map(str, contents(there).values())) == list(map(str, contents(here).values()))
    assert got(s3, "delimiter=&") == []


def test_a_flat_folder_leaves_inner_ones_alone(s3, people):
    assert open_source("s3://bucket/people/images/0001", kind="flat").kind == "flat"
    with pytest.raises(ValueError, match="s3://bucket/people/images holds no image"):
        open_source("s3://bucket/people/images", kind="flat")


@pytest.mark.parametrize("has_manifest", [True, False], ids=["ours", "others"])
def test_tars_at_a_url_are_what_they_are_in_a_folder(s3, has_manifest, tmp_path):
    root = write_all(tmp_path / "root")
    if not has_manifest:
        (root / "manifest.json").unlink()
    url = copy_up(root, f"s3://bucket/tars-{has_manifest}")
    s3.requests.clear()
    here, there = open_source(root), open_source(url)
    assert there.kind == "tars"
    assert there.inputs == here.inputs
    assert len(got(s3, ".tar")) == (0 if has_manifest else 3)
    assert contents(there) == contents(here)
    assert [there.read(row) for row in there.inputs.to_pylist()[:2]] == [*contents(here).values()][:2]


def test_captions_of_tars_at_a_url_are_those_of_a_local_copy(s3, tmp_path, invoke):
    write_foreign(tmp_path / "tars", "a.tar", ["0", "1"])
    write_foreign(tmp_path / "tars", "b.tar", ["0"])
    url = copy_up(tmp_path / "tars", "s3://bucket/foreign")
    for place, out in ((tmp_path / "tars", tmp_path / "local"), (url, tmp_path / "remote")):
        assert invoke("gen-captions", "luperson-t", place, "--out", out, *CLIP).exit_code == 0
    assert digests(tmp_path / "remote") == digests(tmp_path / "local")
    assert contents(open_source(f"{url}/a.tar")) == contents(open_source(tmp_path / "tars" / "a.tar"))


def test_others_tars_are_walked_through_once_unless_they_change(s3, tmp_path):
    write_foreign(tmp_path / "tars", "a.tar", ["0", "1"])
    url = copy_up(tmp_path / "tars", "s3://bucket/once")
    first = open_source(url).inputs
    s3.requests.clear()
    assert open_source(url).inputs == first
    assert got(s3, ".tar") == []
    write_foreign(tmp_path / "tars", "a.tar", ["0", "2"])
    copy_up(tmp_path / "tars", url)
    assert open_source(url).inputs["key"].to_pylist() == ["0", "2"]


def test_a_walk_outlives_a_connection_that_drops(s3, tmp_path):
    write_foreign(tmp_path / "tars", "a.tar", ["0", "1"])
    url = copy_up(tmp_path / "tars", "s3://bucket/walk")
    s3.fail("drop", "GET", "a.tar", times=2)
    assert contents(open_source(url)) == contents(open_source(tmp_path / "tars"))


def test_what_lies_side_by_side_is_one_request(s3, tmp_path, monkeypatch):
    write_foreign(tmp_path / "tars", "a.tar", map(str, range(9)))
    source = open_source(copy_up(tmp_path / "tars", "s3://bucket/spans"))
    expected = {str(shade): jpeg(shade) for shade in range(9)}
    for span_bytes, requests in ((8 << 20, 1), (1, 9)):
        monkeypatch.setattr(tars, "SPAN_BYTES", span_bytes)
        s3.requests.clear()
        assert contents(source) == expected
        assert len(got(s3, "a.tar")) == requests


def test_spans_keep_the_order_and_their_bounds(monkeypatch):
    monkeypatch.setattr(tars, "SPAN_BYTES", 100)
    monkeypatch.setattr(tars, "GAP_BYTES", 10)
    places = [(0, 0, 20), (0, 30, 20), (0, 61, 20), (0, 40, 5), (1, 50, 5), (1, 60, 90), (1, 150, 1)]
    rows = [{"tar": tar, "image_offset": offset, "image_size": size} for tar, offset, size in places]
    # apart: the third (a gap of 11), the fourth (before the third), the fifth (another tar), the last (101 bytes in all)
    assert [len(span) for span in spans_of(rows)] == [2, 1, 1, 2, 1]
    assert [row for span in spans_of(rows) for row in span] == rows


def test_a_cut_or_absurd_image_in_a_tar_is_told_as_in_a_folder(s3, tmp_path, monkeypatch):
    write_foreign(tmp_path / "tars", "a.tar", ["0", "1"])
    url = copy_up(tmp_path / "tars", "s3://bucket/cut")
    source = open_source(url)
    row = source.inputs.to_pylist()[1]
    system, path = RemoteFolder(url).open()
    data = (tmp_path / "tars" / "a.tar").read_bytes()
    system.pipe_file(f"{path}/a.tar", data[: row["image_offset"] + 10])
    first, second = contents(source).values()
    assert first == jpeg(0)
    assert (second.reason, str(second)) == ("truncated", f"a.tar ends after 10 of its {row['image_size']} bytes")
    monkeypatch.setattr(tars, "MAX_BYTES", 10)
    with pytest.raises(ImageProblem, match="bytes, more than 10"):
        source.read(row)


def test_a_compressed_tar_is_named_by_its_url(s3, tmp_path):
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "a.tar", "w:gz"):
        pass
    url = copy_up(tmp_path / "tars", "s3://bucket/gz")
    with pytest.raises(ValueError, match=f"{url}/a.tar cannot be read as a plain tar"):
        open_source(url)


@pytest.mark.parametrize(
    ("url", "kind", "message"),
    [
        ("s3://nobody/images", "auto", "s3://nobody/images does not exist, or is empty"),
        ("s3://bucket/typo", "auto", "s3://bucket/typo does not exist, or is empty"),
        ("s3://bucket/lmdb", "auto", "s3://bucket/lmdb: an LMDB must lie on a disk of this machine.*fetch it first"),
        ("s3://bucket/lmdb", "lmdb", "lmdb data must lie on a disk of this machine"),
        ("s3://bucket/a.arrow", "auto", "s3://bucket/a.arrow: Arrow files must lie on a disk of this machine"),
        ("s3://bucket/people/images/0001/none.tar", "auto", "none.tar does not exist"),
        ("nowhere://x", "auto", "nowhere://x cannot be reached: Protocol not known"),
    ],
)
def test_what_cannot_be_read_at_a_url_is_one_line(s3, url, kind, message):
    RemoteFolder("s3://bucket/lmdb").create("data.mdb", b"")
    with pytest.raises((ValueError, OSError), match=message):
        open_source(url, kind=kind)


def test_a_list_chooses_no_tars_at_a_url(s3, tmp_path):
    (tmp_path / "names.txt").write_text("a.jpg")
    with pytest.raises(ValueError, match="cannot choose from tars"):
        open_source("s3://bucket/once", kind="tars", names=tmp_path / "names.txt")


def test_attributes_that_are_not_there_are_named(s3, tmp_path, invoke):
    words = ("s3://bucket/people/images", "--attributes", "s3://bucket/gone.csv", "--lambda", "1", "--out", tmp_path)
    assert said(invoke("gen-captions", "finegpr-c", *words)) == "s3://bucket/gone.csv does not exist"
