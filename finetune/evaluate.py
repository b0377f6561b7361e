"""Evaluate a run on data sets that it never saw: its features, the protocol, and everything that a number depends on.

Nothing is learnt, chosen or adapted here: on another data set than the run learnt from, this is direct transfer (VTBR, Tables 2
and 3; UniPT, Table 8; MMET, Table 3).
"""

import hashlib
import json
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from finetune.features import FloatArray, Reading, embed_images, embed_texts
from finetune.target import Target, all_captions, open_target
from finetune.trained import TEXT_KIND, Trained
from passerby import __version__
from passerby.metrics.distances import Block, Distance, distance_blocks
from passerby.metrics.labels import SameCamera
from passerby.metrics.reranking import rerank
from passerby.metrics.scores import AveragePrecision, evaluate_distances
from passerby.shards.manifest import MANIFEST_NAME

STORED, NEUTRAL = "stored", "neutral"
"""Captions that go with images: those of the data set, or the same for all."""

NEUTRAL_CAPTION = "A person."
"""Says nothing that tells people apart: what is gained with it is not gained by text (the control of MMET's evaluation)."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is compared, and how it is scored."""

    feature: str = ""
    """Of the run; empty for the one that it is tested by."""

    distance: str = ""
    """`cosine` or `euclidean`; empty for the run's."""

    average_precision: AveragePrecision = "step"
    is_reranked: bool = False
    same_camera: SameCamera = "drop"
    split: str = ""
    """See `finetune.target.open_target`."""

    captions: str = ""
    """That images are seen with, by a run of MMET: `STORED`, `NEUTRAL`, or a file of `pretrain caption --json`; empty for none."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One run on one data set. Shares are from 0 to 1."""

    run: str
    method: str
    architecture: str
    init: str
    """Where the run began; empty for random weights, or where its configuration was not kept."""

    trained_on: str
    seed: int
    epoch: float
    """Whose weights these are, chosen by validation where the run validated; 0 where its numbers were not kept."""

    recipe: str
    """The same for runs of one method with other seeds."""

    target: str
    dataset: str
    """An official data set, by its name for `passerby pack`; empty where it is none."""

    manifest_sha256: str
    split: str
    queries: int
    valid_queries: int
    gallery: int
    people: int
    cameras: int
    """0 where they are unknown."""

    captions: str
    feature: str
    width: int
    is_normalised: bool
    distance: str
    average_precision: str
    is_reranked: bool
    same_camera: str
    """`drop`, `keep`, or, where captions ask, `any`."""

    rank_1: float
    rank_5: float
    rank_10: float
    mAP: float  # noqa: N815  (the field's name)
    mINP: float  # noqa: N815  (the field's name)
    images_a_second: float
    paper_row: str = ""
    """The row of `finetune/paper.toml` that the run stands for, by the word of who ran it."""

    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Features of queries and gallery, Float32 (images, width) each."""

    queries: FloatArray
    gallery: FloatArray
    feature: str
    distance: Distance
    images_a_second: float

    def blocks(self, *, is_reranked: bool) -> Iterable[Block]:
        """Give the distances of all queries, some at a time."""
        measure = rerank if is_reranked else distance_blocks
        return measure(self.queries, self.gallery, distance=self.distance)


def evaluate(trained: Trained, root: str, protocol: Protocol, reading: Reading, *, paper_row: str = "") -> Result:
    """Score a run on a data set.

    Raises:
        FileNotFoundError: there is no such data set.
        ValueError: it has not what is to be searched, or the run has not the feature.
        BadSample: an image cannot be read.
    """
    target = open_target(root, by_captions=trained.kind == TEXT_KIND, split=protocol.split)
    if protocol.is_reranked and (target.is_itself or target.captions is not None):
        raise ValueError(
            f"--rerank takes images of a query split and others of a gallery; here {target.split} is searched"
        )
    labels = target.labels(protocol.same_camera)
    labels.check()  # before the long work
    found = find(trained, target, protocol, reading)
    blocks = found.blocks(is_reranked=protocol.is_reranked)
    scores = evaluate_distances(blocks, labels, average_precision=protocol.average_precision)
    return Result(
        **_describe_run(trained),
        target=root,
        **_describe_data(target),
        queries=scores.queries,
        valid_queries=scores.valid_queries,
        gallery=scores.gallery,
        **_describe_protocol(protocol, target, found),
        rank_1=scores.rank[1],
        rank_5=scores.rank[5],
        rank_10=scores.rank[10],
        mAP=scores.mAP,
        mINP=scores.mINP,
        images_a_second=round(found.images_a_second, 1),
        paper_row=paper_row,
        versions={"passerby": __version__, "torch": torch.__version__, "python": platform.python_version()},
    )


def find(trained: Trained, target: Target, protocol: Protocol, reading: Reading) -> Found:
    """Embed queries and gallery, every image once.

    Raises:
        ValueError: the run has no such feature, or captions are wanted that are not there.
        BadSample: an image cannot be read.
    """
    feature = protocol.feature or trained.feature
    is_separate = target.captions is None and target.queries is not target.gallery
    asked = target.queries if is_separate else target.queries[:0]
    images = np.concatenate([asked, target.gallery])
    captions = _captions_beside(target, images, protocol.captions) if protocol.captions else None
    started_at = time.perf_counter()
    found = embed_images(trained, target, images, feature=feature, reading=reading, captions=captions)
    images_a_second = len(images) / (time.perf_counter() - started_at)
    gallery = found[len(asked) :]
    queries = found[: len(asked)] if is_separate else gallery
    if target.captions is not None:
        queries = embed_texts(trained, target.captions, feature=feature, reading=reading)
    return Found(queries, gallery, feature, cast(Distance, protocol.distance or trained.distance), images_a_second)


def _captions_beside(target: Target, images: NDArray[np.int64], captions: str) -> list[str]:
    """Give the caption that goes with each image."""
    if target.captions is not None:
        raise ValueError(f"--captions {captions} goes with images that ask; here their captions do")
    if captions == NEUTRAL:
        return [NEUTRAL_CAPTION] * len(images)
    if captions == STORED:
        return [several[0] for several in all_captions(target.samples, images)]
    written = _read_written(Path(captions))
    paths = target.samples.metadata(["path"])["path"].take(images).to_pylist()
    if lacking := [path for path in paths if len(written.get(path, ())) != 1]:
        raise ValueError(
            f"{captions} has no caption, or several, of {len(lacking):,} of {len(paths):,} images, such as {lacking[0]}; make it"
            " of the images that were packed: pretrain caption RUN FOLDER --json"
        )
    return [next(iter(written[path])) for path in paths]


def _read_written(file: Path) -> dict[str, set[str]]:
    """Read lines of `pretrain caption --json`: captions by path, and by every end of it, since folders move."""
    written: dict[str, set[str]] = {}
    for number, line in enumerate(file.read_text("utf-8").splitlines(), start=1):
        try:
            told = json.loads(line)
            parts = PurePosixPath(told["path"]).parts
            caption = str(told["caption"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{file}, line {number}, is no line of `pretrain caption --json`: {line[:80]!r}") from None
        for start in range(len(parts)):
            written.setdefault("/".join(parts[start:]), set()).add(caption)
    return written


def _describe_run(trained: Trained) -> dict[str, Any]:
    config, trained_on = trained.config, str(trained.table.get("trained_on", ""))
    told = {section: dict(values) for section, values in config.items()}
    seed = int(told.get("loop", {}).pop("seed", 0))
    recipe = json.dumps([trained_on, told], sort_keys=True) if told else str(trained.run)
    return {
        "run": str(trained.run),
        "method": str(config.get("run", {}).get("method", trained.kind)),
        "architecture": str(trained.table["architecture"]),
        "init": str(config.get("method", {}).get("init", "")),
        "trained_on": trained_on,
        "seed": seed,
        "epoch": trained.epoch,
        "recipe": hashlib.sha256(recipe.encode()).hexdigest()[:12],
    }


def _describe_data(target: Target) -> dict[str, Any]:
    """Say which data set it is. Renders in the layout of an official one are not that one."""
    header = target.samples.manifest.header
    is_official = header.get("published") and not header.get("is_synthetic")
    digest = hashlib.sha256((target.samples.root / MANIFEST_NAME).read_bytes()).hexdigest()
    dataset = str(header.get("config", {}).get("dataset", "")) if is_official else ""
    return {"dataset": dataset, "manifest_sha256": digest, "split": target.split, **target.count()}


def _describe_protocol(protocol: Protocol, target: Target, found: Found) -> dict[str, Any]:
    return {
        "captions": protocol.captions,
        "feature": found.feature,
        "width": found.gallery.shape[1],
        "is_normalised": found.distance == "cosine",
        "distance": found.distance,
        "average_precision": protocol.average_precision,
        "is_reranked": protocol.is_reranked,
        "same_camera": protocol.same_camera if target.captions is None else "any",
    }
