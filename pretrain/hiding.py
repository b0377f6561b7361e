"""What MMET hides of images and captions, and what is to be told of it."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from passerby.tokens import Tokenizer
from passerby.training.batch import Batch
from pretrain.codebook import Codebook, patch_vectors
from pretrain.image_masking import MaskMode, expect_person, find_person, mask_patches
from pretrain.masking import MaskedText, WordMasking
from pretrain.patch_pixels import PatchPixels

PatchTarget = Literal["codes", "pixels"]
"""What hidden patches are told as: codes of a codebook, or their own pixels."""

PATCH_STREAM = 1
"""Added to a batch's seed, so that patches are not drawn by the numbers that words are drawn by."""


class MaskedPatches(NamedTuple):
    """Images with hidden patches."""

    is_hidden: Tensor
    """Bool (batch, patches)."""

    targets: Tensor
    """Of all patches: codes, Int64 (batch, patches), or pixels, Float (batch, patches, 3 * patch_size ** 2)."""


class Hiding(nn.Module):
    """Masks, and what hidden patches are told as.

    Args:
        tokenizer: Of the captions.
        word_share: Of a caption's tokens, hidden as whole words.
        grid: Rows and columns of patches.
        patch_size: Pixels.
        patch_share: Of an image's patches.
        mode: Where patches are hidden.
        target: What hidden patches are told as.
        codes: Size of the codebook, where there is one.
        mean: Of RGB in [0, 1], subtracted from the images.
        std: By which they are divided.
    """

    expected_person: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        word_share: float,
        grid: tuple[int, int],
        patch_size: int,
        patch_share: float,
        mode: MaskMode,
        target: PatchTarget,
        codes: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.grid, self.mode = grid, mode
        self.count = max(1, round(patch_share * grid[0] * grid[1]))
        self.words = WordMasking(tokenizer, word_share)
        self.target = Codebook(codes, patch_size) if target == "codes" else PatchPixels(patch_size)
        self.register_buffer("expected_person", expect_person(grid), persistent=False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def fit(self, batches: Iterable[Batch], images: int) -> None:
        """Make the codebook of the first images of some batches, where there is one."""
        if not isinstance(self.target, Codebook):
            return
        described: list[Tensor] = []
        for batch in batches:
            described.append(patch_vectors(self._pixels(batch), self.target.patch_size))
            if sum(map(len, described)) >= images:
                break
        self.target.fit(torch.cat(described)[:images].flatten(0, 1))

    def of_images(self, batch: Batch) -> MaskedPatches:
        """Draw patches of each image, where its parsing map shows the person or else where people mostly stand."""
        is_person = self.expected_person.expand(len(batch["images"]), -1)
        if "parsing" in batch:
            is_person = find_person(batch["parsing"], self.grid)
        seed = int(batch["seed"]) + PATCH_STREAM
        is_hidden = mask_patches(is_person, self.grid, self.count, mode=self.mode, seed=seed)
        return MaskedPatches(is_hidden, self.target(self._pixels(batch)))

    def of_captions(self, batch: Batch) -> MaskedText:
        """Draw words of each caption."""
        masked: MaskedText = self.words(batch["token_ids"], batch["token_mask"], batch["seed"])
        return masked

    def _pixels(self, batch: Batch) -> Tensor:
        return batch["images"] * self.std + self.mean
