"""Removal requests: what must go is nowhere any more, the rest is as it was, and no kill leaves it half done for good."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import programs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import digests
from person_shards import NAMES, SHARDS, members_by_key, write_people_shards

from passerby.curate.exclude import Request, exclude
from passerby.curate.rules import Rules
from passerby.curate.select import select
from passerby.shards.begin import claim
from passerby.shards.embeddings import Embeddings, embeddings_path, read_embeddings, write_embeddings
from passerby.shards.manifest import read_manifest
from passerby.shards.read import ShardDataset
from passerby.shards.verify import verify

SCORER = {"model": "drawn"}
DATE = "2026-05-01"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A data set of three shards with near-duplicates listed and embeddings kept, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("sound")
    root = folder / "root"
    select(write_people_shards(folder / "parent"), root, Rules(is_deduplicated=True, hash_distance=8), shards=SHARDS)
    for name in NAMES:
        keys = [row["key"] for row in rows_of(root, name) if row["status"] == "kept"]
        features = np.random.default_rng(0).standard_normal((len(keys), 8)).astype(np.float16)
        write_embeddings(embeddings_path(root, name), Embeddings(tuple(keys), features), SCORER)
    return root


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it to remove from."""
    return Path(shutil.copytree(sound, tmp_path / "root"))


def rows_of(root, name):
    return pq.read_table(root / "meta" / f"{name}.parquet").to_pylist()


def remove(root, *keys, **options):
    return exclude(root, Request(keys=keys, date=DATE), **options)


def kept_keys(root):
    return [*members_by_key(root)]


def test_the_samples_are_gone_and_all_others_are_as_they_were(root):
    before = members_by_key(root)
    first, *_, last = before
    result = remove(root, first, last)
    assert (result.removed, result.revision) == (2, 2)
    assert members_by_key(root) == {key: members for key, members in before.items() if key not in (first, last)}
    assert [*members_by_key(root)] == [*before][1:-1]
    assert verify(root).problems == ()
    assert [sample["__key__"] for sample in ShardDataset(root)] == [*before][1:-1]


def test_nothing_that_names_or_shows_the_removed_is_left_in_any_file(root):
    repeated = pq.read_table(root / "repeats.parquet").to_pylist()[0]["other_key"]
    members = members_by_key(root)[repeated]
    remove(root, repeated)
    traces = [repeated.encode(), *(content for _, content in members)]
    for path in (path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        texts = [data]
        if path.suffix == ".parquet":
            texts = [json.dumps(pq.read_table(path).to_pylist()).encode()]
        assert not any(trace in text for trace in traces for text in texts), path
    others = pq.read_table(root / "repeats.parquet")["other_key"].to_pylist()
    assert others.count("") >= 1  # that they repeated something stays; what, does not


def test_shards_that_are_not_concerned_are_not_touched(root):
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in root.rglob("*") if path.is_file()}
    remove(root, kept_keys(root)[0])
    changed = {
        str(path.relative_to(root))
        for path, seen in before.items()
        if (path.stat().st_ino, path.stat().st_mtime_ns) != seen
    }
    assert {name for name in changed if "train" in name} == {
        f"data/{NAMES[0]}.tar",
        f"meta/{NAMES[0]}.parquet",
        f"embeddings/{NAMES[0]}.arrow",
    }


def test_the_count_is_kept_by_reason(root):
    before = read_manifest(root)
    gone = [kept_keys(root)[1], pq.read_table(root / "quarantine.parquet")["key"][0].as_py()]
    remove(root, *gone)
    after = read_manifest(root)
    assert (after.seen, after.kept) == (before.seen, before.kept - 1)
    assert after.reasons == {"erased": 2, "near-duplicate": before.reasons["near-duplicate"] - 1}
    assert after.header["revision"] == 2
    erased = [row for row in rows_of(root, NAMES[0]) if row["reason"] == "erased"]
    known = {"status": "rejected", "reason": "erased", "detail": "removed by request", "path": ""}
    assert [{name: value for name, value in row.items() if value is not None} for row in erased] == [known, known]


def test_a_person_goes_with_all_samples(root):
    people = {row["person_id"] for name in NAMES for row in rows_of(root, name)} - {None}
    result = exclude(root, Request(people=["0002"], date=DATE))
    assert {row["person_id"] for name in NAMES for row in rows_of(root, name)} - {None} == people - {"0002"}
    assert result.removed > 1
    assert exclude(root, Request(people=["0002"], date=DATE)).named_before == 1
    assert verify(root).problems == ()


def test_the_embeddings_go_too_and_the_others_stay(root):
    key, *_ = kept_keys(root)
    path = embeddings_path(root, NAMES[0])
    before = read_embeddings(path, SCORER)
    remove(root, key)
    after = read_embeddings(path, SCORER)
    assert after.keys == before.keys[1:]
    assert np.array_equal(after.features, before.features[1:])


