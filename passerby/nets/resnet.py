"""ResNets as timm builds them, with random weights and without what follows the last map of features."""

import timm
from torch import nn


def build_resnet(architecture: str) -> nn.Module:
    """Build a ResNet that gives its last map of features: Float (batch, channels, height / 32, width / 32).

    The names of its weights are torchvision's. The last normalisation of every residual branch begins at zero, so that
    the net begins as if it had no branches.

    Args:
        architecture: timm's name, such as resnet50; `num_features` of the net says how many channels its map has.

    Raises:
        ValueError: timm has no ResNet of that name.
    """
    if architecture not in timm.list_models(module="resnet"):
        raise ValueError(
            f"architecture is {architecture!r}, which is no ResNet of timm; use resnet50, resnet18 or resnet10t"
        )
    return timm.create_model(architecture, pretrained=False, num_classes=0, global_pool="")
