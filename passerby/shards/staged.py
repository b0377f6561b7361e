"""A data set that is made for a place at a URL, by way of a staging folder on this machine.

An object store shows an upload when it is whole, and cannot rename. So each shard is made in the staging folder; its tar goes
up, then its table, whose footer is the shard's record: a table that is there vouches for a tar that is there. What was sent is
deleted here, so the disk holds the shards in flight. When all are there, the tables are fetched, what is merged from them is
made here and sent, the manifest last, and the staging folder is removed.
"""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from passerby.config import config_hash
from passerby.network import read_ahead
from passerby.runtime import TEMPORARY_SUFFIX, write_atomically
from passerby.shards.begin import CONFIG_NAME, check_claim, check_claimable, encode_claim
from passerby.shards.manifest import MANIFEST_NAME
from passerby.shards.write import SHARD_PATTERN, ShardRecord, read_footer
from passerby.storage import REQUESTS_AT_ONCE, RemoteFolder

STAGING_MARK = ".passerby-staging.json"
"""The file by which a staging folder is known, and for what; a folder without it is somebody's and is left alone."""

_LOCK = ".lock"
_FOOTER_BYTES = 64 << 10
"""What the first request for a footer asks for; that of a shard of 10,000 samples with 40 columns has some 30 kB."""


class Units(Protocol):
    """Makes shards; see `passerby.engine.Job`."""

    def run_unit(self, index: int) -> ShardRecord:
        """Write shard `index`."""
        ...


