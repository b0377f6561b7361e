"""MMET downstream: tell people apart by what its encoders make of an image, of its caption, or of both together.

Source: MMET, section 3 (network updating), and its code. Where we depart: hard triplets are found in batches of P people with
K images, as the paper says, before the neck, and by a hinge; the code has whoever comes, after it, and a soft margin. A caption
is always its image's own, while the code gives a tenth of all images another one even in tests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from finetune.data import NamedPeople, Positions
from finetune.initial import VOCABULARY_SIZE, load_parts, read_pretrained
from finetune.losses import identity_loss, triplet_loss
from finetune.reid import build_classifier, build_neck
from finetune.validation import score_alike
from passerby.nets.flava import UNDECAYED, MultimodalEncoder, draw_weights
from passerby.nets.text import MAX_TOKENS, TextEncoder
from passerby.nets.vit import ARCHITECTURES, build_vit, states_of
from passerby.optim import adamw, decay_groups
from passerby.tokens import Tokenizer
from passerby.training.batch import Batch
from passerby.training.method import encoder_table

BETAS, EPS = (0.9, 0.98), 1e-6
"""Of AdamW, as in the authors' code."""

ENCODERS = {
    "image": ("image_encoder",),
    "text": ("text_encoder",),
    "multimodal": ("image_encoder", "text_encoder", "multimodal_encoder"),
}
"""What each modality's token needs."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are the paper's, and where it says nothing those of its code."""

    init: str = ""
    """Where encoders and vocabulary begin: folder of a run of `pretrain mmet`, or empty for random weights."""

    modality: Literal["multimodal", "image", "text"] = "multimodal"
    """Whose last state tells people apart: that of image and caption together (CLS_M), of the image (CLS_I), of the caption
    (CLS_T). Only the encoders that it needs are learnt."""

    architecture: str = "vit_base_patch16"
    """Of the image encoder; see `passerby.nets.vit.ARCHITECTURES`. The multimodal encoder is as wide."""

    text_architecture: str = "bert_base"
    """Of the text encoder; see `passerby.nets.text.ARCHITECTURES`."""

    multimodal_layers: int = 6
    """Of the multimodal encoder."""

    image_height: int = 256
    """Pixels."""

    image_width: int = 128
    """Pixels."""

    image_mean: tuple[float, float, float] = (0.4815, 0.4578, 0.4082)
    """Of RGB in [0, 1]."""

    image_std: tuple[float, float, float] = (0.2686, 0.2613, 0.2758)
    """Of RGB in [0, 1]."""

    text_length: int = 77
    """Tokens of a caption at most, start and end included."""

    margin: float = 0.3
    """Of the triplet loss; 0 for the soft margin, which is the code's."""

    encoder_learning_rate: float = 1e-5
    """Greatest, of the encoders."""

    head_learning_rate: float = 1e-4
    """Greatest, of neck and classifier, which at the encoders' would hardly move."""

    weight_decay: float = 0.1
    """Of matrices; vectors, positions and special tokens have none."""

    def __post_init__(self) -> None:
        if not 3 <= self.text_length <= MAX_TOKENS:
            raise ValueError(
                f"text_length is {self.text_length}; it must be from 3 (start, a token, end) to {MAX_TOKENS}"
            )
        if self.multimodal_layers < 1:
            raise ValueError(f"multimodal_layers is {self.multimodal_layers}; it must be 1 or more")

    @property
    def positions(self) -> Positions:
        """What batches are made of."""
        return "images" if self.modality == "image" else "captioned_images"


def make_tokenizer(config: Config, captions: Sequence[str]) -> Tokenizer:
    """Give the vocabulary of the run that this one begins with, or one made of captions.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: it is a run of another method.
    """
    if config.init:
        return Tokenizer.from_json(read_pretrained(config.init, "mmet")["data"]["tokenizer"])
    return Tokenizer.from_captions(captions, VOCABULARY_SIZE)


