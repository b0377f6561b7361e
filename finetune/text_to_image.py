"""Text-to-image Re-ID: find a person's images by a text, begun with what UniPT has learnt.

Source: UniPT, section 4.2, and what it takes from LGUR. Where neither says a thing, LGUR's code does: the classifiers, the
learning rates of what is new, the schedule. Where we depart: negatives of texts, see `finetune.ranking`; and the text encoder
is trained, as UniPT's learning rate for it implies, while LGUR freezes it below a recurrent layer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from finetune.data import NamedPeople, Positions
from finetune.initial import VOCABULARY_SIZE, load_parts, read_pretrained
from finetune.losses import identity_loss
from finetune.ranking import RankingParity, cosines, ranking_loss
from finetune.validation import score_texts
from passerby.nets.text import MAX_TOKENS
from passerby.nets.text_to_image import TextToImageSearcher
from passerby.nets.vit import load_vit
from passerby.optim import Optimizer
from passerby.tokens import Tokenizer
from passerby.training.batch import Batch
from passerby.training.method import encoder_table

UNIPT_PARTS = ("image_encoder", "text_encoder", "image_projection", "text_projection")
"""What a run of UniPT has learnt for us; its head of hidden words stays behind."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are UniPT's, and where it says nothing those of LGUR's code."""

    positions: ClassVar[Positions] = "captions"

    init: str = ""
    """Where encoders, projections and vocabulary begin: folder of a run of `pretrain unipt`, or empty."""

    architecture: str = "vit_base_patch16"
    """Of the image encoder; see `passerby.nets.vit.ARCHITECTURES`."""

    image_weights: str = ""
    """Without `init`: a file, a folder, hub:owner/name (downloaded), or empty for random weights."""

    image_weights_grid: tuple[int, ...] = ()
    """Rows and columns of patches that `image_weights` are for; empty for a square."""

    text_architecture: str = "bert_base"
    """Of the text encoder; see `passerby.nets.text.ARCHITECTURES`."""

    text_weights: str = ""
    """As `image_weights`; `vocabulary` has to be theirs."""

    vocabulary: str = ""
    """Without `init`: a `vocab.txt` of an uncased BERT; empty to make a vocabulary of the training captions."""

    image_height: int = 384
    """Pixels."""

    image_width: int = 128
    """Pixels."""

    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of RGB in [0, 1]."""

    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of RGB in [0, 1]."""

    text_length: int = 100
    """Tokens of a caption at most, start and end included."""

    embedding_width: int = 768
    """Of projected tokens, and of the global features."""

    dropout: float = 0.1
    """Probability, in both encoders."""

    prototypes: int = 6
    """K, of the granularity unification; see `passerby.nets.pgu`."""

    gamma: float = 1.0
    """Weight of the losses of its features (equation 7); with 0 there is none of it."""

    margin: float = 0.2
    """Of the ranking loss; LGUR's code has 0.3."""

    ranking_parity: RankingParity = "paper"
    """paper (equation 5), or lgur, as that code does it; see `finetune.ranking`."""

    image_learning_rate: float = 1e-4
    """Greatest, of the image encoder and its projection."""

    text_learning_rate: float = 1e-5
    """Greatest, of the text encoder and its projection."""

    pgu_learning_rate: float = 1e-4
    """Greatest, of prototypes and their decoder."""

    head_learning_rate: float = 1e-3
    """Greatest, of the prototypes' heads and of all classifiers."""

    test_feature: Literal["pgu", "global", "sum"] = "pgu"
    """What texts and images are compared by: pgu, as LGUR does, global, or the sum of both cosines. All are reported."""

    def __post_init__(self) -> None:
        if not 3 <= self.text_length <= MAX_TOKENS:
            raise ValueError(
                f"text_length is {self.text_length}; it must be from 3 (start, a token, end) to {MAX_TOKENS}"
            )
        for name in ("embedding_width", "prototypes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.gamma < 0:
            raise ValueError(f"gamma is {self.gamma}; it must be 0 or more")
        if self.gamma == 0 and self.test_feature != "global":
            raise ValueError(f"test_feature is {self.test_feature!r}; with gamma=0 there is only global")
        if self.init and (unused := self.image_weights or self.text_weights or self.vocabulary):
            raise ValueError(f"init is {self.init!r}, which brings weights and vocabulary; leave {unused!r} out")


def make_tokenizer(config: Config, captions: Sequence[str]) -> Tokenizer:
    """Give the vocabulary of the run that this one begins with, the one that is named, or one made of captions.

    Raises:
        FileNotFoundError: there is no such run or file.
        ValueError: it is a run of another method, or no vocabulary.
    """
    if config.init:
        return Tokenizer.from_json(read_pretrained(config.init, "unipt")["data"]["tokenizer"])
    if config.vocabulary:
        return Tokenizer.from_file(Path(config.vocabulary))
    return Tokenizer.from_captions(captions, VOCABULARY_SIZE)


def build(config: Config, data: NamedPeople, *, seed: int) -> "TextToImage":
    """Build the method.

    Raises:
        FileNotFoundError: there are no such weights to begin with.
        ValueError: they are of another architecture, or there is none of that name.
    """
    assert data.tokenizer is not None, "text is read"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = TextToImage(config, data.tokenizer, people=len(data.people))
    if config.init:
        load_parts(method.searcher, UNIPT_PARTS, read_pretrained(config.init, "unipt"), source=config.init)
    if config.image_weights:
        load_vit(method.searcher.image_encoder, config.image_weights, grid=config.image_weights_grid)
    if config.text_weights:
        method.searcher.text_encoder.load(config.text_weights)
    return method


def rebuild(table: dict[str, Any]) -> TextToImageSearcher:
    """Build what a run exports, with random weights: for those of `passerby.checkpoint.load_encoder`, which gives both."""
    return TextToImageSearcher(table)


class TextToImage(nn.Module):
    """The searcher with its classifiers, as it learns. See `passerby.training.method.Method`.

    Args:
        config: Of the method.
        tokenizer: Of the captions.
        people: How many are learnt.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer, *, people: int) -> None:
        super().__init__()
        self.config, self._vocabulary = config, tokenizer.to_json()
        self.searcher = TextToImageSearcher(self._table(), dropout=config.dropout)
        self.classifiers = nn.ModuleDict({"global": Classifiers(config.embedding_width, 1, people)})
        if self.searcher.pgu is not None:
            count, part_width, _ = self.searcher.pgu.heads.shape
            self.classifiers["pgu"] = Classifiers(part_width, count, people)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the loss of pairs of image and caption (equation 7).

        The rankings are sums over the pairs of one pass: several ranks or passes a step weaken them beside the identities.
        """
        images = self.searcher.embed_images(batch["images"])
        texts = self.searcher.embed_texts(batch["token_ids"], batch["token_mask"])
        labels, config = batch["person_ids"], self.config
        generator = torch.Generator(labels.device).manual_seed(int(batch["seed"]))
        components: dict[str, Tensor] = {}
        total, weights = torch.zeros((), device=labels.device), {"global": 1.0, "pgu": config.gamma}
        for feature, identify in self.classifiers.items():
            identity = identify(images[feature], labels) + identify(texts[feature], labels)
            ranking = ranking_loss(
                cosines(images[feature], texts[feature]),
                labels,
                margin=config.margin,
                generator=generator,
                parity=config.ranking_parity,
            )
            total = total + weights[feature] * (identity + ranking)
            components |= {f"{feature}_identity_loss": identity.detach(), f"{feature}_ranking_loss": ranking.detach()}
        return {"loss": total, "loss_components": components}

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn nothing in advance."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give a group to the image side, the text side, the prototypes, and what is new; nothing decays."""
        config, searcher = self.config, self.searcher
        groups: list[tuple[float, list[nn.Parameter]]] = [
            (config.image_learning_rate, _parameters(searcher.image_encoder, searcher.image_projection)),
            (config.text_learning_rate, _parameters(searcher.text_encoder, searcher.text_projection)),
        ]
        heads = _parameters(self.classifiers)
        if searcher.pgu is not None:
            groups.append((config.pgu_learning_rate, [searcher.pgu.prototypes, *_parameters(searcher.pgu.layers)]))
            heads.append(searcher.pgu.heads)
        groups.append((config.head_learning_rate, heads))
        return [{"params": parameters, "lr": rate, "weight_decay": 0.0} for rate, parameters in groups]

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build Adam."""
        return torch.optim.Adam(groups)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Search the images of the people held out by all of their captions.

        Returns:
            `rank_1`, `rank_5`, `rank_10` and `mAP` of the feature that is tested, and, begun by its name, of each feature.
        """
        scores = score_texts(batches, self.searcher, distance="cosine")
        named = {f"{feature}_{name}": score for feature, each in scores.items() for name, score in each.items()}
        return {**scores[self.config.test_feature], **named}

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give both encoders with what follows them, and what rebuilds them, the vocabulary with it."""
        return self.searcher, self._table()

    def _table(self) -> dict[str, Any]:
        config = self.config
        names = ("text_architecture", "text_length", "embedding_width", "test_feature")
        return {
            "kind": "text-to-image",
            **encoder_table(config),
            **{name: getattr(config, name) for name in names},
            "prototypes": config.prototypes if config.gamma else 0,
            "distance": "cosine",
            "tokenizer": self._vocabulary,
        }


class Classifiers(nn.Module):
    """Tell people by the parts of a feature, one classifier each, which images and texts share.

    Args:
        width: Of a part.
        parts: How many lie behind each other.
        people: How many are told.
    """

    def __init__(self, width: int, parts: int, people: int) -> None:
        super().__init__()
        classifiers = [nn.Linear(width, people) for _ in range(parts)]
        for classifier in classifiers:
            nn.init.normal_(classifier.weight, std=0.001)
            nn.init.zeros_(classifier.bias)
        self.by_part = nn.ModuleList(classifiers)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Give the cross-entropy (equation 4), a mean over parts and batch: Float ().

        Args:
            features: Float (batch, parts * width), not normalised.
            labels: Int64 (batch,).
        """
        chunks = features.chunk(len(self.by_part), dim=1)
        # shape: (parts * batch, people)
        logits = torch.cat([classifier(part) for classifier, part in zip(self.by_part, chunks, strict=True)])
        return identity_loss(logits, labels.repeat(len(self.by_part)), smoothing=0.0)


def _parameters(*modules: nn.Module) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]
