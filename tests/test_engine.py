import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from passerby.engine import run_units


@dataclass(frozen=True)
class Square:
    def run_unit(self, index: int) -> int:
        return index * index


@dataclass(frozen=True)
class Die:
    def run_unit(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return index


@dataclass(frozen=True)
class Fail:
    def run_unit(self, index: int) -> int:
        raise ValueError(f"unit {index} is impossible")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_asked_for(workers):
    assert list(run_units(Square(), [3, 1, 2, *range(30)], workers=workers)) == [9, 1, 4, *(i * i for i in range(30))]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_unit_reaches_the_caller(workers):
    with pytest.raises(ValueError, match="unit 7 is impossible"):
        list(run_units(Fail(), [7], workers=workers))


def test_a_killed_worker_is_said_so():
    with pytest.raises(RuntimeError, match="worker process died"):
        list(run_units(Die(), [0], workers=2))


@dataclass(frozen=True)
class Heavy:
    """Kills whoever unpickles it, before the rest of it is read: more than a pipe holds."""

    fuse: object
    load: bytes = bytes(1 << 20)

    def run_unit(self, index: int) -> int:
        return index


class Fuse:
    def __reduce__(self):
        return go_off, ()


def go_off() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_killed_before_it_has_its_job_is_said_so():
    with pytest.raises(RuntimeError, match="worker process died"):
        list(run_units(Heavy(Fuse()), [0], workers=2))


def test_the_job_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    units = run_units(Square(), range(3), workers=2)
    assert next(units) == 0
    (job,) = tmp_path.glob("passerby-job-*")
    assert job.stat().st_mode & 0o077 == 0
    assert [*units] == [1, 4]
    assert [*tmp_path.iterdir()] == []


def test_no_workers_is_refused():
    with pytest.raises(ValueError, match="workers is 0"):
        list(run_units(Square(), [1], workers=0))


def test_workers_end_when_their_driver_is_killed(tmp_path):
    (tmp_path / "job.py").write_text(
        textwrap.dedent(
            """
            import os, time
            from pathlib import Path
            from passerby.engine import run_units

            class Wait:
                def run_unit(self, index):
                    Path(f"{os.getpid()}.pid").touch()
                    time.sleep(600)

            if __name__ == "__main__":
                list(run_units(Wait(), range(2), workers=2))
            """
        )
    )
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    driver = subprocess.Popen([sys.executable, "job.py"], cwd=tmp_path, env=environment)
    pids = wait_for(lambda: len(found := list(tmp_path.glob("*.pid"))) == 2 and [int(path.stem) for path in found])
    driver.kill()
    driver.wait()
    assert wait_for(lambda: not any(is_alive(pid) for pid in pids))
    assert [*(tmp_path / "temporary").iterdir()] == []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if outcome := condition():
            return outcome
        time.sleep(0.05)
    raise AssertionError("waited in vain")