def test_the_log_holds_hashes_that_a_request_can_be_checked_by(root):
    keys = kept_keys(root)[:2]
    images = [dict(members_by_key(root)[key])[f"{key}.jpg"] for key in keys]
    exclude(root, Request(keys=keys, reason="consent withdrawn", date=DATE))
    remove(root, kept_keys(root)[0])
    first, second = map(json.loads, (root / "erasures.jsonl").read_text().splitlines())
    assert first == {
        "revision": 2,
        "date": DATE,
        "reason": "consent withdrawn",
        "count": 2,
        "key_sha256": sorted(hashlib.sha256(key.encode()).hexdigest() for key in keys),
        "person_sha256": [],
        "image_sha256": sorted(hashlib.sha256(image).hexdigest() for image in images),
    }
    assert (second["revision"], read_manifest(root).header["revision"]) == (3, 3)


def test_where_a_name_is_unknown_nothing_is_removed_unless_allowed(root):
    before = digests(root)
    key = kept_keys(root)[0]
    result = exclude(root, Request(keys=[key, "nobody"], people=["9999"], date=DATE))
    assert (result.missing, result.removed) == (("9999", "nobody"), 0)
    assert digests(root) == before
    assert remove(root, key, "nobody", allows_missing=True).removed == 1
    assert key not in kept_keys(root)


def test_only_unknown_names_leave_all_as_it_is(root):
    before = digests(root)
    assert remove(root, "nobody", allows_missing=True).removed == 0
    assert digests(root) == before


def test_the_same_request_again_changes_nothing(root):
    keys = kept_keys(root)[:2]
    remove(root, *keys)
    before = digests(root)
    result = remove(root, *keys)
    assert (result.removed, result.named_before, result.missing, result.revision) == (0, 2, (), 2)
    assert digests(root) == before


def test_a_shard_may_lose_all_its_samples(root):
    gone = [row["key"] for row in rows_of(root, NAMES[1]) if row["status"] == "kept"]
    remove(root, *gone)
    assert verify(root).problems == ()
    assert [record.kept for record in read_manifest(root).shards][1] == 0
    assert not set(gone) & set(kept_keys(root))
    select(root, root.parent / "selected", Rules(per_person=1))
    assert verify(root.parent / "selected").problems == ()


def die_before_rename(number, work):
    """Run `work` in a process that kills itself before the `number`-th file is renamed into place."""
    renames = iter(range(1, number + 1))
    rename = Path.replace

    def rename_or_die(path, target):
        if next(renames) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = rename_or_die
    work()


STEPS = ["log", *["embeddings", "tar", "table"] * 2, "repeats", "sizes", "quarantine", "manifest"]


@pytest.mark.parametrize(("number", "at_once"), [*((number, 1) for number in range(1, len(STEPS) + 1)), (4, 2), (6, 2)])
def test_kill_9_at_any_moment_and_run_again(sound, root, tmp_path, monkeypatch, number, at_once):
    monkeypatch.setattr("passerby.curate.exclude.SHARDS_AT_ONCE", at_once)
    keys = [kept_keys(sound)[2], kept_keys(sound)[-2]]
    undisturbed = Path(shutil.copytree(sound, tmp_path / "undisturbed"))
    remove(undisturbed, *keys)
    process = get_context("fork").Process(target=die_before_rename, args=(number, partial(remove, root, *keys)))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert read_manifest(root).header.get("revision", 1) == 1  # the manifest is the last of all
    has_changed_shards = number > STEPS.index("tar") + 1
    if at_once == 1:  # or else nobody knows which step it was
        assert bool(verify(root).problems) == has_changed_shards  # what is half done does not look whole
    remove(root, *keys)
    assert digests(root) == digests(undisturbed)
    assert verify(root).problems == ()


def test_after_the_last_rename_nothing_is_left_to_do(root):
    keys = [kept_keys(root)[2], kept_keys(root)[-2]]
    process = get_context("fork").Process(target=die_before_rename, args=(len(STEPS) + 1, partial(remove, root, *keys)))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_the_next_request_finishes_one_that_was_cut_short(root):
    first, second, *_ = kept_keys(root)
    process = get_context("fork").Process(target=die_before_rename, args=(3, partial(remove, root, first)))
    process.start()
    process.join()
    remove(root, second)
    assert not {first, second} & set(kept_keys(root))
    assert read_manifest(root).header["revision"] == 3
    assert verify(root).problems == ()


def test_a_generator_does_not_bring_the_removed_back(root):
    config = json.loads((root / "config.json").read_bytes())
    claim(root, config)
    remove(root, kept_keys(root)[0])
    with pytest.raises(ValueError, match=r"removed by request \(erasures.jsonl\), which a run could bring back"):
        claim(root, config)


