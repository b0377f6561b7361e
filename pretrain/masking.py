"""Hide whole words of captions, so that a text encoder learns to tell them.

Source: UniPT, section 3.3, and its code's `whole_word_masking`; BERT (Devlin et al., 2019) for the shares. Unlike the
collator behind that code, words are drawn from words only: there, padding was drawn too, and so the number of masked
words varied from caption to caption.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from passerby.tokens import Tokenizer

NOT_MASKED = -100
"""Label of a token that is not to be told; cross-entropy of PyTorch leaves it out."""

HIDDEN_SHARE, RANDOM_SHARE = 0.8, 0.1
"""Of masked tokens: shown as [MASK], and as any other piece; the rest are shown as they are."""


class MaskedText(NamedTuple):
    """Captions with hidden words."""

    token_ids: Tensor
    """Int64 (batch, tokens)."""

    labels: Tensor
    """Int64 (batch, tokens): the tokens to tell, else `NOT_MASKED`."""


class WordMasking(nn.Module):
    """Masks a share of each caption, whole words at a time.

    Args:
        tokenizer: Of the captions.
        share: Of a caption's tokens, boundaries not counted; words are drawn until as many are masked, and one at least.
    """

    is_word_piece: Tensor
    begins_word: Tensor
    ordinary_ids: Tensor

    def __init__(self, tokenizer: Tokenizer, share: float) -> None:
        super().__init__()
        self.share, self.mask_id = share, tokenizer.mask_id
        special_ids = [tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.mask_id]
        is_word_piece = torch.ones(tokenizer.size, dtype=torch.bool)
        is_word_piece[special_ids] = False
        begins_word = tokenizer.word_starts.clone()
        begins_word[tokenizer.unknown_id] = True
        is_ordinary = is_word_piece.clone()
        is_ordinary[tokenizer.unknown_id] = False
        self.register_buffer("is_word_piece", is_word_piece, persistent=False)
        self.register_buffer("begins_word", begins_word, persistent=False)
        self.register_buffer("ordinary_ids", is_ordinary.nonzero().squeeze(1), persistent=False)

    def forward(self, token_ids: Tensor, token_mask: Tensor, seed: Tensor) -> MaskedText:
        """Mask captions as a seed says.

        Args:
            token_ids: Int64 (batch, tokens).
            token_mask: Bool (batch, tokens), true where a token is.
            seed: Int64 (), on the CPU.
        """
        generator = torch.Generator(token_ids.device).manual_seed(int(seed))
        is_masked = self._draw_words(token_ids, token_mask, generator)
        fate = torch.rand(token_ids.shape, generator=generator, device=token_ids.device)
        places = torch.randint(len(self.ordinary_ids), token_ids.shape, generator=generator, device=token_ids.device)
        shown = token_ids.masked_fill(is_masked & (fate < HIDDEN_SHARE), self.mask_id)
        is_random = is_masked & (fate >= HIDDEN_SHARE) & (fate < HIDDEN_SHARE + RANDOM_SHARE)
        shown = torch.where(is_random, self.ordinary_ids[places], shown)
        return MaskedText(shown, token_ids.masked_fill(~is_masked, NOT_MASKED))

    def _draw_words(self, token_ids: Tensor, token_mask: Tensor, generator: torch.Generator) -> Tensor:
        """Say which tokens belong to words that were drawn: Bool (batch, tokens)."""
        is_content = token_mask & self.is_word_piece[token_ids]
        # The number of each token's word in its caption; what is no content has a number too, but no weight.
        words = (is_content & self.begins_word[token_ids]).cumsum(dim=1)
        # shape: (batch, words), as many as there can be
        pieces = torch.zeros(len(words), words.shape[1] + 1, dtype=torch.int64, device=words.device)
        pieces.scatter_add_(1, words, is_content.long())
        order = torch.rand(pieces.shape, generator=generator, device=pieces.device).argsort(dim=1)
        pieces_in_order = pieces.gather(1, order)
        drawn_before = pieces_in_order.cumsum(dim=1) - pieces_in_order
        wanted = (self.share * is_content.sum(dim=1, keepdim=True)).round().clamp(min=1)
        is_drawn = torch.zeros_like(pieces, dtype=torch.bool).scatter_(1, order, drawn_before < wanted)
        return is_drawn.gather(1, words) & is_content
