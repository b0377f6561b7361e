"""A run of several processes as torchrun starts them: one is killed, all end, the run goes on with what is left."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_people

from passerby.cli.pretrain import build_job
from passerby.training.run import train

SETTINGS = ["loop.steps=100000", "loop.warmup_steps=0", "loop.batch_size=8", "loop.log_every=1", "loop.save_every=2"]
SETTINGS += ["loop.validate_every=100000", "data.validation_share=0.3", "method.width=64"]
SETTINGS += ["method.image_height=32", "method.image_width=16"]
TIMEOUT_SECONDS = 240

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


def steps(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def processes(run):
    """Find the processes that were started for a run, and the rank of each: its own, or that of the one it reads for."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            told, told_to = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended, or is another user's
        if f"\0{run}\0".encode() in told:
            rank = [each for each in told_to.decode(errors="replace").split("\0") if each.startswith("RANK=")]
            found[int(path.name)] = int(rank[0].removeprefix("RANK=")) if rank else None
    return found


def wait_for_steps(process, run, count):
    for _ in range(TIMEOUT_SECONDS * 10):
        if len(steps(run)) >= count:
            return
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"it ended with {process.returncode}: {process.stderr.read()}")


def test_a_killed_rank_ends_the_run_which_goes_on_without_it(root, tmp_path):
    run = tmp_path / "run"
    told = [word for each in SETTINGS for word in ("--set", each)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "passerby"]
    command += ["pretrain", "vtbr", str(root), "--config", "vtbr-tiny", *told, "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--out", str(run), "--workers", "1"], env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for_steps(process, run, 5)
        victim = min(pid for pid, rank in processes(run).items() if rank == 1)  # its reader came later
        os.kill(victim, signal.SIGKILL)
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        for pid in processes(run) if process.poll() is None else ():
            os.kill(pid, signal.SIGKILL)

    assert process.returncode != 0
    [line] = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert f"rank 1 of 2 is gone (process {victim} on " in line
    assert "Run again with --resume" in line
    assert "SIGKILL" in errors  # torchrun says how it ended
    for _ in range(TIMEOUT_SECONDS * 10):  # a reader looks every five seconds whether its rank lives
        if not processes(run):
            break
        time.sleep(0.1)
    assert not processes(run)

    job = build_job("vtbr", str(root), run, config="vtbr-tiny", settings=SETTINGS, workers=0, device="cpu")
    notes: list[str] = []
    assert not train(
        job,
        is_resumed=True,
        on_progress=lambda now: os.kill(os.getpid(), signal.SIGTERM),
        on_note=notes.append,
    )

    assert "1 x cpu, from step " in notes[0]
    assert "from step 0 " not in notes[0]
    assert steps(run) == [*range(1, len(steps(run)) + 1)]
    assert f"stopped after step {len(steps(run))}; go on with --resume" in notes[-1]
