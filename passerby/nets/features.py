"""What image encoders see, where the cells of their maps lie in images, and what a map of labels says there."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from torch import Tensor

PART_STRIDE = 8
"""Pixels between the cells on which pi-VL compares parts with texts."""

Triple: TypeAlias = tuple[float, float, float]
"""Of red, green and blue."""


@dataclass(frozen=True, slots=True)
class Cells:
    """A grid of cells, each with a pixel for its middle."""

    height_width: tuple[int, int]
    """Of the images, pixels."""

    rows: int

    columns: int

    stride: int
    """Pixels from one middle to the next."""

    first: int
    """Row and column of the first middle, pixels. It belongs to the net: half a stride where windows tile the image, as in
    CLIP's, and 0 where convolutions are padded and stride, as in MobileNet."""

    def read(self, labels: Tensor) -> Tensor:
        """Give the label at the middle of each cell: (batch, rows, columns), of the same type.

        Args:
            labels: Of any integer type, (batch, height, width), as large as the images.

        Raises:
            ValueError: the labels have another size.
        """
        height, width = self.height_width
        if labels.shape[1:] != (height, width):
            raise ValueError(
                f"labels are {labels.shape[1]}x{labels.shape[2]} pixels, and the images {height}x{width}; resize both alike"
            )
        return labels[:, self.first :: self.stride, self.first :: self.stride][:, : self.rows, : self.columns]


def part_cells(height_width: tuple[int, int], *, first: int = PART_STRIDE // 2) -> Cells:
    """Give the cells on which parts are compared with texts.

    Args:
        height_width: Of the images, pixels.
        first: See `Cells`.
    """
    rows, columns = (pixels // PART_STRIDE for pixels in height_width)
    return Cells(height_width, rows, columns, PART_STRIDE, first)


class ImageFeatures(NamedTuple):
    """What an encoder sees in images."""

    last: Tensor
    """Float (batch, channels), one stage before the end; for the triplet loss alone."""

    feature: Tensor
    """Float (batch, channels), at the end."""

    projected: Tensor
    """Float (batch, embed_dim), in the space of the texts, of any length."""

    dense: Tensor
    """Float (batch, embed_dim, rows, columns), the same for each cell of the last map."""

    levels: tuple[Tensor, ...]
    """What `passerby.nets.part_head` fuses, Float (batch, channels, rows, columns) each: strides 4, 8, 16 of a ResNet; of a
    vision transformer the patches, after the last normalisation."""
