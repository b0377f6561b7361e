"""Read hostile files within limits: `python hostile.py --count 100 --seed 0 [TARGET …]` prints a line of JSON a target.

Every target has a process of its own, which may take so much memory and time and no more; if it dies, the input that did
it is left in a file.
"""

import argparse
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
sys.path += [str(HERE), str(HERE.parent), str(ROOT)]

os.environ |= {"OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}

import pyarrow as pa  # noqa: E402
from damage import damaged  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from targets import Target, named  # noqa: E402

from passerby.images import ImageProblem  # noqa: E402

MEMORY_BYTES = 1 << 30
"""What reading one file may take beyond what the program has."""

CPU_SECONDS = 10
"""What reading one file may take; SIGPROF ends the process."""

DOCUMENTED = (ValueError, OSError)
"""What a reader may raise: `passerby.cli` makes one line of it."""

LONGEST_LINE = 2000
"""Characters of an error of one line."""

MARK = "hostile"
"""Begins the names of the folders, so that an error that names a folder is known."""

TWO_IMAGES = "have one key"
"""The one error that names two images instead of the file they are in."""

QUIETLY = {"deadline": None, "database": None, "suppress_health_check": [*HealthCheck], "phases": [Phase.generate]}
"""How hypothesis draws: it need not shrink what it finds, since the file is kept."""


class Undocumented(AssertionError):  # noqa: N818
    """A reader did not keep its promise: which one and where, and the text it raised."""


@dataclass
class Told:
    """What came of reading many damaged files."""

    outcomes: dict[str, int] = field(default_factory=dict)
    """How many were sound, and how many raised which documented error."""

    faults: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Of each promise that was not kept, and where: the first text that was raised, and the file that did it."""


def read_hostile(target: Target, folder: Path, data: bytes) -> str:
    """Read one damaged file; give what came of it in one word.

    Raises:
        Undocumented: it raised what it does not document, or a text that does not say where the fault is.
    """
    path = folder / target.file
    path.unlink(missing_ok=True)  # who has mapped the last one into memory keeps it
    path.write_bytes(data)
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        target.read(folder)
    except DOCUMENTED as error:
        return _check_text(error, target)
    except Exception as error:
        raise Undocumented(f"{type(error).__name__} at {_place(error)}", f"{error!s:.300}") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "sound"


def _check_text(error: ValueError | OSError, target: Target) -> str:
    text, name = str(error), Path(target.file).name
    is_named = isinstance(error, ImageProblem) or any(
        part in text for part in (name.partition(".")[0], MARK, TWO_IMAGES)
    )
    if not is_named:
        raise Undocumented(f"no file is named at {_place(error)}", f"{text:.300}") from error
    if len(text) > LONGEST_LINE and "\n" not in text:
        raise Undocumented(f"a text too long at {_place(error)}", f"{text:.300}") from error
    return type(error).__name__


def _place(error: Exception) -> str:
    """Say where in `passerby` an error was raised, or passed through last."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(str(ROOT))]
    ours = [frame for frame in frames if "site-packages" not in frame.filename][-1]
    return f"{Path(ours.filename).relative_to(ROOT)}:{ours.lineno}"


def run(name: str, target: Target, folder: Path, *, count: int, chance: int) -> Told:
    """Read `count` damaged files in this process."""
    target.prepare(folder)
    sound = (folder / target.file).read_bytes()
    told = Told()
    assert read_hostile(target, folder, sound) == "sound", f"{name} is not sound to begin with"
    _limit()

    @seed(f"{chance} {name}")
    @settings(max_examples=count, **QUIETLY)
    @given(damaged(sound, Path(target.file).suffix))
    def read(data: bytes) -> None:
        try:
            outcome = read_hostile(target, folder, data)
            told.outcomes[outcome] = told.outcomes.get(outcome, 0) + 1
        except Undocumented as fault:
            promise, text = fault.args
            if promise not in told.faults:
                kept = folder / f"fault {len(told.faults)}"
                kept.write_bytes(data)
                told.faults[promise] = (text, str(kept))

    read()
    return told


def _warm() -> None:
    """Let hypothesis make its tables of letters once, and not in every process."""

    @settings(max_examples=30, **QUIETLY)
    @given(damaged(b"{}", ".json"))
    def draw(_: bytes) -> None:
        pass

    draw()
    gc.freeze()


def _limit() -> None:
    """Let this process have no more than its share, and its death be a plain one."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    allowed = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _in_process(name: str, target: Target, folder: Path, *, count: int, chance: int) -> Told:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            told = run(name, target, folder, count=count, chance=chance)
            with os.fdopen(writer, "w") as file:
                json.dump(asdict(told), file)
        except BaseException:
            traceback.print_exc()
        finally:  # what the parent would do next is none of this process's business
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (
        Told(**json.loads(text))
        if text
        else Told(faults={f"the process ended with {status}": ("", str(folder / target.file))})
    )


def main() -> None:
    """Read hostile files of all kinds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help="names of targets; by default all")
    parser.add_argument("--count", type=int, default=100, help="files a target")
    parser.add_argument("--seed", type=int, default=0, help="where to begin drawing")
    parser.add_argument("--folder", type=Path, help="where to leave what did harm")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    _warm()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="passerby-faults-"))
    for name, target in named(options.targets).items():
        place = folder / f"{MARK} {name}"
        place.mkdir(parents=True)
        told = _in_process(name, target, place, count=options.count, chance=options.seed)
        sys.stdout.write(json.dumps({"target": name, **asdict(told)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
