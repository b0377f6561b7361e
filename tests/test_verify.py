"""Every way to spoil a data set that we know of, and what `verify` says of it."""

import hashlib
import json
import re
import shutil
import tarfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_samples import (
    COLUMNS,
    NAMES,
    SHARDS,
    edit_manifest,
    make_entry,
    make_sample,
    numbers_of,
    table_of,
    tar_of,
    write_all,
)

from passerby.sample import Rejected, Sample
from passerby.shards.manifest import finalise
from passerby.shards.table import TableWriter
from passerby.shards.tar import TarWriter
from passerby.shards.verify import MAX_PROBLEMS_A_SHARD, Problem, verify
from passerby.shards.write import RECORD_KEY, ShardRecord, read_footer, shard_name, write_shard


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A data set of three shards, for tests that leave it as it is."""
    return write_all(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "root"))


def place(root, key, member, index=1):
    (row,) = [row for row in pq.read_table(table_of(root, index)).to_pylist() if row["key"] == key]
    return row[f"{member}_offset"], row[f"{member}_size"]


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def flip_member(member, place_in=lambda offset, size: offset + size // 2):
    return lambda root: flip(tar_of(root), place_in(*place(root, "0025_c1", member)))


def cut(root, *, is_mended):
    """Cut a tar where a sample begins; mended, it is a shorter valid tar for every client."""
    path = tar_of(root)
    data = path.read_bytes()[: place(root, "0030_c1", "image")[0] - 512]
    path.write_bytes(data + bytes(1024) if is_mended else data)


def reseal(root):
    """Make the manifest, sizes.json and quarantine those of the shards as they are, as a forger would."""
    records = [read_footer(table_of(root, index)) for index in range(SHARDS)]

    def edit(stored):
        stored["shards"] = [asdict(record) for record in records]
        stored["tables"] = {
            name: hashlib.sha256(table_of(root, index).read_bytes()).hexdigest() for index, name in enumerate(NAMES)
        }
        stored["kept"] = sum(record.kept for record in records)
        stored["quarantined"] = sum(record.quarantined for record in records)
        stored["seen"] = stored["kept"] + stored["quarantined"]
        stored["size_bytes"] = sum(record.size_bytes for record in records)

    edit_manifest(root, edit)
    (root / "data" / "sizes.json").write_text(json.dumps({f"{record.name}.tar": record.kept for record in records}))


def forge(root, edit_rows=lambda table: table, entries=None, **changes):
    """Write shard 1 anew without the writer's checks, and seal it."""
    entries = (
        [entry for entry in map(make_entry, numbers_of(1)) if isinstance(entry, Sample)] if entries is None else entries
    )
    rejected = [entry for entry in map(make_entry, numbers_of(1)) if isinstance(entry, Rejected)]
    with tar_of(root).open("wb") as tar_file, table_of(root).open("wb") as table_file:
        tar, table = TarWriter(tar_file), TableWriter(table_file, COLUMNS)
        for entry in entries:
            members = [
                ("jpg", entry.image),
                ("json", json_of(entry)),
                ("txt", entry.caption.encode()),
                *entry.extras.items(),
            ]
            table.check(entry)
            table.add_kept(entry, tar.add(entry.key, members))
        for entry in rejected:
            table.add_rejected(entry)
        tar.finish()
        table.flush()
        table.close()
    record = {**asdict(read_record_of(root, entries, tar)), **changes}
    rows = edit_rows(pq.read_table(table_of(root)))
    pq.write_table(rows.replace_schema_metadata({RECORD_KEY: json.dumps(record)}), table_of(root))
    reseal(root)


def json_of(entry):
    return json.dumps(entry.fields, ensure_ascii=False, separators=(",", ":")).encode()


def read_record_of(root, entries, tar):
    return ShardRecord(
        name=NAMES[1],
        kept=len(entries),
        reasons={"truncated": 3},
        first_key=entries[0].key,
        last_key=entries[-1].key,
        size_bytes=tar.size_bytes,
        sha256=tar.sha256,
        config_hash="config",
    )


def with_column(table, name, change):
    values = [value if value is None else change(value) for value in table[name].to_pylist()]
    return table.set_column(table.column_names.index(name), name, pa.array(values, table[name].type))


def in_shard(*numbers):
    return [make_sample(number) for number in numbers]


SAMPLE = (NAMES[1], "0025_c1")
SHARD = (NAMES[1], "")
WHOLE = ("", "")


