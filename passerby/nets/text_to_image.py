"""Encoders of images and of texts whose features can be compared: UniPT's, with or without the prototypes of LGUR."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.pgu import PGU
from passerby.nets.text import TextEncoder
from passerby.nets.vit import CLASS_POSITIONS, build_vit
from passerby.tokens import Tokenizer


class TextToImageSearcher(nn.Module):
    """What is left when all is trained: from images and from texts to features that can be compared, by their cosine.

    Features are `global`, the greatest value over all tokens, Float (batch, embedding_width); `pgu`, what the prototypes
    found, Float (batch, prototypes * part_width); and `sum`, both at length 1 behind each other, whose cosine ranks as the sum
    of theirs does. With `gamma` 0 there is `global` alone.

    Args:
        table: Architectures, image size, widths and vocabulary, as the export of a run has them.
        dropout: Probability, in both encoders.
    """

    def __init__(self, table: dict[str, Any], *, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokenizer = Tokenizer.from_json(table["tokenizer"])
        width = table["embedding_width"]
        size = table["image_height"], table["image_width"]
        self.image_encoder = build_vit(table["architecture"], size, dropout=dropout)
        self.text_encoder = TextEncoder(
            table["text_architecture"],
            vocabulary_size=self.tokenizer.size,
            pad_id=self.tokenizer.pad_id,
            dropout=dropout,
        )
        self.image_projection = nn.Linear(self.image_encoder.num_features, width)
        self.text_projection = nn.Linear(self.text_encoder.width, width)
        self.pgu = PGU(width, prototypes=table["prototypes"]) if table["prototypes"] else None

    def embed_images(self, images: Tensor) -> dict[str, Tensor]:
        """Give features by name, of images Float (batch, 3, height, width), normalised."""
        # shape: (batch, 1 + patches, embedding_width)
        tokens = self.image_projection(self.image_encoder(images))
        return self._features(tokens.amax(dim=1), tokens[:, CLASS_POSITIONS:], None)

    def embed_texts(self, token_ids: Tensor, token_mask: Tensor) -> dict[str, Tensor]:
        """Give features by name.

        Args:
            token_ids: Of `tokenizer`, Int64 (batch, tokens).
            token_mask: Bool (batch, tokens), true where a token is.
        """
        # shape: (batch, tokens, embedding_width)
        tokens = self.text_projection(self.text_encoder(token_ids, token_mask))
        whole = tokens.masked_fill(~token_mask[:, :, None], -torch.inf).amax(dim=1)
        return self._features(whole, tokens, token_mask)

    def _features(self, whole: Tensor, tokens: Tensor, token_mask: Tensor | None) -> dict[str, Tensor]:
        if self.pgu is None:
            return {"global": whole}
        # shape: (batch, prototypes * part_width)
        parts = self.pgu(tokens, token_mask).flatten(1)
        return {
            "global": whole,
            "pgu": parts,
            "sum": torch.cat([functional.normalize(each.float()) for each in (whole, parts)], dim=1),
        }
