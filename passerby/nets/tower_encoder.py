"""The embedded CLIP's image tower as an encoder to train: small enough to try CLIP-ReID and pi-VL on drawn people.

Its linear last layer reads all cells, so its answer has a share from each: those are its projected pixels, and their mean is
the answer.

Source: ours; the shares are those of class activation maps.
"""

import torch
from torch import Tensor, nn

from passerby.nets.features import Cells, ImageFeatures, Triple, part_cells
from passerby.nets.tower import HEIGHT_WIDTH, STAGES, PedestrianTower

STRIDE = 16

LEVELS = (2, 4, 6)
"""Stages that end at strides 4, 8 and 16."""


class TowerEncoder(nn.Module):
    """Gives what CLIP's other towers give as `passerby.nets.clip_reid` takes them.

    Args:
        tower: Of CLIP, not changed.
        height_width: Of the images, pixels; the tower takes one size.
        stride: Pixels between the cells of the last map; the tower has one.
        mean: Of the images' levels, 0…1, as the tower was trained.
        deviation: Likewise.

    Raises:
        ValueError: size or stride are others.
    """

    def __init__(
        self, tower: PedestrianTower, height_width: tuple[int, int], *, stride: int, mean: Triple, deviation: Triple
    ) -> None:
        super().__init__()
        if (tuple(height_width), stride) != (HEIGHT_WIDTH, STRIDE):
            raise ValueError(
                f"image size is {height_width[0]}x{height_width[1]} and stride {stride}; the embedded CLIP takes"
                f" {HEIGHT_WIDTH[0]}x{HEIGHT_WIDTH[1]} and {STRIDE}"
            )
        self.tower, self.mean, self.deviation = tower, mean, deviation
        rows, columns = (pixels // STRIDE for pixels in HEIGHT_WIDTH)
        self.cells = Cells(HEIGHT_WIDTH, rows, columns, STRIDE, 0)
        self.part_cells = part_cells(HEIGHT_WIDTH, first=0)
        widths = [channels for _, channels, _ in STAGES]
        self.level_channels = tuple(widths[place] for place in LEVELS)
        self.last_width, self.width, self.embed_dim = widths[-2], tower.num_features, tower.num_classes

    def forward(self, images: Tensor) -> ImageFeatures:
        """See images: Float (batch, 3, 128, 64), normalised by `mean` and `deviation`."""
        maps = [images]
        for stage in self.tower.stages:
            maps.append(stage(maps[-1]))
        final, head = maps[-1], self.tower.head
        # shape: (embed_dim, channels, rows, columns)
        weight = head.weight.view(-1, *final.shape[1:])
        shares = torch.einsum("bcyx,dcyx->bdyx", final, weight)
        dense = self.cells.rows * self.cells.columns * shares + head.bias[:, None, None]
        return ImageFeatures(
            last=maps[-2].mean(dim=(2, 3)),
            feature=final.flatten(1),
            projected=head(final.flatten(1)),
            dense=dense,
            levels=tuple(maps[1 + place] for place in LEVELS),
        )
