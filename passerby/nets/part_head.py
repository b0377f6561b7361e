"""The heads that fuse maps of an image encoder, for comparing their pixels with texts about parts, and fall away after training.

A head is a module beside the encoder and not in it: what the encoder gives, and what its checkpoints hold, is the same without.

Source: pi-VL, section 3.4, equations 9 and 10, and figure 4.
"""

from collections.abc import Callable, Sequence

from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from passerby.nets.features import Cells

LEVELS = 3
"""Of strides 4, 8 and 16."""


def build_part_head(
    level_channels: Sequence[int], embed_dim: int, cells: Cells, *, widening: str = "depthwise"
) -> "FusionHead | PyramidHead":
    """Build the head for an encoder: of three maps, as ResNets have, or of one, as vision transformers have.

    Args:
        level_channels: `level_channels` of the encoder.
        embed_dim: Of the texts.
        cells: `part_cells` of the encoder, on which the head makes its map.
        widening: Of three maps; see `FusionHead`.

    Raises:
        ValueError: there is no such widening, or it does not fit the channels.
    """
    if len(level_channels) == LEVELS:
        return FusionHead(level_channels, embed_dim, widening=widening)
    return PyramidHead(level_channels[0], embed_dim, (cells.rows // 2, cells.columns // 2))


class FusionHead(nn.Module):
    """Brings three maps to as many channels and to stride 8, adds them, and projects the sum to the width of texts.

    Convolutions of one pixel and resampling may change places. So the first map is pooled before it is widened and the
    last enlarged after: the numbers are those of equations 9 and 10, and no widened map is larger than the sum.

    Args:
        level_channels: Of the maps of strides 4, 8 and 16.
        embed_dim: Of the texts.
        widening: `depthwise` makes of each channel as many of its own, scaled and shifted, `pointwise` mixes all, and
            `separable` scales each and mixes then.

    Raises:
        ValueError: there is no such widening, or `depthwise` cannot make as many channels.

    Source: pi-VL attaches "a 1×1 depth-wise convolution to align the channel dimension", which a depthwise convolution as
    usual leaves as it is. With a multiplier it does what they say: 256, 512 and 1024 divide the 1024 of their encoders.
    """

    def __init__(self, level_channels: Sequence[int], embed_dim: int, *, widening: str = "depthwise") -> None:
        super().__init__()
        if widening not in WIDENINGS:
            raise ValueError(f"widening is {widening!r}; allowed are {', '.join(WIDENINGS)}")
        width = max(embed_dim, *level_channels)
        self.widen = nn.ModuleList(WIDENINGS[widening](channels, width) for channels in level_channels)
        self.project = nn.Conv2d(width, embed_dim, kernel_size=1)
        _begin_small(self.project)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuse maps: Float (batch, embed_dim, rows, columns), on those of the second.

        Args:
            levels: Of strides 4, 8, 16, Float (batch, channels, rows, columns) each.
        """
        first, second, third = levels
        widen_first, widen_second, widen_third = self.widen
        fused = widen_second(second)
        fused += widen_first(functional.avg_pool2d(first, 2))
        fused += _enlarge(widen_third(third), fused)
        projected: Tensor = self.project(fused)
        return projected


class PyramidHead(nn.Module):
    """Makes maps of strides 4, 8 and 16 from the patches of a vision transformer, and fuses them as `FusionHead` does.

    Args:
        channels: Of the patches.
        embed_dim: Of the texts.
        rows_columns: Of the cells of stride 16; patches of another grid, such as overlapping ones, are resampled to it.

    Source: ViTDet's simple feature pyramid, which pi-VL's section 3.4 follows, with transposed convolutions that halve the
    channels, as there. Its level of stride 32 is left out, as encoders of pi-VL have three, and so are its convolutions of 3×3.
    """

    def __init__(self, channels: int, embed_dim: int, rows_columns: tuple[int, int]) -> None:
        super().__init__()
        self.rows_columns = rows_columns
        half, quarter = channels // 2, channels // 4
        self.levels = nn.ModuleList(
            [
                nn.Sequential(
                    nn.ConvTranspose2d(channels, half, kernel_size=2, stride=2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, kernel_size=2, stride=2),
                    *_level_end(quarter, embed_dim),
                ),
                nn.Sequential(
                    nn.ConvTranspose2d(channels, half, kernel_size=2, stride=2), *_level_end(half, embed_dim)
                ),
                nn.Sequential(*_level_end(channels, embed_dim)),
            ]
        )
        self.project = nn.Conv2d(embed_dim, embed_dim, kernel_size=1)
        _begin_small(self.project)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuse maps: Float (batch, embed_dim, 2 * rows, 2 * columns).

        Args:
            levels: The patches alone, Float (batch, channels, rows, columns).
        """
        (patches,) = levels
        if patches.shape[-2:] != self.rows_columns:
            patches = functional.interpolate(patches, self.rows_columns, mode="bilinear", align_corners=False)
        first, second, third = (level(patches) for level in self.levels)
        fused = functional.avg_pool2d(first, 2)
        fused += second
        fused += _enlarge(third, fused)
        projected: Tensor = self.project(fused)
        return projected


def _depthwise(channels: int, width: int) -> nn.Module:
    if width % channels:
        raise ValueError(
            f"widening is 'depthwise', which cannot make {width} channels of {channels} equally; use pointwise"
        )
    widen = nn.Conv2d(channels, width, kernel_size=1, groups=channels)
    nn.init.ones_(widen.weight)
    nn.init.zeros_(_bias(widen))
    return widen


def _pointwise(channels: int, width: int) -> nn.Module:
    widen = nn.Conv2d(channels, width, kernel_size=1)
    _begin_small(widen)
    return widen


def _separable(channels: int, width: int) -> nn.Module:
    return nn.Sequential(_depthwise(channels, channels), _pointwise(channels, width))


WIDENINGS: dict[str, Callable[[int, int], nn.Module]] = {
    "depthwise": _depthwise,
    "pointwise": _pointwise,
    "separable": _separable,
}
"""By the names that `FusionHead` takes."""


def _level_end(channels: int, embed_dim: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(channels, embed_dim, kernel_size=1, bias=False), LayerNorm2d(embed_dim)


def _enlarge(coarse: Tensor, fine: Tensor) -> Tensor:
    return functional.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)


def _begin_small(convolution: nn.Conv2d) -> None:
    nn.init.trunc_normal_(convolution.weight, std=0.02)
    nn.init.zeros_(_bias(convolution))


def _bias(convolution: nn.Conv2d) -> Tensor:
    assert convolution.bias is not None
    return convolution.bias
