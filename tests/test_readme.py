"""The README's commands and code run, in order, in one fresh folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from programs import succeed

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readme")


def test_every_command_runs(folder):
    commands = [line[2:] for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) >= 4
    for command in commands:
        succeed(*shlex.split(command), cwd=folder)


def test_every_piece_of_code_runs(folder):
    pieces = blocks("python")
    assert pieces
    for piece in pieces:
        done = subprocess.run([sys.executable, "-c", piece], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()
