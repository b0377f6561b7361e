"""UniPT: an image encoder and a text encoder learn to find each other's person, and the text encoder to tell hidden words.

Source: Shao et al., Unified pre-training with pseudo texts for text-to-image person re-identification (UniPT), section 3.3.
The authors' public code has a third loss, of images masked and restored after CLIP's; the paper has none, nor has this.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.text import MAX_TOKENS, TextEncoder
from passerby.nets.vit import build_vit, load_vit
from passerby.optim import adamw, decay_groups
from passerby.tokens import Tokenizer
from passerby.training.batch import Batch
from passerby.training.method import encoder_table
from pretrain.losses import Temperature, contrastive_loss, equal_rows, masked_token_loss
from pretrain.masking import NOT_MASKED, WordMasking
from pretrain.retrieval import retrieval_scores

BETAS, EPS = (0.9, 0.98), 1e-8
"""Of AdamW, as in the authors' code."""

INITIAL_DEVIATION = 0.02
"""Of the weights of projections and of the head, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are the paper's, and where it says nothing those of its code."""

    architecture: str = "vit_base_patch16"
    """Of the image encoder; see `passerby.nets.vit.ARCHITECTURES`."""

    image_weights: str = ""
    """To begin with: a file, a folder, hub:owner/name (downloaded), or empty for random ones. The paper's are ImageNet's."""

    image_weights_grid: tuple[int, ...] = ()
    """Rows and columns of patches that `image_weights` are for; empty for a square."""

    text_architecture: str = "bert_base"
    """Of the text encoder; see `passerby.nets.text.ARCHITECTURES`."""

    text_weights: str = ""
    """As `image_weights`. The paper's are BERT's, uncased; `data.vocabulary` has to be theirs."""

    image_height: int = 384
    """Pixels."""

    image_width: int = 128
    """Pixels."""

    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of RGB in [0, 1], subtracted from each pixel."""

    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    """Of RGB in [0, 1], by which each pixel is divided."""

    text_length: int = 100
    """Tokens of a caption at most, start and end included."""

    embedding_width: int = 768
    """Of the space in which images and captions are compared."""

    dropout: float = 0.1
    """Probability, in both encoders."""

    temperature: float = 1.0
    """Cosines are divided by it; the paper has none, which is 1."""

    is_temperature_learned: bool = False
    """Learn it, from `temperature` on."""

    masked_share: float = 0.15
    """Of a caption's tokens, hidden as whole words."""

    beta: float = 1.0
    """Weight of the loss of hidden words (equation 3)."""

    gather: bool = False
    """Compare with the images and captions of all ranks, not only with this one's."""

    mask_duplicates: bool = False
    """Count captions that are equal to the right one, and their images, as no negatives; the paper counts them."""

    learning_rate: float = 1e-5
    """Greatest of all parameters."""

    weight_decay: float = 0.01
    """Of matrices; vectors have none."""

    def __post_init__(self) -> None:
        if not 3 <= self.text_length <= MAX_TOKENS:
            raise ValueError(
                f"text_length is {self.text_length}; it must be from 3 (start, a token, end) to {MAX_TOKENS}"
            )
        if self.embedding_width < 1:
            raise ValueError(f"embedding_width is {self.embedding_width}; it must be 1 or more")
        if not 0.01 <= self.temperature <= 10:
            raise ValueError(f"temperature is {self.temperature}; it must be from 0.01 to 10, and is 1 for none")
        if len(self.image_weights_grid) not in (0, 2):
            raise ValueError(
                f"image_weights_grid is {[*self.image_weights_grid]}; it must be rows and columns, or empty"
            )
        for name in ("masked_share", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")


def build(config: Config, tokenizer: Tokenizer, *, generator_seed: int) -> "UniPT":
    """Build the method, its encoders with random weights or those that the configuration names.

    Args:
        config: Of the method.
        tokenizer: Of the captions.
        generator_seed: Of random weights; the generators of PyTorch are left as they were.

    Raises:
        ValueError: there is no such architecture, or the weights are of another.
        FileNotFoundError: there are no such weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed)
        method = UniPT(config, tokenizer)
    if config.image_weights:
        load_vit(method.image_encoder, config.image_weights, grid=config.image_weights_grid)
    if config.text_weights:
        method.text_encoder.load(config.text_weights)
    return method


class UniPT(nn.Module):
    """Image encoder, text encoder, their projections and the head of hidden words, and how they learn."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.pad_id = config, tokenizer.pad_id
        self.image_encoder = build_vit(
            config.architecture, (config.image_height, config.image_width), dropout=config.dropout
        )
        self.text_encoder = TextEncoder(
            config.text_architecture,
            vocabulary_size=tokenizer.size,
            pad_id=tokenizer.pad_id,
            dropout=config.dropout,
        )
        text_width = self.text_encoder.width
        # A 1x1 convolution over tokens is a linear map of each of them.
        self.image_projection = nn.Linear(self.image_encoder.num_features, config.embedding_width)
        self.text_projection = nn.Linear(text_width, config.embedding_width)
        self.word_head = nn.Sequential(
            nn.Linear(text_width, text_width),
            nn.GELU(),
            nn.LayerNorm(text_width),
            nn.Linear(text_width, tokenizer.size),
        )
        self.temperature = Temperature(config.temperature, is_learned=config.is_temperature_learned)
        self.word_masking = WordMasking(tokenizer, config.masked_share)
        for module in (self.image_projection, self.text_projection, *self.word_head):
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
                nn.init.zeros_(module.bias)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the contrastive loss plus beta times that of hidden words (equation 3).

        Returns:
            `loss`, Float (), and `loss_components`: `contrastive_loss`, `masked_word_loss`, `scale` (1 / temperature), and
            `duplicate_share`, the captions of which the candidates hold another copy.
        """
        token_ids, token_mask = batch["token_ids"], batch["token_mask"]
        shown, labels = self.word_masking(token_ids, token_mask, batch["seed"])
        # Only captions as they are take part in the contrast; both kinds go through the encoder in one pass.
        states = self.text_encoder(torch.cat([token_ids, shown]), torch.cat([token_mask, token_mask]))
        whole_states, shown_states = states.chunk(2)
        is_equal = equal_rows(self._padded(token_ids), is_gathered=self.config.gather)
        scale = self.temperature()
        contrastive = contrastive_loss(
            self.embed_images(batch["images"]),
            self._pool_text(whole_states, token_mask),
            scale=scale,
            is_ignored=is_equal if self.config.mask_duplicates else None,
            is_gathered=self.config.gather,
        )
        is_masked = labels != NOT_MASKED
        masked_words = masked_token_loss(self.word_head(shown_states[is_masked]), labels[is_masked])
        return {
            "loss": contrastive + self.config.beta * masked_words,
            "loss_components": {
                "contrastive_loss": contrastive.detach(),
                "masked_word_loss": masked_words.detach(),
                "scale": scale.detach().clone(),
                "duplicate_share": (is_equal.sum(dim=1) > 1).float().mean(),
            },
        }

    def embed_images(self, images: Tensor) -> Tensor:
        """Give an embedding of each image, the greatest value over its tokens: Float (batch, embedding_width).

        Args:
            images: Float (batch, 3, height, width), normalised.
        """
        # shape: (batch, tokens, embedding_width), the class token among them
        projected: Tensor = self.image_projection(self.image_encoder(images))
        return projected.amax(dim=1)

    def embed_texts(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Give an embedding of each caption, the greatest value over its tokens: Float (batch, embedding_width).

        The authors' code lets the padding take part, so that a caption's embedding depends on its batch; here it does not.

        Args:
            token_ids: Int64 (batch, tokens).
            token_mask: Bool (batch, tokens), true where a token is.
        """
        return self._pool_text(self.text_encoder(token_ids, token_mask), token_mask)

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing has to be learned beforehand."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give all parameters the same learning rate, and free vectors and scalars from decay."""
        return decay_groups(
            self.named_parameters(), learning_rate=self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    def build_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        """Build AdamW."""
        return adamw(groups, betas=BETAS, eps=EPS)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Measure how images and captions find each other, and how many hidden words are told.

        Returns:
            See `pretrain.retrieval.retrieval_scores`; `masked_word_accuracy`, and beside it `masked_word_chance`, which is what
            always telling the most frequent one of them gives.
        """
        images, texts, captions = [], [], []
        words: Counter[int] = Counter()
        told = 0
        for batch in batches:
            token_ids, token_mask = batch["token_ids"], batch["token_mask"]
            images.append(self.embed_images(batch["images"]))
            texts.append(self.embed_texts(token_ids, token_mask))
            captions.append(self._padded(token_ids))
            shown, labels = self.word_masking(token_ids, token_mask, batch["seed"])
            is_masked = labels != NOT_MASKED
            guesses = self.word_head(self.text_encoder(shown, token_mask)[is_masked]).argmax(dim=1)
            told += int((guesses == labels[is_masked]).sum())
            words.update(labels[is_masked].tolist())
        return {
            **retrieval_scores(torch.cat(images), torch.cat(texts), torch.cat(captions)),
            "masked_word_accuracy": told / words.total(),
            "masked_word_chance": max(words.values()) / words.total(),
        }

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give the image encoder, without its projection, and what rebuilds it."""
        return self.image_encoder, encoder_table(self.config)

    def _pool_text(self, states: Tensor, token_mask: Tensor) -> Tensor:
        # shape: (batch, tokens, embedding_width)
        projected: Tensor = self.text_projection(states)
        return projected.masked_fill(~token_mask[:, :, None], -torch.inf).amax(dim=1)

    def _padded(self, token_ids: Tensor) -> Tensor:
        """Give captions in the length that those of all batches have: Int64 (batch, text_length)."""
        return functional.pad(token_ids, (0, self.config.text_length - token_ids.shape[1]), value=self.pad_id)