@dataclass(frozen=True, slots=True)
class RemoteOutput:
    """A place at a URL, and the staging folder on the way to it."""

    folder: RemoteFolder
    root: Path
    """The staging folder; may be another on every machine that runs units, at the same path."""

    def __str__(self) -> str:
        return self.folder.url

    def claim(self, config: Mapping[str, Any]) -> None:
        """Mark the place and the staging folder, or refuse.

        Raises:
            ValueError: as `passerby.shards.begin.claim`; or the staging folder is somebody's.
            OSError: the place takes nothing.
        """
        self.folder.check_writable()
        found = self.folder.files()
        tops = {name.partition("/")[0] for name in found}
        if check_claimable(self.folder.url, tops, is_claimed=CONFIG_NAME in found):
            self.folder.create(CONFIG_NAME, encode_claim(config))
        check_claim(self.folder.url, self.folder.read(CONFIG_NAME), config)
        self.begin_staging(config_hash(config))

    def records(self, names: Sequence[str]) -> list[ShardRecord]:
        """Read the records of those shards that are done: their tables are there, and tars of the size that these tell."""
        sizes = {name: int(told["size"]) for name, told in self.folder.files().items()}
        listed = [name for name in names if {f"data/{name}.tar", f"meta/{name}.parquet"} <= sizes.keys()]
        found = read_ahead(partial(self._record, sizes=sizes), listed, at_once=REQUESTS_AT_ONCE)
        return [record for _, record in found if record is not None]

    def job(self, units: Units, names: Sequence[str], *, config_hash: str) -> Units:
        """Make of units that write shards into the staging folder ones that send them on."""
        return _Sending(units, self, tuple(names), config_hash)

    def read(self, name: str) -> bytes | None:
        """Read a file, if it is there."""
        try:
            return self.folder.read(name)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file by way of the staging folder."""
        write_atomically(self.root / name, data)
        self.folder.upload(name, self.root / name)

    def remove(self, name: str) -> None:
        """Remove a file there and here, if it is there."""
        (self.root / name).unlink(missing_ok=True)
        if self.folder.exists(name):
            self.folder.remove(name)

    def send_beside(self) -> None:
        """Send what lies in the staging folder and is no shard's, but for the manifest."""
        names = [path.relative_to(self.root).as_posix() for path in sorted(self.root.rglob("[!.]*")) if path.is_file()]
        for name in names:
            if name != MANIFEST_NAME and not SHARD_PATTERN.fullmatch(PurePosixPath(name).stem):
                self.folder.upload(name, self.root / name)

    def send_manifest(self) -> None:
        """Send the manifest."""
        self.folder.upload(MANIFEST_NAME, self.root / MANIFEST_NAME)

    def gather(self, names: Sequence[str]) -> bool:
        """Fetch all tables: those that lie there are the ones that the manifest must vouch for, wherever they were made.

        Raises:
            FileNotFoundError: shards are not done.
            ValueError: files lie there that are no shard's.
        """
        files = self.folder.files()
        found = {name for name in files if name.startswith(("data/", "meta/"))}
        expected = {place for name in names for place in (f"data/{name}.tar", f"meta/{name}.parquet")}
        if missing := sorted(expected - found):
            raise FileNotFoundError(f"{self.folder.url} lacks {len(missing)} files, such as {missing[0]}; run again")
        if strangers := sorted(found - expected - {"data/sizes.json"}):
            raise ValueError(f"{self.folder.url} holds files of no shard of this data set: {strangers[0]}; delete them")
        for folder in ("data", "meta"):
            (self.root / folder).mkdir(exist_ok=True)
        wanted = [f"meta/{name}.parquet" for name in names] + [MANIFEST_NAME] * (MANIFEST_NAME in files)
        for _ in read_ahead(
            lambda name: self.folder.download(name, self.root / name), wanted, at_once=REQUESTS_AT_ONCE
        ):
            pass  # several at a time
        return False

    def finish(self) -> None:
        """Send what lies beside the shards, and remove the staging folder."""
        self.send_beside()
        self.send_manifest()
        self.folder.remove_unfinished()
        shutil.rmtree(self.root)

    def record(self, name: str) -> ShardRecord | None:
        """Read the record of one shard, if it is done."""
        sizes = {}
        for file in (f"meta/{name}.parquet", f"data/{name}.tar"):
            try:
                sizes[file] = self.folder.size(file)
            except FileNotFoundError:
                return None
        return self._record(name, sizes)

    def send(self, name: str) -> None:
        """Send a shard that lies in the staging folder, its table last, and delete it here."""
        ranks = {"meta": 2, "data": 1}
        files = sorted(self.root.glob(f"[!.]*/{name}.*"), key=lambda path: ranks.get(path.parent.name, 0))
        for path in files:
            self.folder.upload(path.relative_to(self.root).as_posix(), path)
        for path in files:
            path.unlink()

    def _record(self, name: str, sizes: Mapping[str, int]) -> ShardRecord | None:
        """Read a record from the end of a table; none where it vouches for another tar than the one there."""
        table = f"meta/{name}.parquet"
        end = self.folder.read(table, max(0, sizes[table] - _FOOTER_BYTES), sizes[table])
        footer_bytes = int.from_bytes(end[-8:-4], "little") + 8  # the last 8 bytes of Parquet: length and "PAR1"
        if len(end) < footer_bytes <= sizes[table]:
            end = self.folder.read(table, sizes[table] - footer_bytes, sizes[table])
        try:
            record = read_footer(BytesIO(end[-footer_bytes:]))
        except ValueError:
            return None
        return record if (record.name, record.size_bytes) == (name, sizes[f"data/{name}.tar"]) else None

    def begin_staging(self, config_hash: str) -> None:
        """Mark the staging folder; empty it, if a run of another configuration or to another place has left it.

        Raises:
            ValueError: it is somebody's.
        """
        mark = self.root / STAGING_MARK
        self.root.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in self.root.iterdir()} - {mark.name, _LOCK}
        strangers = sorted(name for name in names if not name.endswith(TEMPORARY_SUFFIX))
        if strangers and not mark.exists():  # asked after listing: another worker may be beginning here
            raise ValueError(
                f"{self.root} holds {strangers[0]!r} and is no staging folder; give --staging a new or empty folder"
            )
        told = json.dumps({"for": self.folder.url, "config_hash": config_hash}).encode()
        with _only_one(self.root / _LOCK):
            if mark.exists() and mark.read_bytes() == told:
                return
            for name in strangers:
                path = self.root / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            write_atomically(mark, told)


@dataclass(frozen=True, slots=True)
class _Sending:
    """Units whose shards are sent on."""

    units: Units
    output: RemoteOutput
    names: tuple[str, ...]
    config_hash: str

    def run_unit(self, index: int) -> ShardRecord:
        """Make shard `index` and send it, unless it is there, perhaps sent a moment ago by another machine."""
        name = self.names[index]
        self.output.begin_staging(self.config_hash)  # on another machine nobody has
        with _only_one(self.output.root / f".{name}.lock"):
            done = self.output.record(name)
            if done is not None and done.config_hash == self.config_hash:
                return done
            record = self.units.run_unit(index)
            self.output.send(name)
        return record


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Let one process of this machine at a time do something; a process that is killed lets go."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
