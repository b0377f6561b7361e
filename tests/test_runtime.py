import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
from hashlib import blake2b
from itertools import product

import pytest

from passerby.runtime import (
    TEMPORARY_SUFFIX,
    atomic_file,
    create_atomically,
    draw,
    remove_stale_temporaries,
    write_atomically,
)

HOLD_TEMPORARY = """
import sys
from pathlib import Path
from passerby.runtime import atomic_file
with atomic_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("open", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def writer(tmp_path):
    """A process in the middle of writing `tmp_path / "a"`."""
    command = [sys.executable, "-c", HOLD_TEMPORARY, str(tmp_path / "a")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"open\n"
    yield process
    process.kill()
    process.communicate()


def test_a_write_replaces_the_whole_file(tmp_path):
    write_atomically(tmp_path / "a", b"first and longer")
    write_atomically(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"second"
    assert names(tmp_path) == ["a"]


def test_a_written_file_has_the_mode_of_any_new_file(tmp_path):
    write_atomically(tmp_path / "a", b"")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "a") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_the_file_has_no_name_of_its_own_until_it_is_whole(tmp_path):
    with atomic_file(tmp_path / "a") as file:
        file.write(b"new")
        (temporary,) = names(tmp_path)
        assert temporary.startswith(".a.")
        assert temporary.endswith(TEMPORARY_SUFFIX)
    assert names(tmp_path) == ["a"]


def test_only_the_first_of_two_creates_a_file(tmp_path):
    assert create_atomically(tmp_path / "a", b"first") is True
    assert create_atomically(tmp_path / "a", b"second") is False
    assert (tmp_path / "a").read_bytes() == b"first"
    assert names(tmp_path) == ["a"]


def test_a_folder_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_atomically(tmp_path / "nowhere" / "a", b"")


def test_cleaning_spares_a_living_writer_and_removes_a_dead_ones_file(tmp_path, writer):
    assert remove_stale_temporaries(tmp_path) == 0
    assert len(names(tmp_path)) == 1
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert remove_stale_temporaries(tmp_path) == 1
    assert names(tmp_path) == []


def test_a_writer_spared_by_cleaning_finishes(tmp_path, writer):
    remove_stale_temporaries(tmp_path)
    writer.communicate(b"")
    assert (tmp_path / "a").read_bytes() == b"half"


def test_cleaning_touches_nothing_else(tmp_path):
    for name in (".hidden", "a", f"not-hidden{TEMPORARY_SUFFIX}"):
        (tmp_path / name).touch()
    assert remove_stale_temporaries(tmp_path) == 0
    assert len(names(tmp_path)) == 3


def test_a_cleaner_between_open_and_lock_makes_the_writer_begin_again(tmp_path, monkeypatch):
    """The cleaner here is a process that gets the lock first: it takes the temporary for a dead writer's, and removes it."""
    lock, calls = fcntl.flock, []

    def lock_after_the_cleaner(file, operation):
        calls.append(operation)
        if len(calls) == 1:
            assert remove_stale_temporaries(tmp_path) == 1
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_cleaner)
    write_atomically(tmp_path / "a", b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert names(tmp_path) == ["a"]


def _write_many(folder):
    for index in range(100):
        write_atomically(folder / f"{os.getpid()}-{index}", b"x")


def test_cleaning_all_the_time_harms_no_writer(tmp_path):
    processes = [multiprocessing.Process(target=_write_many, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        remove_stale_temporaries(tmp_path)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(names(tmp_path)) == 200


def test_nothing_is_removed_where_there_are_no_locks(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    write_atomically(tmp_path / "a", b"whole")
    (tmp_path / f".b.0{TEMPORARY_SUFFIX}").touch()
    assert remove_stale_temporaries(tmp_path) == 0
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_draw_is_the_hash_of_its_arguments():
    named = b"7\x002\x00template\x000001_c1"
    assert draw(7, "0001_c1", 2, "template") == int.from_bytes(blake2b(named, digest_size=8).digest(), "big")


def test_every_argument_of_a_draw_matters():
    arguments = list(product((0, 1, 10, 101), ("a", "b", "1", ""), (0, 1, 11), ("", "x")))
    assert len({draw(*each) for each in arguments}) == len(arguments)


def test_draws_are_spread_evenly():
    counts = [0] * 8
    for index in range(8000):
        counts[draw(0, f"key{index}") % 8] += 1
    assert all(900 < count < 1100 for count in counts)  # 1000 expected, standard deviation 30


def test_a_key_that_is_no_unicode_can_be_drawn_for():
    assert draw(0, "caf\udce9") != draw(0, "caf\udcea")


def test_cleaning_for_this_machine_leaves_what_others_may_be_writing(tmp_path, writer):
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    elsewhere = f".a.0123abcd-89ef0123{TEMPORARY_SUFFIX}"
    (tmp_path / elsewhere).touch()
    assert remove_stale_temporaries(tmp_path, only_of_this_machine=True) == 1
    assert names(tmp_path) == [elsewhere]
    assert remove_stale_temporaries(tmp_path) == 1
