"""Finishing a data set, and reading its manifest."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from shard_samples import (
    COLUMNS,
    INPUTS_A_SHARD,
    NAMES,
    SHARDS,
    edit_manifest,
    make_sample,
    rewrite,
    table_of,
    tar_of,
    write,
    write_all,
)

from passerby.shards.manifest import duplicate_keys, finalise, read_manifest
from passerby.shards.read import ShardDataset
from passerby.shards.verify import verify
from passerby.shards.write import write_shard


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A data set of three shards, for tests that leave it as it is."""
    return write_all(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "root"))


def test_the_manifest_adds_up(sound):
    manifest = read_manifest(sound)
    assert (manifest.splits, manifest.seen, manifest.kept, manifest.quarantined) == ({"train": range(3)}, 60, 51, 9)
    assert (manifest.reasons, manifest.header) == ({"truncated": 9}, {"seed": 1})
    assert [record.name for record in manifest.shards] == NAMES
    stored = json.loads((sound / "manifest.json").read_bytes())
    assert (stored["seen"], stored["kept"], stored["quarantined"], stored["seed"]) == (60, 51, 9, 1)
    assert stored["size_bytes"] == sum(tar_of(sound, index).stat().st_size for index in range(SHARDS))
    assert json.loads((sound / "data" / "sizes.json").read_bytes()) == {
        f"{NAMES[0]}.tar": 17,
        f"{NAMES[1]}.tar": 17,
        f"{NAMES[2]}.tar": 17,
    }


def test_the_quarantine_names_every_input_left_out(sound):
    rows = pq.read_table(sound / "quarantine.parquet").to_pylist()
    assert rows == [
        {
            "shard": NAMES[number // INPUTS_A_SHARD],
            "key": f"{number:04d}_c1",
            "path": f"images/{number}\\udce9.jpg",
            "reason": "truncated",
            "detail": "ends early",
        }
        for number in range(SHARDS * INPUTS_A_SHARD)
        if number % 7 == 3
    ]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([[1, 2], [3], [4, 5]], []),
        ([[4, 5], [3], [1, 2]], []),
        ([[1, 2], [2], [3]], [("0002_c1", NAMES[:2])]),
        ([[1, 2], [], [2, 3]], [("0002_c1", [NAMES[0], NAMES[2]])]),
        ([[5, 1], [2], [1, 5]], [("0001_c1", [NAMES[0], NAMES[2]]), ("0005_c1", [NAMES[0], NAMES[2]])]),
    ],
)
def test_keys_that_are_there_twice_are_found_in_any_order(tmp_path, numbers, expected):
    for name, of_shard in zip(NAMES, numbers, strict=True):
        write_shard(tmp_path, name, map(make_sample, of_shard), columns=COLUMNS, config_hash="config")
    assert duplicate_keys(tmp_path, NAMES) == expected


def test_finalise_names_the_shards_that_are_missing(root):
    tar_of(root, 0).unlink()
    table_of(root, 2).unlink()
    (root / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks 2 of 3 shards .{NAMES[0]}, {NAMES[2]}."):
        finalise(root, {"train": SHARDS}, {})
    assert not (root / "manifest.json").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: write(root, 1, config="other"), r"\['config', 'other'\]"),
        (lambda root: rewrite(root, 1, [make_sample(41)]), f"key 0041_c1 is there 2 times, in {NAMES[1]}, {NAMES[2]}"),
        (
            lambda root: shutil.copy(tar_of(root), root / "data" / "train-00000-of-00009.tar"),
            "data/train-00000-of-00009.tar",
        ),
        (lambda root: (root / "meta" / "notes.txt").touch(), "meta/notes.txt"),
    ],
    ids=["configurations", "keys", "tar", "note"],
)
def test_finalise_refuses_what_does_not_belong_together(root, spoil, message):
    spoil(root)
    with pytest.raises(ValueError, match=message):
        finalise(root, {"train": SHARDS}, {})


def test_a_header_may_not_claim_the_manifests_own_names(root):
    with pytest.raises(ValueError, match=r"kept.*shards"):
        finalise(root, {"train": SHARDS}, {"kept": 5, "shards": [], "seed": 1})


@pytest.mark.parametrize("splits", [{}, {"train": SHARDS, "val": 0}])
def test_a_data_set_without_shards_is_refused(root, splits):
    with pytest.raises(ValueError, match=r"splits is \{.*each has at least 1 shard"):
        finalise(root, splits, {})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda stored: stored.update(format="other"), "not the manifest of a passerby data set"),
        (lambda stored: stored.update(version=1), "has version 1; this passerby reads version 2; make"),
        (lambda stored: stored.update(splits="train"), "no list of splits"),
        (lambda stored: stored.update(splits=[1]), "no list of splits"),
        (lambda stored: stored.update(splits=["train", "val"]), "each has at least 1 shard"),
        (lambda stored: stored.update(shards=None), "malformed"),
        (lambda stored: stored.update(shards=[]), "malformed"),
        (lambda stored: stored["shards"].pop(), "its shards are not train-00000-of-00002"),
        (lambda stored: stored["shards"].reverse(), "in this order"),
        (lambda stored: stored["shards"][1].pop("kept"), "has the fields"),
        (lambda stored: stored["shards"][1].update(kept="17"), "kept is '17', which is no int"),
        (lambda stored: stored["shards"][1].update(reasons={"truncated": "3"}), "'3'"),
        (lambda stored: stored["tables"].popitem(), "one table for each shard"),
    ],
)
def test_a_malformed_manifest_is_refused(root, edit, message):
    edit_manifest(root, edit)
    with pytest.raises(ValueError, match=message):
        ShardDataset(root)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "null"])
def test_what_is_no_manifest_at_all_is_refused(root, text):
    (root / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"manifest\.json is"):
        read_manifest(root)


def test_a_folder_without_manifest_is_no_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data set"):
        ShardDataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/passwd", "..", f"../{NAMES[1]}", f"{NAMES[1]}/../../x", NAMES[1].upper()]
)
def test_a_manifest_cannot_name_files_outside_its_folder(root, name):
    shutil.copy(tar_of(root), root.parent / "secret.tar")
    edit_manifest(root, lambda stored: stored["shards"][1].update(name=name))
    for reader in (ShardDataset, verify):
        with pytest.raises(ValueError, match="names no shard"):
            reader(root)
