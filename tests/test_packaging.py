import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize(
    "command",
    [
        ["passerby"],
        ["passerby", "demo"],
        ["passerby", "verify"],
        ["passerby", "report"],
        ["passerby", "browse"],
        ["passerby", "select"],
        ["passerby", "exclude"],
        ["passerby", "card"],
        ["passerby", "publish"],
        ["passerby", "hydrate"],
        ["pretrain"],
        ["pretrain", "vtbr"],
        ["pretrain", "unipt"],
        ["pretrain", "mmet"],
        ["pretrain", "caption"],
        ["finetune"],
        *(["finetune", name] for name in ("reid", "t2i", "mmet", "pi-vl")),
        ["passerby", "evaluate"],
        ["passerby", "attend"],
        ["passerby", "pack"],
        ["passerby", "parse"],
        ["passerby", "explain"],
        ["passerby", "rerender"],
        ["passerby", "gen-captions", "finegpr-c"],
        ["gen-captions"],
        ["gen-captions", "finegpr-c"],
        ["gen-captions", "synthetic"],
        ["gen-captions", "luperson-t"],
        ["gen-captions", "check-words"],
        ["gen-captions", "embedded-clip", "train"],
    ],
)
def test_every_command_explains_itself(command):
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:], "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout
    if len(command) > 1:
        assert "Examples" in done.stdout


def test_the_constraints_name_every_dependency_and_no_place():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert {"torch", "open_clip_torch", "pyarrow", "typer"} <= {line.partition("==")[0] for line in lines}
    assert not [line for line in lines if "@" in line or "/" in line]
