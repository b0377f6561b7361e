"""Captions-only copies, and what it takes to bring a copy to a folder or a bucket as a whole or not at all."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import typer
import yaml
from conftest import digests
from fake_hub import hub_here
from programs import succeed
from publish_samples import make_finegpr, make_people, s3_behind_proxy
from typer.testing import CliRunner

from passerby import network, storage
from passerby.cli import publish as publish_command
from passerby.publish import hub as hub_module
from passerby.publish import target as target_module
from passerby.publish.publish import publish
from passerby.shards.manifest import read_manifest
from passerby.shards.read import ShardDataset
from passerby.shards.verify import verify

SHARDS = [f"data/train-{index:05d}-of-00004.tar" for index in range(4)]


@pytest.fixture(scope="module")
def root(people, tmp_path_factory):
    """FineGPR-C with what else may lie in a data set: features, and a page with pictures."""
    folder = tmp_path_factory.mktemp("publish")
    root = make_finegpr(make_people(people, folder / "people"), folder / "root")
    (root / "embeddings").mkdir()
    (root / "embeddings" / "train-00000-of-00004.arrow").write_bytes(b"made from images")
    (root / "report.html").write_text("<img src='data:…'>")
    return root


@pytest.fixture
def s3(monkeypatch):
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    monkeypatch.setattr(network, "FIRST_WAIT_SECONDS", 0)
    with s3_behind_proxy(monkeypatch.setenv) as proxy:
        yield proxy


def command(*words):
    app = typer.Typer()
    publish_command.register(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def names(uploads):
    return [upload.name for upload in uploads]


def test_a_copy_has_captions_and_no_byte_of_an_image(root, tmp_path):
    result = publish(root, str(tmp_path / "copy"))
    dataset = ShardDataset(root)
    everything = b"".join(path.read_bytes() for path in (tmp_path / "copy").rglob("*") if path.is_file())
    for sample in dataset:
        assert sample["jpg"][20:60] not in everything
        assert sample["parsing.png"][45:] not in everything  # what comes before is the same in every PNG
    for name in SHARDS:
        with tarfile.open(tmp_path / "copy" / name) as tar:
            assert {member.partition(".")[2] for member in tar.getnames()} == {"json", "txt"}
    assert result.left_out == ("embeddings/train-00000-of-00004.arrow", "report.html")
    assert names(result.sent)[-3:] == ["croissant.json", "manifest.json", "README.md"]


def test_a_copy_is_a_data_set_whose_samples_lack_the_image(root, tmp_path):
    publish(root, str(tmp_path / "copy"))
    assert verify(tmp_path / "copy").problems == ()
    whole, copy = ShardDataset(root), ShardDataset(tmp_path / "copy")
    assert [{"__key__", "json", "txt"}] * len(whole) == [sample.keys() for sample in copy]
    assert all(sample["json"] == whole[sample["__key__"]]["json"] for sample in copy)
    assert copy[whole[40]["__key__"]]["json"]["sha256"] == hashlib.sha256(whole[40]["jpg"]).hexdigest()
    assert copy.metadata(["key", "caption"]) == whole.metadata(["key", "caption"])


def test_the_card_of_a_copy_says_that_it_has_no_images(root, tmp_path):
    publish(root, str(tmp_path / "copy"))
    assert read_manifest(tmp_path / "copy").header["has_images"] is False
    card = (tmp_path / "copy" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert {feature["name"] for feature in header["dataset_info"]["features"]} == {"__key__", "__url__", "json", "txt"}
    assert "passerby hydrate" in card


def test_the_card_of_a_copy_has_the_figures_and_the_contact_of_the_whole(root, tmp_path):
    whole, copy = tmp_path / "whole", tmp_path / "copy"
    shutil.copytree(root, whole)
    succeed("passerby", "report", whole)
    succeed("passerby", "card", whole, "--contact", "privacy@example.org")
    publish(whole, str(copy))
    card = (copy / "README.md").read_text()
    assert "Distinct captions" in card
    assert "privacy@example.org" in card


def test_the_log_of_removals_stays_at_home(root, tmp_path):
    whole = tmp_path / "whole"
    shutil.copytree(root, whole)
    (whole / "erasures.jsonl").write_text("")
    assert "erasures.jsonl" in publish(whole, str(tmp_path / "copy")).left_out


def test_a_file_of_full_that_was_changed_is_named(root, tmp_path):
    publish(root, str(tmp_path / "copy"))
    (tmp_path / "copy" / "full" / "config.json").write_text("{}")
    (tmp_path / "copy" / "full" / "quarantine.parquet").unlink()
    assert [problem.message for problem in verify(tmp_path / "copy").problems] == [
        "full/config.json has another sha256 than SHA256SUMS says",
        "full/quarantine.parquet is missing",
    ]


def test_the_sums_are_those_of_the_sha256sum_command(root, tmp_path):
    publish(root, str(tmp_path / "copy"))
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=tmp_path / "copy" / "full", check=False
    )
    assert done.returncode == 0


def test_images_go_only_with_the_licence_acknowledged(root, tmp_path):
    for acknowledged in ("", "yes"):
        with pytest.raises(ValueError, match=r'images of FineGPR .* --acknowledge "FineGPR"'):
            publish(root, str(tmp_path / "copy"), with_images=True, acknowledged=acknowledged)
    assert not (tmp_path / "copy").exists()
    publish(root, str(tmp_path / "copy"), with_images=True, acknowledged="FineGPR")
    assert digests(tmp_path / "copy") == digests(root)


def test_a_copy_of_a_copy_needs_no_licence_and_is_the_same(root, tmp_path):
    publish(root, str(tmp_path / "copy"))
    publish(tmp_path / "copy", str(tmp_path / "again"))
    assert digests(tmp_path / "again") == digests(tmp_path / "copy")


def test_a_damaged_data_set_is_not_handed_on(root, tmp_path):
    spoilt = Path(shutil.copytree(root, tmp_path / "root"))
    data = bytearray((spoilt / SHARDS[1]).read_bytes())
    data[700] ^= 1
    (spoilt / SHARDS[1]).write_bytes(data)
    with pytest.raises(ValueError, match=r"is damaged, 1 problems, first train-00001-of-00004: .* another sha256"):
        publish(spoilt, str(tmp_path / "copy"))
    assert not (tmp_path / "copy").exists()


def test_a_place_that_holds_something_else_is_left_alone(root, tmp_path):
    for inside in (root, root / "copy"):
        with pytest.raises(ValueError, match="lie in one another"):
            publish(root, str(inside))
    full = Path(shutil.copytree(root, tmp_path / "full"))
    with pytest.raises(ValueError, match="holds a data set with its images, which captions alone"):
        publish(root, str(full))
    assert digests(full) == digests(root)
    (tmp_path / "other" / "data").mkdir(parents=True)
    (tmp_path / "other" / "data" / "val-00000-of-00001.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds 1 files of another data set, such as data/val-00000"):
        publish(root, str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("hf://ORG/NAME", ValueError, "it must be hf://datasets/ORG/NAME"),
        ("hf://datasets/NAME", ValueError, "it must be hf://datasets/ORG/NAME"),
        ("nowhere://x", ValueError, "nowhere://x cannot be reached: Protocol not known"),
        ("ftp://me:secret@host/x", ValueError, "must hold no user or password"),
    ],
)
def test_a_target_that_names_no_place_is_refused(root, target, error, message):
    with pytest.raises(error, match=message) as raised:
        publish(root, target)
    assert "secret" not in str(raised.value)


def test_a_library_that_is_missing_is_named_with_what_installs_it(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install passerby\[s3\]"):
        publish(root, "s3://bucket/x")


def test_any_place_that_fsspec_knows_will_do(root, monkeypatch):
    monkeypatch.chdir(root)  # a URL is no path below it
    publish(Path(), "memory://publish/copy")
    assert verify("memory://publish/copy").problems == ()


def test_a_dry_run_lists_and_sends_nothing(root, tmp_path):
    done = command("publish", root, tmp_path / "copy", "--dry-run", "--workers", 1)
    assert not (tmp_path / "copy").exists()
    lines = done.stdout.splitlines()
    real = json.loads(command("publish", root, tmp_path / "copy", "--json", "--workers", 1).stdout)
    assert lines[: len(real["sent"])] == [
        f"would send {name}  {(tmp_path / 'copy' / name).stat().st_size:,} bytes" for name in real["sent"]
    ]
    assert f"would send {len(real['sent'])} files, {sum(real['sent'].values()):,} bytes; 0 were there" in lines[-1]
    again = command("publish", root, tmp_path / "copy", "--workers", 1)
    assert f"sent 0 files, 0 bytes; {len(real['sent'])} were there; 0 retries" in again.stdout


def test_a_file_of_the_same_size_and_other_bytes_is_sent_again(root, tmp_path):
    publish(root, str(tmp_path / "copy"))
    before = digests(tmp_path / "copy")
    path = tmp_path / "copy" / SHARDS[2]
    path.write_bytes(bytes(path.stat().st_size))
    assert names(publish(root, str(tmp_path / "copy")).sent) == [SHARDS[2], "manifest.json"]
    assert digests(tmp_path / "copy") == before


def test_a_bucket_takes_shards_first_and_the_card_last(root, s3):
    result = publish(root, "s3://bucket/copy")
    sent = [name.removeprefix("copy/") for name in s3.put()]
    assert sent == names(result.sent)
    assert sent[:5] == ["data/sizes.json", *SHARDS]
    assert sent[-3:] == ["croissant.json", "manifest.json", "README.md"]
    assert verify("s3://bucket/copy").problems == ()
    s3.requests.clear()
    again = publish(root, "s3://bucket/copy")
    assert (again.sent, names(again.there)) == ((), names(result.sent))
    assert [method for method, _ in s3.requests] == ["GET", "GET"]  # the listing and the manifest: no file is read back


def test_a_large_object_is_known_by_the_etag_of_its_parts(root, s3, monkeypatch):
    for module in (storage, target_module):
        monkeypatch.setattr(module, "PART_BYTES", 5 << 20)
    big = bytes(range(256)) * (13 << 12)  # 13 MiB: parts of 5, 5 and 3
    images = root.parent / "big"
    shutil.copytree(root, images, dirs_exist_ok=True)
    (images / "extra.bin").write_bytes(big)
    publish(images, "s3://bucket/big", with_images=True, acknowledged="FineGPR")
    assert sum("partNumber" in path for _, path in s3.requests) == 3
    s3.requests.clear()
    assert publish(images, "s3://bucket/big", with_images=True, acknowledged="FineGPR").sent == ()
    assert len(s3.requests) == 2


def test_requests_that_fail_in_passing_are_made_again_and_counted(root, s3):
    s3.fail("503", "PUT", SHARDS[1], times=2)
    assert publish(root, "s3://bucket/copy").retries == 2
    s3.fail("drop", "PUT", SHARDS[1], times=2)  # aiohttp itself repeats what fails on a connection that was open before
    assert publish(root, "s3://bucket/other").retries in (1, 2)
    assert verify("s3://bucket/copy").problems == verify("s3://bucket/other").problems == ()


def test_a_place_that_keeps_failing_ends_the_run_and_the_next_completes_it(root, s3):
    s3.fail("503", "PUT", SHARDS[1], times=network.ATTEMPTS)
    with pytest.raises(OSError, match=f"s3://bucket/copy/{SHARDS[1]}: .*SlowDown"):
        publish(root, "s3://bucket/copy")
    with pytest.raises(FileNotFoundError, match="no data set: it has no manifest"):
        verify("s3://bucket/copy")
    done = publish(root, "s3://bucket/copy")
    assert {"data/sizes.json", SHARDS[0]} <= set(names(done.there))
    assert verify("s3://bucket/copy").problems == ()
    with pytest.raises(OSError, match="no such bucket or folder; make it first"):
        publish(root, "s3://nobody/copy")


def test_a_new_version_takes_the_old_manifest_away_before_it_comes(root, s3):
    publish(root, "s3://bucket/copy")
    changed = storage.RemoteFolder("s3://bucket/copy")
    system, folder = changed.open()
    system.pipe_file(f"{folder}/{SHARDS[3]}", b"an older version")
    s3.requests.clear()
    publish(root, "s3://bucket/copy")
    changes = [(method, path.rpartition("copy/")[2]) for method, path in s3.requests if method in ("PUT", "DELETE")]
    assert changes == [("DELETE", "manifest.json"), ("PUT", SHARDS[3]), ("PUT", "manifest.json")]


PUBLISH = "import sys, pathlib, passerby.publish.publish as p; p.publish(pathlib.Path(sys.argv[1]), sys.argv[2])"


def test_kill_9_leaves_no_data_set_and_the_next_run_completes_it(root, s3):
    process = subprocess.Popen([sys.executable, "-c", PUBLISH, str(root), "s3://bucket/copy"])

    def kill(method, path):
        if method == "PUT" and SHARDS[2] in path:
            os.kill(process.pid, signal.SIGKILL)
            return "503"
        return None

    s3.fault = kill
    assert process.wait() == -signal.SIGKILL
    s3.fault = lambda method, path: None
    with pytest.raises(FileNotFoundError, match="if it is being published, wait"):
        ShardDataset("s3://bucket/copy")
    s3.requests.clear()
    publish(root, "s3://bucket/copy")
    assert SHARDS[0] not in [name.removeprefix("copy/") for name in s3.put()]
    assert verify("s3://bucket/copy").problems == ()


def test_credentials_reach_no_file_and_no_output(root, s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-nobody-may-see")
    monkeypatch.setenv("HOME", str(tmp_path))
    done = command("publish", root, "s3://bucket/copy", "--workers", 1)
    assert done.exit_code == 0
    for text in (done.output, *(path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file())):
        assert "a-secret" not in text


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setattr(network, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with hub_here(monkeypatch) as hub:
        yield hub


def test_the_hub_gets_one_commit_of_a_private_data_set(root, hub, tmp_path):
    result = publish(root, "hf://datasets/ORG/NAME")
    publish(root, str(tmp_path / "copy"))
    assert [(each["type"], each["visibility"]) for each in hub.created] == [("dataset", "private")]
    assert [len(commit) for commit in hub.commits] == [len(result.sent)]
    assert {name: hashlib.sha256(data).hexdigest() for name, data in hub.files.items()} == digests(tmp_path / "copy")


def test_the_hub_gets_many_files_in_batches_and_the_card_with_the_last(root, hub, monkeypatch):
    monkeypatch.setattr(hub_module, "FILES_A_COMMIT", 10)
    result = publish(root, "hf://datasets/ORG/NAME")
    sent = names(result.sent)
    assert [[change.partition(" ")[2] for change in commit] for commit in hub.commits] == [
        sent[:10],
        sent[10:20],
        sent[20:],
    ]
    assert sent[-2:] == ["manifest.json", "README.md"]


def test_the_hub_is_not_sent_what_it_has_and_an_old_manifest_goes_first(root, hub, monkeypatch):
    monkeypatch.setattr(hub_module, "FILES_A_COMMIT", 2)
    result = publish(root, "hf://datasets/ORG/NAME")
    hub.commits.clear()
    again = publish(root, "hf://datasets/ORG/NAME")
    assert (again.sent, names(again.there), hub.commits) == ((), names(result.sent), [])
    for name in SHARDS[:3]:
        hub.files[name] = bytes(len(hub.files[name]))  # of the same size
    publish(root, "hf://datasets/ORG/NAME")
    assert hub.commits == [
        ["deletedFile manifest.json", f"lfsFile {SHARDS[0]}", f"lfsFile {SHARDS[1]}"],
        [f"lfsFile {SHARDS[2]}", "file manifest.json"],
    ]


def test_the_hub_may_fail_in_passing(root, hub):
    hub.failures = 2
    assert publish(root, "hf://datasets/ORG/NAME").retries == 2
    assert len(hub.commits) == 1


def test_a_data_set_on_the_hub_is_read_and_verified_there(root, hub, tmp_path):
    publish(root, "hf://datasets/ORG/NAME")
    publish(root, str(tmp_path / "copy"))
    assert list(ShardDataset("hf://datasets/ORG/NAME")) == list(ShardDataset(tmp_path / "copy"))
    assert verify("hf://datasets/ORG/NAME").problems == ()
