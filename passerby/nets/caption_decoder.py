"""The textual head of VTBR: two transformer decoders that say what an image shows, one of them from the end.

Source: VTBR, section 3.3, and VirTex, whose bidirectional captioning it is. Both decoders read the same projected image and
share the embedding, which is the output layer too.
"""

import copy
import math

import torch
from torch import Tensor, nn

HEAD_WIDTH = 64
"""Of an attention head, and `FEEDFORWARD` times the width within a layer: VirTex's L1_H1024_A16_F4096 and its kin."""

FEEDFORWARD = 4
EMBEDDING_EPSILON = 1e-8
INITIAL_SCALE = 0.02 * 1024**0.5
"""Matrices begin with a standard deviation of this over the root of the width: VirTex's 0.02 at its width of 1024. With 0.02 at a
width of 128 almost nothing of the image would reach the words."""


class CaptionEmbedding(nn.Module):
    """What a token is and where it stands, as one vector.

    Args:
        vocabulary_size: Different tokens.
        text_length: Tokens at most.
        width: Of the vector.
        dropout: Probability.
    """

    def __init__(self, *, vocabulary_size: int, text_length: int, width: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary_size, width)
        self.positions = nn.Embedding(text_length, width)
        self.norm = nn.LayerNorm(width, eps=EMBEDDING_EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed Int64 (batch, tokens): Float (batch, tokens, width)."""
        embedded = self.words(token_ids) + self.positions.weight[: token_ids.shape[1]]
        dropped: Tensor = self.dropout(self.norm(embedded))
        return dropped


class TextualHead(nn.Module):
    """Predict every next token of a caption from the image and the tokens so far, and from its end likewise.

    Captions are padded on the right, where causal attention never looks, so no padding mask is needed: what a token gives
    does not depend on the padding, and what the padding gives is not used.

    Args:
        visual_width: Channels of the map of image features.
        vocabulary_size: Different tokens.
        text_length: Tokens of a caption at most.
        width: Of the decoders, a multiple of `HEAD_WIDTH`.
        layers: Of each decoder.
        dropout: Probability.
    """

    def __init__(
        self, *, visual_width: int, vocabulary_size: int, text_length: int, width: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.visual_projection = nn.Linear(visual_width, width)
        self.embedding = CaptionEmbedding(
            vocabulary_size=vocabulary_size, text_length=text_length, width=width, dropout=dropout
        )
        layer = nn.TransformerDecoderLayer(
            width, width // HEAD_WIDTH, FEEDFORWARD * width, dropout, activation="gelu", batch_first=True
        )
        self.forward_decoder = nn.TransformerDecoder(layer, layers)
        self.output = nn.Linear(width, vocabulary_size)
        self.output.weight = self.embedding.words.weight
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=INITIAL_SCALE / math.sqrt(width))
        self.backward_decoder = copy.deepcopy(self.forward_decoder)

    def project(self, image_features: Tensor) -> Tensor:
        """Make what the decoders look at of a map of features.

        Args:
            image_features: Float (batch, channels, height, width).

        Returns:
            Float (batch, locations, width of the decoders), row by row.
        """
        # shape: (batch, locations, channels)
        locations = image_features.flatten(2).transpose(1, 2)
        projected: Tensor = self.visual_projection(locations)
        return projected

    def forward(self, locations: Tensor, token_ids: Tensor, *, is_backward: bool) -> Tensor:
        """Give what is known after each token of the one that follows; `output` makes logits of it.

        Args:
            locations: Of the images; see `project`.
            token_ids: Int64 (batch, tokens), padded on the right; the last token first if `is_backward`.
            is_backward: Which of the decoders.

        Returns:
            Float (batch, tokens, width).
        """
        decoder = self.backward_decoder if is_backward else self.forward_decoder
        causal = nn.Transformer.generate_square_subsequent_mask(token_ids.shape[1], device=token_ids.device)
        states: Tensor = decoder(self.embedding(token_ids), locations, tgt_mask=causal, tgt_is_causal=True)
        return states


def reverse(token_ids: Tensor, token_mask: Tensor) -> Tensor:
    """Turn each caption round, and leave its padding on the right.

    Args:
        token_ids: Int64 (batch, tokens), padded on the right.
        token_mask: Bool (batch, tokens), true where a token is.

    >>> reverse(torch.tensor([[2, 7, 8, 3, 0]]), torch.tensor([[True, True, True, True, False]])).tolist()
    [[3, 8, 7, 2, 0]]
    """
    places = torch.arange(token_ids.shape[1], device=token_ids.device)
    # shape: (batch, tokens)
    mirrored = token_mask.sum(dim=1, keepdim=True) - 1 - places
    return token_ids.gather(1, torch.where(token_mask, mirrored, places))
