"""VTBR: an image encoder learns by writing the caption of its image, from the beginning and from the end.

Source: Xiang et al., Rethinking Person Re-Identification via Semantic-Based Pretraining, sections 3.3 and 4.2: a ResNet-50 without
outside weights, a projection of its last map, and the two decoders of VirTex (Desai and Johnson, 2021). Only the ResNet is
kept afterwards. Unlike VirTex, an unknown word is no padding, and a caption that is too long loses words but not its end.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from timm.optim.lookahead import Lookahead
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.caption_decoder import HEAD_WIDTH, TextualHead, reverse
from passerby.nets.resnet import build_resnet
from passerby.optim import Optimizer
from passerby.tokens import Tokenizer
from passerby.training.batch import Batch
from passerby.training.method import encoder_table
from pretrain.clothing import colour_accuracies
from pretrain.decoding import NextLogits, Search, beam_search, readable

NO_TARGET = -100
"""Where a position of the padding has no token to predict."""

GREEDY = partial(beam_search, beam_size=1)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are the paper's, and where it says nothing those of VirTex, which it follows; but for the geometry."""

    architecture: str = "resnet50"
    """Name of a ResNet of timm; it begins with random weights."""

    image_height: int = 256
    """Pixels. VirTex takes squares of 224, which never show a head and the shoes below it at once."""

    image_width: int = 128
    """Pixels."""

    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of RGB in [0, 1], subtracted from each pixel."""

    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Of RGB in [0, 1], by which each pixel is divided."""

    text_length: int = 64
    """Tokens of a caption at most, start and end included. VirTex's 30 would cut FineGPR-C's captions, which have about 45."""

    width: int = 1024
    """Of the decoders; attention heads are 64 wide and feed-forward layers four times the width."""

    layers: int = 1
    """Of each decoder."""

    dropout: float = 0.1
    """Probability, in the decoders."""

    visual_learning_rate: float = 0.2
    """Greatest of the image encoder."""

    textual_learning_rate: float = 1e-3
    """Greatest of all the rest."""

    momentum: float = 0.9
    """Of SGD."""

    weight_decay: float = 1e-4
    """L2 penalty; norms and biases of embedding and decoders have none."""

    lookahead_steps: int = 5
    """Steps of SGD between two of LookAhead's slow weights; validate and save at multiples of it."""

    lookahead_alpha: float = 0.5
    """Part of the way to the fast weights that a step of the slow weights takes."""

    decoded_images: int = 256
    """Images of a validation, at most, for which captions are written and judged."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % HEAD_WIDTH:
            raise ValueError(
                f"width is {self.width}; it must be a multiple of {HEAD_WIDTH}, the width of an attention head"
            )
        if self.text_length < 3:
            raise ValueError(f"text_length is {self.text_length}; it must be 3 or more: start, one token and end")


def build(config: Config, tokenizer: Tokenizer, *, generator_seed: int) -> "Vtbr":
    """Build the method with random weights.

    Args:
        config: Of the method.
        tokenizer: Of the captions.
        generator_seed: Of the weights; the generators of PyTorch are left as they were.

    Raises:
        ValueError: there is no such architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_seed)
        return Vtbr(config, tokenizer)


