"""Commands that make data sets, to be killed, starved and confused; and what must hold of their folders at any moment."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from programs import run

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Work:
    """A command that makes `out` of `source`."""

    program: str
    words: Callable[[Path, Path], list[object]]

    def command(self, source: Path, out: Path, *extra: object) -> list[str]:
        """Give the command line."""
        return [str(BIN / self.program), *(str(word) for word in (*self.words(source, out), *extra))]

    def run(
        self, source: Path, out: Path, *extra: object, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return run(self.program, *self.words(source, out), *extra, env=env)


FINEGPR = Work(
    "gen-captions",
    lambda people, out: [
        *("finegpr-c", people / "images", "--attributes", people / "attributes.csv"),
        *("--out", out, "--lambda", 0.8, "--shard-size", 4),
    ],
)
LUPERSON = Work(
    "gen-captions",
    lambda people, out: [
        *("luperson-t", people / "images", "--out", out, "--clip-model", "none", "--shard-size", 8),
        *("--embeddings", "--workers", 2),
    ],
)
FINEGPR_BY_TWO = Work("gen-captions", lambda people, out: [*FINEGPR.words(people, out), "--workers", 2])
PACK = Work(
    "passerby",
    lambda people, out: [
        *("pack", "finegpr", people / "images", out, "--allow-count-mismatch", "--shards", 12, "--workers", 2)
    ],
)
RERENDER = Work(
    "passerby", lambda people, out: ["rerender", people.parent / "finegpr-c", "--out", out, "--seed", 1, "--workers", 2]
)
PUBLISH = Work("passerby", lambda people, out: ["publish", people.parent / "finegpr-c", out])

WORKS = {"finegpr-c": FINEGPR_BY_TWO, "luperson-t": LUPERSON, "pack": PACK, "rerender": RERENDER, "publish": PUBLISH}


def check_whole(root: Path) -> int:
    """See that every visible file is whole, by other people's readers; count them."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.name.startswith(".")]
    for path in files:
        match path.suffix:
            case ".tar":
                assert path.read_bytes().endswith(bytes(1024)), path
                with tarfile.open(path, "r:") as tar:
                    assert all(tar.extractfile(member).read() is not None for member in tar), path
            case ".parquet":
                pq.read_table(path)
            case ".arrow":
                pa.ipc.open_file(path).read_all()
            case ".json":
                json.loads(path.read_bytes())
            case _:
                assert path.stat().st_size, path
    return len(files)


def tried_again(
    work: Work, source: Path, out: Path, expected: Mapping[str, str], digests: Callable[..., object]
) -> None:
    """Run a command where one has ended badly: the result is that of an undisturbed run, to the byte, and no file more."""
    again = work.run(source, out)
    assert again.returncode == 0, again.stderr
    assert digests(out) == expected
    shutil.rmtree(out)
