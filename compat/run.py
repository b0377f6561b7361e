"""Proves that other people's loaders read our shards, and writes what came of it to `docs/compatibility.md`.

    .venv/bin/python -m compat.run

Makes small data sets, an environment for each client under `.compat/`, and runs `compat/CLIENT.py` there on each data set.
Ends with 1 if any sample differs. The Python that runs it is the project's, which makes the data sets and lends PyTorch.
"""

import ast
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
ENVIRONMENTS = REPOSITORY / ".compat"
DOCUMENT = REPOSITORY / "docs" / "compatibility.md"

DATA_SETS = {
    "finegpr-c": "FineGPR-C with parsing maps",
    "luperson-t": "LUPerson-T",
    "mixed": "LUPerson-T of JPEG, PNG and WebP",
    "market": "Re-ID in three splits, no captions",
    "captions-only": "FineGPR-C, captions only",
}
"""Folder and description of each data set."""

UNPAIRED = ("market", "captions-only")
"""Those whose samples lack an image or a caption."""

INTRODUCTION = """\
# Which clients read the shards

Written by `make compat`. Small data sets of synthetic pedestrians, several shards each, are read by every client in an
environment of its own, and every sample is compared with the tables in `meta/`: key, caption, all fields of the JSON with their
types, and the sha256 of image and parsing map (their pixels, where a client hands on nothing else); their number with
`manifest.json` and `sizes.json`. "48 of 48" says that all 48 samples came, each once, and were equal; "-" that the client reads
pairs of image and caption only.
"""

SECTION = """## {name}

{docstring}

```sh
pip install '{install}'
```

```python
{imports}


{read}


samples = read(Path("{root}"))
```
"""


@dataclass(frozen=True)
class Client:
    """A library that reads shards."""

    name: str
    """Of its script, `compat/NAME.py`, and of its environment."""

    requirements: tuple[str, ...]
    """What is installed there: the library first, then what else is pinned or the comparison needs."""

    needs_pairs: bool = False
    """Whether it reads images with captions only, so that `UNPAIRED` are not for it."""

    borrows: bool = False
    """Whether everything else comes from the project's environment: PyTorch alone takes 5 GB."""


CLIENTS = (
    Client("datasets", ("datasets[vision]==5.2.0", "pillow==13.0.0")),
    Client("webdataset", ("webdataset==1.0.2", "pyarrow==26.0.1")),
    Client("open_clip", ("open_clip_torch[training]==3.3.0", "webdataset==0.2.86"), needs_pairs=True, borrows=True),
    Client("ray", ("ray[data]==2.60.0",)),
    Client("mlcroissant", ("mlcroissant[image]==1.1.1", "pillow==13.0.0", "pyarrow==26.0.1")),
)


@dataclass(frozen=True)
class Row:
    """What came of one way to read the data sets with one client."""

    client: str
    version: str
    reader: str
    """The way to read, in a few words."""

    members: tuple[str, ...]
    """The extensions that came."""

    counts: tuple[str, ...]
    """`48 of 48` for each data set, `-` where it is not for the client."""

    problems: tuple[str, ...]


def main() -> int:
    """Run everything; give the exit code."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n")
    with tempfile.TemporaryDirectory(prefix="passerby-compat-") as name:
        folder = Path(name)
        print("making the data sets", flush=True)
        make_data_sets(folder)
        rows = [row for client in CLIENTS for row in read_with(client, make_environment(client), folder)]
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(document(rows), encoding="utf-8")
    print(f"written to {DOCUMENT.relative_to(REPOSITORY)}")
    return int(any(row.problems for row in rows))


def make_data_sets(folder: Path) -> None:
    """Make every data set of `DATA_SETS` in `folder`, by the commands a user would type."""
    people = folder / "people"
    of_person = ("--attributes", people / "attributes.csv", "--parsing", people / "parsing", "--lambda", 0.8)
    by_clip = ("--clip-model", "embedded")
    shards = ("--shard-size", 10)
    _generate("synthetic", people, "--identities", 8, "--images-per-identity", 6, "--workers", 2)
    _mix_formats(people / "images", people / "mixed")
    _generate("finegpr-c", people / "images", "--out", folder / "finegpr-c", *of_person, *shards)
    _generate("luperson-t", people / "images", "--out", folder / "luperson-t", *by_clip, *shards)
    _generate("luperson-t", people / "mixed", "--out", folder / "mixed", *by_clip, *shards)
    _generate("synthetic", folder / "boxes", "--layout", "market", "--identities", 12, "--workers", 2)
    _passerby("pack", "market1501", folder / "boxes", folder / "market", "--shards", 3, "--allow-count-mismatch")
    _passerby("publish", folder / "finegpr-c", folder / "captions-only")


def make_environment(client: Client) -> Path:
    """Make the client's environment unless it is there; give its Python."""
    folder = ENVIRONMENTS / client.name
    python, marker = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join([f"# {sys.prefix}, Python {platform.python_version()}", *client.requirements])
    if marker.exists() and marker.read_text() == wanted:
        return python
    print(f"making the environment of {client.name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", "--without-pip", folder])
    options = ["--quiet"]
    if client.borrows:
        project = Path(sysconfig.get_path("purelib"))
        (folder / project.relative_to(sys.prefix) / "project.pth").write_text(f"{project}\n")  # found after its own
        options += ["--no-deps"]
    _run([sys.executable, "-m", "pip", "--python", python, "install", *options, *client.requirements])
    marker.write_text(wanted)  # last, so that an environment that was left half made is made again
    return python


