"""Hand a data set on, by default without its images."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from passerby.publish.captions import files_without_images, write_captions_only
from passerby.publish.hub import PREFIX, HubTarget
from passerby.publish.target import CLOSING, FolderTarget, Target, Upload
from passerby.shards.manifest import MANIFEST_NAME, Manifest, read_manifest
from passerby.shards.sums import FULL
from passerby.shards.verify import verify
from passerby.storage import RemoteFolder, is_url

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Published:
    """What went where, or would go."""

    sent: tuple[Upload, ...]
    there: tuple[Upload, ...]
    """Files that lay there already, byte for byte."""
    left_out: tuple[str, ...]
    """Files of the data set that a captions-only copy does not hold, but for its tars."""
    retries: int

    @property
    def sent_bytes(self) -> int:
        """Size of what was sent."""
        return sum(upload.size_bytes for upload in self.sent)


def publish(
    root: Path,
    target: str,
    *,
    with_images: bool = False,
    acknowledged: str = "",
    is_dry_run: bool = False,
    workers: int = 1,
    on_progress: Progress = lambda done, total, note: None,
) -> Published:
    """Copy a data set to `target`, without its images unless they are wanted; what lies there already is not sent again.

    The manifest goes last but for the card, and an older one is removed first: at any moment the target is a whole data set
    or none. A run that was killed is completed by the next one.

    Args:
        root: Folder of the data set, which is verified first.
        target: A folder, `hf://datasets/ORG/NAME`, `s3://bucket/folder`, or another URL that fsspec writes to.
        with_images: Send it as it is.
        acknowledged: Needed for images: the name of the source whose licence allows to hand them on, as the manifest has it.
        is_dry_run: Only say what would be sent.
        workers: Processes that verify and pack, then threads that send.
        on_progress: Called with the files done, all files, and the name of the last.

    Raises:
        FileNotFoundError: `root` is no data set.
        ValueError: it is damaged, its images may not be sent, or the target holds another data set's files.
        OSError: the target cannot be reached.
    """
    manifest = read_manifest(root)
    if with_images:
        _check_licence(manifest, acknowledged)
    place = open_target(target)
    _check_apart(root, target)
    _check_sound(root, workers)
    with _copy_of(root, manifest, workers, with_images=with_images) as folder:
        uploads = plan_uploads(folder)
        _check_free(target, place.names(), folder, uploads)
        with ThreadPoolExecutor(workers) as pool:
            is_there = dict(zip(uploads, pool.map(place.holds, uploads), strict=True))
        to_send, there = _sort_out(uploads, is_there)
        retries: list[Exception] = []
        if not is_dry_run and to_send:
            done: list[Upload] = []

            def on_done(upload: Upload) -> None:
                done.append(upload)
                on_progress(len(done), len(to_send), upload.name)

            place.send(to_send, workers=workers, on_retry=retries.append, on_done=on_done)
    return Published(to_send, there, _left_out(root, manifest, with_images=with_images), len(retries))


def open_target(target: str) -> Target:
    """Open the place that `target` names.

    Raises:
        ValueError: it is no such place.
        ModuleNotFoundError: the library that reaches it is not installed.
    """
    if not target.startswith("hf://"):
        return FolderTarget(_folder_of(target))
    repository = target.removeprefix(PREFIX).rstrip("/")
    if not target.startswith(PREFIX) or repository.count("/") != 1 or "@" in repository:
        raise ValueError(f"{target} names no data set on the Hub; it must be {PREFIX}ORG/NAME")
    return HubTarget(repository)


def _folder_of(target: str) -> RemoteFolder:
    return RemoteFolder(target if is_url(target) else f"file://{Path(target).absolute()}")


def plan_uploads(folder: Path) -> list[Upload]:
    """List the files of a data set in the order in which they go: shards, the rest, and the closing ones."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    named = {path.relative_to(folder): path for path in files}
    uploads = [
        Upload(name.as_posix(), path, path.stat().st_size)
        for name, path in named.items()
        if not any(part.startswith(".") for part in name.parts)  # such as what a killed run has left unfinished
    ]
    return sorted(uploads, key=lambda upload: (_rank(upload.name), upload.name))


def _rank(name: str) -> int:
    if name in CLOSING:
        return 2 + CLOSING.index(name)
    return 0 if name.startswith("data/") else 1


def _sort_out(
    uploads: Sequence[Upload], is_there: Mapping[Upload, bool]
) -> tuple[tuple[Upload, ...], tuple[Upload, ...]]:
    """Part what is to be sent from what is there; the manifest goes with any shard, for it is taken away meanwhile."""
    is_whole = all(is_there[upload] for upload in uploads if upload.name not in CLOSING)
    stays = {upload: is_there[upload] and (upload.name != MANIFEST_NAME or is_whole) for upload in uploads}
    return tuple(each for each in uploads if not stays[each]), tuple(each for each in uploads if stays[each])


def _check_licence(manifest: Manifest, acknowledged: str) -> None:
    source = str(manifest.header.get("source", "the images"))
    if manifest.has_images and acknowledged != source:
        raise ValueError(
            f"the images of {source} may go only where their licence lets you hand them on; if it does,"
            f' say so with --acknowledge "{source}", or publish the captions alone'
        )


def _check_sound(root: Path, workers: int) -> None:
    problems = verify(root, workers=workers).problems
    if problems:
        first = ": ".join(part for part in (problems[0].shard, problems[0].key, problems[0].message) if part)
        raise ValueError(f"{root} is damaged, {len(problems)} problems, first {first}; run passerby verify {root}")


def _check_apart(root: Path, target: str) -> None:
    here, there = root.resolve(), Path(target.removeprefix("file://")).resolve()
    if is_url(target) and not target.startswith("file://"):
        return
    if here == there or here in there.parents or there in here.parents:
        raise ValueError(f"{target} and {root} lie in one another; publish to a folder beside it")


def _check_free(target: str, names: Sequence[str], folder: Path, uploads: Sequence[Upload]) -> None:
    """Refuse a place where other shards lie (every client would read them as ours), or the images that we leave out."""
    expected = {upload.name for upload in uploads}
    strangers = sorted(
        name for name in names if name.startswith(("data/", "meta/", f"{FULL}/")) and name not in expected
    )
    if strangers:
        raise ValueError(
            f"{target} holds {len(strangers)} files of another data set, such as {strangers[0]}; empty it or choose another"
        )
    if MANIFEST_NAME in names:
        there = json.loads(_folder_of(target).read(MANIFEST_NAME))
        if there.get("has_images", True) and not read_manifest(folder).has_images:
            raise ValueError(
                f"{target} holds a data set with its images, which captions alone would replace; choose another"
            )


@contextmanager
def _copy_of(root: Path, manifest: Manifest, workers: int, *, with_images: bool) -> Iterator[Path]:
    """Give the folder to send: the data set itself, or a captions-only copy that is gone afterwards."""
    if with_images or not manifest.has_images:
        yield root
        return
    with TemporaryDirectory(prefix="passerby-publish-") as folder:
        write_captions_only(root, manifest, Path(folder), workers=workers)
        yield Path(folder)


def _left_out(root: Path, manifest: Manifest, *, with_images: bool) -> tuple[str, ...]:
    if with_images or not manifest.has_images:
        return ()
    taken = {*files_without_images(root, manifest), *(f"data/{record.name}.tar" for record in manifest.shards)}
    return tuple(upload.name for upload in plan_uploads(root) if upload.name not in taken)
