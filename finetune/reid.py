"""Image Re-ID: the strong baseline (BoT), as VTBR uses it downstream.

Source: Bag of Tricks and a Strong Baseline for Deep Person Re-identification (Luo et al., 2019), its code, and VTBR, section
4.4. The stem of the baseline's own ResNet has no ReLU; ours has it, as the nets have that were trained in advance.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetune.data import NamedPeople
from finetune.initial import load_initial
from finetune.losses import identity_loss, triplet_loss
from finetune.validation import score_images
from passerby.metrics.distances import Distance
from passerby.nets.image_encoder import ImageEncoder
from passerby.optim import Optimizer
from passerby.training.batch import Batch
from passerby.training.method import encoder_table

FEATURES = ("before_neck", "after_neck")

make_tokenizer = None


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are the strong baseline's, but for the margin, which is VTBR's."""

    architecture: str = "resnet50"
    """A ResNet of timm, or a vision transformer of `passerby.nets.vit`."""

    init: str = ""
    """Where the encoder begins: folder of a run, file of weights, or empty for random weights; see `finetune.initial`."""

    image_height: int = 256
    """Pixels."""

    image_width: int = 128
    """Pixels."""

    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of RGB in [0, 1]."""

    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Of RGB in [0, 1]."""

    last_stride: int = 1
    """Of a ResNet's last stage, 1 or 2."""

    learning_rate: float = 3.5e-4
    """Greatest, of Adam."""

    weight_decay: float = 5e-4
    """L2 penalty, of everything."""

    label_smoothing: float = 0.1
    """Share of a label that goes to all people alike."""

    margin: float = 0.5
    """Of the triplet loss; 0 for the soft margin. The strong baseline has 0.3."""

    test_feature: str = "after_neck"
    """What images are compared by: before_neck (VTBR's 2048-d pool5) or after_neck."""

    distance: Distance = "cosine"
    """cosine or euclidean; VTBR takes before_neck and euclidean."""

    def __post_init__(self) -> None:
        if self.last_stride not in (1, 2):
            raise ValueError(f"last_stride is {self.last_stride}; it must be 1 or 2")
        if self.test_feature not in FEATURES:
            raise ValueError(f"test_feature is {self.test_feature!r}; allowed are {', '.join(FEATURES)}")


def build(config: Config, data: NamedPeople, *, seed: int) -> "Reid":
    """Build the method.

    Raises:
        FileNotFoundError: there are no such weights to begin with.
        ValueError: they are of another architecture, or there is none of that name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = Reid(config, people=len(data.people))
    load_initial(method.searcher.encoder, config.init, architecture=config.architecture)
    return method


def rebuild(table: dict[str, Any]) -> "ReidSearcher":
    """Build what a run exports, with random weights: for those of `passerby.checkpoint.load_encoder`, which gives both."""
    return ReidSearcher(table)


class ReidSearcher(nn.Module):
    """What is left of a baseline when it is trained: from an image to features.

    Args:
        table: Architecture and image size, as `encoder_table` gives them, and `last_stride`.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__()
        size = table["image_height"], table["image_width"]
        self.encoder = ImageEncoder(table["architecture"], size, last_stride=table["last_stride"])
        self.neck = build_neck(self.encoder.width)

    def embed_images(self, images: Tensor) -> dict[str, Tensor]:
        """Give features by name: Float (batch, width) each, of images Float (batch, 3, height, width), normalised."""
        before = self.encoder(images)
        return {"before_neck": before, "after_neck": self.neck(before)}


class Reid(nn.Module):
    """The baseline with its classifier, as it learns. See `passerby.training.method.Method`.

    Args:
        config: Of the method.
        people: How many are learnt.
    """

    def __init__(self, config: Config, *, people: int) -> None:
        super().__init__()
        self.config = config
        self.searcher = ReidSearcher(self._table())
        self.classifier = build_classifier(self.searcher.encoder.width, people)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the loss of a batch of P people with K images each."""
        features = self.searcher.embed_images(batch["images"])
        logits = self.classifier(features["after_neck"])
        components = {
            "identity_loss": identity_loss(logits, batch["person_ids"], smoothing=self.config.label_smoothing),
            "triplet_loss": triplet_loss(features["before_neck"], batch["person_ids"], margin=self.config.margin),
        }
        loss = torch.stack([*components.values()]).sum()
        return {"loss": loss, "loss_components": {name: value.detach() for name, value in components.items()}}

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn nothing in advance."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give one group: everything decays, as in the baseline."""
        parameters = [each for each in self.parameters() if each.requires_grad]
        return [{"params": parameters, "lr": self.config.learning_rate, "weight_decay": self.config.weight_decay}]

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build Adam, with its L2 penalty."""
        return torch.optim.Adam(groups)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Search each image of the people held out among the others, those of its camera left out."""
        config = self.config
        return score_images(batches, self.searcher, feature=config.test_feature, distance=config.distance)

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give encoder and neck, and what rebuilds them."""
        return self.searcher, self._table()

    def _table(self) -> dict[str, Any]:
        names = ("last_stride", "test_feature", "distance")
        return {"kind": "reid", **encoder_table(self.config), **{name: getattr(self.config, name) for name in names}}


def build_neck(width: int) -> nn.BatchNorm1d:
    """Build BNNeck: a normalisation whose bias stays 0 (Luo et al., 2019, section 3.6)."""
    neck = nn.BatchNorm1d(width)
    neck.bias.requires_grad = False
    return neck


def build_classifier(width: int, people: int) -> nn.Linear:
    """Build a classifier without bias, whose weights begin close to 0."""
    classifier = nn.Linear(width, people, bias=False)
    nn.init.normal_(classifier.weight, std=0.001)
    return classifier
