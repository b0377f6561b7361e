"""The Hugging Face Hub as a target: `hf://datasets/ORG/NAME`, in few commits."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from passerby.network import Retried, naming, retrying
from passerby.publish.target import CLOSING, Done, Upload
from passerby.shards.manifest import MANIFEST_NAME
from passerby.shards.sums import hash_file

FILES_A_COMMIT = 100
"""As the Hub advises: a larger commit may time out, and a killed run repeats one commit at most."""

PREFIX = "hf://datasets/"


@dataclass
class HubTarget:
    """A data set repository on the Hub, to which the environment's `HF_TOKEN` may write.

    A repository that does not exist is made, private: to show it to all is a decision of its owner's, on its page.
    """

    repository: str
    """ORG/NAME."""
    _found: Mapping[str, RepoFile] = field(default_factory=dict, init=False)

    def names(self) -> Sequence[str]:
        """Name the files that are there.

        Raises:
            OSError: the Hub cannot be reached, or shows the repository to others only.
        """
        with naming(f"{PREFIX}{self.repository}"):
            try:
                tree = retrying(lambda: [*HfApi().list_repo_tree(self.repository, recursive=True, repo_type="dataset")])
            except RepositoryNotFoundError:
                tree = []
        self._found = {each.path: each for each in tree if isinstance(each, RepoFile)}
        return list(self._found)

    def holds(self, upload: Upload) -> bool:
        """Say whether a file is there with these very bytes: the Hub tells the sha256 of large ones, git's hash of others."""
        found = self._found.get(upload.name)
        if found is None or found.size != upload.size_bytes:
            return False
        if found.lfs is not None:
            return found.lfs.sha256 == hash_file(upload.path)
        blob = b"blob %d\0%b" % (upload.size_bytes, upload.path.read_bytes())
        return found.blob_id == hashlib.sha1(blob, usedforsecurity=False).hexdigest()

    def send(self, uploads: Sequence[Upload], *, workers: int, on_retry: Retried, on_done: Done) -> None:
        """Commit files in batches, the closing ones with the last; a commit is there as a whole or not at all.

        The library below tries each large file several times by itself, which is not counted.

        Raises:
            OSError: the Hub does not take them, however often it was tried.
        """
        batches = commits_of(uploads)
        with naming(f"{PREFIX}{self.repository}"):
            retrying(
                lambda: HfApi().create_repo(self.repository, repo_type="dataset", private=True, exist_ok=True), on_retry
            )
        for number, batch in enumerate(batches, start=1):
            operations: list[CommitOperationAdd | CommitOperationDelete] = []
            if number == 1 < len(batches) and MANIFEST_NAME in self._found:
                operations.append(CommitOperationDelete(MANIFEST_NAME))
            operations += [CommitOperationAdd(upload.name, str(upload.path)) for upload in batch]
            commit = partial(
                HfApi().create_commit,
                self.repository,
                operations,
                commit_message=f"Publish the data set, part {number} of {len(batches)}",
                repo_type="dataset",
                num_threads=workers,
            )
            with naming(f"{PREFIX}{self.repository}"):
                retrying(commit, on_retry)
            for upload in batch:
                on_done(upload)


def commits_of(uploads: Sequence[Upload]) -> list[list[Upload]]:
    """Cut uploads into commits, in their order; the last one holds the closing files, with what is left before them."""
    body = [upload for upload in uploads if upload.name not in CLOSING]
    last = [upload for upload in uploads if upload.name in CLOSING]
    batches = [body[start : start + FILES_A_COMMIT] for start in range(0, len(body), FILES_A_COMMIT)] or [[]]
    batches[-1] += last
    return [batch for batch in batches if batch]