@pytest.mark.parametrize(
    ("spoil", "blamed", "message"),
    [
        pytest.param(flip_member("image"), SAMPLE, "its jpg has another sha256", id="image flipped"),
        pytest.param(flip_member("json"), SAMPLE, "its json is not what the table says", id="json flipped"),
        pytest.param(flip_member("txt"), SAMPLE, "its txt is not what the table says", id="txt flipped"),
        pytest.param(
            flip_member("image", lambda o, s: o - 512), SAMPLE, "its jpg has a damaged header", id="name flipped"
        ),
        pytest.param(
            flip_member("txt", lambda o, s: o - 512 + 150), SAMPLE, "its txt has a damaged", id="checksum flipped"
        ),
        pytest.param(
            flip_member("json", lambda o, s: o - 1), SAMPLE, "its json has a damaged header", id="header end flipped"
        ),
        pytest.param(flip_member("txt", lambda o, s: o + s + 1), SAMPLE, "in its padding", id="padding flipped"),
        pytest.param(flip_member("parsing.png"), SAMPLE, "its parsing.png has another sha256", id="extra flipped"),
        pytest.param(
            lambda root: flip(tar_of(root), -1), SHARD, "does not end after its last sample", id="end flipped"
        ),
        pytest.param(lambda root: flip(table_of(root), 300), SHARD, "parquet is not the one", id="table flipped"),
        pytest.param(lambda root: tar_of(root).unlink(), SHARD, "tar is missing", id="tar missing"),
        pytest.param(lambda root: table_of(root).unlink(), SHARD, "parquet is missing", id="table missing"),
        pytest.param(
            lambda root: shutil.copy(tar_of(root), root / "data" / "train-00009-of-00010.tar"),
            ("train-00009-of-00010", ""),
            "belongs to no shard",
            id="tar extra",
        ),
        pytest.param(
            lambda root: (root / "data" / "sizes.json").write_text(
                json.dumps({f"{name}.tar": 17 + (name == NAMES[1]) for name in NAMES})
            ),
            SHARD,
            "sizes.json says .* has 18 samples, the manifest says 17",
            id="sizes",
        ),
        pytest.param(
            lambda root: (root / "data" / "sizes.json").unlink(), WHOLE, "sizes.json is missing", id="sizes missing"
        ),
        pytest.param(
            lambda root: (root / "data" / "sizes.json").write_text("{"), WHOLE, "malformed", id="sizes malformed"
        ),
        pytest.param(
            lambda root: edit_manifest(root, lambda stored: stored.update(kept=50)),
            WHOLE,
            "says kept is 50, its shards say 51",
            id="kept + quarantined is not seen",
        ),
        pytest.param(
            lambda root: edit_manifest(root, lambda stored: stored.pop("reasons")),
            WHOLE,
            "reasons is None",
            id="reasons missing",
        ),
        pytest.param(
            lambda root: edit_manifest(root, lambda stored: stored["shards"][1].update(last_key="0038_c1")),
            SHARD,
            "tells of .*, the manifest of",
            id="record of the manifest",
        ),
        pytest.param(
            lambda root: (root / "quarantine.parquet").unlink(), WHOLE, "quarantine.parquet is missing", id="quarantine"
        ),
        pytest.param(
            lambda root: (root / "quarantine.parquet").write_bytes(b"PAR1"), WHOLE, "damaged", id="quarantine damaged"
        ),
        pytest.param(
            lambda root: pq.write_table(pq.read_table(root / "quarantine.parquet")[1:], root / "quarantine.parquet"),
            WHOLE,
            r"quarantine.parquet \(8 rows\) disagrees with the tables \(9\)",
            id="quarantine short",
        ),
        pytest.param(
            lambda root: pq.write_table(
                pa.concat_tables([pq.read_table(root / "quarantine.parquet")] * 2), root / "quarantine.parquet"
            ),
            WHOLE,
            r"\(18 rows\) disagrees with the tables \(9\)",
            id="quarantine long",
        ),
        pytest.param(
            lambda root: forge(root, entries=in_shard(20, 25, 26, 25)),
            SAMPLE,
            "is there 2 times",
            id="key twice in a shard",
        ),
        pytest.param(
            lambda root: forge(root, lambda table: with_column(table, "sha256", lambda value: value.replace("0", "1"))),
            SAMPLE,
            "its jpg has another sha256",
            id="forged hashes",
        ),
        pytest.param(
            lambda root: forge(root, lambda table: with_column(table, "txt_offset", lambda value: value + 512)),
            SAMPLE,
            "its txt lies at byte",
            id="forged places",
        ),
        pytest.param(
            lambda root: forge(root, lambda table: with_column(table, "key", lambda value: "../" + value)),
            (NAMES[1], "../0025_c1"),
            "is not a sample's",
            id="forged keys",
        ),
        pytest.param(
            lambda root: forge(root, lambda table: with_column(table, "width", lambda value: None)),
            SAMPLE,
            "is not a sample's: field width is None",
            id="forged nulls",
        ),
        pytest.param(
            lambda root: forge(root, lambda table: table.drop_columns("image_extension")),
            SHARD,
            "cannot be understood",
            id="forged columns",
        ),
        pytest.param(
            lambda root: forge(root, kept=16, reasons={"truncated": 4}), SHARD, "its record says", id="forged count"
        ),
        pytest.param(
            lambda root: forge(root, config_hash="other"), WHOLE, "several configurations", id="forged configuration"
        ),
    ],
)
def test_verify_names_what_is_wrong(root, spoil, blamed, message):
    spoil(root)
    problems = verify(root).problems
    found = [problem for problem in problems if (problem.shard, problem.key) == blamed]
    assert found, problems
    assert any(re.search(message, problem.message) for problem in found), problems


