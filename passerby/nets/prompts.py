"""Learned prompts: a few tokens for each person, in a sentence about the person or about one part of them.

The text tower stays as it is; what is learned is Float (people, tokens, width), the same tokens in all sentences about a person.

Source: CLIP-ReID, section 3.2, and pi-VL, section 3.3, equation 6.
"""

from collections.abc import Sequence
from typing import NamedTuple

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

from passerby.nets.clip_source import ClipModel

BEFORE = "a photo of a"

AFTER = "person."
"""The end of a sentence about a person, which is CLIP-ReID's."""

AFTER_WITH_PART = "person {part}"
"""That of a sentence about a part, whose name pi-VL appends; without a full stop, which would end the sentence before it."""

PART_NAMES = (
    *("background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants"),
    *("jumpsuits", "scarf", "skirt", "face", "left arm", "right arm"),
    *("left leg", "right leg", "left shoe", "right shoe"),
)
"""LIP's classes in its order, which is that of the values in parsing maps. Spaces stand for its hyphens, which would be tokens."""

WHOLE = len(PART_NAMES)
"""Stands for no part, but the person."""


class Prompts(NamedTuple):
    """Sentences before the text tower."""

    embeddings: Tensor
    """Float (texts, length, width); what comes after an end is never seen."""

    ends: Tensor
    """Int64 (texts,), place of each end token, where the tower answers."""


class PromptLearner(nn.Module):
    """Writes sentences with learned tokens; its only weight is `context`, Float (people, tokens, width).

    Args:
        clip: Whose word embeddings are taken, and kept as they are.
        tokenizer: Of the same CLIP.
        people: Numbered from 0.
        tokens: Learned for each person, from a normal distribution of deviation 0.02.

    Raises:
        ValueError: the text tower cannot read so many tokens, or is not as `PromptEncoder` wants it.
    """

    before: Tensor
    after: Tensor
    ends: Tensor

    def __init__(self, clip: ClipModel, tokenizer: SimpleTokenizer, *, people: int, tokens: int = 4) -> None:
        super().__init__()
        words: Tensor = _check(clip).token_embedding.weight.detach()
        before = [tokenizer.sot_token_id, *tokenizer.encode(BEFORE)]
        sentences = [*(AFTER_WITH_PART.format(part=part) for part in PART_NAMES), AFTER]
        after = [[*tokenizer.encode(sentence), tokenizer.eot_token_id] for sentence in sentences]
        length = len(before) + tokens + max(map(len, after))
        if length > clip.context_length:
            raise ValueError(
                f"tokens is {tokens}, which makes sentences of {length} tokens; this CLIP reads {clip.context_length}"
            )
        self.context = nn.Parameter(torch.empty(people, tokens, words.shape[1]))
        nn.init.normal_(self.context, std=0.02)
        padded = nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in after], batch_first=True)
        # shape: (tokens before, width) and (parts + 1, longest after, width)
        self.register_buffer("before", words[before].clone(), persistent=False)
        self.register_buffer("after", words[padded.to(words.device)].clone(), persistent=False)
        lengths = torch.tensor([len(ids) for ids in after])
        self.register_buffer("ends", len(before) + tokens + lengths - 1, persistent=False)

    def forward(self, person_indices: Tensor, kinds: Tensor) -> Prompts:
        """Write sentences.

        Args:
            person_indices: Int64 (texts,).
            kinds: Places in `PART_NAMES`, or `WHOLE`, Int64 (texts,).
        """
        before = self.before.expand(len(person_indices), -1, -1)
        # shape: (texts, length, width)
        embeddings = torch.cat([before, self.context[person_indices], self.after[kinds]], dim=1)
        return Prompts(embeddings, self.ends[kinds])


class PromptEncoder(nn.Module):
    """A CLIP's text tower, frozen, for sentences that come as embeddings.

    It reads no further than they go: no token sees what comes after it, so the answer is that of the tower's full length.

    Args:
        clip: Its text tower is taken and frozen.

    Raises:
        ValueError: the tower lets tokens see what comes after, or answers elsewhere than at the end.
    """

    mask: Tensor

    def __init__(self, clip: ClipModel) -> None:
        super().__init__()
        _check(clip)
        self.transformer, self.ln_final = clip.transformer, clip.ln_final
        self.positional_embedding, self.text_projection = clip.positional_embedding, clip.text_projection
        self.register_buffer("mask", clip.attn_mask, persistent=False)
        self.requires_grad_(requires_grad=False)

    def forward(self, prompts: Prompts) -> Tensor:
        """Give the features of sentences: Float (texts, embed_dim), of any length."""
        embeddings, ends = prompts
        length = embeddings.shape[1]
        states = self.transformer(
            embeddings + self.positional_embedding[:length], attn_mask=self.mask[:length, :length]
        )
        # shape: (texts, width)
        at_ends = self.ln_final(states[torch.arange(len(states), device=states.device), ends])
        features: Tensor = at_ends @ self.text_projection
        return features


def encode_people(learner: PromptLearner, encoder: PromptEncoder, person_indices: Tensor) -> Tensor:
    """Give the feature of each one's person, written and read once a person: Float (batch, embed_dim).

    Args:
        learner: Of prompts.
        encoder: Of texts.
        person_indices: Int64 (batch,), with repetitions.
    """
    people, places = torch.unique(person_indices, return_inverse=True)
    features: Tensor = encoder(learner(people, torch.full_like(people, WHOLE)))
    return features[places]


@torch.no_grad()
def encode_table(
    learner: PromptLearner, encoder: PromptEncoder, kinds: Sequence[int], *, batch_size: int = 512
) -> Tensor:
    """Give the features of all people, to be compared with and not learned from: Float (people, kinds, embed_dim), fp32.

    Args:
        learner: Of prompts.
        encoder: Of texts.
        kinds: Places in `PART_NAMES`, or `WHOLE`.
        batch_size: Texts at a time.
    """
    device, people = learner.context.device, len(learner.context)
    pairs = torch.cartesian_prod(torch.arange(people, device=device), torch.tensor(kinds, device=device))
    with torch.autocast(device.type, enabled=False):
        features = [encoder(learner(*batch.T)) for batch in torch.split(pairs, batch_size)]
    return torch.cat(features).view(people, len(kinds), -1)


def _check(clip: ClipModel) -> open_clip.CLIP:
    is_causal = type(clip) is open_clip.CLIP and clip.attn_mask is not None
    if not is_causal or clip.text_pool_type != "argmax" or not isinstance(clip.text_projection, Tensor):
        raise ValueError(
            "this CLIP's text tower is no causal transformer that answers at its end token; use RN50-quickgelu,"
            " ViT-B-16-quickgelu or their kin"
        )
    return clip
