"""Where a run's data set goes: the folder in which it is made, or a place at a URL (`passerby.shards.staged`)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from passerby.runtime import write_atomically
from passerby.shards.begin import claim
from passerby.shards.staged import RemoteOutput, Units
from passerby.shards.write import ShardRecord, read_record
from passerby.storage import RemoteFolder, cache_folder


class Output(Protocol):
    """Where a run's data set goes."""

    @property
    def root(self) -> Path:
        """Folder in which the run writes."""
        ...

    def claim(self, config: Mapping[str, Any]) -> None:
        """Mark the place as that of a configuration, or refuse; see `passerby.shards.begin.claim`."""
        ...

    def records(self, names: Sequence[str]) -> list[ShardRecord]:
        """Give the records of those shards that are done, of whatever configuration."""
        ...

    def job(self, units: Units, names: Sequence[str], *, config_hash: str) -> Units:
        """Make of units that write shards into `root` ones that bring them where they belong."""
        ...

    def read(self, name: str) -> bytes | None:
        """Read a file beside the shards; nothing, where there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the shards, at once."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file beside the shards, if it is there."""
        ...

    def send_beside(self) -> None:
        """Bring what lies beside the shards in `root` where it belongs, but for the manifest."""
        ...

    def send_manifest(self) -> None:
        """Bring the manifest where it belongs, when all else is there."""
        ...

    def gather(self, names: Sequence[str]) -> bool:
        """Bring the tables of all shards into `root`, and the manifest where there is one; say whether the tars are here."""
        ...

    def finish(self) -> None:
        """Bring all where it belongs, and leave nothing behind."""
        ...


@dataclass(frozen=True, slots=True)
class LocalOutput:
    """A folder, in which units write at once what belongs there."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def claim(self, config: Mapping[str, Any]) -> None:
        """Mark the folder, or refuse."""
        claim(self.root, config)

    def records(self, names: Sequence[str]) -> list[ShardRecord]:
        """Read the records of those shards that are done."""
        return [record for name in names if (record := read_record(self.root, name))]

    def job(self, units: Units, names: Sequence[str], *, config_hash: str) -> Units:
        """Leave the units as they are."""
        return units

    def read(self, name: str) -> bytes | None:
        """Read a file, if it is there."""
        path = self.root / name
        return path.read_bytes() if path.exists() else None

    def write(self, name: str, data: bytes) -> None:
        """Write a file."""
        write_atomically(self.root / name, data)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def send_beside(self) -> None:
        """Leave all where it is."""

    def send_manifest(self) -> None:
        """Leave it where it is."""

    def gather(self, names: Sequence[str]) -> bool:
        """Leave all where it is."""
        return True

    def finish(self) -> None:
        """Leave all where it is."""


def open_output(out: Path | str, staging: Path | None = None) -> LocalOutput | RemoteOutput:
    """Open the place that a user named for a data set.

    Args:
        out: A folder or a URL.
        staging: Where shards are made on their way to a URL; a folder of passerby's cache unless said.

    Raises:
        ValueError: the URL names no place that can be written to; or a folder needs no staging.
        ModuleNotFoundError: the library that reaches the place is not installed.
    """
    if isinstance(out, Path):
        if staging is not None:
            raise ValueError(f"--staging is for an --out at a URL; {out} is a folder, which shards are made in")
        return LocalOutput(out)
    folder = RemoteFolder(out)
    folder.check_writable()
    named = hashlib.sha256(folder.url.encode()).hexdigest()[:16]
    return RemoteOutput(folder, (staging or cache_folder() / "staging" / named).absolute())