@pytest.mark.parametrize("is_mended", [False, True])
def test_a_tar_cut_where_a_sample_begins_is_told_from_a_shorter_one(root, is_mended):
    cut(root, is_mended=is_mended)
    with tarfile.open(tar_of(root)) as tar:
        assert len(tar.getnames()) == 9 * 4  # what any other client sees
    messages = {(problem.shard, problem.key): problem.message for problem in verify(root).problems}
    assert messages.keys() == {(NAMES[1], "0030_c1"), (NAMES[1], "")}


def test_a_key_in_two_shards_is_named_with_both(root):
    forge(root, entries=in_shard(20, 25, 41))
    assert verify(root).problems == (Problem(NAMES[1], "0041_c1", f"the key is there 2 times: {NAMES[1]}, {NAMES[2]}"),)


def test_every_flipped_byte_of_a_tar_is_found_and_blames_one_sample_or_none(root):
    data = tar_of(root).read_bytes()
    starts = {key: place(root, key, "image")[0] - 512 for key in ("0020_c1", "0021_c1")}
    for offset in np.random.default_rng(0).integers(0, len(data), 60).tolist():
        tar_of(root).write_bytes(data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :])
        (problem,) = verify(root).problems
        assert problem.shard == NAMES[1]
        if starts["0020_c1"] <= offset < starts["0021_c1"]:
            assert problem.key in ("0020_c1", "")


def test_a_sound_data_set_has_no_problems(sound):
    done = []
    for workers in (1, 2):
        result = verify(sound, workers=workers, on_progress=lambda *progress: done.append(progress))
        assert (result.shards, result.kept, result.quarantined, result.seen, result.problems) == (3, 51, 9, 60, ())
        assert result.size_bytes == sum(tar_of(sound, index).stat().st_size for index in range(SHARDS))
    assert done == [(0, 3), (1, 3), (2, 3), (3, 3)] * 2
    with pytest.raises(ValueError, match="workers is 0"):
        verify(sound, workers=0)


def test_the_problems_do_not_depend_on_the_workers(root):
    flip_member("image")(root)
    tar_of(root, 2).unlink()
    assert verify(root, workers=2).problems == verify(root).problems
    assert [problem.shard for problem in verify(root).problems] == [NAMES[1], NAMES[2]]


def test_a_shard_with_everything_wrong_does_not_flood_the_report(tmp_path):
    entries = (make_sample(number) for number in range(150))
    write_shard(tmp_path, shard_name("train", 0, 1), entries, columns=COLUMNS, config_hash="")
    finalise(tmp_path, {"train": 1}, {})
    path = tmp_path / "data" / "train-00000-of-00001.tar"
    path.write_bytes(b"x" * path.stat().st_size)
    problems = verify(tmp_path).problems
    assert len(problems) == MAX_PROBLEMS_A_SHARD + 1
    assert problems[-1] == Problem("train-00000-of-00001", "", "has perhaps more problems, which are not listed")