def test_the_generator_itself_refuses_and_the_card_counts_anew(people, tmp_path):
    out = tmp_path / "out"
    inputs = ["finegpr-c", people / "images", "--attributes", people / "attributes.csv"]
    generate = ["gen-captions", *inputs, "--out", out, "--lambda", "0.8"]
    programs.succeed(*generate)
    remove(out, kept_keys(out)[0])
    before = digests(out)
    done = programs.run(*generate)
    assert (done.returncode, "removed by request" in done.stderr) == (2, True)
    assert digests(out) == before
    assert "| Samples | 71 |" in (out / "README.md").read_text()


def test_what_may_still_show_the_removed_is_named(root):
    (root / "report.html").write_text("pictures")
    assert remove(root, kept_keys(root)[0]).stale == ("report.html",)


def test_a_damaged_data_set_is_refused_and_left_as_it_is(root):
    tar = root / "data" / f"{NAMES[0]}.tar"
    os.truncate(tar, tar.stat().st_size - 512)
    before = digests(root)
    with pytest.raises(ValueError, match=rf"{NAMES[0]}\.tar has not the .* bytes of the manifest; run passerby verify"):
        remove(root, rows_of(root, NAMES[1])[1]["key"])
    assert digests(root) == before


def test_a_tar_damaged_after_a_kill_is_refused(root):
    key = kept_keys(root)[0]
    process = get_context("fork").Process(target=die_before_rename, args=(4, partial(remove, root, key)))
    process.start()
    process.join()
    tar = root / "data" / f"{NAMES[0]}.tar"
    os.truncate(tar, tar.stat().st_size - 512)
    with pytest.raises(ValueError, match=r"bytes, not .*; run passerby verify"):
        remove(root, key)


def test_a_selection_after_a_removal_does_not_remember_the_removed(root, tmp_path):
    select(root, tmp_path / "before", Rules(where="true"), shards=1)
    last = kept_keys(root)[-1]
    remove(root, last)
    select(root, tmp_path / "after", Rules(where="true"), shards=1)
    assert kept_keys(tmp_path / "after") == kept_keys(root)


def test_another_table_is_refused(root):
    shutil.copy(root / "meta" / f"{NAMES[0]}.parquet", root / "meta" / f"{NAMES[1]}.parquet")
    with pytest.raises(ValueError, match=rf"{NAMES[1]}.parquet is not the one the manifest knows"):
        remove(root, "0000_c1")


def test_two_removals_at_once_are_not_allowed(root):
    descriptor = os.open(root, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another removal is at work"):
        remove(root, "0000_c1")
    os.close(descriptor)


def test_a_folder_that_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="give the folder of a data set"):
        remove(tmp_path / "nowhere", "0000_c1")
    with pytest.raises(FileNotFoundError, match="is no data set"):
        remove(tmp_path, "0000_c1")


def test_a_malformed_log_is_refused_by_line(root):
    (root / "erasures.jsonl").write_text('{"revision": 2}\n')
    with pytest.raises(ValueError, match=r"erasures\.jsonl, line 1: is no removal"):
        remove(root, "0000_c1")


def command(root, *options):
    return programs.run("passerby", "exclude", root, *options)


def test_the_command_line_reads_lists_and_tells_what_it_did(root, tmp_path):
    one, two, three, *_ = kept_keys(root)
    (tmp_path / "keys.txt").write_text(f"{one}\n\n nobody \r\n")
    done = command(root, "--keys", tmp_path / "keys.txt", "--date", DATE)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "nobody: unknown")
    done = command(root, "--keys", tmp_path / "keys.txt", "--date", DATE, "--allow-missing")
    assert (done.returncode, "removed 1, revision 2" in done.stdout) == (0, True)
    (tmp_path / "keys.json").write_text(json.dumps([two]))
    done = command(root, "--keys", tmp_path / "keys.json", "--json")
    assert json.loads(done.stdout)["removed"] == 1
    pq.write_table(pa.table({"key": [three]}), tmp_path / "keys.parquet")
    assert command(root, "--keys", tmp_path / "keys.parquet").returncode == 0
    assert not {one, two, three} & set(kept_keys(root))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", (), "names nobody; give one key a line"),
        ('{"key": "a"}', (), "must hold a list of strings"),
        ('["a"]', ("--date", "1.5.26"), "date is '1.5.26'"),
    ],
)
def test_the_command_line_refuses_in_one_line(root, tmp_path, content, options, message):
    path = tmp_path / ("keys.json" if content else "keys.txt")
    path.write_text(content)
    done = command(root, "--keys", path, *options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
