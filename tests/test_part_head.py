"""The heads that fuse maps, against the equations as they are written."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from passerby.nets.features import part_cells
from passerby.nets.part_head import FusionHead, PyramidHead, build_part_head

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = (4, 8, 16)


def levels():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, 16 // 2**i, 8 // 2**i, generator=generator) for i, c in enumerate(CHANNELS)]


def unlike(head):
    """Give every weight a value of its own."""
    torch.manual_seed(1)
    for each in head.parameters():
        nn.init.normal_(each)
    return head


@pytest.mark.parametrize("widening", ["depthwise", "pointwise", "separable"])
@torch.no_grad()
def test_a_sum_of_widened_maps_is_that_of_the_equations(widening):
    head, (first, second, third) = unlike(FusionHead(CHANNELS, 12, widening=widening)), levels()
    down = functional.avg_pool2d(head.widen[0](first), 2)
    up = functional.interpolate(head.widen[2](third), (8, 4), mode="bilinear", align_corners=False)
    expected = head.project(down + head.widen[1](second) + up)
    found = head([first, second, third])
    assert found.shape == (2, 12, 8, 4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_depthwise_widening_begins_with_copies_of_each_channel():
    head, (first, _, _) = FusionHead(CHANNELS, 12), levels()
    assert torch.equal(head.widen[0](first), first.repeat_interleave(4, dim=1))


@pytest.mark.parametrize(
    ("widening", "weights"),
    [
        ("depthwise", 3 * 2 * 1024),
        ("pointwise", (256 + 512 + 1024 + 3) * 1024),
        ("separable", (256 + 512 + 1024) * 2 + (256 + 512 + 1024 + 3) * 1024),
    ],
)
def test_widening_for_resnet50_costs_what_it_says(widening, weights):
    head = FusionHead((256, 512, 1024), 1024, widening=widening)
    assert sum(each.numel() for each in head.widen.parameters()) == weights
    assert sum(each.numel() for each in head.project.parameters()) == 1024 * 1024 + 1024


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="cannot make 1024 channels of 24 equally; use pointwise"):
        FusionHead((8, 8, 24), 1024)
    assert FusionHead((8, 8, 24), 1024, widening="pointwise").project.out_channels == 1024
    with pytest.raises(ValueError, match="widening is 'wide'; allowed are depthwise, pointwise, separable"):
        FusionHead(CHANNELS, 12, widening="wide")


@torch.no_grad()
def test_a_pyramid_is_that_of_its_levels():
    head = unlike(PyramidHead(16, 12, (4, 2)))
    patches = torch.randn(2, 16, 4, 2, generator=torch.Generator().manual_seed(0))
    fine, middle, coarse = (level(patches) for level in head.levels)
    assert [tuple(each.shape) for each in (fine, middle, coarse)] == [(2, 12, 16, 8), (2, 12, 8, 4), (2, 12, 4, 2)]
    up = functional.interpolate(coarse, (8, 4), mode="bilinear", align_corners=False)
    expected = head.project(functional.avg_pool2d(fine, 2) + middle + up)
    torch.testing.assert_close(head([patches]), expected)


@torch.no_grad()
def test_overlapping_patches_are_resampled_first():
    head = unlike(PyramidHead(16, 12, (16, 8)))
    patches = torch.randn(1, 16, 21, 10, generator=torch.Generator().manual_seed(0))
    regular = functional.interpolate(patches, (16, 8), mode="bilinear", align_corners=False)
    assert head([patches]).shape == (1, 12, 32, 16)
    torch.testing.assert_close(head([patches]), head([regular]))


@pytest.mark.parametrize(("channels", "kind"), [(CHANNELS, FusionHead), ((16,), PyramidHead)])
def test_a_head_fits_the_maps_of_its_encoder(channels, kind):
    head = build_part_head(channels, 12, part_cells((64, 32)))
    assert type(head) is kind
    maps = levels() if kind is FusionHead else [torch.zeros(1, 16, 4, 2)]
    assert head(maps).shape[1:] == (12, 8, 4)


@pytest.mark.parametrize("head", [FusionHead(CHANNELS, 12), PyramidHead(16, 12, (4, 2))])
def test_every_weight_of_a_head_and_every_map_learns(head):
    maps = [each.requires_grad_() for each in (levels() if isinstance(head, FusionHead) else [levels()[2]])]
    head(maps).square().sum().backward()
    assert [name for name, each in head.named_parameters() if each.grad is None or not each.grad.any()] == []
    assert all(each.grad.any() for each in maps)
