"""Croissant: `mlcroissant` accepts our description, and reads by it what lies in the shards."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from shard_samples import COLUMNS, SHARDS, make_sample, tar_of, write_all

from passerby.card import write_card
from passerby.shards.manifest import finalise
from passerby.shards.read import ShardDataset
from passerby.shards.write import shard_name, write_shard

pytest.importorskip("mlcroissant")

HEADER = {
    "card": "finegpr_c",
    "title": "Captions of noise",
    "source": "noise",
    "is_synthetic": False,
    "columns": {column.name: str(column.type) for column in COLUMNS},
    "config": {"version": "0", "recipe": "finegpr-c", "lambda": "1", "image_fraction": "1", "seed": 0},
    "probabilities": [],
    "problems": 0,
}

READER = """
import base64, io, json, logging, sys
import mlcroissant
import numpy

def plain(value):
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, numpy.ndarray)):
        return [plain(element) for element in value]
    if isinstance(value, numpy.generic):
        return value.item()
    if hasattr(value, "fp"):  # a picture of Pillow that is not decoded yet
        return base64.b64encode(value.fp.getvalue()).decode()
    return value

logging.disable(logging.CRITICAL)
dataset = mlcroissant.Dataset(sys.argv[1] + "/croissant.json")
issues = dataset.metadata.ctx.issues
records = {
    name: [{field.rpartition("/")[2]: plain(value) for field, value in record.items()} for record in dataset.records(name)]
    for name in sys.argv[2:]
}
json.dump({"errors": sorted(issues.errors), "warnings": sorted(issues.warnings), **records}, sys.stdout)
"""
"""A process of its own: `mlcroissant` fixes its cache when imported, and keeps unpacked tars there by their relative name."""


def read(root, cache, *record_sets):
    done = run_reader(root, cache, *record_sets)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_reader(root, cache, *record_sets):
    environment = {**os.environ, "CROISSANT_CACHE": str(cache)}
    command = [sys.executable, "-c", READER, str(root), *record_sets]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three shards with parsing maps; some inputs were left out."""
    root = write_all(tmp_path_factory.mktemp("croissant") / "root")
    write_card(root, finalise(root, {"train": SHARDS}, HEADER))
    return root


@pytest.fixture(scope="module")
def told(root, tmp_path_factory):
    return read(root, tmp_path_factory.mktemp("cache"), "samples", "inputs", "parsing")


def test_it_is_valid_but_for_a_date_that_we_cannot_know(told):
    assert told["errors"] == []
    assert [warning.partition('"')[2] for warning in told["warnings"]] == [
        'https://schema.org/datePublished" is recommended, but does not exist.'
    ]


def test_the_records_are_the_samples_with_the_bytes_of_their_images(root, told):
    records = {record["key"]: record for record in told["samples"]}
    dataset = ShardDataset(root)
    assert len(told["samples"]) == len(records) == len(dataset) == 51
    for sample in dataset:
        record = records[sample["__key__"]]
        assert base64.b64decode(record.pop("image")) == sample["jpg"]
        assert record == sample["json"]
        assert record["caption"] == sample["txt"]


def test_the_records_of_an_extra_are_its_pictures(root, told):
    pictures = {record["key"]: base64.b64decode(record["image"]) for record in told["parsing"]}
    assert pictures == {sample["__key__"]: sample["parsing.png"] for sample in ShardDataset(root)}


def test_what_was_left_out_is_told_with_its_reason(root, told):
    expected = pq.read_table(root / "quarantine.parquet").to_pylist()
    left_out = [record for record in told["inputs"] if record["status"] == "rejected"]
    assert len(told["inputs"]) == 60
    assert [(record["key"], record["reason"], record["detail"]) for record in left_out] == [
        (row["key"], row["reason"], row["detail"]) for row in expected
    ]


def test_captions_without_images_are_read_too(tmp_path):
    samples = [replace(make_sample(number), image=b"", image_extension="", extras={}) for number in range(5)]
    write_shard(tmp_path, shard_name("train", 0, 1), samples, columns=COLUMNS, config_hash="config")
    write_card(tmp_path, finalise(tmp_path, {"train": 1}, HEADER))
    told = read(tmp_path, tmp_path / "cache", "samples")
    assert told["errors"] == []
    assert {record["key"]: record for record in told["samples"]} == {
        s["__key__"]: s["json"] for s in ShardDataset(tmp_path)
    }


def test_a_flipped_byte_is_noticed(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    tar = bytearray(tar_of(copy).read_bytes())
    tar[700] ^= 1
    tar_of(copy).write_bytes(tar)
    done = run_reader(copy, tmp_path / "cache", "samples")
    assert done.returncode != 0
    assert "is not identical with the reference" in done.stderr


def test_hashes_and_sizes_are_those_of_the_files(root):
    files = {entry["@id"]: entry for entry in description(root)["distribution"] if entry["@type"] == "cr:FileObject"}
    expected = [*root.glob("data/*.tar"), *root.glob("meta/*.parquet")]
    assert files.keys() == {str(path.relative_to(root)) for path in expected}
    for path in expected:
        entry = files[str(path.relative_to(root))]
        assert entry["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry.get("contentSize", f"{path.stat().st_size} B") == f"{path.stat().st_size} B"


def test_identifiers_are_unique(root):
    text = json.dumps(description(root))
    declared = re.findall(r'"@type": "cr:\w+", "@id": "([^"]+)"', text)
    assert len(declared) == len(set(declared)) > 30


def description(root):
    return json.loads((root / "croissant.json").read_bytes())
