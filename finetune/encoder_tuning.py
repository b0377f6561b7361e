"""The second stage of CLIP-ReID and pi-VL: an image encoder learns people, and the sentences about them and their parts.

The sentences stand fixed (see `finetune.prompt_tuning`): one about each person as a whole, one about each part of each person. A
head beside the encoder fuses its maps and is drawn, pixel by pixel, to the sentences about parts; it falls away after training.

Source: CLIP-ReID, section 3.2, and its code; pi-VL, section 3.4, equations 3, 4 and 9 to 12.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from finetune.alignment import alignment_loss
from finetune.contrast import comparable
from finetune.losses import identity_loss, triplet_loss
from finetune.pi_vl import KIND, TEST_FEATURE, Config, Searcher, read_parts, statistics_of
from finetune.reid import build_classifier, build_neck
from finetune.validation import score_alike
from passerby.nets.clip_reid import ImageEncoder
from passerby.nets.features import ImageFeatures
from passerby.nets.mobilenet import MobileFeatures, MobileNet
from passerby.nets.part_head import build_part_head
from passerby.nets.prompts import PART_NAMES
from passerby.optim import Optimizer
from passerby.training.batch import Batch


class Texts(NamedTuple):
    """Features of the sentences that images are held against: Float, fp32."""

    whole: Tensor
    """(people, embed_dim)."""

    parts: Tensor
    """(people, parts, embed_dim); (1, parts, embed_dim) where all people share them; (1, 0, embed_dim) where there are none."""


class EncoderTuning(nn.Module):
    """The encoder with all that helps it learn. See `passerby.training.method.Method`.

    Args:
        config: Of the method.
        encoder: Of images, with the weights that it begins with.
        people: How many are learnt.
        embed_dim: Of the texts.
        tower: Of `read_architecture`.
        write_texts: Gives the texts; called once, on the device that learns.
    """

    whole_texts: Tensor
    part_texts: Tensor

    def __init__(
        self,
        config: Config,
        encoder: ImageEncoder | MobileNet,
        *,
        people: int,
        embed_dim: int,
        tower: str,
        write_texts: Callable[[torch.device], Texts],
    ) -> None:
        super().__init__()
        self.config, self.tower, self._write_texts = config, tower, write_texts
        self.searcher = Searcher(encoder)
        is_student = isinstance(encoder, MobileNet)
        widths = [encoder.width] if isinstance(encoder, MobileNet) else [encoder.width, encoder.embed_dim]
        self.necks = nn.ModuleList(map(build_neck, widths))
        self.classifiers = nn.ModuleList(build_classifier(width, people) for width in widths)
        self.project = nn.Linear(encoder.width, embed_dim) if is_student else None
        self.head = None
        if config.variant == "pi-vl":
            widening = "pointwise" if is_student else config.widening
            self.head = build_part_head(encoder.level_channels, embed_dim, encoder.part_cells, widening=widening)
        owners = people if config.tunes_parts else 1
        self.register_buffer("whole_texts", torch.zeros(people, embed_dim))
        self.register_buffer("part_texts", torch.zeros(owners, len(PART_NAMES) * config.has_parts, embed_dim))

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the loss of a batch of P people with K images each: equation 12."""
        config, people = self.config, batch["person_ids"]
        found = self.searcher.encoder(batch["images"], *self.searcher.told(batch["camera_ids"]))
        if self.project is None:
            projected = found.projected
            compared, named = [found.last, found.feature, projected], [found.feature, projected]
        else:
            projected = self.project(found.feature)
            compared = named = [found.feature]
        ways = zip(self.necks, self.classifiers, named, strict=True)
        losses = {
            "identity_loss": total(self._identify(classify(neck(each)), people) for neck, classify, each in ways),
            "triplet_loss": total(triplet_loss(each, people, margin=config.margin) for each in compared),
            "text_loss": self._identify(self._compare(projected), people),
        }
        weights = [config.identity_weight, config.triplet_weight, config.text_weight]
        if config.has_parts:
            losses["alignment_loss"] = self._align(found, batch)
            weights.append(config.alignment_weight)
        loss = total(weight * each for weight, each in zip(weights, losses.values(), strict=True))
        return {"loss": loss, "loss_components": {name: value.detach() for name, value in losses.items()}}

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Write the texts, into buffers, so that they are in checkpoints and the text tower is not."""
        whole, parts = self._write_texts(self.whole_texts.device)
        self.whole_texts.copy_(whole)
        self.part_texts.copy_(parts)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the encoder with necks and classifiers, then the head; of each the biases apart, which learn twice as fast."""
        config = self.config
        groups = []
        heads = {id(each) for each in self.head.parameters()} if self.head else set()
        for rate, is_head in ((config.learning_rate, False), (config.head_learning_rate, True)):
            for factor, is_bias in ((1.0, False), (2.0, True)):
                chosen = [
                    each
                    for name, each in self.named_parameters()
                    if each.requires_grad and (id(each) in heads) == is_head and ("bias" in name) == is_bias
                ]
                groups.append({"params": chosen, "lr": rate * factor, "weight_decay": config.weight_decay})
        return [group for group in groups if group["params"]]

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build Adam, with its L2 penalty."""
        return torch.optim.Adam(groups)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Search each image of the people held out among the others, those of its camera left out."""
        embed = self.searcher.embed_images
        return score_alike(
            batches, lambda batch: embed(batch["images"], batch["camera_ids"])[TEST_FEATURE], distance="cosine"
        )

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give the searcher, and what rebuilds it."""
        config = self.config
        mean, deviation = statistics_of(self.searcher.encoder)
        table = {
            "kind": KIND,
            "architecture": config.clip_model if config.student == "none" else config.student,
            "image_height": config.image_height,
            "image_width": config.image_width,
            "image_mean": [*mean],
            "image_std": [*deviation],
            "student": config.student,
            "tower": self.tower,
            "stride": config.stride,
            "cameras": self.searcher.cameras,
            "test_feature": TEST_FEATURE,
            "distance": "cosine",
        }
        return self.searcher, table

    def _identify(self, logits: Tensor, people: Tensor) -> Tensor:
        return identity_loss(logits, people, smoothing=self.config.label_smoothing)

    def _compare(self, projected: Tensor) -> Tensor:
        """Give the similarities with the sentences about all people: Float (batch, people), fp32."""
        with torch.autocast(projected.device.type, enabled=False):
            return self._comparable(projected) @ self._comparable(self.whole_texts).T

    def _comparable(self, features: Tensor) -> Tensor:
        return comparable(features, self.config.similarity, temperature=self.config.temperature)

    def _align(self, found: ImageFeatures | MobileFeatures, batch: Batch) -> Tensor:
        """Give the alignment of pixels and sentences about parts: equation 11."""
        encoder = self.searcher.encoder
        if self.head is not None:
            pixels, cells = self.head(found.levels), encoder.part_cells
        else:
            assert isinstance(found, ImageFeatures) and not isinstance(encoder, MobileNet), "a student has a head"
            pixels, cells = found.dense, encoder.cells
        labels = read_parts(cells, batch["parsing"], self.config.background)
        is_shared = len(self.part_texts) == 1
        texts = self.part_texts.expand(len(labels), -1, -1) if is_shared else self.part_texts[batch["person_ids"]]
        return alignment_loss(pixels, texts, labels, distance=self.config.alignment)


def total(losses: Iterable[Tensor]) -> Tensor:
    """Add losses: sums and not means, as CLIP-ReID has them."""
    return torch.stack([*losses]).sum()
