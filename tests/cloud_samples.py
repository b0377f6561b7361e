"""A bucket for a whole module of tests, and what lies in it."""

import hashlib
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from publish_samples import BUCKET, s3_behind_proxy

from passerby import network
from passerby.storage import RemoteFolder


@contextmanager
def bucket(cache: Path):
    """Serve an empty bucket behind a proxy that fails on demand, with a cache folder of its own and no waiting."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "FIRST_WAIT_SECONDS", 0)
        patch.setenv("XDG_CACHE_HOME", str(cache))
        with s3_behind_proxy(patch.setenv) as proxy:
            yield proxy


def remote_digests(url: str) -> dict[str, str]:
    """Hash every file at a URL, hidden ones too, by relative path."""
    system, folder = RemoteFolder(url).open()
    system.invalidate_cache()
    start = len(system._strip_protocol(folder)) + 1
    return {path[start:]: hashlib.sha256(system.cat_file(path)).hexdigest() for path in sorted(system.find(folder))}


def copy_up(folder: Path, url: str) -> str:
    """Copy a folder to a URL, as any client would."""
    system, target = RemoteFolder(url).open()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.put_file(str(path), f"{target}/{path.relative_to(folder).as_posix()}")
    return url


def sent(proxy, name: str) -> list[str]:
    """Name the files of a data set that were uploaded, in order, relative to its folder in the bucket."""
    return [path.removeprefix(f"{name}/") for path in proxy.put() if path.startswith(f"{name}/")]


def environment() -> dict[str, str]:
    """Give what other processes need to reach the bucket."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


__all__ = ["BUCKET", "bucket", "copy_up", "environment", "remote_digests", "sent"]
