"""The image tower of the embedded CLIP: a small convolutional network that keeps where things are.

Importing this module makes the tower known to timm, and so to any open_clip configuration that names it.

Source: ours. At 128×64 pixels average pooling learns colours and little else: it forgets which of them is the top's and which
the shoes'. So the last 8×4 map is flattened, and one linear layer reads it.
"""

from typing import Any

import torch
from timm.models import register_model
from torch import nn

HEIGHT_WIDTH = (128, 64)
"""Pixels; the only size the flattened map fits."""

STAGES = ((3, 32, 2), (32, 48, 2), (48, 48, 1), (48, 96, 2), (96, 96, 1), (96, 192, 2), (192, 128, 1))
"""Channels in, channels out and stride of each convolution; the strides divide height and width by 16."""

CELLS = 8 * 4
"""Of the last map."""


class PedestrianTower(nn.Module):
    """Seven convolutions and a linear layer; the members timm and open_clip ask of an image model, and no others."""

    def __init__(self, num_classes: int) -> None:
        """Build the tower with random weights.

        Args:
            num_classes: Width of the image features, named as timm names it.
        """
        super().__init__()
        self.num_classes = num_classes
        self.num_features = STAGES[-1][1] * CELLS
        self.default_cfg: dict[str, Any] = {"input_size": (3, *HEIGHT_WIDTH)}
        self.stages = nn.Sequential(*(_stage(*stage) for stage in STAGES))
        self.head = nn.Linear(self.num_features, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give the features of images.

        Args:
            images: Float (batch, 3, 128, 64), normalised.

        Returns:
            Float (batch, num_classes).

        Raises:
            ValueError: the images have another size.
        """
        if images.shape[-2:] != HEIGHT_WIDTH:
            raise ValueError(
                f"images are {tuple(images.shape[-2:])} (height, width) pixels; the tower takes {HEIGHT_WIDTH}"
            )
        # shape: (batch, channels, 8, 4)
        cells = self.stages(images)
        # shape: (batch, num_classes)
        features: torch.Tensor = self.head(cells.flatten(1))
        return features


@register_model
def passerby_tower(*, num_classes: int, global_pool: str, pretrained: bool, **_: object) -> PedestrianTower:
    """Build the tower as open_clip asks timm for it; what timm adds to every call (caches, hub names) has no use here.

    Raises:
        ValueError: pooling or downloaded weights are asked for.
    """
    if global_pool or pretrained:
        raise ValueError('passerby_tower has no pooling and no weights to download; set timm_pool="" and timm_proj=""')
    return PedestrianTower(num_classes)


def _stage(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
