"""Patches as their own pixels: the alternative to codes, where telling a hidden patch is a regression.

Source: MMET, section 3.2, "mask feature learning at the pixel level"; normalised patch by patch as in MAE (He et al., 2022).
"""

from torch import Tensor, nn
from torch.nn import functional

EPS = 1e-6
"""Added to the variance of a patch, so that one of a single colour becomes zeros."""


class PatchPixels(nn.Module):
    """Gives what hidden patches are told as.

    Args:
        patch_size: Pixels.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the pixels of each patch, of mean 0 and variance 1: Float (batch, patches, 3 * patch_size ** 2), row by row.

        Args:
            pixels: RGB in [0, 1]: Float (batch, 3, height, width).
        """
        patches = functional.unfold(pixels.float(), self.patch_size, stride=self.patch_size).transpose(1, 2)
        variances = patches.var(dim=2, unbiased=False, keepdim=True)
        return (patches - patches.mean(dim=2, keepdim=True)) / (variances + EPS).sqrt()
