"""ResNets as timm builds them, with random weights and without what follows the last map of features."""

from typing import Any

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


def keep_last_resolution(resnet: nn.Module) -> None:
    """Let the last stage of a ResNet keep the resolution of the one before it: its map is a 16th of the image, not a 32nd.

    No weight changes, so it may be done before weights are loaded or after.

    Source: Beyond Part Models (Sun et al., 2018), section 4.1; the strong Re-ID baseline (Luo et al., 2019), section 3.5.
    """
    first: Any = resnet.layer4[0]  # type: ignore[index]
    for module in first.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.stride = (1, 1)
    shortcut = first.downsample
    if isinstance(shortcut[0], nn.AvgPool2d):  # of ResNet-D, which has its stride there
        shortcut[0] = nn.Identity()
