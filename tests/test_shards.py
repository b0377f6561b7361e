"""Write, read and verify shards. The oracles are Python's tarfile, GNU tar, webdataset and open_clip's own loader."""

import hashlib
import json
import math
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from argparse import Namespace
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from passerby.runtime import TEMPORARY_SUFFIX
from passerby.sample import Rejected, Sample
from passerby.shards import read
from passerby.shards.manifest import finalise, read_manifest
from passerby.shards.read import ShardDataset
from passerby.shards.table import TableWriter
from passerby.shards.tar import TarWriter
from passerby.shards.verify import MAX_PROBLEMS_A_SHARD, Problem, verify
from passerby.shards.write import RECORD_KEY, ShardRecord, read_footer, read_record, write_shard

HERE = str(Path(__file__).parent)
SHARDS, INPUTS_A_SHARD = 3, 20
NAMES = [f"train-{index:05d}-of-{SHARDS:05d}" for index in range(SHARDS)]
COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("caption", pa.string()),
        ("width", pa.int32()),
        ("sha256", pa.string()),
        ("path", pa.string()),
        ("confidence", pa.float64()),
        ("is_adult", pa.bool_()),
        ("tags", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
    ]
)


def encode(pixels, name):
    file = BytesIO()
    Image.fromarray(pixels).save(file, name)
    return file.getvalue()


