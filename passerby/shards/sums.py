"""`SHA256SUMS`: the hashes of all files of a folder, as the `sha256sum` command writes and checks them."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from passerby.runtime import write_atomically

SUMS_NAME = "SHA256SUMS"

FULL = "full"
"""Folder of a captions-only copy with everything of the full data set that its images cannot be asked for again."""

_LINE = re.compile(r"(?P<sha256>[0-9a-f]{64})  (?P<name>[^\0\n]+)")


def hash_file(path: Path) -> str:
    """Hash a file: sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path, sums: Mapping[str, str]) -> None:
    """Write `folder`'s SHA256SUMS, from names relative to it and their hashes."""
    write_atomically(folder / SUMS_NAME, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())


def read_sums(data: bytes) -> dict[str, str]:
    """Read what `write_sums` wrote: the hash of each file, by name.

    Raises:
        ValueError: it is something else, or names a file outside its folder.
    """
    sums: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        found = _LINE.fullmatch(line)
        if found is None or not is_inside(found["name"]):
            raise ValueError(
                f"{SUMS_NAME} has the line {line!r:.200}; lines are a sha256, two spaces, and a relative path"
            )
        sums[found["name"]] = found["sha256"]
    return sums


def is_inside(name: str) -> bool:
    """Say whether a path that a stranger wrote stays in the folder that it is relative to, and hides no file."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not any(part.startswith((".", "/")) for part in parts) and "\\" not in name


def check_sums(folder: Path) -> Iterator[str]:
    """Yield a line for every file of a folder that is not what its SHA256SUMS says."""
    try:
        sums = read_sums((folder / SUMS_NAME).read_bytes())
    except FileNotFoundError:
        yield f"{folder.name}/{SUMS_NAME} is missing"
        return
    except ValueError as error:
        yield f"{folder.name}/{error}"
        return
    for name, expected in sums.items():
        if not (folder / name).is_file():
            yield f"{folder.name}/{name} is missing"
        elif hash_file(folder / name) != expected:
            yield f"{folder.name}/{name} has another sha256 than {SUMS_NAME} says"
