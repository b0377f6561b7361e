"""Patches as words: each is the nearest of some hundred patches that stand for all, so that telling one is a classification.

Source: MMET, section 3.2, "adopt the classifier to reconstruct", and FLAVA, whose words are those of a trained network (the
dVAE of DALL-E). Here they are found in the training images by k-means, which needs nobody's weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

CELLS = 4
"""Rows and columns of mean colours that describe a patch."""

VECTOR_SIZE = 3 * CELLS * CELLS
ITERATIONS = 25
"""Of k-means at most; it ends when nothing moves."""

SEED = 0
"""Of the patches that k-means begins with."""

ROWS_AT_A_TIME = 16_384
"""Of distances, so that 200,000 patches and 512 codes fit into memory."""


class Codebook(nn.Module):
    """Patches that stand for all, found by `fit`; they travel in checkpoints.

    Args:
        size: How many codes.
        patch_size: Pixels, a multiple of `CELLS`.
    """

    centroids: Tensor

    def __init__(self, size: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.register_buffer("centroids", torch.zeros(size, VECTOR_SIZE))

    def fit(self, vectors: Tensor) -> None:
        """Find the codes.

        Args:
            vectors: Of patches of training images, by `patch_vectors`: Float (patches, VECTOR_SIZE).

        Raises:
            ValueError: fewer patches are different than there are codes.
        """
        self.centroids.copy_(find_centroids(vectors, len(self.centroids)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the code of each patch, row by row: Int64 (batch, patches).

        Args:
            pixels: RGB in [0, 1]: Float (batch, 3, height, width).
        """
        vectors = patch_vectors(pixels, self.patch_size)
        return nearest(vectors.flatten(0, 1), self.centroids).view(vectors.shape[:2])


def codebook_scores(codes: Tensor, size: int) -> dict[str, float]:
    """Say how much of a codebook is used: the share of its codes, and how many equally frequent ones would be as varied.

    Args:
        codes: Of patches, Int64 (patches,).
        size: Of the codebook.
    """
    counts = torch.bincount(codes, minlength=size)
    entropy = torch.special.entr(counts / counts.sum()).sum()
    return {"codebook_use": float((counts > 0).float().mean()), "codebook_perplexity": float(entropy.exp())}


def patch_vectors(pixels: Tensor, patch_size: int) -> Tensor:
    """Describe each patch by the mean colours of its cells: Float (batch, patches, VECTOR_SIZE), row by row."""
    # shape: (batch, 3, rows * CELLS, columns * CELLS)
    cells = functional.avg_pool2d(pixels.float(), patch_size // CELLS)
    # shape: (batch, VECTOR_SIZE, patches)
    return functional.unfold(cells, CELLS, stride=CELLS).transpose(1, 2)


def find_centroids(vectors: Tensor, count: int) -> Tensor:
    """Find by k-means the points that stand for all: Float (count, width). Each is the nearest of some vector.

    Args:
        vectors: Float (vectors, width).
        count: How many points.

    Raises:
        ValueError: there are fewer different vectors.
    """
    different: Tensor = torch.unique(vectors, dim=0)
    if len(different) < count:
        raise ValueError(
            f"the images have {len(different):,} different patches, too few for {count:,} codes; set a smaller"
            " method.codebook_size, or a greater method.codebook_images"
        )
    chosen = torch.randperm(len(different), generator=torch.Generator().manual_seed(SEED))[:count]
    centroids = different[chosen.to(vectors.device)]
    for _ in range(ITERATIONS):
        moved = move_centroids(vectors, centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def move_centroids(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Move each point to the mean of the vectors it is nearest to: Float (count, width).

    Points that are nearest to none take the places of the vectors that are farthest from theirs.

    Args:
        vectors: Float (vectors, width).
        centroids: Float (count, width).
    """
    codes = nearest(vectors, centroids)
    counts = torch.bincount(codes, minlength=len(centroids))
    sums = torch.zeros_like(centroids).index_add_(0, codes, vectors)
    means = sums / counts.clamp(min=1)[:, None]
    is_idle = counts == 0
    distances = (vectors - centroids[codes]).square().sum(dim=1)
    means[is_idle] = vectors[distances.topk(int(is_idle.sum())).indices]
    return means


def nearest(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Give the place of the nearest point to each vector: Int64 (vectors,)."""
    parts = torch.split(vectors, ROWS_AT_A_TIME)
    return torch.cat([torch.cdist(part, centroids).argmin(dim=1) for part in parts])
