"""LUPerson, or any folder of person crops, however it lies on disk or, but for the last two, at a URL: five kinds.

flat     IMAGES/*.jpg, with or without a list of names, such as the quality-sorted `CFS_list.pkl` of TransReID-SSL
tree     COUNTRY/CITY/VIDEO/00000012_0003.jpg at any depth, as LUPerson's own scripts make it
tars     WebDataset shards, ours or others'
lmdb     `data.mdb` with `keys.pkl`, values are encoded images
arrow    `LUPerson_train.arrow`, as UniPT publishes LUPerson-T
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.containers import ArrowSource, LmdbSource, open_arrow, open_lmdb
from passerby.readers.files import Content, FolderSource, ImageFiles, check_unlisted, open_files
from passerby.readers.inputs import IMAGE_SUFFIXES, walk_images
from passerby.readers.remote import open_remote
from passerby.readers.tars import RemoteTarSource, TarSource, open_tars
from passerby.readers.unpickle import load_plain

SourceKind = Literal["flat", "tree", "lmdb", "tars", "arrow"]
AnySource = FolderSource | TarSource | RemoteTarSource | LmdbSource | ArrowSource


class Source(Protocol):
    """Images to caption. Picklable; opens what it reads lazily in each process."""

    @property
    def kind(self) -> SourceKind:
        """How the images lie on disk."""
        ...

    @property
    def inputs(self) -> pa.Table:
        """One row an image, sorted by key: the columns of `readers.inputs.build_inputs`."""
        ...

    def read(self, row: Mapping[str, Any]) -> bytes:
        """Give the encoded image of one row of `inputs`, which nobody has inspected yet.

        Raises:
            passerby.images.ImageProblem: it cannot be had.
        """
        ...

    def read_all(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Content]:
        """Give the encoded image of each row, or why it is not to be had; from a URL, several at once."""
        ...


def open_source(
    location: Path | str,
    *,
    kind: SourceKind | Literal["auto"] = "auto",
    names: Path | None = None,
    keep: int | None = None,
) -> Source:
    """Open images of any of the five kinds.

    Args:
        location: A folder, or one `.tar` or `.arrow` file; or the URL of images or tars.
        kind: What it is; `auto` looks.
        names: The images to use, best first: a text file with one name a line or a pickled list, relative to the image
            folder; in case of an LMDB its keys. A name given twice counts once. Every name stays an input, be the image
            there or not.
        keep: Use only the first so many, of the names or else of the images in order of their keys.

    Raises:
        FileNotFoundError: `location` or `names` does not exist.
        ValueError: nothing of the kind is there, or an option does not fit it.
    """
    if keep is not None and keep < 1:
        raise ValueError(f"keep is {keep}; it must be at least 1")
    chosen = None if names is None else read_names(names).slice(0, keep)
    source = _open_path(location, kind, chosen) if isinstance(location, Path) else open_remote(location, kind, chosen)
    images = source.inputs.slice(0, keep) if names is None else source.inputs
    if images.num_rows == 0:
        raise _no_image(location)
    pa.default_memory_pool().release_unused()  # what names and keys took on their way into their file
    return replace(source, inputs=images)


def read_names(path: Path) -> pa.Table:
    """Read a list of names: text with one a line, or a pickled list, or a pickled dict of `keys` and perhaps `pids`.

    Returns:
        Columns `name`, and `person_id` where it is known, in the order of the list, each name once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    if path.suffix not in (".pkl", ".pickle"):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no UTF-8 text; the name of a pickled list must end in .pkl") from error
        # As one text cut by Arrow, four million lines cost no Python object each.
        lines = pc.split_pattern(pa.array([text]), "\n").flatten()
        table = pa.table({"name": pc.utf8_trim_whitespace(lines)})
        return _each_once(table.filter(pc.not_equal(table["name"], "")))
    content = load_plain(path)
    listed = content if isinstance(content, dict) else {"keys": content}
    try:
        columns = {"name": _texts(listed["keys"])}
        if "pids" in listed:
            columns["person_id"] = _texts(listed["pids"])
        return _each_once(pa.table(columns))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no list of names, nor a dict with keys (and pids): {error}") from None


def _open_path(path: Path, kind: SourceKind | Literal["auto"], names: pa.Table | None) -> AnySource:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a folder of images, or an LMDB, tars or Arrow files")
    kind = _recognise(path) if kind == "auto" else kind
    if kind in ("tars", "arrow"):
        check_unlisted(kind, names)
        found = _tars(path) if kind == "tars" else sorted(path.glob("*.arrow"))
        files = [path] if path.is_file() else found
        if not files:
            raise _no_image(path)
        return open_tars(path, files) if kind == "tars" else open_arrow(files)
    if kind == "lmdb":
        keys = path / "keys.pkl"
        return open_lmdb(path, read_names(keys) if names is None and keys.is_file() else names)
    folder = path / "images" if (path / "images").is_dir() else path
    if names is None:
        names = pa.table({"name": pa.array(walk_images(str(folder), is_flat=kind == "flat"), pa.string())})
    return open_files(ImageFiles(folder), names)


def _recognise(path: Path) -> SourceKind:
    if not path.is_dir():
        if path.suffix in (".tar", ".arrow"):
            return "tars" if path.suffix == ".tar" else "arrow"
        raise ValueError(f"{path} is a file of no kind known here; give a folder, a .tar or an .arrow file")
    # In one pass: the folder may hold millions of images.
    with os.scandir(path) as entries:
        suffixes = {os.path.splitext(entry.name)[1] for entry in entries}  # noqa: PTH122  (ten times as fast as a Path)
    if ".mdb" in suffixes:
        return "lmdb"
    if ".arrow" in suffixes:
        return "arrow"
    return "tars" if ".tar" in suffixes or any(path.glob("data/*.tar")) else "tree"


def _no_image(location: Path | str) -> ValueError:
    return ValueError(f"{location} holds no image; looked for {', '.join(IMAGE_SUFFIXES)}, data.mdb, *.tar and *.arrow")


def _tars(folder: Path) -> list[Path]:
    """List the shards of a folder, or of the `data` in it, where our own lie."""
    return sorted(folder.glob("*.tar")) or sorted(folder.glob("data/*.tar"))


def _texts(values: object) -> pa.Array:
    """Make strings of the names or person ids of a pickle: a list or array of text, bytes or numbers."""
    if not isinstance(values, list | tuple | np.ndarray):
        raise TypeError(f"{type(values).__name__} instead of a list")
    kinds: dict[type, Callable[[Any], str]] = {str: str, int: str, bytes: bytes.decode}
    listed = values.tolist() if isinstance(values, np.ndarray) else values
    if unknown := set(map(type, listed)) - kinds.keys():
        raise TypeError(f"a list of {', '.join(sorted(kind.__name__ for kind in unknown))}")
    return pa.array((kinds[type(value)](value) for value in listed), pa.string())


def _each_once(table: pa.Table) -> pa.Table:
    encoded = table["name"].combine_chunks().dictionary_encode()
    if len(encoded.dictionary) == len(table):
        return table
    # codes are given in the order of first appearance, so a first appearance is where the code is a new maximum
    codes = np.asarray(encoded.indices)
    return table.filter(pa.array(np.diff(np.maximum.accumulate(codes), prepend=-1) > 0))
