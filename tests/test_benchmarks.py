"""The benchmarks' own arithmetic, and that the page is made of what was measured."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.run import PAGE, page, read_results
from benchmarks.side_by_side import Row, memory_mib, rates, watch


def test_the_ratio_says_how_many_times_as_fast_ours_is():
    row = Row(task="read", rate=3000.0, unit="samples/s", rival="webdataset", rival_rate=200.0, memory_mib=12.4)
    assert row.ratio == 15
    assert row.cells() == ("read", "3,000 samples/s", "15.00", "webdataset: 200", "12 MiB")
    assert Row(task="say", rate=0.5, unit="captions/s").cells() == ("say", "0.5 captions/s", "", "", "")


def test_methods_take_turns_and_medians_count(monkeypatch):
    clock, calls = iter([0, 1, 1, 5, 5, 9, 9, 18, 18, 20, 20, 24]), []
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    found = rates({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 100, 3)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert found == {"a": 100 / 2, "b": 100 / 4}  # seconds of a: 1, 9, 2; of b: 4 each


def test_memory_is_that_of_all_processes():
    hold = "import time; held = bytearray(200 << 20); time.sleep(1.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    most, seconds = watch([sys.executable, "-c", parent])
    assert 200 < most < 260
    assert seconds > 1.5
    assert memory_mib(2**22 + 1) == 0
    with pytest.raises(subprocess.CalledProcessError):
        watch([sys.executable, "-c", "raise SystemExit(3)"])


def test_the_page_is_made_of_what_was_measured():
    assert page(read_results()) == PAGE.read_text()
    row = {"task": "read", "rate": 3000.0, "unit": "samples/s", "rival": "webdataset", "rival_rate": 200.0}
    told = page({"reading": {"machine": "2 threads", "versions": {"python": "3.12"}, "rows": [row]}})
    assert "Measured on 2 threads, with python 3.12." in told
    assert "| reading | read | 3,000 samples/s | 15.00 | webdataset: 200 |  |" in told
