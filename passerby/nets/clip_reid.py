"""CLIP's image towers as CLIP-ReID takes them: for tall images, with a finer last map, and with more than one feature to train.

An encoder holds open_clip's own tower, changed in stride and positions only, so its weights keep their names and values.

Source: CLIP-ReID, section 3, and its code; the projected pixels are those of pi-VL, section 3.3.
"""

import math
from typing import TypeAlias

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.clip_source import ClipModel
from passerby.nets.features import Cells, ImageFeatures, Triple, part_cells
from passerby.nets.tower import PedestrianTower
from passerby.nets.tower_encoder import TowerEncoder


class ResNetEncoder(nn.Module):
    """CLIP's ResNet. The features that are kept for search are `feature` and `projected`, side by side.

    Args:
        tower: Of CLIP; it is changed.
        height_width: Of the images, pixels.
        stride: Pixels between the cells of the last map: 16, or 32 as in CLIP.

    Raises:
        ValueError: the stride is another, or does not divide the size.
    """

    mean: Triple = (0.485, 0.456, 0.406)
    """Of the images' levels, 0…1; ImageNet's, as in CLIP-ReID's configuration, and not CLIP's."""

    deviation: Triple = (0.229, 0.224, 0.225)

    def __init__(self, tower: ModifiedResNet, height_width: tuple[int, int], *, stride: int = 16) -> None:
        super().__init__()
        if stride not in (16, 32):
            raise ValueError(f"stride is {stride}; CLIP's ResNets take 16 or 32")
        for name, pixels in zip(("image_height", "image_width"), height_width, strict=True):
            if pixels < stride or pixels % stride:
                raise ValueError(f"{name} is {pixels}; the encoder takes multiples of its stride, {stride}")
        rows, columns = height_width[0] // stride, height_width[1] // stride
        self.tower, pool = tower, tower.attnpool
        self.cells = Cells(height_width, rows, columns, stride, stride // 2)
        self.part_cells = part_cells(height_width)
        if stride == 16:  # in both branches it is an average pool that strides
            tower.layer4[0].avgpool = nn.Identity()
            tower.layer4[0].downsample[0] = nn.Identity()
        pool.positional_embedding = nn.Parameter(_resize_positions(pool.positional_embedding, rows, columns))
        self.level_channels = tuple(layer[-1].bn3.num_features for layer in (tower.layer1, tower.layer2, tower.layer3))
        self.last_width, self.width = self.level_channels[-1], tower.layer4[-1].bn3.num_features
        self.embed_dim: int = tower.output_dim

    def forward(self, images: Tensor) -> ImageFeatures:
        """See images: Float (batch, 3, height, width), normalised by `mean` and `deviation`."""
        tower = self.tower
        first = tower.layer1(tower.stem(images))
        second = tower.layer2(first)
        third = tower.layer3(second)
        fourth = tower.layer4(third)
        # shape: (batch, 1 + cells, embed_dim)
        projected = _attend(tower.attnpool, fourth)
        return ImageFeatures(
            last=third.mean(dim=(2, 3)),
            feature=fourth.mean(dim=(2, 3)),
            projected=projected[:, 0],
            dense=_as_map(projected[:, 1:], self.cells),
            levels=(first, second, third),
        )


class VitEncoder(nn.Module):
    """CLIP's vision transformer. The features that are kept for search are `feature` and `projected`, side by side.

    Args:
        tower: Of CLIP; it is changed.
        height_width: Of the images, pixels.
        stride: Pixels between patches, which overlap where it is less than their size: 16, or 12 in the published runs.
        cameras: Learn a vector for each ("side information"); 0 for none. Its rows begin small: deviation 0.02.

    Raises:
        ValueError: the stride is beyond the patches, the images are smaller than one, or the tower is not as CLIP's.
    """

    mean: Triple = (0.5, 0.5, 0.5)
    """Of the images' levels, 0…1; as in CLIP-ReID's configuration, and not CLIP's."""

    deviation: Triple = (0.5, 0.5, 0.5)

    def __init__(
        self, tower: VisionTransformer, height_width: tuple[int, int], *, stride: int = 16, cameras: int = 0
    ) -> None:
        super().__init__()
        patch: int = tower.conv1.kernel_size[0]
        if tower.attn_pool is not None or tower.pool_type != "tok" or tower.final_ln_after_pool:
            raise ValueError("this CLIP pools its tokens otherwise than OpenAI's; use ViT-B-16 or its kin")
        if not 1 <= stride <= patch:
            raise ValueError(f"stride is {stride}; it must be from 1 to {patch}, the size of the patches")
        for name, pixels in zip(("image_height", "image_width"), height_width, strict=True):
            if pixels < patch:
                raise ValueError(f"{name} is {pixels}; the encoder takes at least a patch, {patch}")
        rows, columns = ((pixels - patch) // stride + 1 for pixels in height_width)
        self.tower = tower
        self.cells = Cells(height_width, rows, columns, stride, patch // 2)
        self.part_cells = part_cells(height_width)
        tower.conv1.stride = (stride, stride)
        tower.positional_embedding = nn.Parameter(_resize_positions(tower.positional_embedding, rows, columns))
        self.last_width = self.width = tower.conv1.out_channels
        self.level_channels = (self.width,)
        self.embed_dim: int = tower.output_dim
        self.camera_embedding = nn.Embedding(cameras, self.width) if cameras else None
        if self.camera_embedding is not None:
            nn.init.trunc_normal_(self.camera_embedding.weight, std=0.02)

    def forward(self, images: Tensor, camera_ids: Tensor | None = None) -> ImageFeatures:
        """See images.

        Args:
            images: Float (batch, 3, height, width), normalised by `mean` and `deviation`.
            camera_ids: Int64 (batch,), from 0, where the encoder knows cameras; none leaves them out, as prompts are tuned.

        Raises:
            ValueError: the encoder knows no cameras.
        """
        tower = self.tower
        # shape: (batch, cells, width)
        patches = tower.conv1(images).flatten(2).transpose(1, 2)
        # shape: (batch, 1, width)
        class_token = tower.class_embedding.expand(len(images), 1, -1)
        if camera_ids is not None:
            if self.camera_embedding is None:
                raise ValueError("camera_ids are given, and this encoder knows no cameras; build it with cameras=N")
            class_token = class_token + self.camera_embedding(camera_ids)[:, None]
        # shape: (batch, 1 + cells, width)
        tokens = tower.ln_pre(torch.cat([class_token, patches], dim=1) + tower.positional_embedding)
        *blocks, last_block = tower.transformer.resblocks
        for block in blocks:
            tokens = block(tokens)
        final = tower.ln_post(last_block(tokens))
        projected = final @ tower.proj
        return ImageFeatures(
            last=tokens[:, 0],
            feature=final[:, 0],
            projected=projected[:, 0],
            dense=_as_map(projected[:, 1:], self.cells),
            levels=(_as_map(final[:, 1:], self.cells),),
        )


ImageEncoder: TypeAlias = ResNetEncoder | VitEncoder | TowerEncoder


def build_image_encoder(
    clip: ClipModel, height_width: tuple[int, int], *, stride: int = 16, cameras: int = 0
) -> ImageEncoder:
    """Make an encoder of a CLIP's image tower, which is changed.

    Args:
        clip: Of open_clip.
        height_width: Of the images, pixels.
        stride: See `ResNetEncoder` and `VitEncoder`; the embedded CLIP has 16.
        cameras: See `VitEncoder`.

    Raises:
        ValueError: the tower is none of the three, or one of them refuses.
    """
    tower = clip.visual
    if isinstance(tower, VisionTransformer):
        return VitEncoder(tower, height_width, stride=stride, cameras=cameras)
    if cameras:
        raise ValueError(f"cameras is {cameras}, and only vision transformers learn cameras; use 0")
    if isinstance(tower, ModifiedResNet):
        return ResNetEncoder(tower, height_width, stride=stride)
    trunk = getattr(tower, "trunk", None)
    if not isinstance(trunk, PedestrianTower):
        raise ValueError(
            f"this CLIP's image tower is a {type(trunk or tower).__name__}; CLIP-ReID needs a ResNet or a vision transformer"
            " of open_clip's own, such as RN50-quickgelu or ViT-B-16-quickgelu, or the embedded CLIP"
        )
    statistics = tower.preprocess_cfg
    return TowerEncoder(
        trunk, height_width, stride=stride, mean=tuple(statistics["mean"]), deviation=tuple(statistics["std"])
    )


def _attend(pool: AttentionPool2d, cells: Tensor) -> Tensor:
    """Give the answers of CLIP's attention pool to all of its tokens, the mean first: Float (batch, 1 + cells, embed_dim).

    The pool of open_clip asks for them all, too, and gives the first.
    """
    tokens = cells.flatten(2).transpose(1, 2)
    # shape: (batch, 1 + cells, channels)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + pool.positional_embedding
    # shape: (batch, heads, 1 + cells, channels / heads)
    queries, keys, values = (
        project(tokens).reshape(*tokens.shape[:2], pool.num_heads, -1).transpose(1, 2)
        for project in (pool.q_proj, pool.k_proj, pool.v_proj)
    )
    attended = functional.scaled_dot_product_attention(queries, keys, values)
    answers: Tensor = pool.c_proj(attended.transpose(1, 2).flatten(2))
    return answers


def _resize_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Give positions for a grid, row by row, after that of the class or mean token: Float (1 + rows * columns, width)."""
    side = math.isqrt(len(positions) - 1)
    if side * side != len(positions) - 1:
        raise ValueError(
            f"this CLIP has positions for {len(positions) - 1} cells, which are no square; use one for squares"
        )
    if (side, side) == (rows, columns):
        return positions.detach()
    # shape: (1, width, side, side)
    square = positions[1:].detach().T.reshape(1, -1, side, side)
    grid = functional.interpolate(square, size=(rows, columns), mode="bilinear", align_corners=False)
    return torch.cat([positions[:1].detach(), grid[0].flatten(1).T])


def _as_map(tokens: Tensor, cells: Cells) -> Tensor:
    # shape: (batch, channels, rows, columns)
    return tokens.transpose(1, 2).reshape(len(tokens), -1, cells.rows, cells.columns)
