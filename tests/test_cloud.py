"""Data sets made at a URL: the bytes of a local run, whatever fails, is killed, or runs elsewhere meanwhile."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from cloud_samples import bucket, copy_up, environment, remote_digests, sent
from conftest import digests

from passerby import network
from passerby.engine import LocalEngine
from passerby.parts import Part, complete_parts, generate_part
from passerby.shards.manifest import read_manifest
from passerby.shards.output import open_output
from passerby.shards.staged import STAGING_MARK, RemoteOutput
from passerby.shards.verify import verify
from passerby.shards.write import ShardRecord, shard_names
from passerby.storage import RemoteFolder

SHARDS = [f"train-{index:05d}-of-00004" for index in range(4)]
FINEGPR = ("--lambda", "0.8", "--shard-size", "20")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    with bucket(tmp_path_factory.mktemp("cache")) as proxy:
        yield proxy


@pytest.fixture
def s3(proxy):
    proxy.requests.clear()
    proxy.fault = lambda method, path: None
    return proxy


@pytest.fixture(scope="module")
def local(people, tmp_path_factory, invoke):
    root = tmp_path_factory.mktemp("local") / "finegpr-c"
    assert make(invoke, people, root).exit_code == 0
    return root


def make(invoke, people, out, *options):
    attributes = ("--attributes", people / "attributes.csv")
    return invoke("gen-captions", "finegpr-c", people / "images", *attributes, *FINEGPR, "--out", out, *options)


def said(done):
    assert isinstance(done.exception, ValueError | OSError), done.output
    return str(done.exception)


def staging_of(proxy_or_url):
    return open_output(proxy_or_url).root


@pytest.mark.parametrize("url", ["s3://bucket/plain", "memory://cloud/plain", "file://{}/plain"])
def test_a_data_set_at_a_url_has_the_bytes_of_a_local_one(s3, url, people, local, tmp_path, invoke):
    url = url.format(tmp_path)
    done = make(invoke, people, url)
    assert done.exit_code == 0
    assert f"written to {url}" in done.output
    assert remote_digests(url) == digests(local)
    assert verify(url).problems == ()
    assert not staging_of(url).exists()


def test_captions_by_clip_and_packed_sets_go_to_a_url_too(s3, people, tmp_path, invoke):
    clip = ("gen-captions", "luperson-t", people / "images", "--clip-model", "none", "--embeddings", "--shard-size", 30)
    pack = ("passerby", "pack", "finegpr", people, tmp_path / "pack", "--allow-count-mismatch", "--shards", "3")
    assert invoke(*clip, "--out", tmp_path / "clip").exit_code == 0
    assert invoke(*clip, "--out", "s3://bucket/clip").exit_code == 0
    assert remote_digests("s3://bucket/clip") == digests(tmp_path / "clip")
    assert invoke(*pack[1:]).exit_code == 0
    assert invoke(*pack[1:4], "s3://bucket/pack", *pack[5:]).exit_code == 0
    assert remote_digests("s3://bucket/pack") == digests(tmp_path / "pack")


def test_tables_follow_their_tars_and_the_manifest_comes_last(s3, people, invoke):
    make(invoke, people, "s3://bucket/order")
    order = sent(s3, "order")
    assert order[0] == "config.json"
    assert order[1:9] == [place for name in SHARDS for place in (f"data/{name}.tar", f"meta/{name}.parquet")]
    assert order[-1] == "manifest.json"
    assert len(order) == len(set(order))


def test_the_disk_holds_no_more_than_the_shard_in_flight(s3, people, tmp_path, invoke):
    held = []

    def watch(method, path):
        if method == "PUT" and path.endswith(".tar"):
            held.append([tar.name for tar in (tmp_path / "staging").rglob("*.tar")])

    s3.fault = watch
    make(invoke, people, "s3://bucket/disk", "--staging", tmp_path / "staging")
    assert held == [[f"{name}.tar"] for name in SHARDS]


@pytest.mark.parametrize("fault", ["503", "drop"])
def test_failures_in_passing_change_nothing(s3, fault, people, local, invoke):
    s3.fail(fault, "PUT", f"{SHARDS[1]}.", times=2)
    assert make(invoke, people, f"s3://bucket/{fault}").exit_code == 0
    assert remote_digests(f"s3://bucket/{fault}") == digests(local)


def test_what_fails_for_good_is_one_line_and_another_machine_makes_what_is_missing(s3, people, local, invoke):
    url = "s3://bucket/broken"
    s3.fail("503", "PUT", f"data/{SHARDS[2]}.tar", times=network.ATTEMPTS)
    message = said(make(invoke, people, url))
    assert message.startswith(f"{url}/data/{SHARDS[2]}.tar: ")
    assert "\n" not in message
    shutil.rmtree(staging_of(url))
    s3.requests.clear()
    assert make(invoke, people, url).exit_code == 0
    assert [name for name in sent(s3, "broken") if name.endswith(".tar")] == [f"data/{name}.tar" for name in SHARDS[2:]]
    assert remote_digests(url) == digests(local)


def test_kill_9_leaves_whole_files_and_the_next_run_goes_on(s3, people, local, tmp_path, invoke):
    url = "s3://bucket/killed"
    words = ["finegpr-c", people / "images", "--attributes", people / "attributes.csv", *FINEGPR, "--out", url]
    process = subprocess.Popen([Path(sys.executable).parent / "gen-captions", *words], env=environment())

    def kill(method, path):
        if method == "PUT" and f"meta/{SHARDS[1]}" in path:
            os.kill(process.pid, signal.SIGKILL)
            return "503"
        return None

    s3.fault = kill
    assert process.wait() == -signal.SIGKILL
    s3.fault = lambda method, path: None
    expected, there = digests(local), remote_digests(url)
    assert sorted(there) == ["config.json", *(f"data/{name}.tar" for name in SHARDS[:2]), f"meta/{SHARDS[0]}.parquet"]
    assert there.items() <= expected.items()
    s3.requests.clear()
    assert make(invoke, people, url, "--staging", tmp_path / "elsewhere").exit_code == 0
    assert f"data/{SHARDS[0]}.tar" not in sent(s3, "killed")
    assert remote_digests(url) == expected


def test_a_run_again_makes_only_what_is_not_whole(s3, people, local, invoke):
    url = copy_up(local, "s3://bucket/again")
    folder = RemoteFolder(url)
    system, path = folder.open()
    system.pipe_file(f"{path}/data/{SHARDS[0]}.tar", b"shorter than its table tells")
    system.pipe_file(f"{path}/meta/{SHARDS[1]}.parquet", b"no table")
    folder.remove(f"meta/{SHARDS[3]}.parquet")
    s3.requests.clear()
    assert make(invoke, people, url).exit_code == 0
    remade = [name for name in sent(s3, "again") if name.endswith(".tar")]
    assert remade == [f"data/{SHARDS[index]}.tar" for index in (0, 1, 3)]
    assert remote_digests(url) == digests(local)


def test_a_place_of_another_configuration_or_with_other_files_is_refused_as_a_folder_is(
    s3, people, local, tmp_path, invoke
):
    for name, out in (("s3://bucket/claims", "s3://bucket/claims"), (str(tmp_path / "claims"), tmp_path / "claims")):
        strange = RemoteFolder(name if name.startswith("s3") else f"file://{name}")
        strange.create("notes.txt", b"")
        assert said(make(invoke, people, out)) == (
            f"{name} holds 'notes.txt' and is no data set of ours; give --out a new or empty folder"
        )
        strange.remove("notes.txt")
        assert make(invoke, people, out).exit_code == 0
        other = said(make(invoke, people, out, "--seed", 7))
        assert other.startswith(f"{name} was made with another configuration (seed")
        strange.create("erasures.jsonl", b"")
        assert "samples removed by request" in said(make(invoke, people, out))


def test_a_staging_folder_is_known_by_its_mark(s3, people, local, tmp_path, invoke):
    theirs = Path(shutil.copytree(local, tmp_path / "theirs"))
    message = said(make(invoke, people, "s3://bucket/staging", "--staging", theirs))
    assert message == f"{theirs} holds 'README.md' and is no staging folder; give --staging a new or empty folder"
    assert digests(theirs) == digests(local)
    (tmp_path / "hidden" / ".git").mkdir(parents=True)
    assert "holds '.git'" in said(make(invoke, people, "s3://bucket/staging", "--staging", tmp_path / "hidden"))
    ours = tmp_path / "ours"
    (ours / "data").mkdir(parents=True)
    (ours / STAGING_MARK).write_text(json.dumps({"for": "s3://bucket/other", "config_hash": "0"}))
    (ours / "data" / f"{SHARDS[0]}.tar").write_bytes(b"of another configuration")
    assert make(invoke, people, "s3://bucket/staging", "--staging", ours).exit_code == 0
    assert remote_digests("s3://bucket/staging") == digests(local)
    assert "--staging is for an --out at a URL" in said(make(invoke, people, tmp_path / "out", "--staging", ours))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("https://example.org/set", "nothing can be written there; give a bucket"),
        ("hf://datasets/ORG/NAME", "hand it on with passerby publish"),
        ("s3://nobody/set", "s3://nobody/set/config.json: there is no such bucket or folder; make it first"),
    ],
)
def test_a_place_that_takes_nothing_is_one_line(s3, out, message, people, invoke):
    assert message in said(make(invoke, people, out))


def test_credentials_that_are_not_set_are_named(s3, people, tmp_path, invoke, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    message = said(make(invoke, people, "s3://bucket/secret"))
    s3fs.S3FileSystem.clear_instance_cache()
    assert message == (
        "s3://bucket/secret: Unable to locate credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )


def test_captions_alone_stay_on_this_machine(people, invoke):
    assert "leave --engine, --units and URLs away" in said(make(invoke, people, "s3://bucket/a.parquet", "--text-only"))


@dataclass(frozen=True)
class Recipe:
    """The shards of another data set, whole; what is made is counted."""

    root: Path
    old: Path
    made: list[str]
    inputs_count: int = 72

    @property
    def splits(self):
        return {"train": 4}

    @property
    def config(self):
        return read_manifest(self.old).header["config"]

    def run_unit(self, index: int) -> ShardRecord:
        from passerby.shards.write import read_record

        name = shard_names(self.splits)[index]
        self.made.append(name)
        for file in (f"data/{name}.tar", f"meta/{name}.parquet"):
            (self.root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.old / file, self.root / file)
        record = read_record(self.root, name)
        assert record is not None
        return record

    def describe(self):
        header = read_manifest(self.old).header
        return {name: value for name, value in header.items() if name not in ("config", "versions")}


def open_recipe(local, url, staging):
    output = open_output(url, staging)
    return Recipe(output.root, local, []), output


def test_parts_on_machines_with_nothing_in_common_make_one_data_set(s3, local, tmp_path):
    url, quiet = "s3://bucket/parts", {"engine": LocalEngine(1), "max_bad": 0.0}
    for number in (1, 2):
        recipe, output = open_recipe(local, url, tmp_path / f"node{number}")
        generate_part(recipe, Part(number, 2), output, beside=lambda: None, on_progress=lambda now: None, **quiet)
        assert recipe.made == SHARDS[2 * number - 2 : 2 * number]
    for name in ("last", "again"):
        output = open_output(url, tmp_path / name)
        complete_parts(output, max_bad=0.0)
        output.finish()
    assert remote_digests(url) == digests(local)


def test_a_finalise_that_lacks_a_part_names_it(s3, local, tmp_path):
    recipe, output = open_recipe(local, "s3://bucket/lacking", tmp_path / "node")
    options = {"engine": LocalEngine(1), "max_bad": 0.0, "beside": lambda: None, "on_progress": lambda now: None}
    generate_part(recipe, Part(1, 2), output, **options)
    with pytest.raises(FileNotFoundError, match=rf"lacks 2 of 4 shards.*--units 2/2: {SHARDS[2]}, {SHARDS[3]}"):
        complete_parts(open_output("s3://bucket/lacking", tmp_path / "last"), max_bad=0.0)


def test_a_unit_that_two_workers_run_is_made_and_sent_once(s3, local, tmp_path):
    recipe, output = open_recipe(local, "s3://bucket/doubles", tmp_path / "node")
    assert isinstance(output, RemoteOutput)
    output.claim(recipe.config)
    job = output.job(recipe, SHARDS, config_hash=read_manifest(local).shards[0].config_hash)
    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(job.run_unit, [0, 0, 0])
    assert all(record == first for record in others)
    assert recipe.made == [SHARDS[0]]


def test_a_machine_that_only_runs_units_needs_nothing_made_before(s3, local, tmp_path):
    recipe, output = open_recipe(local, "s3://bucket/nodes", tmp_path / "driver")
    output.claim(recipe.config)
    config_hash = read_manifest(local).shards[0].config_hash
    output.job(recipe, SHARDS, config_hash=config_hash).run_unit(0)
    away, its_output = open_recipe(local, "s3://bucket/nodes", tmp_path / "node")
    job = its_output.job(away, SHARDS, config_hash=config_hash)
    assert job.run_unit(0) == read_manifest(local).shards[0]
    assert job.run_unit(1) == read_manifest(local).shards[1]
    assert away.made == [SHARDS[1]]
    its_output.claim(away.config)  # and may become the driver of the next run


def test_files_that_no_shard_claims_are_named_before_the_end(s3, people, invoke):
    url = "s3://bucket/strange"
    make(invoke, people, url)
    RemoteFolder(url).create("data/other.tar", b"")
    assert said(make(invoke, people, url)) == (
        f"{url} holds files of no shard of this data set: data/other.tar; delete them"
    )


def test_what_killed_writers_left_in_a_folder_is_cleaned_up(people, local, tmp_path, invoke, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "set"
    (root / "data").mkdir(parents=True)
    (root / "data" / ".train-00000-of-00004.tar.0123abcd.passerby-part").write_bytes(b"half")
    assert make(invoke, people, f"file://{root}").exit_code == 0
    assert digests(root) == digests(local)