def make_sample(number, **changes):
    pixels = np.random.default_rng(number).integers(0, 256, (32, 16, 3), dtype=np.uint8)
    key, image = f"{number:04d}_c1", encode(pixels, "JPEG")
    fields = {
        "key": key,
        "caption": f"A «person», number {number}.",
        "width": 16,
        "sha256": hashlib.sha256(image).hexdigest(),
        "path": f"images/{number}.jpg",
        "confidence": number / 7,
        "is_adult": number % 2 == 0,
        "tags": ["a", "ö"][: number % 3],
        "scores": [0.1, 1.0, -2.5e-9][: number % 4],
        **changes,
    }
    return Sample(key, image, "jpg", fields, fields["caption"], {"parsing.png": encode(pixels[..., 0] // 16, "PNG")})


def make_entry(number):
    if number % 7 == 3:
        return Rejected(f"images/{number}\udce9.jpg", "truncated", "ends early", f"{number:04d}_c1")
    return make_sample(number)


def numbers_of(index):
    return range(index * INPUTS_A_SHARD, (index + 1) * INPUTS_A_SHARD)


def write(root, index, entries=None, config="config"):
    entries = map(make_entry, numbers_of(index)) if entries is None else entries
    return write_shard(root, "train", index, SHARDS, entries, columns=COLUMNS, config_hash=config)


def rewrite(root, index, entries):
    table_of(root, index).unlink()
    return write(root, index, entries)


def write_all(root):
    for index in range(SHARDS):
        write(root, index)
    finalise(root, "train", SHARDS, {"seed": 1})
    return root


def tar_of(root, index=1):
    return root / "data" / f"{NAMES[index]}.tar"


def table_of(root, index=1):
    return root / "meta" / f"{NAMES[index]}.parquet"


def visible(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name[0] != ".")


def hidden(root):
    return sorted(path.name for path in root.rglob(".*"))


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A data set of three shards, for tests that leave it as it is."""
    return write_all(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "root"))


# What is written


def test_every_tar_reads_back_by_tarfile(sound):
    for index in range(SHARDS):
        samples = [make_sample(number) for number in numbers_of(index) if number % 7 != 3]
        expected = [
            (f"{sample.key}.{extension}", content)
            for sample in samples
            for extension, content in [
                ("jpg", sample.image),
                ("json", json.dumps(sample.fields, ensure_ascii=False, separators=(",", ":")).encode()),
                ("txt", sample.caption.encode()),
                ("parsing.png", sample.extras["parsing.png"]),
            ]
        ]
        with tarfile.open(tar_of(sound, index), "r:") as tar:
            assert [(member.name, tar.extractfile(member).read()) for member in tar] == expected
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
    record = read_record(sound, "train", 1, SHARDS)
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
    assert (record.split, record.index, record.quarantined) == ("train", 1, 3)


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
    write_shard(tmp_path, "train", 0, 1, entries(), columns=COLUMNS, config_hash="")
    finalise(tmp_path, "train", 1, {})
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
    code = "from test_shards import *; write_all(Path(sys.argv[1]))"
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


# Other people's readers


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


# What is refused


def without(fields, name):
    return {key: value for key, value in fields.items() if key != name}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda sample: replace(sample, fields=without(sample.fields, "width")), "0001_c1 has the fields"),
        (lambda sample: replace(sample, fields={**sample.fields, "more": 1}), "more"),
        (lambda sample: replace(sample, fields=dict(reversed(sample.fields.items()))), "the columns are"),
        (lambda sample: make_sample(1, width="16"), "width is '16'; the column takes int"),
        (lambda sample: make_sample(1, width=16.0), "width is 16.0; the column takes int"),
        (lambda sample: make_sample(1, width=True), "width is True; the column takes int"),
        (lambda sample: make_sample(1, width=None), "width is None"),
        (lambda sample: make_sample(1, width=1 << 31), "too large for its column"),
        (lambda sample: make_sample(1, confidence=1), "confidence is 1; the column takes float"),
        (lambda sample: make_sample(1, confidence=math.nan), "nan"),
        (lambda sample: make_sample(1, scores=[1.0, 2]), "scores is .* floats"),
        (lambda sample: make_sample(1, tags=["a", None]), "tags is .* strs"),
        (lambda sample: make_sample(1, path="\udce9"), "path"),
        (lambda sample: make_sample(1, caption=""), "one line of text"),
        (lambda sample: make_sample(1, caption=" "), "one line of text"),
        (lambda sample: make_sample(1, caption="a\nb"), "one line of text"),
        (lambda sample: make_sample(1, caption="a\n"), "one line of text"),
        (lambda sample: make_sample(1, caption="a\u2028b"), "one line of text"),
        (lambda sample: replace(sample, caption="Another."), "must be those of the sample"),
        (lambda sample: make_sample(1, key="other"), "must be those of the sample"),
        (lambda sample: replace(sample, image_extension="txt"), "'txt'"),
        (lambda sample: replace(sample, image_extension="gif"), "'gif'"),
        (lambda sample: replace(sample, extras={}), "brings"),
        (lambda sample: replace(sample, extras={"../x": b""}), "brings"),
        (lambda sample: make_sample(0), "two samples have the key 0000_c1"),
    ],
)
def test_a_sample_that_would_not_come_back_is_refused(tmp_path, spoil, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path, 0, [make_sample(0), spoil(make_sample(1))])
    assert [*visible(tmp_path), *hidden(tmp_path)] == []


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../a", "/etc/passwd", ".hidden", "a.b", "a/b", "a\\b", "a b", "a\n", "é", "k" * 81, "a\0"]
)
def test_a_hostile_key_is_never_written(tmp_path, key):
    sample = make_sample(1)
    with pytest.raises(ValueError, match="cannot stand in a shard"):
        write(tmp_path, 0, [replace(sample, key=key, fields={**sample.fields, "key": key})])
    assert [*visible(tmp_path), *hidden(tmp_path)] == []


@pytest.mark.parametrize("extension", ["", "../x", "a/b", ".png", "a.b.c", "PNG", "png\n", "a" * 10])
def test_a_hostile_extension_is_never_written(tmp_path, extension):
    with pytest.raises(ValueError, match="cannot stand in a shard"):
        write(tmp_path, 0, [replace(make_sample(1), extras={extension: b""})])


def test_the_longest_key_fits(tmp_path):
    sample, key = make_sample(1), "k" * 80
    write(tmp_path, 0, [replace(sample, key=key, fields={**sample.fields, "key": key})])
    with tarfile.open(tar_of(tmp_path, 0)) as tar:
        assert tar.getnames() == [f"{key}.{extension}" for extension in ("jpg", "json", "txt", "parsing.png")]


@pytest.mark.parametrize(
    ("split", "index", "of"),
    [("../x", 0, 1), ("Train", 0, 1), ("", 0, 1), ("a-b", 0, 1), ("train", 3, 3), ("train", -1, 3)],
)
def test_a_shard_that_cannot_be_is_refused(tmp_path, split, index, of):
    with pytest.raises(ValueError, match="names no shard"):
        write_shard(tmp_path, split, index, of, [], columns=COLUMNS, config_hash="")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (COLUMNS.remove(0), "must hold key"),
        (COLUMNS.set(4, pa.field("path", pa.int32())), "must hold path"),
        (COLUMNS.append(pa.field("x", pa.float32())), "x is float"),
        (COLUMNS.append(pa.field("x", pa.list_(pa.float32()))), "x is float"),
        (COLUMNS.append(pa.field("x", pa.list_(pa.list_(pa.string())))), "x is list"),
        (COLUMNS.append(pa.field("status", pa.string())), "status"),
        (COLUMNS.append(pa.field("image_size", pa.int64())), "image_size"),
    ],
)
def test_columns_that_would_change_values_are_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path, "train", 0, 1, [], columns=columns, config_hash="")
    assert visible(tmp_path) == []


# Done, half done, twice done


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: tar_of(root).unlink(),
        lambda root: table_of(root).unlink(),
        lambda root: os.truncate(tar_of(root), tar_of(root).stat().st_size - 512),
        lambda root: os.truncate(table_of(root), 100),
        lambda root: table_of(root).write_bytes(b""),
        lambda root: shutil.copy(table_of(root, 0), table_of(root)),
        lambda root: pq.write_table(pq.read_table(table_of(root)).replace_schema_metadata(), table_of(root)),
    ],
    ids=["no tar", "no table", "cut tar", "cut table", "empty table", "another's table", "no record"],
)
def test_a_shard_is_done_only_with_tar_and_record(root, spoil):
    assert read_record(root, "train", 1, SHARDS) is not None
    spoil(root)
    assert read_record(root, "train", 1, SHARDS) is None
    assert read_record(root, "train", 0, SHARDS) is not None


def test_a_failure_leaves_no_record_even_of_an_older_shard(root):
    before = tar_of(root).read_bytes()

    def entries():
        yield make_sample(1)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write(root, 1, entries(), config="other")
    assert read_record(root, "train", 1, SHARDS) is None
    assert tar_of(root).read_bytes() == before
    assert hidden(root) == []


WRITE_AND_WAIT = """
from test_shards import *
def entries():
    for number in numbers_of(1):
        yield replace(make_sample(number), extras={"parsing.png": bytes(100_000)})
    print("half", flush=True)
    sys.stdin.read()
write(Path(sys.argv[1]), 1, entries())
"""


def test_kill_9_leaves_nothing_to_see_and_the_rerun_cleans_up(tmp_path, sound):
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": HERE}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    assert process.stdout.readline() == b"half\n"
    assert (len(hidden(tmp_path)), visible(tmp_path)) == (2, [])
    write(tmp_path, 0)  # another part of a Slurm array leaves the living one's files alone
    assert len(hidden(tmp_path)) == 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert read_record(tmp_path, "train", 1, SHARDS) is None
    write(tmp_path, 1)
    assert hidden(tmp_path) == []
    assert tar_of(tmp_path).read_bytes() == tar_of(sound).read_bytes()


def _write_when_all_are_ready(root, barrier):
    barrier.wait()
    for _ in range(5):
        write(root, 1)


def test_two_writers_of_one_shard_leave_one_valid_copy(tmp_path, sound):
    barrier = multiprocessing.Barrier(2)
    writers = [multiprocessing.Process(target=_write_when_all_are_ready, args=(tmp_path, barrier)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert hidden(tmp_path) == []
    assert read_record(tmp_path, "train", 1, SHARDS) == read_record(sound, "train", 1, SHARDS)
    assert tar_of(tmp_path).read_bytes() == tar_of(sound).read_bytes()


# The manifest


def test_the_manifest_adds_up(sound):
    manifest = read_manifest(sound)
    assert (manifest.split, manifest.seen, manifest.kept, manifest.quarantined) == ("train", 60, 51, 9)
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


def test_finalise_names_the_shards_that_are_missing(root):
    tar_of(root, 0).unlink()
    table_of(root, 2).unlink()
    (root / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks 2 of 3 shards .{NAMES[0]}, {NAMES[2]}."):
        finalise(root, "train", SHARDS, {})
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
        finalise(root, "train", SHARDS, {})


def test_a_header_may_not_claim_the_manifests_own_names(root):
    with pytest.raises(ValueError, match=r"kept.*shards"):
        finalise(root, "train", SHARDS, {"kept": 5, "shards": [], "seed": 1})
    with pytest.raises(ValueError, match="of is 0"):
        finalise(root, "train", 0, {})


def edit_manifest(root, edit):
    path = root / "manifest.json"
    stored = json.loads(path.read_bytes())
    edit(stored)
    path.write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda stored: stored.update(format="other"), "not the manifest of a passerby data set"),
        (lambda stored: stored.update(version=2), "has version 2; this passerby reads version 1"),
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


# The reader


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
    write_shard(tmp_path, "train", 0, 1, [make_sample(0), webp], columns=COLUMNS, config_hash="")
    finalise(tmp_path, "train", 1, {})
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


# Verification


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
        pytest.param(flip_member("parsing.png"), SHARD, "another sha256 .* no sample is to blame", id="extra flipped"),
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
    write_shard(tmp_path, "train", 0, 1, entries, columns=COLUMNS, config_hash="")
    finalise(tmp_path, "train", 1, {})
    path = tmp_path / "data" / "train-00000-of-00001.tar"
    path.write_bytes(b"x" * path.stat().st_size)
    problems = verify(tmp_path).problems
    assert len(problems) == MAX_PROBLEMS_A_SHARD + 1
    assert problems[-1] == Problem("train-00000-of-00001", "", "has perhaps more problems, which are not listed")
