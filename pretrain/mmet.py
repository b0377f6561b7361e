"""MMET: encoders of images, of texts and of both learn to tell what is hidden, and which image and caption belong together.

Source: Xiang et al., Deep multimodal representation learning for generalizable person re-identification (MMET), section 3, and
its code, which is that of FLAVA (Singh et al., 2022). Where we depart: the text encoder is BERT, whose layers normalise
after instead of before; patches are told as codes of k-means (see
`pretrain.codebook`) or as their pixels; only the multimodal encoder is shown
foreign captions, so that all true pairs take part in the contrast, where equal captions are no negatives; and what of
the region of the person is open is in `pretrain.image_masking`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.flava import UNDECAYED, Flava
from passerby.nets.text import MAX_TOKENS
from passerby.nets.vit import ARCHITECTURES
from passerby.optim import adamw, decay_groups
from passerby.tokens import Tokenizer
from passerby.training.batch import Batch
from passerby.training.method import encoder_table, idle_loss
from pretrain.codebook import codebook_scores
from pretrain.hiding import Hiding, PatchTarget
from pretrain.image_masking import MaskMode
from pretrain.losses import Temperature, contrastive_loss, equal_rows, hidden_loss
from pretrain.masking import NOT_MASKED
from pretrain.retrieval import retrieval_scores
from pretrain.sight import draw_foreign_captions, join, matching_margins, predict_alone, predict_together, see
from pretrain.tally import Score, tally_for

BETAS, EPS = (0.9, 0.999), 1e-8
"""Of AdamW, as in the authors' code."""

INITIAL_TEMPERATURE = 0.07
"""FLAVA's."""

