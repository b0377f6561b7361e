import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
HEAVY = ("torch", "open_clip", "numpy", "pyarrow", "pandas", "PIL", "rich.progress", "jinja2")


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_holds_our_packages_and_nothing_else(wheel_names):
    tops = {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name}
    assert tops == {"captioning", "configs", "finetune", "passerby", "pretrain", "templates"}


def test_the_wheel_carries_every_data_file(wheel_names):
    shipped = [
        str(path.relative_to(ROOT))
        for folder in ("configs", "templates", "passerby")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert set(shipped) <= set(wheel_names)


def test_help_loads_nothing_heavy():
    code = f"import sys, passerby.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("program", ["passerby", "gen-captions", "pretrain", "finetune"])
def test_every_program_explains_itself(program):
    done = subprocess.run([BIN / program, "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    "command",
    [
        *("demo", "verify", "report", "browse", "select", "exclude", "card", "publish"),
        *("hydrate", "explain", "rerender", "evaluate", "attend", "pack", "parse", "plan"),
        *(f"gen-captions {name}" for name in ("finegpr-c", "synthetic", "luperson-t", "check-words", "finalise")),
        "gen-captions embedded-clip train",
        *(f"pretrain {name}" for name in ("vtbr", "unipt", "mmet", "caption")),
        *(f"finetune {name}" for name in ("reid", "t2i", "mmet", "pi-vl")),
    ],
)
def test_every_command_explains_itself(invoke, command):
    done = invoke(*command.split(), "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output
    assert "Examples" in done.output


def test_the_constraints_name_every_dependency_and_no_place():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert {"torch", "open_clip_torch", "pyarrow", "typer"} <= {line.partition("==")[0] for line in lines}
    assert not [line for line in lines if "@" in line or "/" in line]