class Vtbr(nn.Module):
    """Image encoder and textual head, and how they learn."""

    def __init__(self, config: Config, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.tokenizer = config, tokenizer
        self.visual_backbone = build_resnet(config.architecture)
        self.textual_head = TextualHead(
            visual_width=cast(int, self.visual_backbone.num_features),
            vocabulary_size=tokenizer.size,
            text_length=config.text_length,
            width=config.width,
            layers=config.layers,
            dropout=config.dropout,
        )

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the mean negative log-likelihood of the batch's tokens, forward plus backward (equation 2, to be minimised).

        Returns:
            `loss`, Float (), and `loss_components`: `forward_loss` and `backward_loss`.
        """
        losses = {
            name: functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET)
            for name, (logits, targets) in self._predict(batch).items()
        }
        return {
            "loss": losses["forward_loss"] + losses["backward_loss"],
            "loss_components": {name: loss.detach() for name, loss in losses.items()},
        }

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Nothing has to be learned beforehand."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the encoder its own learning rate, and free norms and biases of embedding and decoders from decay.

        The encoder's norms, the projection and the output bias decay, as in VirTex.
        """
        head, decay = self.textual_head, self.config.weight_decay
        decoding = nn.ModuleList([head.embedding, head.forward_decoder, head.backward_decoder])
        vectors = [parameter for parameter in decoding.parameters() if parameter.ndim == 1]
        others = [parameter for parameter in head.parameters() if not any(parameter is vector for vector in vectors)]
        visual, textual = self.config.visual_learning_rate, self.config.textual_learning_rate
        return [
            {"params": [*self.visual_backbone.parameters()], "lr": visual, "weight_decay": decay},
            {"params": others, "lr": textual, "weight_decay": decay},
            {"params": vectors, "lr": textual, "weight_decay": 0.0},
        ]

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build SGD with momentum within LookAhead, whose slow weights begin where the fast ones do."""
        descent = torch.optim.SGD(groups, momentum=self.config.momentum)
        for parameter in (parameter for group in groups for parameter in group["params"]):
            # timm would take the weights of the first slow step instead, and so skip it
            descent.state[parameter]["lookahead_slow_buff"] = parameter.detach().clone()
        wrap = cast(Callable[..., Optimizer], Lookahead)
        return wrap(descent, alpha=self.config.lookahead_alpha, k=self.config.lookahead_steps)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Give the loss of a token in each direction, and how often written captions name the right colours.

        Returns:
            `loss`, `forward_loss` and `backward_loss` over all tokens; and of the first `decoded_images` images
            `upper_colour_accuracy` and `lower_colour_accuracy`, see `pretrain.clothing.colour_accuracies`.
        """
        totals: defaultdict[str, float] = defaultdict(float)
        pairs: list[tuple[str, str]] = []
        for batch in batches:
            for name, (logits, targets) in self._predict(batch).items():
                summed = functional.cross_entropy(
                    logits.flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET, reduction="sum"
                )
                totals[name] += summed.item()
            totals["tokens"] += int(batch["token_mask"][:, 1:].sum())
            wanted = self.config.decoded_images - len(pairs)
            if wanted > 0:
                written, _ = self.write_captions(batch["images"][:wanted], GREEDY)
                pairs += zip(written, self._read(batch["token_ids"][:wanted]), strict=True)
        losses = {name: totals[name] / totals["tokens"] for name in ("forward_loss", "backward_loss")}
        return {"loss": sum(losses.values()), **losses, **colour_accuracies(pairs)}

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give the ResNet, without its classifier, and what rebuilds it."""
        return self.visual_backbone, encoder_table(self.config)

    def write_captions(self, images: Tensor, search: Search) -> tuple[list[str], list[float]]:
        """Write a caption of each image, and say how probable it is.

        Args:
            images: Float (batch, 3, height, width), normalised.
            search: Of `pretrain.decoding`; the first of its captions is taken.

        Returns:
            Texts, and logarithms of their probabilities.
        """
        start = torch.full((len(images),), self.tokenizer.start_id, device=images.device)
        sequences, scores = search(
            self.next_logits(images), start, end_id=self.tokenizer.end_id, length=self.config.text_length
        )
        return self._read(sequences[:, 0]), scores[:, 0].tolist()

    def next_logits(self, images: Tensor) -> NextLogits:
        """Give what the searches of `pretrain.decoding` ask, answered by the forward decoder.

        Args:
            images: Float (batch, 3, height, width), normalised.
        """
        head = self.textual_head
        # shape: (batch, locations, width)
        locations = head.project(self.visual_backbone(images))

        def answer(prefixes: Tensor) -> Tensor:
            repeated = locations.repeat_interleave(prefixes.shape[1], dim=0)
            states = head(repeated, prefixes.flatten(0, 1), is_backward=False)
            logits: Tensor = head.output(states[:, -1])
            return logits.view(*prefixes.shape[:2], -1)

        return answer

    def _predict(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Give logits, Float (batch, tokens - 1, vocabulary), and targets, Int64 (batch, tokens - 1), by name of their loss."""
        head, mask = self.textual_head, batch["token_mask"]
        locations = head.project(self.visual_backbone(batch["images"]))
        targets = {"forward_loss": batch["token_ids"], "backward_loss": reverse(batch["token_ids"], mask)}
        return {
            name: (
                head.output(head(locations, token_ids[:, :-1], is_backward=name == "backward_loss")),
                token_ids[:, 1:].masked_fill(~mask[:, 1:], NO_TARGET),
            )
            for name, token_ids in targets.items()
        }

    def _read(self, token_ids: Tensor) -> list[str]:
        return [readable(self.tokenizer.decode(ids)) for ids in token_ids.tolist()]