def build(config: Config, data: NamedPeople, *, seed: int) -> "Mmet":
    """Build the method.

    Raises:
        FileNotFoundError: there is no such run to begin with.
        ValueError: its encoders are of another architecture, or there is none of that name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method = Mmet(config, data.tokenizer, people=len(data.people))
    if config.init:
        pretrained = read_pretrained(config.init, "mmet")
        load_parts(method.searcher, ENCODERS[config.modality], pretrained, source=config.init, prefix="flava.")
    return method


def rebuild(table: dict[str, Any]) -> "MmetSearcher":
    """Build what a run exports, with random weights: for those of `passerby.checkpoint.load_encoder`, which gives both."""
    return MmetSearcher(table)


class MmetSearcher(nn.Module):
    """What is left when all is trained: the encoders that the modality needs, and the neck of its token.

    Each method gives features by name, Float (batch, width): `before_neck`, and of the modality that was learnt `after_neck`.
    A run of `multimodal` has all three methods; what it says of images alone, `before_neck`, was learnt as far as it helps
    both together. A run of `image` or `text` has that method alone.

    Args:
        table: Architectures, image size, modality and vocabulary, as the export of a run has them.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__()
        self.modality: str = table["modality"]
        self.tokenizer = Tokenizer.from_json(table["tokenizer"]) if table["tokenizer"] else None
        needed = ENCODERS[self.modality]
        if "image_encoder" in needed:
            self.image_encoder = build_vit(table["architecture"], (table["image_height"], table["image_width"]))
            width = self.image_encoder.embed_dim
        if "text_encoder" in needed:
            assert self.tokenizer is not None, "whoever reads texts has a vocabulary"
            size, pad_id = self.tokenizer.size, self.tokenizer.pad_id
            self.text_encoder = TextEncoder(table["text_architecture"], vocabulary_size=size, pad_id=pad_id)
        if "multimodal_encoder" in needed:
            self.multimodal_encoder = MultimodalEncoder(
                text_width=self.text_encoder.width,
                width=width,
                layers=table["multimodal_layers"],
                heads=ARCHITECTURES[table["architecture"]].heads,
            )
            draw_weights(self.multimodal_encoder, width)
        self.width = self.text_encoder.width if self.modality == "text" else width
        self.neck = build_neck(self.width)

    def embed_images(self, images: Tensor) -> dict[str, Tensor]:
        """Give features of the images' own token (CLS_I).

        Args:
            images: Float (batch, 3, height, width), normalised.

        Raises:
            ValueError: the run learnt texts alone.
        """
        self._need("image_encoder")
        return self._named("image", self.image_encoder(images)[:, 0])

    def embed_texts(self, token_ids: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """Give features of the captions' own token (CLS_T).

        Args:
            token_ids: Of `tokenizer`, Int64 (batch, tokens).
            token_mask: Bool (batch, tokens), true where a token is.

        Raises:
            ValueError: the run learnt images alone.
        """
        self._need("text_encoder")
        return self._named("text", self.text_encoder(token_ids, token_mask)[:, 0])

    def embed_pairs(self, images: Tensor, token_ids: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """Give features of the token of image and caption together (CLS_M); see the other methods for the arguments.

        Raises:
            ValueError: the run learnt images or texts alone.
        """
        self._need("multimodal_encoder")
        seen = states_of(self.image_encoder, self.image_encoder.patch_embed(images))
        states = self.multimodal_encoder(seen, self.text_encoder(token_ids, token_mask), token_mask)
        return self._named("multimodal", states.pair)

    def _named(self, modality: str, vectors: Tensor) -> dict[str, Tensor]:
        return {"before_neck": vectors, **({"after_neck": self.neck(vectors)} if modality == self.modality else {})}

    def _need(self, encoder: str) -> None:
        if encoder not in ENCODERS[self.modality]:
            raise ValueError(
                f"these weights learnt method.modality={self.modality} and have no {encoder}; take those of a run that has one"
            )


class Mmet(nn.Module):
    """The searcher with its classifier, as it learns. See `passerby.training.method.Method`.

    Args:
        config: Of the method.
        tokenizer: Of the captions, where they are read.
        people: How many are learnt.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer | None, *, people: int) -> None:
        super().__init__()
        self.config, self._vocabulary = config, tokenizer.to_json() if tokenizer else ""
        self.searcher = MmetSearcher(self._table())
        self.classifier = build_classifier(self.searcher.width, people)
        if config.modality == "multimodal":  # which takes the states before this normalisation
            self.searcher.image_encoder.norm.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the loss of a batch of P people with K images each (equation 3)."""
        features = self._embed(batch)
        logits = self.classifier(features["after_neck"])
        components = {
            "identity_loss": identity_loss(logits, batch["person_ids"], smoothing=0.0),
            "triplet_loss": triplet_loss(features["before_neck"], batch["person_ids"], margin=self.config.margin),
        }
        loss = torch.stack([*components.values()]).sum()
        return {"loss": loss, "loss_components": {name: value.detach() for name, value in components.items()}}

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn nothing in advance."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give groups to encoders and to what is new, with and without decay."""
        config = self.config
        is_new = ("searcher.neck.", "classifier.")
        named = [*self.named_parameters()]
        heads = [(name, parameter) for name, parameter in named if name.startswith(is_new)]
        encoders = [(name, parameter) for name, parameter in named if not name.startswith(is_new)]
        return [
            group
            for some, rate in ((encoders, config.encoder_learning_rate), (heads, config.head_learning_rate))
            for group in decay_groups(some, learning_rate=rate, weight_decay=config.weight_decay, undecayed=UNDECAYED)
        ]

    def build_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        """Build AdamW."""
        return adamw(groups, betas=BETAS, eps=EPS)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Search each sample of the people held out among the others, those of its camera left out.

        Where captions are read they are the data set's own: what they were made of is known of no image of another place.
        """
        return score_alike(batches, lambda batch: self._embed(batch)["after_neck"], distance="cosine")

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give encoders and neck, and what rebuilds them, the vocabulary with it."""
        return self.searcher, self._table()

    def _embed(self, batch: Batch) -> dict[str, Tensor]:
        if self.config.modality == "image":
            return self.searcher.embed_images(batch["images"])
        if self.config.modality == "text":
            return self.searcher.embed_texts(batch["token_ids"], batch["token_mask"])
        return self.searcher.embed_pairs(batch["images"], batch["token_ids"], batch["token_mask"])

    def _table(self) -> dict[str, Any]:
        config = self.config
        names = ("modality", "text_architecture", "multimodal_layers", "text_length")
        return {
            "kind": "mmet",
            **encoder_table(config),
            **{name: getattr(config, name) for name in names},
            "test_feature": "after_neck",
            "distance": "cosine",
            "tokenizer": self._vocabulary,
        }
