"""Put one's own images back into a captions-only copy: the data set it was made from, byte for byte.

Every byte of a tar follows from the table of its shard in the copy's folder `full/` and from the images: headers and padding
from names and sizes, JSON and text from the fields. So whether all is well is one comparison with the sha256 of the manifest.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from passerby.columnar import rows_of
from passerby.engine import run_units
from passerby.runtime import atomic_file, remove_stale_temporaries, write_atomically
from passerby.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from passerby.shards.sums import FULL, SUMS_NAME, hash_file, is_inside, read_sums
from passerby.shards.table import TEXT_MEMBERS, hash_column, layout_of, open_table, text_members
from passerby.shards.tar import TarWriter
from passerby.shards.verify import Problem
from passerby.shards.write import meta_path, tar_path
from passerby.storage import RemoteFolder, is_url

PARSING = "parsing.png"
"""The one extra that comes from a folder of its own: `PATH.png` for the image `PATH.jpg`."""

_ROWS_A_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Hydrated:
    """What came of it."""

    shards: int
    kept: int
    """Samples of the whole data set."""
    problems: tuple[Problem, ...]
    """What is missing or is not what was captioned; the data set is whole where there is none."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that is not where its path says, or is another there."""

    shard: int
    key: str
    member: str
    path: str
    """Relative to the folder of its kind."""
    is_other: bool
    """There is a file, with other bytes."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Hydration:
    """Builds the tars; see `passerby.engine.Job`."""

    out: Path
    manifest: Manifest
    folders: Mapping[str, Path]
    """Where the files of each kind of member (`image`, `parsing.png`) lie."""
    by_hash: Mapping[str, Path] = field(default_factory=dict)
    """Files that lie elsewhere than their path says, by sha256."""

    def run_unit(self, index: int) -> list[Missing]:
        """Build the tar of shard `index`, unless it is there; or list what it lacks."""
        record = self.manifest.shards[index]
        path = tar_path(self.out, record.name)
        if path.is_file() and path.stat().st_size == record.size_bytes and hash_file(path) == record.sha256:
            return []
        missing: list[Missing] = []
        with suppress(_IncompleteError), atomic_file(path) as file:
            tar = TarWriter(file)
            for key, members in self._samples(index, missing):
                if not missing:  # from the first one on, the rest is only looked through
                    tar.add(key, members)
            if missing:
                raise _IncompleteError
            tar.finish()
            if tar.sha256 != record.sha256:
                raise ValueError(
                    f"{path.name} comes out with another sha256 than its manifest says: {FULL}/ is damaged"
                )
        return missing

    def _samples(self, index: int, missing: list[Missing]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
        """Yield key and members of each sample; note what cannot be had in `missing`."""
        with open_table(meta_path(self.out, self.manifest.shards[index].name)) as table:
            fields, names = layout_of(table.schema_arrow)
            for row in rows_of(table.iter_batches(_ROWS_A_BATCH)):
                if row["status"] != "kept":
                    continue
                text = text_members({name: row[name] for name in fields})
                members = []
                for name in names:
                    content = text[name] if name in text else self._file(index, row, name)
                    if isinstance(content, Missing):
                        missing.append(content)
                    else:
                        members.append((row["image_extension"] if name == "image" else name, content))
                yield row["key"], members

    def _file(self, index: int, row: Mapping[str, Any], member: str) -> bytes | Missing:
        """Read the file that a member was made from."""
        expected = row[hash_column(member)]
        path = row["path"] if member == "image" else PurePosixPath(row["path"]).with_suffix(".png").as_posix()
        places = [self.folders[member] / path] if is_inside(path) else []
        if expected in self.by_hash:
            places.append(self.by_hash[expected])
        is_other = False
        for place in places:
            if place.is_file():
                data = place.read_bytes()
                if hashlib.sha256(data).hexdigest() == expected:
                    return data
                is_other = True
        return Missing(index, row["key"], member, path, is_other, expected, row[f"{member}_size"])


class _IncompleteError(Exception):
    """Leaves the block of a file that shall not be."""


def hydrate(
    captions: str,
    images: Path,
    out: Path,
    *,
    parsing: Path | None = None,
    workers: int = 1,
    on_progress: Callable[[int, int, str], None] = lambda done, total, note: None,
) -> Hydrated:
    """Make the data set that a captions-only copy was made from, with one's own images.

    A file counts where its sha256 is the one that was captioned, at its stored path or, failing that, anywhere in the folder.
    The manifest is written last, and only when nothing is missing. A run that was killed, or that lacked images, is completed
    by the next one.

    Args:
        captions: Folder or URL of the copy.
        images: Folder of the images.
        out: Folder of the data set to be; new, empty, or of an earlier run.
        parsing: Folder of the parsing maps.
        workers: Processes; the bytes are the same for any number.
        on_progress: Called with the shards done, all shards, and a note.

    Raises:
        FileNotFoundError: `captions`, `images` or `parsing` does not exist, or `captions` is no captions-only copy.
        ValueError: the copy is damaged, or `out` holds something else.
    """
    folders = {"image": images, **({} if parsing is None else {PARSING: parsing})}
    for folder in folders.values():
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} does not exist; give the folder of your own copy")
    source = RemoteFolder(f"{captions}/{FULL}" if is_url(captions) else f"file://{Path(captions).absolute()}/{FULL}")
    sums = _read_full_sums(source, captions)
    manifest = _read_full_manifest(source, sums)
    _claim(out, sums)
    for name in sorted(sums):
        if name.startswith("meta/"):
            _fetch(source, name, sums[name], out)
    _check_members(out, manifest, folders)
    job = Hydration(out, manifest, folders)
    missing = _build(job, range(len(manifest.shards)), workers, on_progress)
    if missing:
        job = replace(job, by_hash=_find_by_hash(missing, folders))
        missing = _build(job, sorted({each.shard for each in missing}), workers, on_progress)
    problems = tuple(_problem(each, manifest, folders) for each in missing)
    if not problems:
        for name in sorted(sums, key=lambda name: (name == MANIFEST_NAME, name)):  # the manifest last
            _fetch(source, name, sums[name], out)
    return Hydrated(len(manifest.shards), manifest.kept, problems)


def _read_full_sums(source: RemoteFolder, captions: str) -> dict[str, str]:
    try:
        sums = read_sums(source.read(SUMS_NAME))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{captions} is no captions-only copy: it has no {FULL}/{SUMS_NAME}; passerby publish makes one"
        ) from None
    allowed = {"data/sizes.json", *(name for name in sums if re.fullmatch(r"[^/]+|meta/[^/]+\.parquet", name))}
    if MANIFEST_NAME not in sums or sums.keys() - allowed:
        wrong = sorted(sums.keys() - allowed) or f"no {MANIFEST_NAME}"
        raise ValueError(f"{captions}/{FULL}/{SUMS_NAME} is not that of a data set: it has {wrong}")
    return sums


def _read_full_manifest(source: RemoteFolder, sums: Mapping[str, str]) -> Manifest:
    with TemporaryDirectory(prefix="passerby-hydrate-") as folder:
        _fetch(source, MANIFEST_NAME, sums[MANIFEST_NAME], Path(folder))
        manifest = read_manifest(Path(folder))
    tables = {f"meta/{name}.parquet": sha256 for name, sha256 in manifest.tables.items()}
    if tables != {name: sha256 for name, sha256 in sums.items() if name.startswith("meta/")}:
        raise ValueError(f"{source.url}: {SUMS_NAME} and {MANIFEST_NAME} disagree on the tables; get the copy again")
    return manifest


def _claim(out: Path, sums: Mapping[str, str]) -> None:
    """Take a folder that is new, empty, or of an earlier run; refuse any other.

    Raises:
        ValueError: it holds files of something else.
    """
    for folder in (out, out / "data", out / "meta"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder)
    tars = {f"data/{PurePosixPath(name).stem}.tar" for name in sums if name.startswith("meta/")}
    for path in sorted(out.rglob("[!.]*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and name not in tars and (name not in sums or hash_file(path) != sums[name]):
            raise ValueError(f"{out} holds {name}, which is not of this data set; give --out a new or empty folder")


def _fetch(source: RemoteFolder, name: str, sha256: str, out: Path) -> None:
    """Copy a file of `full/`, unless it is there."""
    if (out / name).is_file():
        return  # its hash was compared when the folder was claimed
    data = source.read(name)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ValueError(f"{source.url}/{name} has another sha256 than {SUMS_NAME} says; get the copy again")
    write_atomically(out / name, data)


def _check_members(out: Path, manifest: Manifest, folders: Mapping[str, Path]) -> None:
    """Refuse to begin where a kind of member has no folder to come from."""
    for record in manifest.shards:
        with open_table(meta_path(out, record.name)) as table:
            names = layout_of(table.schema_arrow)[1]
        if lacking := [name for name in names if name not in (*folders, *TEXT_MEMBERS)]:
            advice = "give --parsing FOLDER" if lacking == [PARSING] else "they have no folder to come from"
            raise ValueError(f"the samples of {record.name} have {', '.join(lacking)}: {advice}")


def _build(
    job: Hydration, indices: Sequence[int], workers: int, on_progress: Callable[[int, int, str], None]
) -> list[Missing]:
    missing: list[Missing] = []
    for done, found in enumerate(run_units(job, indices, workers=workers), start=1):
        missing += found
        on_progress(done, len(indices), f"{len(missing):,} files not found" if missing else "")
    return missing


def _find_by_hash(missing: Sequence[Missing], folders: Mapping[str, Path]) -> dict[str, Path]:
    """Find files that lie elsewhere; only those of a size that is wanted are read."""
    found: dict[str, Path] = {}
    for member, folder in folders.items():
        sizes = {each.size_bytes for each in missing if each.member == member}
        wanted = {each.sha256 for each in missing if each.member == member}
        for path in sorted(folder.rglob("*")) if wanted else ():
            if path.is_file() and path.stat().st_size in sizes and (sha256 := hash_file(path)) in wanted:
                found[sha256] = path
    return found


def _problem(missing: Missing, manifest: Manifest, folders: Mapping[str, Path]) -> Problem:
    what = "image" if missing.member == "image" else missing.member
    folder = folders[missing.member]
    wrong = f"in {folder} is not the one that was captioned" if missing.is_other else f"is not in {folder}"
    return Problem(
        manifest.shards[missing.shard].name, missing.key, f"its {what} {missing.path} {wrong} (sha256 {missing.sha256})"
    )