FOREIGN_STREAM = 2
"""Added to a batch's seed, so that captions are not exchanged by the numbers that words and patches are drawn by."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are the paper's, and where it says nothing those of its code; but for geometry and codebook."""

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
    """Of RGB in [0, 1], subtracted from each pixel."""

    image_std: tuple[float, float, float] = (0.2686, 0.2613, 0.2758)
    """Of RGB in [0, 1], by which each pixel is divided."""

    text_length: int = 77
    """Tokens of a caption at most, start and end included."""

    modality_weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """How often a step takes images alone, captions alone, and pairs, relative to each other."""

    mask_mode: MaskMode = "pedestrian"
    """Where patches are hidden; see `pretrain.image_masking`. With `data.parsing` the person is that of the parsing map."""

    masked_patch_share: float = 0.15
    """Of an image's patches that are hidden."""

    masked_word_share: float = 0.15
    """Of a caption's tokens, hidden as whole words."""

    mismatch_share: float = 0.1
    """Of the pairs, shown to the multimodal encoder with another caption."""

    contrastive_weight: float = 1.0
    """Of the global contrastive loss; the others have 1."""

    patch_target: PatchTarget = "codes"
    """What hidden patches are told as: `codes` of a codebook, or `pixels`, normalised in each patch."""

    codebook_size: int = 512
    """Codes that patches are told as; of `pixels` there are none."""

    codebook_images: int = 1_600
    """Training images of which the codes are made: 200,000 patches of 16 pixels."""

    learning_rate: float = 4e-4
    """Greatest of all parameters: the code's 2e-4 for batches of 16, times the root of their growth to the paper's 64."""

    weight_decay: float = 0.01
    """Of matrices; vectors, positions and special tokens have none."""

    def __post_init__(self) -> None:
        if not 3 <= self.text_length <= MAX_TOKENS:
            raise ValueError(
                f"text_length is {self.text_length}; it must be from 3 (start, a token, end) to {MAX_TOKENS}"
            )
        for name, least in (("multimodal_layers", 1), ("codebook_size", 2), ("codebook_images", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        for name in ("masked_patch_share", "masked_word_share", "mismatch_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if min(self.modality_weights) < 0 or sum(self.modality_weights) == 0:
            raise ValueError(
                f"modality_weights is {[*self.modality_weights]}; none may be below 0, and one at least must be above"
            )


def build(config: Config, tokenizer: Tokenizer, *, generator_seed: int) -> "MMET":
    """Build the method with random weights.

    Args:
        config: Of the method.
        tokenizer: Of the captions.
        generator_seed: Of the weights; the generators of PyTorch are left as they were.

    Raises:
        ValueError: there is no such architecture, or its patches do not tile the images.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed)
        return MMET(config, tokenizer)


class MMET(nn.Module):
    """Three encoders, the heads that tell what is hidden, and how they learn."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.pad_id = config, tokenizer.pad_id
        patch_size = ARCHITECTURES[config.architecture].patch_size
        self.flava = Flava(
            architecture=config.architecture,
            height_width=(config.image_height, config.image_width),
            text_architecture=config.text_architecture,
            vocabulary_size=tokenizer.size,
            pad_id=tokenizer.pad_id,
            multimodal_layers=config.multimodal_layers,
            patch_outputs=config.codebook_size if config.patch_target == "codes" else 3 * patch_size**2,
        )
        self.temperature = Temperature(INITIAL_TEMPERATURE, is_learned=True)
        self.hiding = Hiding(
            tokenizer,
            word_share=config.masked_word_share,
            grid=(config.image_height // patch_size, config.image_width // patch_size),
            patch_size=patch_size,
            patch_share=config.masked_patch_share,
            mode=config.mask_mode,
            target=config.patch_target,
            codes=config.codebook_size,
            mean=config.image_mean,
            std=config.image_std,
        )

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the losses of images alone, of captions alone, or of pairs, as the shared seed draws.

        Returns:
            `loss`, Float (), and `loss_components`, those of this step: `image_patch_loss`; or `text_word_loss`; or
            `multimodal_patch_loss`, `multimodal_word_loss`, `matching_loss` and `contrastive_loss`.
        """
        generator = torch.Generator().manual_seed(int(batch["shared_seed"]))
        drawn = torch.multinomial(torch.tensor(self.config.modality_weights), 1, generator=generator)
        losses = (self._image_losses, self._text_losses, self._pair_losses)[int(drawn)](batch)
        weights = {"contrastive_loss": self.config.contrastive_weight}
        weighted = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        # Every parameter needs a gradient in every step: see `passerby.training.method.Method`.
        return {
            "loss": weighted + idle_loss(self),
            "loss_components": {name: loss.detach() for name, loss in losses.items()},
        }

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Make the codebook, where there is one."""
        self.hiding.fit(batches, self.config.codebook_images)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give all parameters the same learning rate, and free vectors, positions and special tokens from decay."""
        return decay_groups(
            self.named_parameters(),
            learning_rate=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            undecayed=UNDECAYED,
        )

    def build_optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.AdamW:
        """Build AdamW."""
        return adamw(groups, betas=BETAS, eps=EPS)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Measure what is told of hidden patches and words, by one modality and by both, and how pairs are known.

        Returns:
            `image_patch_accuracy`, `text_word_accuracy`, `multimodal_patch_accuracy`, `multimodal_word_accuracy`, each with
            its `…_chance` of always telling the most frequent label; `matching_accuracy`, how often an image goes better with
            its own caption than with a different one (by chance 0.5); `codebook_use`, the share of codes that the images have,
            and `codebook_perplexity`; and see `pretrain.retrieval.retrieval_scores`. Where patches are told as pixels, their
            mean squared `…_error` stands for the accuracy, and nothing on a codebook.
        """
        tallies: dict[str, Score] = {}
        features: list[tuple[Tensor, Tensor, Tensor]] = []
        margins: list[Tensor] = []
        codes: list[Tensor] = []
        for batch in batches:
            sight = see(self.flava, self.hiding, batch)
            foreign = draw_foreign_captions(batch["token_ids"], 1.0, seed=int(batch["seed"]) + FOREIGN_STREAM)
            own = torch.arange(len(foreign), device=foreign.device)
            states = join(self.flava, sight, own)
            is_own = torch.ones_like(own, dtype=torch.bool)
            told = predict_alone(self.flava, sight) | predict_together(self.flava, sight, states, is_own=is_own)
            for name, (guesses, targets) in told.items():
                tallies.setdefault(name, tally_for(targets)).add(guesses, targets)
            margins.append(matching_margins(self.flava, states, join(self.flava, sight, foreign))[foreign != own])
            features.append((*self.flava.embed(sight.images, sight.texts), self._padded(batch["token_ids"])))
            if self.config.patch_target == "codes":
                codes.append(sight.patches.targets.flatten())
        is_right = torch.cat(margins) > 0
        return {
            **{key: score for name, tally in tallies.items() for key, score in tally.scores(name).items()},
            "matching_accuracy": float(is_right.sum()) / max(1, len(is_right)),
            "matching_chance": 0.5,
            **(codebook_scores(torch.cat(codes), self.config.codebook_size) if codes else {}),
            **retrieval_scores(*(torch.cat(parts) for parts in zip(*features, strict=True))),
        }

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give the image encoder and what rebuilds it."""
        return self.flava.image_encoder, encoder_table(self.config)

    def _image_losses(self, batch: Batch) -> dict[str, Tensor]:
        is_hidden, targets = self.hiding.of_images(batch)
        states = self.flava.patch_states(self.flava.see(batch["images"], is_hidden))
        return {"image_patch_loss": hidden_loss(self.flava.patch_head(states[is_hidden]), targets[is_hidden])}

    def _text_losses(self, batch: Batch) -> dict[str, Tensor]:
        shown, labels = self.hiding.of_captions(batch)
        is_masked = labels != NOT_MASKED
        states = self.flava.text_encoder(shown, batch["token_mask"])
        return {"text_word_loss": hidden_loss(self.flava.word_head(states[is_masked]), labels[is_masked])}

    def _pair_losses(self, batch: Batch) -> dict[str, Tensor]:
        sight = see(self.flava, self.hiding, batch)
        seed = int(batch["seed"]) + FOREIGN_STREAM
        places = draw_foreign_captions(batch["token_ids"], self.config.mismatch_share, seed=seed)
        is_own = places == torch.arange(len(places), device=places.device)
        states = join(self.flava, sight, places)
        told = predict_together(self.flava, sight, states, is_own=is_own)
        is_equal = equal_rows(self._padded(batch["token_ids"]), is_gathered=True)
        return {
            **{f"{name}_loss": hidden_loss(*prediction) for name, prediction in told.items()},
            "matching_loss": functional.cross_entropy(self.flava.matching_head(states.pair).float(), is_own.long()),
            "contrastive_loss": contrastive_loss(
                *self.flava.embed(sight.images, sight.texts),
                scale=self.temperature(),
                is_ignored=is_equal,
                is_gathered=True,
            ),
        }

    def _padded(self, token_ids: Tensor) -> Tensor:
        """Give captions in the length that those of all batches have: Int64 (batch, text_length)."""
        return functional.pad(token_ids, (0, self.config.text_length - token_ids.shape[1]), value=self.pad_id)