def read_with(client: Client, python: Path, folder: Path) -> list[Row]:
    """Run a client on every data set; give a row for each of its ways to read."""
    names = [name for name in DATA_SETS if not (client.needs_pairs and name in UNPAIRED)]
    results = [_run_client(client, python, folder / name) for name in names]
    ways = zip(*(result["readings"] for result in results), strict=True)
    return [row_of(client.name, results[0]["version"], dict(zip(names, readings, strict=True))) for readings in ways]


def row_of(client: str, version: str, by_data_set: Mapping[str, dict[str, Any]]) -> Row:
    """Put together what one way to read gave of each data set that is for it."""
    readings = [*by_data_set.values()]
    return Row(
        client=client,
        version=version,
        reader=readings[0]["reader"],
        members=tuple(sorted({member for reading in readings for member in reading["members"]})),
        counts=tuple(
            f"{by_data_set[name]['equal']} of {by_data_set[name]['expected']}" if name in by_data_set else "-"
            for name in DATA_SETS
        ),
        problems=tuple(
            f"{data_set}: {problem}" for data_set, reading in by_data_set.items() for problem in reading["problems"]
        ),
    )


def document(rows: Sequence[Row]) -> str:
    """Word the result: a table, what differs if anything does, and how to read with each client."""
    heads = ["client", "version", "way to read", "compared", *DATA_SETS.values()]
    table = [heads, ["---"] * len(heads)]
    table += [[row.client, row.version, row.reader, " ".join(row.members), *row.counts] for row in rows]
    lines = [INTRODUCTION, *(f"| {' | '.join(cells)} |" for cells in table)]
    if problems := [f"- {row.client}, {row.reader}, {problem}" for row in rows for problem in row.problems]:
        lines += ["", "## What differs", "", *problems]
    return "\n".join([*lines, "", *map(section, CLIENTS)]).rstrip("\n") + "\n"


def section(client: Client) -> str:
    """Word how to read with a client: what its script says of it, and the very function that the script calls."""
    source = (REPOSITORY / "compat" / f"{client.name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "read"]
    names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    return SECTION.format(
        name=client.name,
        docstring=ast.get_docstring(tree),
        install=client.requirements[0],
        imports=_imports_of(tree, names),
        read=ast.get_source_segment(source, function),
        root=next(iter(DATA_SETS)),
    )


def _imports_of(tree: ast.Module, names: set[str]) -> str:
    """Give the import statements of a script that define any of `names`, the standard library's first."""
    statements = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    wanted = [one for one in statements if names & {alias.name.partition(".")[0] for alias in one.names}]
    lines = [ast.unparse(statement) for statement in wanted]
    own = [line for line in lines if line.split()[1].partition(".")[0] in sys.stdlib_module_names]
    return "\n".join([*own, "", *(line for line in lines if line not in own)])


def _generate(*words: object) -> None:
    _run([Path(sys.executable).with_name("gen-captions"), *words])


def _passerby(*words: object) -> None:
    _run([Path(sys.executable).with_name("passerby"), *words])


def _mix_formats(source: Path, target: Path) -> None:
    """Copy a folder of JPEGs, two of three as other formats."""
    for index, path in enumerate(sorted(source.rglob("*.jpg"))):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if extension := ("", ".png", ".webp")[index % 3]:
            Image.open(path).save(copy.with_suffix(extension))
        else:
            shutil.copy(path, copy)


def _run_client(client: Client, python: Path, root: Path) -> dict[str, Any]:
    """Run a client's script on a data set, with an empty cache; give what it printed last."""
    cache = root.with_name(f"{root.name}.cache")
    environment = {**os.environ, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "CROISSANT_CACHE": str(cache)}
    output = _run([python, "-m", f"compat.{client.name}", root], environment)
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    for reading in result["readings"]:
        counts = f"{reading['equal']} of {reading['expected']}"
        print(f"{client.name} {result['version']}, {reading['reader']}, {root.name}: {counts}", flush=True)
    return result


def _run(words: Sequence[object], environment: dict[str, str] | None = None) -> str:
    """Run a program in the repository's folder and give what it printed, or end with what it said when it failed."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(done.stderr or done.stdout).strip()}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
