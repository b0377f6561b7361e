import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from passerby.readers.unpickle import load_plain


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        ["a.jpg", "früh.jpg"],
        {"keys": ["a", "b"], "pids": [1, 2]},
        np.array(["a.jpg", "b.jpg"]),
        np.array([b"a.jpg", b"b.jpg"]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        (1, 2.5, True, None, b"bytes\xff"),
    ],
    ids=str,
)
def test_plain_data_is_read_whatever_the_protocol(tmp_path, protocol, value):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    found = load_plain(tmp_path / "a.pkl")
    if isinstance(value, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert found.tolist() == value.tolist()
    else:
        assert found == value


class Attack:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def object_array() -> np.ndarray:
    return np.array([Attack(os.system, ("touch went-off",)), None], dtype=object)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (Attack(os.system, ("touch went-off",)), r"asks for (posix|nt)\.system"),
        (Attack(eval, ("open('went-off', 'w')",)), r"asks for (builtins|__builtin__)\.eval"),
        (Attack(exec, ("open('went-off', 'w')",)), r"asks for (builtins|__builtin__)\.exec"),
        (["a.jpg", Attack(os.system, ("touch went-off",))], r"asks for (posix|nt)\.system"),
        (object_array(), r"asks for (posix|nt)\.system"),
        (np.array(["a", None], dtype=object), "not plain bytes"),
        (np.array([(1, 2)], dtype=[("a", "i4"), ("b", "O")]), "array"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"array of datetime64"),
        (Attack(np.lib.format.open_memmap, ("went-off", "w+", "i4", (1,))), r"asks for numpy\.lib"),
        (Attack(bytearray, (1 << 40,)), r"asks for (builtins|__builtin__)\.bytearray"),
        (Attack(Path, ("went-off",)), r"asks for pathlib"),
    ],
    ids=["system", "eval", "exec", "within", "object array", "objects", "records", "dates", "numpy", "memory", "path"],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_that_would_do_more_than_hold_data_is_refused(tmp_path, monkeypatch, value, problem, protocol):
    monkeypatch.chdir(tmp_path)
    Path("a.pkl").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(ValueError, match=rf"a\.pkl is no pickle of plain data: .*{problem}"):
        load_plain(Path("a.pkl"))
    assert not Path("went-off").exists()


@pytest.mark.parametrize(
    "content", [b"", b"a.jpg\nb.jpg\n", b"\x80\x05", b"\x80\x05]\x94(\x8c\x05a.jpg", bytes(range(200, 255))]
)
def test_what_is_no_pickle_is_named(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pkl is no pickle"):
        load_plain(tmp_path / "a.pkl")
