"""What the writer of shards refuses, and what is left of a shard that was not finished."""

import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shard_samples import COLUMNS, HERE, NAMES, hidden, make_sample, table_of, tar_of, visible, write, write_all

from passerby.shards.write import read_record, shard_name, write_shard


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A data set of three shards, for tests that leave it as it is."""
    return write_all(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def root(sound, tmp_path):
    """A copy of it to spoil."""
    return Path(shutil.copytree(sound, tmp_path / "root"))


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
def test_a_shard_that_cannot_be_has_no_name(split, index, of):
    with pytest.raises(ValueError, match="names no shard"):
        shard_name(split, index, of)


@pytest.mark.parametrize("name", ["../x-00000-of-00001", "train-00003-of-00003", "train"])
def test_a_shard_that_cannot_be_is_not_written(tmp_path, name):
    with pytest.raises(ValueError, match="names no shard"):
        write_shard(tmp_path / "root", name, [], columns=COLUMNS, config_hash="")
    assert visible(tmp_path) == []


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
        write_shard(tmp_path, shard_name("train", 0, 1), [], columns=columns, config_hash="")
    assert visible(tmp_path) == []


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
    assert read_record(root, NAMES[1]) is not None
    spoil(root)
    assert read_record(root, NAMES[1]) is None
    assert read_record(root, NAMES[0]) is not None


def test_a_failure_leaves_no_record_even_of_an_older_shard(root):
    before = tar_of(root).read_bytes()

    def entries():
        yield make_sample(1)
        raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        write(root, 1, entries(), config="other")
    assert read_record(root, NAMES[1]) is None
    assert tar_of(root).read_bytes() == before
    assert hidden(root) == []


WRITE_AND_WAIT = """
import sys
from dataclasses import replace
from shard_samples import *
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
    assert read_record(tmp_path, NAMES[1]) is None
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
    assert read_record(tmp_path, NAMES[1]) == read_record(sound, NAMES[1])
    assert tar_of(tmp_path).read_bytes() == tar_of(sound).read_bytes()
