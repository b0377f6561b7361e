"""Our programs as a user runs them: each in a process of its own, which is forked from one that has imported what they need."""

import atexit
import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["passerby.cli", "pandas", "torch", "torchvision", "timm", "open_clip", "webdataset"])


def run(
    program: str, *words: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of our programs to its end; `env` is added to the environment."""
    command = [program, *map(str, words)]
    with TemporaryDirectory() as name:
        told = Path(name) / "out", Path(name) / "err"
        process = _PROCESSES.Process(target=_be, args=(command, told, cwd or Path.cwd(), {**os.environ, **(env or {})}))
        process.start()
        process.join()
        out, err = (path.read_text(encoding="utf-8") for path in told)
    assert process.exitcode is not None
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


def succeed(program: str, *words: object, **options: object) -> str:
    """Run one of our programs, which must succeed, and give what it says."""
    done = run(program, *words, **options)
    assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stderr}"
    return done.stdout


def _be(command: list[str], told: tuple[Path, Path], cwd: Path, env: Mapping[str, str]) -> None:
    """Become a program, in the process that is there for it."""
    for descriptor, path in zip((1, 2), told, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    gc.freeze()  # or all that was imported would be searched for garbage time and again
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    # What it starts in its turn shall start as anywhere else: in Python's usual way, and without the main file of pytest.
    multiprocessing.set_start_method(None, force=True)
    sys.modules["__main__"] = ModuleType("__main__")
    (program,) = entry_points(group="console_scripts", name=command[0])
    try:
        program.load()()
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
