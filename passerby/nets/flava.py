"""Encoders of images, of texts, and of both together, with the heads that tell what is hidden and what belongs together.

Source: FLAVA (Singh et al., 2022), which MMET follows; the text encoder is BERT, whose layers normalise after instead of before.
"""

import math
from typing import NamedTuple

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.text import TextEncoder
from passerby.nets.vit import ARCHITECTURES, CLASS_POSITIONS, build_vit, states_of

INITIAL_SCALE = 0.02 * 768**0.5
"""Weights of the multimodal encoder and of all heads begin with a standard deviation of this over the root of the width: FLAVA's
0.02 at its width of 768. With 0.02 at a width of 96 the token of the pair would hardly see image and text."""


UNDECAYED = ("cls_token", "pos_embed", "position_embeddings.weight")
"""Ends of the names of parameters that do not decay, besides all vectors and scalars: special tokens and positions."""


class MultimodalStates(NamedTuple):
    """What each token knows after it has seen image and text, normalised."""

    pair: Tensor
    """Of the token that stands for both: Float (batch, width)."""

    patches: Tensor
    """Float (batch, patches, width)."""

    words: Tensor
    """Float (batch, tokens, width); those of the padding mean nothing."""


class MultimodalEncoder(nn.Module):
    """Layers of a vision transformer over a token for the pair, those of the image, and those of the text.

    Args:
        text_width: Of the states of texts.
        width: Of the layers, and of the states of images.
        layers: How many.
        heads: Of each layer's attention.
    """

    def __init__(self, *, text_width: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.image_projection = nn.Linear(width, width)
        self.text_projection = nn.Linear(text_width, width)
        self.class_token = nn.Parameter(torch.zeros(width))
        self.blocks = nn.ModuleList([Block(width, heads, qkv_bias=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, image_states: Tensor, text_states: Tensor, token_mask: Tensor) -> MultimodalStates:
        """Let image and text see each other. No position is added: the states know theirs.

        FLAVA lets the padding take part, so that what it says of a pair depends on its batch; here it does not.

        Args:
            image_states: Of `Flava.see`, Float (batch, 1 + patches, width).
            text_states: Float (batch, tokens, text_width).
            token_mask: Bool (batch, tokens), true where a token is.
        """
        image, text = self.image_projection(image_states), self.text_projection(text_states)
        # shape: (batch, 1 + 1 + patches + tokens, width)
        states = torch.cat([self.class_token.expand(len(image), 1, -1), image, text], dim=1)
        is_seen = functional.pad(token_mask, (1 + image.shape[1], 0), value=True)
        for block in self.blocks:
            states = block(states, attn_mask=is_seen[:, None, None, :])
        pair, of_image, words = self.norm(states).split([1, image.shape[1], text.shape[1]], dim=1)
        return MultimodalStates(pair[:, 0], of_image[:, CLASS_POSITIONS:], words)


class Flava(nn.Module):
    """The three encoders and their heads.

    Args:
        architecture: Of the image encoder, one of `passerby.nets.vit.ARCHITECTURES`; the multimodal encoder is as wide.
        height_width: Of the images, pixels.
        text_architecture: One of `passerby.nets.text.ARCHITECTURES`.
        vocabulary_size: Different tokens.
        pad_id: Of the vocabulary.
        multimodal_layers: Of the multimodal encoder.
        patch_outputs: Numbers that are told of a patch: logits of codes, or pixels.

    Raises:
        ValueError: there is no such architecture, or its patches do not tile the images.
    """

    def __init__(
        self,
        *,
        architecture: str,
        height_width: tuple[int, int],
        text_architecture: str,
        vocabulary_size: int,
        pad_id: int,
        multimodal_layers: int,
        patch_outputs: int,
    ) -> None:
        super().__init__()
        self.image_encoder = build_vit(architecture, height_width)
        self.text_encoder = TextEncoder(text_architecture, vocabulary_size=vocabulary_size, pad_id=pad_id)
        width, text_width = self.image_encoder.embed_dim, self.text_encoder.width
        heads = ARCHITECTURES[architecture].heads
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.multimodal_encoder = MultimodalEncoder(
            text_width=text_width, width=width, layers=multimodal_layers, heads=heads
        )
        self.patch_head = _build_head(width, patch_outputs)
        self.word_head = _build_head(text_width, vocabulary_size)
        self.multimodal_patch_head = _build_head(width, patch_outputs)
        self.multimodal_word_head = _build_head(width, vocabulary_size)
        self.matching_head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
        self.image_projection = nn.Linear(width, width)
        self.text_projection = nn.Linear(text_width, width)
        for name, part in self.named_children():
            if name not in ("image_encoder", "text_encoder"):
                draw_weights(part, width)

    def see(self, images: Tensor, is_hidden: Tensor) -> Tensor:
        """Give states of images before the last normalisation: Float (batch, 1 + patches, width).

        What a hidden patch shows is replaced before its position is added: only its place is left of it.

        Args:
            images: Float (batch, 3, height, width), normalised.
            is_hidden: Bool (batch, patches).
        """
        # shape: (batch, patches, width)
        patches = torch.where(is_hidden[:, :, None], self.mask_token, self.image_encoder.patch_embed(images))
        return states_of(self.image_encoder, patches)

    def patch_states(self, image_states: Tensor) -> Tensor:
        """Give the normalised states of the patches: Float (batch, patches, width).

        Args:
            image_states: Of `see`.
        """
        states: Tensor = self.image_encoder.norm(image_states[:, CLASS_POSITIONS:])
        return states

    def embed(self, image_states: Tensor, text_states: Tensor) -> tuple[Tensor, Tensor]:
        """Give what images and texts are compared by, made of their first tokens: Float (batch, width) both.

        Args:
            image_states: Of `see`.
            text_states: Of the text encoder.
        """
        images: Tensor = self.image_projection(self.image_encoder.norm(image_states[:, 0]))
        texts: Tensor = self.text_projection(text_states[:, 0])
        return images, texts


def draw_weights(part: nn.Module, width: int) -> None:
    """Let the linear maps of a part begin as FLAVA's do.

    Args:
        part: The multimodal encoder, or a head.
        width: Of the multimodal encoder.
    """
    for module in part.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=INITIAL_SCALE / math.sqrt(width))
            nn.init.zeros_(module.bias)


def _build_head(width: int, labels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, labels))
