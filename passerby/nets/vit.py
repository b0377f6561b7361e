"""Vision transformers as timm builds them, for tall images, with the weights of others where they are wanted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from passerby.nets.weights import load_weights, read_weights


@dataclass(frozen=True)
class Shape:
    """Of a vision transformer, whose feed-forward layers are four times as wide."""

    width: int
    layers: int
    heads: int
    patch_size: int
    """Pixels."""


ARCHITECTURES = {
    "vit_base_patch16": Shape(768, 12, 12, 16),
    "deit_small_patch16": Shape(384, 12, 6, 16),
    "vit_nano_patch8": Shape(96, 4, 3, 8),
}
"""By the names of timm, without their resolution; the smallest is ours, for small images and machines."""

CLASS_POSITIONS = 1
"""Tokens before those of the patches."""

PREFIXES = ("module.", "backbone.")
"""Before the names of weights that DINO and parallel trainers saved."""

NO_PART = ("head.", "head_dist.", "fc_norm.", "pre_logits.")
"""Begin the names of weights that belong to a classifier."""


def build_vit(architecture: str, height_width: tuple[int, int], *, dropout: float = 0.0) -> VisionTransformer:
    """Build a vision transformer with random weights.

    It gives all tokens after its last normalisation, the class token first: Float (batch, 1 + patches, width). Positions
    are learned for the grid of this size, row by row.

    Args:
        architecture: One of `ARCHITECTURES`.
        height_width: Of the images, pixels.
        dropout: Probability, after attention and in feed-forward layers.

    Raises:
        ValueError: there is no such architecture, or its patches do not tile the images.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {architecture!r}; allowed are {', '.join(ARCHITECTURES)}")
    shape = ARCHITECTURES[architecture]
    for name, pixels in zip(("image_height", "image_width"), height_width, strict=True):
        if pixels < 1 or pixels % shape.patch_size:
            raise ValueError(f"{name} is {pixels}; {architecture} takes multiples of its patches' {shape.patch_size}")
    return VisionTransformer(
        img_size=height_width,
        patch_size=shape.patch_size,
        embed_dim=shape.width,
        depth=shape.layers,
        num_heads=shape.heads,
        proj_drop_rate=dropout,
        num_classes=0,
        global_pool="",
    )


def states_of(vit: VisionTransformer, patches: Tensor) -> Tensor:
    """Give what the layers make of patches, before the last normalisation: Float (batch, 1 + patches, width).

    Args:
        vit: Of `build_vit`.
        patches: Of `vit.patch_embed`, Float (batch, patches, width); their positions are added here.
    """
    assert vit.cls_token is not None and vit.pos_embed is not None, "build_vit makes both"
    # shape: (batch, 1 + patches, width)
    tokens = torch.cat([vit.cls_token.expand(len(patches), -1, -1), patches], dim=1) + vit.pos_embed
    states: Tensor = vit.blocks(tokens)
    return states


def load_vit(vit: VisionTransformer, source: str, *, grid: Sequence[int] = ()) -> None:
    """Load weights of timm, DeiT or DINO of the same architecture, their positions resized to the grid of the tower.

    Args:
        vit: Of `build_vit`.
        source: See `passerby.nets.weights.read_weights`.
        grid: Rows and columns of the patches that the weights are for; empty for a square.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds other weights, or the grid is not theirs.
    """
    weights = {_bare(name): weight for name, weight in read_weights(source).items()}
    is_distilled = weights.pop("dist_token", None) is not None
    kept = {name: weight for name, weight in weights.items() if not name.startswith(NO_PART)}
    if "pos_embed" in kept:
        kept["pos_embed"] = _resize(kept["pos_embed"], vit, grid, source=source, is_distilled=is_distilled)
    load_weights(vit, kept, source=source)


def _resize(
    positions: Tensor, vit: VisionTransformer, grid: Sequence[int], *, source: str, is_distilled: bool
) -> Tensor:
    """Give positions for the grid of a tower: Float (1, 1 + patches, width)."""
    if is_distilled:  # the second token is that of the distillation, which has no place here
        positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
    patches = positions.shape[1] - CLASS_POSITIONS
    rows, columns = grid or (math.isqrt(patches), math.isqrt(patches))
    if rows * columns != patches:
        raise ValueError(
            f"{source} has positions for {patches} patches, which are no grid of {rows} x {columns}; set image_weights_grid to"
            " its rows and columns, such as [16, 8] for images of 256x128"
        )
    resized: Tensor = resample_abs_pos_embed(
        positions, list(vit.patch_embed.grid_size), [rows, columns], num_prefix_tokens=CLASS_POSITIONS
    )
    return resized


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
