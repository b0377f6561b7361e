"""Machines that fail: a disk that is full, a folder that may not be written, a clock that goes back, two runs that meet."""

import ctypes
import json
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from functools import partial

import pytest
from conftest import digests
from works import FINEGPR, check_whole, tried_again

PAGE = 4096
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1  # of <linux/prctl.h> and <linux/capability.h>

CLOCK = """
import random, time
clock, chance = time.time, random.Random(0)
time.time = lambda: clock() - chance.uniform(0, 3600)
"""
"""Put into every process of a run. Only the time of day goes back: that the other clocks never do is the kernel's promise, and
Python's own pool waits by it."""


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    done = FINEGPR.run(people, root)
    assert done.returncode == 0, done.stderr
    return root


@contextmanager
def small_disk(folder, size_bytes):
    """Give `folder` a disk of its own, if this user may mount one; say whether it has."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, check=False, capture_output=True).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("share", [0.6, *(pytest.param(tenth / 10, marks=pytest.mark.slow) for tenth in range(1, 10))])
def test_a_full_disk_is_one_line_and_room_mends_it(people, undisturbed, tmp_path, share):
    """Where no disk can be mounted, a limit to the size of files stands for it."""
    sizes = [path.stat().st_size for path in undisturbed.rglob("*") if path.is_file()]
    total = sum(-(-size // PAGE) * PAGE for size in sizes)
    with small_disk(tmp_path / "disk", int(total * share)) as is_mounted:
        root = tmp_path / "disk" / "root"
        limit = (
            None if is_mounted else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (int(max(sizes) * share),) * 2)
        )
        command = FINEGPR.command(people, root)
        full = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=limit)
        assert full.returncode == 2
        (line,) = full.stderr.splitlines()
        assert line.startswith(f"error: {root}/")
        assert ("No space left on device" if is_mounted else "File too large") in line
        assert "run again" in line
        check_whole(root)
        if is_mounted:
            subprocess.run(["mount", "-o", f"remount,size={2 * total}", str(tmp_path / "disk")], check=True)
        tried_again(FINEGPR, people, root, digests(undisturbed), digests)


def test_a_folder_that_may_not_be_written_is_one_line(people, tmp_path):
    """Root may write anywhere, unless it gives that right up."""
    (tmp_path / "shut").mkdir(mode=0o555)
    root = tmp_path / "shut" / "root"
    give_up = partial(ctypes.CDLL(None).prctl, PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)
    command = FINEGPR.command(people, root)
    done = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=give_up)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: {root}: Permission denied"]


def test_a_read_only_disk_is_one_line(people, tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20) as is_mounted:
        if not is_mounted:
            pytest.skip("this user may mount no disk; the folder that may not be written is the same line")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        done = FINEGPR.run(people, tmp_path / "disk" / "root")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: {tmp_path}/disk/root: Read-only file system"]


def test_a_clock_that_goes_back_changes_nothing(people, undisturbed, tmp_path):
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(CLOCK)
    command, environment = FINEGPR.command(people, tmp_path / "root"), {"PYTHONPATH": str(tmp_path / "clock")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert digests(tmp_path / "root") == digests(undisturbed)


def test_of_two_configurations_in_one_folder_one_is_refused(people, undisturbed, tmp_path):
    root = tmp_path / "root"
    commands = [FINEGPR.command(people, root, "--seed", seed) for seed in range(2)]
    pair = [subprocess.Popen(each, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for each in commands]
    told = [process.communicate()[1] for process in pair]
    assert sorted(process.returncode for process in pair) == [0, 2], told
    winner, loser = sorted(range(2), key=lambda place: pair[place].returncode)
    assert f"seed: {winner} there, {loser} here" in told[loser]
    assert json.loads((root / "manifest.json").read_bytes())["config"]["seed"] == winner
    assert winner or digests(root) == digests(undisturbed)
    check_whole(root)
