"""Tables that lie in files instead of memory."""

import os
import pickle
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest

from passerby.columnar import is_rising, spool

MEMORY = """
import os
from pathlib import Path
import pyarrow as pa
from passerby.columnar import spool

def own_bytes():
    words = Path("/proc/self/statm").read_text().split()
    return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")

def tables(count):
    for start in range(0, count, 1000):
        yield pa.table({"key": [f"{number:099d}" for number in range(start, start + 1000)]})

spool(tables(2000))
before = own_bytes()
kept = spool(tables(300_000))
assert kept["key"][299_999].as_py() == f"{299_999:099d}"
print(own_bytes() - before, kept.nbytes)
"""
"""Uses memory, and drops it again, before it measures."""


def test_tables_come_back_one_below_the_other():
    parts = [pa.table({"key": ["a", "b"], "size": [1, 2]}), pa.table({"key": ["c"], "size": [3]})]
    assert spool(iter(parts)).to_pydict() == {"key": ["a", "b", "c"], "size": [1, 2, 3]}
    assert spool([parts[0].slice(0, 0)]).schema == parts[0].schema


def test_a_table_in_a_file_is_pickled_without_a_copy():
    table = spool([pa.table({"key": ["a" * 1000] * 1000})])
    buffers = []
    assert len(pickle.dumps(table, 5, buffer_callback=buffers.append)) < 10_000
    assert sum(len(buffer.raw()) for buffer in buffers) > 1_000_000


def test_a_table_in_a_file_takes_no_memory():
    done = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True)
    grown, whole = map(int, done.stdout.split())
    assert whole > 30_000_000
    assert grown < whole / 4


def test_a_full_disk_is_named(tmp_path):
    code = "import pyarrow as pa; from passerby.columnar import spool; spool([pa.table({'key': ['a' * 100_000]})])"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); {code}"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, env=environment, check=False)
    told = done.stderr.splitlines()[-1]
    assert "File too large" in told
    assert f"{shutil.disk_usage(tmp_path).total:,} bytes free" in told
    assert f"{tmp_path}/passerby-rows" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("texts", "expected"),
    [([], True), (["a"], True), (["a", "b", "ba"], True), (["a", "a"], False), (["b", "a"], False), (["Z", "é"], True)],
)
def test_texts_rise_where_none_is_equal_or_less(texts, expected):
    assert is_rising(pa.array(texts, pa.string())) is expected
    assert is_rising(pa.chunked_array([[text] for text in texts], pa.string())) is expected
