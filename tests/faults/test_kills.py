"""kill -9 at any moment, of the whole, of a worker, or of Ray's actors and nodes: nothing half-written is ever seen, and the
next run ends as if nothing was.

`pytest tests/faults/test_kills.py --kills 100` kills so often; without it, a few times. `--fault-seed` repeats moments.
"""

import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from conftest import digests
from ray_nodes import NODE
from works import BIN, FINEGPR, WORKS, check_whole, tried_again

SHORT = [("finegpr-c", "worker"), ("luperson-t", "driver")]
"""Whom to kill by default; the tests of each command kill it too, and those of the Ray engine its actors and nodes."""

RAYS = ("actor", "node")
LONG = [
    *((name, victim) for victim in ("driver", "worker") for name in WORKS),
    *((name, victim) for victim in RAYS for name in ("finegpr-c", "luperson-t", "pack")),
]


def pytest_generate_tests(metafunc):
    if "victim" in metafunc.fixturenames:
        kills = metafunc.config.getoption("--kills")
        cases = [LONG[number % len(LONG)] for number in range(kills)] if kills else SHORT
        is_by_ray = "cluster" in metafunc.fixturenames
        numbered = [(*case, number) for number, case in enumerate(cases) if (case[1] in RAYS) == is_by_ray]
        metafunc.parametrize(("name", "victim", "number"), numbered)


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    """Of each work: the hashes of its files, and the seconds it took. `rerender` and `publish` begin from `finegpr-c`."""
    source = shutil.copytree(people, tmp_path_factory.mktemp("works") / "people")
    assert FINEGPR.run(source, source.parent / "finegpr-c").returncode == 0

    @cache
    def of(name: str, *extra: str):
        started_at = time.monotonic()
        done = WORKS[name].run(source, source.parent / "undisturbed", *extra)
        assert done.returncode == 0, done.stderr
        seconds = time.monotonic() - started_at
        told = digests(source.parent / "undisturbed")
        shutil.rmtree(source.parent / "undisturbed")
        return source, told, seconds

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


def test_ray_makes_up_for_what_is_killed_at_any_moment(undisturbed, cluster, tmp_path, request, name, victim, number):
    extra = ("--engine", "ray", "--ray-address", cluster.address)
    source, expected, _ = undisturbed(name)
    _, _, seconds = undisturbed(name, *extra)
    seed = request.config.getoption("--fault-seed")
    draw = random.Random(f"{seed} {number}")
    moment = draw.uniform(0, seconds)
    said = f"--fault-seed {seed}: {victim} of {name} killed after {moment:.3f} of {seconds:.3f} s"
    out = tmp_path / "root"
    process = subprocess.Popen(
        WORKS[name].command(source, out, *extra), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    time.sleep(moment)
    if victim == "node":
        cluster.remove_node(draw.choice(sorted(cluster.worker_nodes, key=str)), allow_graceful=False)
        cluster.add_node(wait=False, **NODE)
    elif actors := actor_processes():
        kill(draw.choice(actors))
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, f"{said}\n{told}"
    assert b"Traceback" not in told, f"{said}\n{told}"
    (out / "retries.jsonl").unlink(missing_ok=True)  # what it says is true of this run only
    assert digests(out) == expected, said
    check_whole(out)


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


def actor_processes() -> list[int]:
    """List the processes of Ray's actors on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::_Actor"):
                found.append(int(folder.name))
    return sorted(found)


def kill(pid: int) -> None:
    """Kill a process that may have just ended."""
    subprocess.run(["kill", "-9", str(pid)], check=False, stderr=subprocess.DEVNULL)
