"""Images at a URL, found by one listing: files, or tars."""

from collections.abc import Mapping
from pathlib import PurePosixPath

import pyarrow as pa

from passerby.readers.files import FolderSource, ImageFiles, check_unlisted, open_files
from passerby.readers.inputs import IMAGE_SUFFIXES
from passerby.readers.tars import RemoteTarSource, open_remote_tars
from passerby.storage import RemoteFolder

_LOCAL_ONLY = {".mdb": "an LMDB", ".arrow": "Arrow files"}
"""What is read through a memory map."""


def open_remote(url: str, kind: str, names: pa.Table | None) -> FolderSource | RemoteTarSource:
    """Open images at a URL, as `passerby.readers.luperson.open_source` does in a folder.

    Args:
        url: Of a folder, or of one `.tar`.
        kind: `flat`, `tree`, `tars` or, to look, `auto`.
        names: The images to use; then nothing is listed.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it has to be on a disk of this machine, or `names` do not fit it.
    """
    suffix = PurePosixPath(url).suffix
    if suffix in _LOCAL_ONLY or kind in ("lmdb", "arrow"):
        raise _local_only(url, _LOCAL_ONLY.get(suffix, f"{kind} data"))
    if names is not None and kind != "tars" and suffix != ".tar":
        return open_files(ImageFiles(_image_folder(RemoteFolder(url))), names)
    check_unlisted("tars", names)
    if suffix == ".tar":
        inner, _, name = url.rpartition("/")
        folder = RemoteFolder(inner)
        return open_remote_tars(folder, [name], {name: folder.size(name)})
    folder = RemoteFolder(url)
    sizes = list_remote(folder)
    suffixes = {PurePosixPath(name).suffix for name in sizes if "/" not in name}
    if kind == "auto" and (found := sorted(suffixes & _LOCAL_ONLY.keys())):
        raise _local_only(url, _LOCAL_ONLY[found[0]])
    if kind == "tars" or (kind == "auto" and tars_among(sizes)):
        return open_remote_tars(folder, tars_among(sizes), sizes)
    if any(name.startswith("images/") for name in sizes):
        folder = RemoteFolder(f"{url}/images")
        sizes = {name.removeprefix("images/"): size for name, size in sizes.items() if name.startswith("images/")}
    found_images = images_among(sizes, is_flat=kind == "flat")
    columns = {"name": pa.array(found_images, pa.string()), "size_bytes": pa.array(found_images.values(), pa.int64())}
    return open_files(ImageFiles(folder), pa.table(columns))


def list_remote(folder: RemoteFolder) -> dict[str, int]:
    """List all files at a URL in one pass: size in bytes, by name relative to it; hidden ones are left alone.

    Raises:
        FileNotFoundError: there is none.
    """
    sizes = {name: int(told["size"]) for name, told in folder.files().items()}
    if not sizes:
        raise FileNotFoundError(f"{folder.url} does not exist, or is empty; look at the names of bucket and folder")
    return sizes


def images_among(sizes: Mapping[str, int], *, is_flat: bool = False) -> dict[str, int]:
    """Choose the images among files, as `passerby.readers.inputs.walk_images` does in a folder here."""
    return {
        name: size
        for name, size in sizes.items()
        if name.lower().endswith(IMAGE_SUFFIXES) and not (is_flat and "/" in name)
    }


def tars_among(sizes: Mapping[str, int]) -> list[str]:
    """Choose the tars among files: those of the folder itself, or of the `data` in it, where our own lie."""
    tars = [name for name in sorted(sizes) if name.endswith(".tar")]
    return [name for name in tars if "/" not in name] or [
        name for name in tars if name.startswith("data/") and name.count("/") == 1
    ]


def _image_folder(folder: RemoteFolder) -> RemoteFolder:
    inner = RemoteFolder(f"{folder.url}/images")
    return inner if inner.is_folder() else folder


def _local_only(url: str, what: str) -> ValueError:
    return ValueError(f"{url}: {what} must lie on a disk of this machine, to be mapped into memory; fetch it first")
