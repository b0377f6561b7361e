"""MobileNetV2 as a student: torchvision's net with a finer last map."""

import pytest
import torch
from torchvision.models import mobilenet_v2

from passerby.nets.mobilenet import MobileNet

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return mobilenet_v2(width_mult=0.25, num_classes=10).eval()


@pytest.fixture(scope="module")
def net(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("mobilenet") / "weights.pt"
    torch.save(theirs.state_dict(), path)
    made = MobileNet((256, 128)).eval()
    made.load(str(path))
    return made


@torch.no_grad()
def test_maps_have_strides_4_8_and_16_and_the_last_too(net):
    maps = []
    net.features.register_forward_hook(lambda *call: maps.append(call[2]))
    net.features[18].register_forward_hook(lambda *call: maps.append(call[2]))
    found = net(torch.randn(1, 3, 256, 128))
    assert [tuple(each.shape[1:]) for each in found.levels] == [(8, 64, 32), (8, 32, 16), (24, 16, 8)]
    assert maps[0].shape == (1, 1280, 16, 8)
    torch.testing.assert_close(found.feature, maps[0].mean(dim=(2, 3)))
    assert (net.level_channels, net.width) == ((8, 8, 24), 1280)


@torch.no_grad()
def test_with_torchvisions_last_stride_the_feature_is_torchvisions(net, theirs):
    images = torch.randn(2, 3, 256, 128)
    expected = theirs.features(images).mean(dim=(2, 3))
    stride = net.features[14].conv[1][0]
    stride.stride = (2, 2)
    try:
        torch.testing.assert_close(net(images).feature, expected)
    finally:
        stride.stride = (1, 1)
    assert not torch.allclose(net(images).feature, expected)


def test_other_sizes_and_weights_are_refused(net, tmp_path):
    with pytest.raises(ValueError, match="image_height is 250; MobileNet takes multiples of its stride, 16"):
        MobileNet((250, 128))
    torch.save(mobilenet_v2(width_mult=0.5, num_classes=10).state_dict(), tmp_path / "half.pt")
    with pytest.raises(ValueError, match=r"half.pt holds the weights of another architecture"):
        net.load(str(tmp_path / "half.pt"))
