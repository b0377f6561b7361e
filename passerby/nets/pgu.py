"""Prototypes that ask the tokens of images and texts the same questions: the granularity unification (PGU) of LGUR.

Source: Shao et al., Learning granularity-unified representations for text-to-image person re-identification (LGUR), and its
code, whose sizes these are; UniPT, section 4.2, takes it over.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class PGU(nn.Module):
    """Gives a vector of every prototype for an image or a text: what it found among the tokens. Both share everything.

    Args:
        width: Of tokens and prototypes.
        prototypes: K.
        layers: Of the decoder.
        heads: Of its cross-attention.
        head_width: Of each of them.
        hidden_width: Of its feed-forward layers.
        part_width: Of the vectors.
    """

    def __init__(
        self,
        width: int,
        *,
        prototypes: int = 6,
        layers: int = 2,
        heads: int = 6,
        head_width: int = 512,
        hidden_width: int = 512,
        part_width: int = 512,
    ) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(prototypes, width))
        self.layers = nn.ModuleList([Layer(width, heads, head_width, hidden_width) for _ in range(layers)])
        # A 1x1 convolution for each prototype is a linear map; fan-out and gain as that convolution has them.
        self.heads = nn.Parameter(torch.empty(prototypes, part_width, width))
        for head in self.heads:
            nn.init.kaiming_normal_(head, mode="fan_out", nonlinearity="relu")

    def forward(self, tokens: Tensor, token_mask: Tensor | None = None) -> Tensor:
        """Give what the prototypes found: Float (batch, prototypes, part_width).

        Args:
            tokens: Float (batch, tokens, width).
            token_mask: Bool (batch, tokens), true where a token is; without it, everywhere.
        """
        # shape: (1, prototypes, width)
        found = self.prototypes[None]
        for layer in self.layers:
            found = layer(found, tokens, token_mask)
        return torch.einsum("bkw,kpw->bkp", found, self.heads)


class Layer(nn.Module):
    """Cross-attention, then a feed-forward layer, both after a normalisation and added to what was there.

    One normalisation serves queries and tokens alike; queries do not see each other.
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden_width: int) -> None:
        super().__init__()
        self.count = heads
        self.attention_norm = nn.LayerNorm(width)
        self.to_queries = nn.Linear(width, heads * head_width, bias=False)
        self.to_keys_values = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.to_output = nn.Linear(heads * head_width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden_width), nn.ReLU(), nn.Linear(hidden_width, width)
        )

    def forward(self, queries: Tensor, tokens: Tensor, token_mask: Tensor | None) -> Tensor:
        """Give the queries with what they found: Float (batch, queries, width).

        Args:
            queries: Float (batch or 1, queries, width).
            tokens: Float (batch, tokens, width).
            token_mask: Bool (batch, tokens), true where a token is.
        """
        asked = self._split(self.to_queries(self.attention_norm(queries)))
        keys, values = map(self._split, self.to_keys_values(self.attention_norm(tokens)).chunk(2, dim=2))
        answers = functional.scaled_dot_product_attention(
            asked.expand(len(tokens), -1, -1, -1),
            keys,
            values,
            attn_mask=None if token_mask is None else token_mask[:, None, None, :],
        )
        # shape: (batch, queries, heads * head_width)
        joined = answers.transpose(1, 2).flatten(2)
        queries = queries + self.to_output(joined)
        added: Tensor = self.feed_forward(queries)
        return queries + added

    def _split(self, states: Tensor) -> Tensor:
        """Give each head its part: Float (batch, heads, tokens, head_width)."""
        batch, tokens, _ = states.shape
        return states.view(batch, tokens, self.count, -1).transpose(1, 2)
