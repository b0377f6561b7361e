"""kill -9 at any moment, of the whole or of a worker: nothing half-written is ever seen, and the next run ends as if nothing was.

`pytest tests/faults/test_kills.py --kills 100` kills so often; without it, a few times. `--fault-seed` repeats moments.
"""

import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import digests
from works import BIN, FINEGPR, WORKS, check_whole, tried_again

SHORT = [("finegpr-c", "worker"), ("luperson-t", "driver")]
"""Whom to kill by default; the tests of each command kill it too."""


def pytest_generate_tests(metafunc):
    if "victim" in metafunc.fixturenames:
        kills = metafunc.config.getoption("--kills")
        every = [(name, victim) for victim in ("driver", "worker") for name in WORKS]
        cases = [every[number % len(every)] for number in range(kills)] if kills else SHORT
        numbered = [(name, victim, number) for number, (name, victim) in enumerate(cases)]
        metafunc.parametrize(("name", "victim", "number"), numbered)


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    """Of each work: the hashes of its files, and the seconds it took. `rerender` and `publish` begin from `finegpr-c`."""
    source = shutil.copytree(people, tmp_path_factory.mktemp("works") / "people")
    assert FINEGPR.run(source, source.parent / "finegpr-c").returncode == 0
    told = {}

    def of(name: str):
        if name not in told:
            started_at = time.monotonic()
            done = WORKS[name].run(source, source.parent / "undisturbed")
            assert done.returncode == 0, done.stderr
            told[name] = digests(source.parent / "undisturbed"), time.monotonic() - started_at
            shutil.rmtree(source.parent / "undisturbed")
        return source, *told[name]

    return of


def test_kill_9_at_any_moment_loses_nothing(undisturbed, tmp_path, request, name, victim, number):
    source, expected, seconds = undisturbed(name)
    seed = request.config.getoption("--fault-seed")
    moment = random.Random(f"{seed} {number}").uniform(0, seconds)
    said = f"--fault-seed {seed}: {victim} of {name} killed after {moment:.3f} of {seconds:.3f} s"
    out = tmp_path / "root"
    process = subprocess.Popen(WORKS[name].command(source, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(moment)
    children = children_of(process.pid) if victim == "worker" else []
    for pid in random.Random(moment).sample(children, min(1, len(children))):
        kill(pid)
    if victim == "driver":
        process.kill()
    _, told = process.communicate()
    assert process.returncode in (0, 2, -signal.SIGKILL), f"{said}\n{told}"
    if victim == "worker":  # of a driver that is gone, Python's own start of a worker may complain
        assert b"Traceback" not in told, f"{said}\n{told}"
    if out.exists():
        check_whole(out)
    tried_again(WORKS[name], source, out, expected, digests)


@pytest.mark.parametrize("words", ["verify finegpr-c", "gen-captions synthetic more --identities 9"])
def test_no_worker_outlives_its_driver(undisturbed, tmp_path, words):
    source, _, _ = undisturbed("finegpr-c")
    command = [BIN / "passerby", *words.split(), "--workers", "2"]
    process = subprocess.Popen(command, cwd=source.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and not children_of(process.pid):
        time.sleep(0.001)
    process.kill()
    process.communicate()  # ends when nobody is left who could write into the pipe


def test_a_file_that_is_half_written_would_be_seen(undisturbed, tmp_path):
    source, _, _ = undisturbed("finegpr-c")
    root = shutil.copytree(source.parent / "finegpr-c", tmp_path / "root")
    assert check_whole(root) > 30
    for path in sorted(root.rglob("*00000-of*")):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises((AssertionError, OSError, ValueError)):
            check_whole(root)
        path.write_bytes(whole)


def children_of(pid: int) -> list[int]:
    """List the worker processes of a run; those that only count its semaphores are none."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except FileNotFoundError:  # it has just ended
        return []


def kill(pid: int) -> None:
    """Kill a process that may have just ended."""
    subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
