"""MobileNetV2 as a small encoder that learns from the texts of a larger CLIP."""

from typing import NamedTuple

from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from passerby.nets.features import part_cells
from passerby.nets.weights import load_weights, read_weights

LEVEL_ENDS = (3, 6, 13)
"""Last blocks of torchvision's net at strides 4, 8 and 16."""

LAST_STRIDING = 14
"""The block that would go on to stride 32."""


class MobileFeatures(NamedTuple):
    """What a MobileNet sees in images."""

    feature: Tensor
    """Float (batch, 1280), the mean of the last map."""

    levels: tuple[Tensor, ...]
    """Float (batch, channels, rows, columns) each, of strides 4, 8, 16."""


class MobileNet(nn.Module):
    """MobileNetV2, whose last stride is 1.

    Args:
        height_width: Of the images, pixels.
        width: Part of the channels of the whole net; they are rounded to multiples of 8.

    Raises:
        ValueError: 16, the stride, does not divide the size.

    Source: pi-VL, table 5; the architecture and the names of its weights are torchvision's. The last stride is ours, so that
    its map has the cells of CLIP-ReID's.
    """

    def __init__(self, height_width: tuple[int, int], *, width: float = 0.25) -> None:
        super().__init__()
        for name, pixels in zip(("image_height", "image_width"), height_width, strict=True):
            if pixels < 16 or pixels % 16:
                raise ValueError(f"{name} is {pixels}; MobileNet takes multiples of its stride, 16")
        net = mobilenet_v2(weights=None, width_mult=width)
        self.features: nn.Sequential = net.features
        self.features[LAST_STRIDING].conv[1][0].stride = (1, 1)
        self.width: int = net.last_channel
        self.level_channels = tuple(self.features[end].out_channels for end in LEVEL_ENDS)
        self.part_cells = part_cells(height_width, first=0)

    def forward(self, images: Tensor) -> MobileFeatures:
        """See images: Float (batch, 3, height, width), normalised as those that its weights were trained on."""
        cells, levels = images, []
        for place, block in enumerate(self.features):
            cells = block(cells)
            if place in LEVEL_ENDS:
                levels.append(cells)
        return MobileFeatures(cells.mean(dim=(2, 3)), tuple(levels))

    def load(self, source: str) -> None:
        """Load weights of torchvision's net of the same width, with or without its classifier.

        Args:
            source: See `passerby.nets.weights.read_weights`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds other weights.
        """
        weights = {name: weight for name, weight in read_weights(source).items() if not name.startswith("classifier.")}
        load_weights(self, weights, source=source)
