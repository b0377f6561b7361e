"""Every reader gives a sound result or one clear error for whatever it is given, in bounded memory and time.

`pytest tests/faults/test_hostile.py --hostile 10000` makes so many files in all; `--fault-seed` draws others.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from targets import TARGETS

HOSTILE = Path(__file__).with_name("hostile.py")


@pytest.fixture(scope="module")
def told(request, tmp_path_factory):
    """What came of the damaged files of each target."""
    count = max(1, request.config.getoption("--hostile") // len(TARGETS))
    options = {
        "--count": count,
        "--seed": request.config.getoption("--fault-seed"),
        "--folder": tmp_path_factory.mktemp("hostile"),
    }
    words = [str(word) for pair in options.items() for word in pair]
    done = subprocess.run([sys.executable, str(HOSTILE), *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stderr}"
    return {line["target"]: line for line in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_sound_or_one_clear_error(told, name):
    assert told[name]["faults"] == {}
    assert sum(told[name]["outcomes"].values()) > 0
