"""BERT as transformers builds it, with the weights of others where they are wanted."""

from dataclasses import dataclass

from torch import Tensor, nn
from transformers import BertConfig, BertModel

from passerby.nets.weights import load_weights, read_weights


@dataclass(frozen=True)
class Shape:
    """Of a BERT, whose feed-forward layers are four times as wide."""

    width: int
    layers: int
    heads: int


ARCHITECTURES = {
    "bert_base": Shape(768, 12, 12),
    "bert_small": Shape(512, 4, 8),
    "bert_nano": Shape(96, 2, 3),
}
"""The first two are Google's; the smallest is ours, for small vocabularies and machines."""

MAX_TOKENS = 512
"""Positions of BERT."""

OLD_NAMES = {".gamma": ".weight", ".beta": ".bias"}
"""Ends of names in the weights that were converted from TensorFlow."""


class TextEncoder(nn.Module):
    """Gives the last states of BERT for each token.

    Args:
        architecture: One of `ARCHITECTURES`.
        vocabulary_size: Pieces.
        pad_id: Of the vocabulary.
        dropout: Probability, on attention weights too.

    Raises:
        ValueError: there is no such architecture.
    """

    def __init__(self, architecture: str, *, vocabulary_size: int, pad_id: int, dropout: float = 0.0) -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"text_architecture is {architecture!r}; allowed are {', '.join(ARCHITECTURES)}")
        shape = ARCHITECTURES[architecture]
        self.width, self.vocabulary_size = shape.width, vocabulary_size
        self.bert = BertModel(
            BertConfig(
                vocab_size=vocabulary_size,
                hidden_size=shape.width,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                intermediate_size=4 * shape.width,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                max_position_embeddings=MAX_TOKENS,
                pad_token_id=pad_id,
            ),
            add_pooling_layer=False,
        )

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """Give states of tokens: Float (batch, tokens, width); those of the padding mean nothing.

        Args:
            token_ids: Int64 (batch, tokens).
            token_mask: Bool (batch, tokens), true where a token is.
        """
        states: Tensor = self.bert(input_ids=token_ids, attention_mask=token_mask).last_hidden_state
        return states

    def load(self, source: str) -> None:
        """Load weights of a BERT of the same architecture and vocabulary, with or without its heads.

        Args:
            source: See `passerby.nets.weights.read_weights`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds other weights.
        """
        kept = {}
        for name, weight in read_weights(source).items():
            bare = name.removeprefix("bert.")
            for old, new in OLD_NAMES.items():
                bare = bare.removesuffix(old) + new if bare.endswith(old) else bare
            if not bare.startswith(("cls.", "pooler.")) and bare != "embeddings.position_ids":
                kept[bare] = weight
        words = kept.get("embeddings.word_embeddings.weight")
        if words is not None and len(words) != self.vocabulary_size:
            raise ValueError(
                f"{source} has a vocabulary of {len(words):,} pieces, and this run one of {self.vocabulary_size:,}; set"
                " data.vocabulary to the vocab.txt that belongs to these weights"
            )
        load_weights(self.bert, kept, source=source)
