"""Selecting: what is left is what a naive loop leaves, byte for byte; what is not is counted and listed."""

import json
import os
import random
import shutil
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import programs
import pyarrow.parquet as pq
import pytest
from conftest import digests
from person_shards import (
    NAMES,
    SAMPLES,
    SHARDS,
    fields_of,
    keys_of,
    make_sample,
    members_by_key,
    picture,
    write_people_shards,
)

from passerby.curate.near import perceptual_hash
from passerby.curate.rules import Rules
from passerby.curate.select import select
from passerby.shards.embeddings import Embeddings, embeddings_path, read_embeddings, write_embeddings
from passerby.shards.read import ShardDataset
from passerby.shards.verify import verify

SCORER = {"model": "drawn"}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A data set of three shards, for tests that leave it as it is."""
    return write_people_shards(tmp_path_factory.mktemp("sound") / "root")


def rejected_of(root):
    return pq.read_table(root / "quarantine.parquet").to_pylist()


def test_what_is_kept_is_copied_byte_for_byte_and_in_order(sound, tmp_path):
    manifest = select(sound, tmp_path / "out", Rules(where="camera_id <> 3"), shards=4)
    before, after = members_by_key(sound), members_by_key(tmp_path / "out")
    assert after == {key: members for key, members in before.items() if not key.endswith("c3")}
    assert [*after] == [key for key in before if not key.endswith("c3")]
    assert [record.kept for record in manifest.shards] == [10, 10, 10, 10]
    assert verify(tmp_path / "out").problems == ()


def test_all_of_it_in_as_many_shards_is_the_same_tars(sound, tmp_path):
    select(sound, tmp_path / "out", Rules(), shards=SHARDS)
    assert digests(tmp_path / "out" / "data") == digests(sound / "data")


def test_members_are_read_at_their_new_places(sound, tmp_path):
    select(sound, tmp_path / "out", Rules(where="camera_id = 3"), shards=2)
    before, dataset = ShardDataset(sound), ShardDataset(tmp_path / "out")
    assert [dict(sample) for sample in dataset] == [before[key] for key in keys_of(tmp_path / "out")]


def test_what_is_left_out_is_counted_by_its_reason_and_listed(sound, tmp_path):
    manifest = select(sound, tmp_path / "out", Rules(where="bag <> ''", per_person=3))
    assert manifest.seen == SAMPLES == manifest.kept + sum(manifest.reasons.values())
    rejected = rejected_of(tmp_path / "out")
    assert (
        Counter(row["reason"] for row in rejected) == manifest.reasons == manifest.header["selected_from"][0]["dropped"]
    )
    by_key = {row["key"]: row for row in fields_of(sound)}
    assert {row["key"] for row in rejected if row["reason"] == "where"} == {
        key for key, row in by_key.items() if row["bag"] == ""
    }
    assert all(row["path"] == by_key[row["key"]]["path"] for row in rejected)
    assert {row["detail"] for row in rejected} == {"--where does not hold", "more than 3 samples of this person"}


def test_a_person_keeps_no_more_than_the_cap_and_unknown_ones_count_singly(sound, tmp_path):
    select(sound, tmp_path / "out", Rules(per_person=3))
    before, after = (Counter(row["person_id"] for row in fields_of(root)) for root in (sound, tmp_path / "out"))
    assert after == {person: count if person == "" else min(count, 3) for person, count in before.items()}


@pytest.mark.parametrize("rules", [Rules(per_person=2), Rules(balance="bag"), Rules(balance="bag", seed=1)])
def test_whom_a_cap_takes_hangs_on_key_and_seed_not_on_order(sound, tmp_path, rules):
    samples = list(map(make_sample, range(SAMPLES)))
    random.Random(0).shuffle(samples)
    shuffled = write_people_shards(tmp_path / "shuffled", samples, of=2)
    select(sound, tmp_path / "a", rules)
    select(shuffled, tmp_path / "b", rules)
    assert sorted(keys_of(tmp_path / "a")) == sorted(keys_of(tmp_path / "b"))


def test_another_seed_takes_others(sound, tmp_path):
    for seed in (0, 1):
        select(sound, tmp_path / str(seed), Rules(per_person=2, seed=seed))
    assert keys_of(tmp_path / "0") != keys_of(tmp_path / "1")


@pytest.mark.parametrize(("balance_to", "cap"), [(0, "rarest"), (5, 5), (1000, 1000)])
@pytest.mark.parametrize("column", ["bag", "camera_id"])
def test_balance_caps_every_value_at_the_rarest_known_one_or_at_a_number(sound, tmp_path, column, balance_to, cap):
    before = Counter(row[column] for row in fields_of(sound))
    if cap == "rarest":
        cap = min(count for value, count in before.items() if value not in ("", -1))
    select(sound, tmp_path / "out", Rules(balance=column, balance_to=balance_to))
    after = Counter(row[column] for row in fields_of(tmp_path / "out"))
    assert after == {value: min(count, cap) for value, count in before.items()}


def naive_groups(root, distance):
    """Go through the samples by key: {key: None, or the key of the first that stays and is within `distance`}."""
    images = {key: dict(members)[f"{key}.jpg"] for key, members in members_by_key(root).items()}
    hashes = {key: perceptual_hash(images[key]) for key in sorted(images)}
    repeats = {}
    for key, own in hashes.items():
        staying = (
            other for other, of in repeats.items() if of is None and (own ^ hashes[other]).bit_count() <= distance
        )
        repeats[key] = next(staying, None)
    return repeats, hashes


@pytest.mark.parametrize("distance", [0, 4])
def test_dedup_keeps_the_first_by_key_and_lists_what_the_others_repeat(sound, tmp_path, distance):
    repeats, hashes = naive_groups(sound, distance)
    manifest = select(sound, tmp_path / "out", Rules(is_deduplicated=True, hash_distance=distance))
    assert sorted(keys_of(tmp_path / "out")) == [key for key, other in repeats.items() if other is None]
    listed = pq.read_table(tmp_path / "out" / "repeats.parquet").to_pylist()
    assert {row["key"]: row["other_key"] for row in listed} == {key: other for key, other in repeats.items() if other}
    people = {row["key"]: row["person_id"] for row in fields_of(sound)}
    for row in listed:
        assert (row["reason"], row["measure"]) == ("near-duplicate", "hash")
        assert row["distance"] == (hashes[row["key"]] ^ hashes[row["other_key"]]).bit_count()
        pair = people[row["key"]], people[row["other_key"]]
        assert row["is_same_person"] == (None if "" in pair else pair[0] == pair[1])
    assert manifest.reasons == ({"near-duplicate": len(listed)} if listed else {})
    assert distance == 0 or {row["is_same_person"] for row in listed} == {True, False, None}


@pytest.fixture
def with_embeddings(sound, tmp_path):
    """The same data set with features of width 8, of which every fourth is near the one before it."""
    root = Path(shutil.copytree(sound, tmp_path / "with-embeddings"))
    generator = np.random.default_rng(2)
    features = generator.standard_normal((SAMPLES, 8))
    features[3::4] = features[2::4] + 0.05 * generator.standard_normal((SAMPLES // 4, 8))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    keys = keys_of(root)
    for index, name in enumerate(NAMES):
        part = slice(SAMPLES * index // SHARDS, SAMPLES * (index + 1) // SHARDS)
        write_embeddings(
            embeddings_path(root, name), Embeddings(tuple(keys[part]), features[part].astype(np.float16)), SCORER
        )
    write_embeddings(embeddings_path(root, "texts"), Embeddings(("a prompt",), np.ones((1, 8))), SCORER)
    return root


def features_by_key(root):
    found = {}
    for path in sorted((root / "data").glob("*.tar")):
        kept = read_embeddings(embeddings_path(root, path.stem), SCORER)
        found |= {key: feature.tolist() for key, feature in zip(kept.keys, kept.features, strict=True)}
    return found


def test_dedup_by_cosine_comes_after_the_hash(with_embeddings, tmp_path):
    rules = Rules(is_deduplicated=True, hash_distance=0, cosine=0.98)
    select(with_embeddings, tmp_path / "out", rules)
    listed = pq.read_table(tmp_path / "out" / "repeats.parquet").to_pylist()
    features = {key: np.array(feature) for key, feature in features_by_key(with_embeddings).items()}
    by_hash = {row["key"] for row in listed if row["measure"] == "hash"}
    staying = []
    for key in sorted(features.keys() - by_hash):
        if all(features[key] @ features[other] < 0.98 for other in staying):
            staying.append(key)
    assert sorted(keys_of(tmp_path / "out")) == staying
    assert {row["measure"] for row in listed} >= {"cosine"}


def test_embeddings_go_with_their_samples(with_embeddings, tmp_path):
    select(with_embeddings, tmp_path / "out", Rules(where="camera_id > 2"), shards=2)
    before = features_by_key(with_embeddings)
    assert features_by_key(tmp_path / "out") == {key: before[key] for key in keys_of(tmp_path / "out")}
    assert (
        embeddings_path(tmp_path / "out", "texts").read_bytes()
        == embeddings_path(with_embeddings, "texts").read_bytes()
    )


def test_a_cosine_without_embeddings_is_refused(sound, tmp_path):
    with pytest.raises(FileNotFoundError, match="arrow"):
        select(sound, tmp_path / "out", Rules(is_deduplicated=True, cosine=0.9))


def test_nothing_near_another_set_stays(sound, tmp_path):
    same, recompressed, other_scene = (
        make_sample(4),
        make_sample(6, picture(6, quality=60)),
        make_sample(7, picture(700)),
    )
    test_set = write_people_shards(tmp_path / "test", [same, recompressed, other_scene], of=1)
    theirs = {key: perceptual_hash(dict(members)[f"{key}.jpg"]) for key, members in members_by_key(test_set).items()}
    same_files = {row["sha256"] for row in fields_of(test_set)}
    expected = {}
    for row in fields_of(sound):
        own = perceptual_hash(dict(members_by_key(sound)[row["key"]])[f"{row['key']}.jpg"])
        distance, other = min(((own ^ their).bit_count(), key) for key, their in theirs.items())
        if row["sha256"] in same_files or distance <= 4:
            expected[row["key"]] = (other, "sha256" if row["sha256"] in same_files else "hash", distance)
    manifest = select(sound, tmp_path / "out", Rules(not_near=test_set))
    listed = pq.read_table(tmp_path / "out" / "repeats.parquet").to_pylist()
    assert {row["key"]: (row["other_key"], row["measure"], row["distance"]) for row in listed} == expected
    assert {measure for _, measure, _ in expected.values()} == {"sha256", "hash"}
    assert keys_of(tmp_path / "out") == [key for key in keys_of(sound) if key not in expected]
    assert manifest.reasons == {"near another set": len(expected)}
    assert {row["is_same_person"] for row in listed} == {None}  # numbers of two sets name different people


def test_nothing_near_the_embeddings_of_another_set_stays(with_embeddings, tmp_path):
    samples = [make_sample(number, picture(900 + number)) for number in range(4)]
    test_set = write_people_shards(tmp_path / "test", samples, of=1)
    features = features_by_key(with_embeddings)
    nearby = keys_of(with_embeddings)[2]
    name = "train-00000-of-00001"
    theirs = np.stack([features[nearby]] * 4).astype(np.float16)
    write_embeddings(embeddings_path(test_set, name), Embeddings(tuple(keys_of(test_set)), theirs), SCORER)
    select(with_embeddings, tmp_path / "out", Rules(not_near=test_set, cosine=0.98))
    gone = {key for key, feature in features.items() if np.dot(feature, features[nearby]) >= 0.98}
    assert set(keys_of(tmp_path / "out")) == features.keys() - gone
    assert len(gone) >= 2


def test_an_image_that_cannot_be_decoded_goes_for_its_own_reason(tmp_path):
    whole = picture(3)
    broken = make_sample(3, whole[:300] + bytes(len(whole) - 302) + b"\xff\xd9")
    sound = write_people_shards(tmp_path / "root", [make_sample(0), broken, make_sample(6)], of=1)
    manifest = select(sound, tmp_path / "out", Rules(is_deduplicated=True))
    (row,) = rejected_of(tmp_path / "out")
    assert (row["key"], row["reason"]) == (broken.key, "unreadable")
    assert manifest.kept == 2


def test_the_manifest_tells_the_chain_of_selections(sound, tmp_path):
    select(sound, tmp_path / "a", Rules(where="bag <> ''"))
    select(tmp_path / "a", tmp_path / "b", Rules(per_person=2, seed=3))
    header = ShardDataset(tmp_path / "b").manifest.header
    first, second = header["selected_from"]
    assert (first["title"], first["selection"]["where"], first["seen"]) == ("Some people", "bag <> ''", SAMPLES)
    assert (second["selection"]["per_person"], second["selection"]["seed"], second["seen"]) == (2, 3, first["kept"])
    for link, root in ((first, sound), (second, tmp_path / "a")):
        assert link["manifest_sha256"] == digests(root)["manifest.json"]
    assert (header["config"]["recipe"], header["title"]) == ("drawn", "Some people")


def test_damage_in_the_parent_is_found_in_the_copy(sound, tmp_path):
    root = Path(shutil.copytree(sound, tmp_path / "root"))
    key, members = [*members_by_key(root).items()][5]
    tar = root / "data" / f"{NAMES[0]}.tar"
    data = bytearray(tar.read_bytes())
    data[data.index(dict(members)[f"{key}.jpg"]) + 100] ^= 1
    tar.write_bytes(data)
    select(root, tmp_path / "out", Rules(where="true"))
    assert [problem.key for problem in verify(tmp_path / "out").problems] == [key]


def test_a_parent_with_another_table_is_refused(sound, tmp_path):
    root = Path(shutil.copytree(sound, tmp_path / "root"))
    shutil.copy(root / "meta" / f"{NAMES[0]}.parquet", root / "meta" / f"{NAMES[1]}.parquet")
    with pytest.raises(
        ValueError, match=rf"{NAMES[1]}\.parquet is not the one the manifest knows; run passerby verify"
    ):
        select(root, tmp_path / "out", Rules())


def test_captions_without_images_can_be_filtered_but_not_compared(tmp_path):
    samples = [replace(make_sample(number), image=b"", image_extension="", extras={}) for number in range(9)]
    root = write_people_shards(tmp_path / "root", samples, of=1)
    assert select(root, tmp_path / "out", Rules(where="camera_id = 1")).kept == 2
    with pytest.raises(ValueError, match="captions without images"):
        select(root, tmp_path / "other", Rules(is_deduplicated=True))


@pytest.mark.parametrize(
    ("rules", "shards", "message"),
    [
        (Rules(where="bag = 'umbrella'"), 0, "nothing is left of 48 samples.*'where': 48"),
        (Rules(where="camera_id = 1"), 9, "shards is 9, and the largest split has 8 images"),
        (Rules(balance="tags"), 0, "tags holds lists"),
        (Rules(balance="colour"), 0, "--balance needs a column colour"),
        (Rules(not_near=Path("nowhere")), 0, "nowhere is no data set"),
        (Rules(where="bag = ''", balance="bag"), 0, "no sample that is left has a known value"),
    ],
)
def test_rules_that_do_not_fit_are_refused(sound, tmp_path, rules, shards, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        select(sound, tmp_path / "out", rules, shards=shards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hash_distance": 9}, "hash distance is 9; allowed is 0 to 8"),
        ({"cosine": 1.5, "is_deduplicated": True}, r"cosine is 1\.5"),
        ({"cosine": 0.9}, "without --dedup or --not-near"),
        ({"balance_to": 3}, "without --balance COLUMN"),
    ],
)
def test_options_that_do_nothing_or_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Rules(**options)


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


def test_any_number_of_workers_writes_the_same_bytes(with_embeddings, tmp_path):
    rules = Rules(where="camera_id <> 2", is_deduplicated=True, per_person=4)
    for workers in (1, 2):
        select(with_embeddings, tmp_path / str(workers), rules, shards=4, workers=workers)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert verify(tmp_path / "1").problems == ()


def test_kill_9_at_any_moment_and_run_again(with_embeddings, tmp_path):
    rules = Rules(where="camera_id <> 2", is_deduplicated=True, per_person=4)
    select(with_embeddings, tmp_path / "undisturbed", rules, shards=2)
    # 1 to 6 are embeddings, tar and table of two shards; then texts, repeats, sizes, quarantine, manifest
    for number in (1, 2, 3, 5, 6, 8, 11):
        out = tmp_path / f"killed{number}"
        work = partial(select, with_embeddings, out, rules, shards=2)
        process = get_context("fork").Process(target=die_before_rename, args=(number, work))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (out / "manifest.json").exists()
        work()
        assert digests(out) == digests(tmp_path / "undisturbed")


def test_another_selection_into_the_same_folder_is_refused_and_named(sound, tmp_path):
    select(sound, tmp_path / "out", Rules(where="bag <> ''"))
    with pytest.raises(ValueError, match="selection_where: \"bag <> ''\" there, \"bag = ''\" here"):
        select(sound, tmp_path / "out", Rules(where="bag = ''"))
    with pytest.raises(ValueError, match="no data set of ours"):
        select(sound, tmp_path, Rules(where="bag <> ''"))


def test_a_shard_that_is_done_is_not_copied_again(sound, tmp_path):
    out = tmp_path / "out"
    select(sound, out, Rules(per_person=2), shards=2)
    before = {path: path.stat().st_ino for path in (out / "data").glob("*.tar")}
    (out / "meta" / "train-00001-of-00002.parquet").unlink()
    select(sound, out, Rules(per_person=2), shards=2)
    assert [path.name for path, inode in before.items() if path.stat().st_ino != inode] == ["train-00001-of-00002.tar"]


def test_the_command_line_counts_by_rule_and_names_the_mistake(sound, tmp_path):
    command = ["passerby", "select", sound, "--out", tmp_path / "out"]
    options = ["--where", "bag <> ''", "--dedup", "--per-person", "2"]
    report = json.loads(programs.succeed(*command, *options, "--json"))
    assert report["seen"] == report["kept"] + sum(report["dropped"].values()) == SAMPLES
    assert report["dropped"].keys() == {"where", "near-duplicate", "per-person"}
    assert report["kept"] == len(keys_of(tmp_path / "out"))
    done = programs.run(*command, "--where", "bagg = ''")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'bagg', which is no column; there are bag" in done.stderr
