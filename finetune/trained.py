"""A run that reached its end, rebuilt from its export: what people are found by, and how it came about."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from passerby.checkpoint import load_encoder
from passerby.config import read_table
from passerby.nets.image_encoder import ImageEncoder
from passerby.nets.weights import load_weights
from passerby.tokens import Tokenizer
from passerby.training.journal import METRICS_NAME
from passerby.training.run import CONFIG_NAME

POOLED = "pooled"
"""The feature of an encoder that has not learnt to tell people apart."""

KINDS = {
    "reid": "finetune.reid",
    "text-to-image": "finetune.text_to_image",
    "mmet": "finetune.mmet",
    "pi-vl": "finetune.pi_vl",
}
"""Of the exports of fine-tuning; each module has `rebuild(table)`."""

TEXT_KIND, PAIRED_KIND = "text-to-image", "mmet"
"""Whose images are searched by captions, and whose are seen together with them."""


class PooledSearcher(nn.Module):
    """An encoder as pre-training left it, or at random: its last map's mean, or its class token.

    Args:
        table: Architecture and image size, as the export of a run has them.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        super().__init__()
        size = table["image_height"], table["image_width"]
        self.encoder = ImageEncoder(table["architecture"], size, last_stride=2)

    def embed_images(self, images: Tensor) -> dict[str, Tensor]:
        """Give the one feature, Float (batch, width), of images Float (batch, 3, height, width), normalised."""
        return {POOLED: self.encoder(images)}


@dataclass(frozen=True)
class Trained:
    """A searcher in evaluation mode on its device, and the folder that it is from."""

    run: Path
    searcher: nn.Module
    """Has `embed_images(images)`, and some kinds `embed_texts(token_ids, token_mask)` or `embed_pairs` of both together."""

    table: Mapping[str, Any]
    device: torch.device

    @property
    def kind(self) -> str:
        """One of `KINDS`; empty where nobody was told apart yet."""
        return str(self.table.get("kind", ""))

    @property
    def height_width(self) -> tuple[int, int]:
        """Of the images, pixels."""
        return self.table["image_height"], self.table["image_width"]

    @property
    def feature(self) -> str:
        """Name what the run is tested by."""
        return str(self.table.get("test_feature", POOLED))

    @property
    def distance(self) -> str:
        """Say how that is compared."""
        return str(self.table.get("distance", "cosine"))

    @cached_property
    def config(self) -> Mapping[str, Mapping[str, Any]]:
        """Give the run's configuration; empty where only its export was kept."""
        path = self.run / CONFIG_NAME
        return read_table(path) if path.is_file() else {}

    @cached_property
    def epoch(self) -> float:
        """Say after how many epochs the weights were taken; 0 where the run's numbers were not kept.

        It is the one that validation chose, or the last.
        """
        path = self.run / METRICS_NAME
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
        last = max((line for line in lines if line.get("epoch")), key=lambda line: line["step"], default=None)
        if last is None:
            return 0.0
        best = [line["best_step"] for line in lines if "best_step" in line]
        return round(float(last["epoch"] / last["step"] * (best[-1] if best else last["step"])), 3)

    def embed_images(self, images: Tensor, camera_ids: Tensor) -> dict[str, Tensor]:
        """Give features by name, Float (batch, width) each; an encoder that knows cameras is told them.

        Args:
            images: Float (batch, 3, height, width), normalised.
            camera_ids: Int64 (batch,).

        Raises:
            ValueError: the encoder knows cameras, and not these.
        """
        searcher: Any = self.searcher
        told = [camera_ids] if getattr(searcher, "cameras", 0) else []
        found: dict[str, Tensor] = searcher.embed_images(images, *told)
        return found

    def choose_feature(self, found: Mapping[str, Tensor], name: str) -> Tensor:
        """Give one of the features of a batch: Float32 (batch, width).

        Raises:
            ValueError: there is none of that name.
        """
        if name not in found:
            raise ValueError(f"{self.run} gives no feature {name!r} here; --feature takes {', '.join(found)}")
        return found[name].float()

    def tokens(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Encode texts, padded to the longest: Int64 and Bool (batch, tokens), on the device."""
        rows = [torch.tensor(self._tokenizer.encode(text, self.table["text_length"])[0]) for text in texts]
        token_ids = pad_sequence(rows, batch_first=True, padding_value=self._tokenizer.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        # shape: (batch, tokens)
        token_mask = torch.arange(token_ids.shape[1]) < lengths[:, None]
        return token_ids.to(self.device), token_mask.to(self.device)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_json(self.table["tokenizer"])


def load_trained(run: Path, device: torch.device) -> Trained:
    """Rebuild the export of a run of fine-tuning or pre-training.

    Raises:
        FileNotFoundError: the folder has no export.
        ValueError: it is of a kind that is not known here, or its weights do not fit.
    """
    weights, table = load_encoder(run)
    kind = table.get("kind", "")
    searcher: nn.Module
    if not kind:
        pooled = PooledSearcher(table)
        load_weights(pooled.encoder.backbone, weights, source=str(run))
        searcher = pooled
    elif kind in KINDS:
        searcher = import_module(KINDS[kind]).rebuild(table)
        load_weights(searcher, weights, source=str(run))
    else:
        raise ValueError(f"{run} is of the kind {kind!r}; known are {', '.join(KINDS)}; is it of a newer passerby?")
    return Trained(run, searcher.to(device, memory_format=torch.channels_last).eval(), table, device)  # type: ignore[call-overload]
