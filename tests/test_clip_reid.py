"""CLIP's image towers for tall images: what open_clip's own say, finer maps, and cameras."""

import open_clip
import pytest
import torch
from torch import nn

from passerby.nets.clip_pair import TINY, load_pair
from passerby.nets.clip_reid import build_image_encoder
from passerby.nets.features import Cells, part_cells
from passerby.nets.mobilenet import MobileNet
from passerby.nets.part_head import build_part_head

pytestmark = pytest.mark.usefixtures("one_thread")


def tiny(name):
    """A tiny CLIP whose every weight and statistic matters."""
    torch.manual_seed(0)
    model = load_pair(name, "").model.eval()
    for each in model.visual.parameters():
        nn.init.normal_(each, std=0.1) if each.ndim > 1 else nn.init.uniform_(each, 0.5, 1.5)
    for kind, statistic in model.visual.named_buffers():
        if statistic.is_floating_point():
            nn.init.uniform_(statistic, 0.5, 1.5) if "var" in kind else nn.init.normal_(statistic, std=0.1)
    return model


@pytest.mark.parametrize(("name", "stride"), [("tiny-resnet", 32), ("tiny-vit", 16)])
@torch.no_grad()
def test_at_clips_own_size_and_stride_the_projection_is_clips(name, stride):
    model, images = tiny(name), torch.randn(2, 3, 224, 224)
    expected = model.encode_image(images)
    found = build_image_encoder(model, (224, 224), stride=stride)(images).projected
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.1


@torch.no_grad()
def test_the_embedded_tower_projects_as_ever_and_its_cells_share_the_answer():
    model, images = load_pair("embedded", "").model.eval(), torch.randn(2, 3, 128, 64)
    expected = model.encode_image(images)
    encoder = build_image_encoder(model, (128, 64)).eval()
    found = encoder(images)
    torch.testing.assert_close(found.projected, expected)
    torch.testing.assert_close(found.dense.mean(dim=(2, 3)), expected, atol=1e-4, rtol=1e-4)
    final = encoder.tower.stages(images)
    final[:, :, :5] = final[:, :, 6:] = final[:, :, :, 1:] = 0  # but for one cell
    bias = encoder.tower.head.bias
    torch.testing.assert_close(found.dense[:, :, 5, 0] - bias, 32 * (encoder.tower.head(final.flatten(1)) - bias))
    assert (encoder.mean, encoder.deviation) == ((0.45,) * 3, (0.25,) * 3)


@torch.no_grad()
def test_maps_and_features_of_a_resnet_are_those_of_its_layers():
    model, images = tiny("tiny-resnet"), torch.randn(2, 3, 64, 32)
    found = build_image_encoder(model, (64, 32))(images)
    assert [tuple(level.shape) for level in found.levels] == [(2, 32, 16, 8), (2, 64, 8, 4), (2, 128, 4, 2)]
    torch.testing.assert_close(found.last, found.levels[2].mean(dim=(2, 3)))
    fourth = model.visual.layer4(found.levels[2])
    assert fourth.shape == (2, 256, 4, 2)  # a stride of 2 less than CLIP's
    torch.testing.assert_close(found.feature, fourth.mean(dim=(2, 3)))
    assert found.dense.shape == (2, 64, 4, 2)


@torch.no_grad()
def test_a_resnet_without_its_last_stride_is_one_whose_pools_take_single_pixels():
    model, reference, images = tiny("tiny-resnet"), tiny("tiny-resnet"), torch.randn(1, 3, 64, 32)
    found = build_image_encoder(model, (64, 32))(images)
    block = reference.visual.layer4[0]
    block.avgpool, block.downsample[0] = nn.AvgPool2d(1), nn.AvgPool2d(1)
    expected = reference.visual.layer4(found.levels[2]).mean(dim=(2, 3))
    torch.testing.assert_close(found.feature, expected)


@torch.no_grad()
def test_projected_pixels_of_a_resnet_are_what_the_attention_pool_answers_them():
    model, images = tiny("tiny-resnet"), torch.randn(2, 3, 64, 32)
    encoder = build_image_encoder(model, (64, 32))
    found = encoder(images)
    pool = model.visual.attnpool
    cells = model.visual.layer4(found.levels[2]).flatten(2).permute(2, 0, 1)
    tokens = torch.cat([cells.mean(dim=0, keepdim=True), cells]) + pool.positional_embedding[:, None]
    answers, _ = nn.functional.multi_head_attention_forward(
        *(tokens, tokens, tokens, 256, pool.num_heads, None),
        torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        *(None, None, False, 0.0, pool.c_proj.weight, pool.c_proj.bias),
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    torch.testing.assert_close(found.projected, answers[0])
    for place in range(8):
        torch.testing.assert_close(found.dense[:, :, place // 2, place % 2], answers[1 + place])


@torch.no_grad()
def test_features_of_a_transformer_are_those_of_its_blocks():
    model, images = tiny("tiny-vit"), torch.randn(2, 3, 64, 32)
    encoder = build_image_encoder(model, (64, 32))
    seen = []
    model.visual.transformer.resblocks[0].register_forward_hook(lambda *call: seen.append(call[2]))
    found, tower = encoder(images), model.visual
    tokens = tower.ln_post(tower.transformer.resblocks[1](seen[0]))
    torch.testing.assert_close(found.last, seen[0][:, 0])
    torch.testing.assert_close(found.feature, tokens[:, 0])
    torch.testing.assert_close(found.projected, tokens[:, 0] @ tower.proj)
    assert found.dense.shape == (2, 64, 4, 2)
    torch.testing.assert_close(found.dense[:, :, 3, 1], tokens[:, 1 + 3 * 2 + 1] @ tower.proj)
    torch.testing.assert_close(found.levels[0][:, :, 3, 1], tokens[:, 1 + 3 * 2 + 1])


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_positions_become_those_of_a_tall_grid_row_by_row_and_the_first_stays(name):
    model = tiny(name)
    holder = model.visual.attnpool if name == "tiny-resnet" else model.visual
    positions = holder.positional_embedding
    side = 7 if name == "tiny-resnet" else 14
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    positions[1:, 0], positions[1:, 1] = rows.flatten(), columns.flatten()
    first = positions[0].clone()
    build_image_encoder(model, (256, 128))
    found = holder.positional_embedding
    assert len(found) == 1 + 16 * 8
    assert torch.equal(found[0], first)
    # The middle of a cell of 8 columns is that of `side` / 8 old ones: bilinear interpolation keeps a ramp within the edges.
    across = found[1:, 1].view(16, 8)[5]
    expected = (torch.arange(8.0) + 0.5) * side / 8 - 0.5
    torch.testing.assert_close(across, expected.clamp(0, side - 1))
    down = found[1:, 0].view(16, 8)[:, 3]
    torch.testing.assert_close(down, ((torch.arange(16.0) + 0.5) * side / 16 - 0.5).clamp(0, side - 1))


def test_overlapping_patches_make_a_finer_grid():
    encoder = build_image_encoder(tiny("tiny-vit"), (256, 128), stride=12)
    assert (encoder.cells.rows, encoder.cells.columns) == (21, 10)
    assert encoder(torch.randn(1, 3, 256, 128)).dense.shape == (1, 64, 21, 10)


def test_a_camera_is_added_to_the_class_token_alone():
    torch.manual_seed(0)
    encoder = build_image_encoder(tiny("tiny-vit"), (64, 32), cameras=3).eval()
    inputs = []
    encoder.tower.ln_pre.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    images = torch.randn(2, 3, 64, 32)
    encoder(images)
    encoder(images, torch.tensor([2, 0]))
    change = inputs[1] - inputs[0]
    torch.testing.assert_close(change[:, 0], encoder.camera_embedding.weight[[2, 0]], atol=1e-6, rtol=1e-5)
    assert not change[:, 1:].any()
    with pytest.raises(IndexError):
        encoder(images, torch.tensor([-1, 0]))


@pytest.mark.parametrize("name", TINY)
def test_images_are_normalised_as_in_clip_reid_and_not_as_in_clip(name):
    encoder = build_image_encoder(tiny(name), (64, 32))
    expected = {"tiny-resnet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), "tiny-vit": ((0.5,) * 3, (0.5,) * 3)}
    assert (encoder.mean, encoder.deviation) == expected[name]


@pytest.mark.parametrize("name", TINY)
def test_a_part_head_leaves_no_trace_in_an_encoder(name):
    encoder, images = encoder_of(name, (64, 32)).eval(), torch.randn(2, 3, 64, 32)
    before, names = encoder(images), list(encoder.state_dict())
    head = build_part_head(encoder.level_channels, encoder.embed_dim, encoder.part_cells)
    head(encoder(images).levels).sum().backward()
    after = encoder(images)
    assert all(torch.equal(a, b) for a, b in zip(before[:4], after[:4], strict=True))
    assert list(encoder.state_dict()) == names == [f"tower.{each}" for each in tiny(name).visual.state_dict()]


@pytest.mark.parametrize("name", TINY)
def test_every_weight_of_an_encoder_learns(name):
    encoder = build_image_encoder(tiny(name), (64, 32))
    found = encoder(torch.randn(2, 3, 64, 32))
    (found.projected.square().sum() + found.feature.sum()).backward()
    assert [name for name, each in encoder.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("tiny-resnet", (64, 32), {"stride": 8}, "stride is 8; CLIP's ResNets take 16 or 32"),
        ("tiny-resnet", (250, 128), {}, "image_height is 250; the encoder takes multiples of its stride, 16"),
        ("tiny-resnet", (64, 0), {}, "image_width is 0"),
        ("tiny-resnet", (64, 32), {"cameras": 6}, "cameras is 6, and only vision transformers"),
        ("tiny-vit", (64, 32), {"stride": 17}, "stride is 17; it must be from 1 to 16"),
        ("tiny-vit", (64, 8), {}, "image_width is 8; the encoder takes at least a patch, 16"),
    ],
)
def test_what_no_encoder_can_be_built_of_is_named(name, size, options, message):
    with pytest.raises(ValueError, match=message):
        build_image_encoder(tiny(name), size, **options)


def test_cameras_for_an_encoder_that_knows_none_are_refused():
    with pytest.raises(ValueError, match="knows no cameras; build it with cameras=N"):
        build_image_encoder(tiny("tiny-vit"), (64, 32))(torch.zeros(1, 3, 64, 32), torch.tensor([0]))


def test_towers_of_other_kinds_are_refused():
    tall = open_clip.CLIP(64, {**TINY["tiny-vit"], "image_size": (64, 32)}, {"width": 32, "heads": 2, "layers": 1})
    with pytest.raises(ValueError, match="positions for 8 cells, which are no square"):
        build_image_encoder(tall, (128, 64))
    pooled = open_clip.CLIP(64, {**TINY["tiny-vit"], "pool_type": "avg"}, {"width": 32, "heads": 2, "layers": 1})
    with pytest.raises(ValueError, match="pools its tokens otherwise"):
        build_image_encoder(pooled, (64, 32))
    with pytest.raises(ValueError, match="image size is 256x128 and stride 16; the embedded CLIP takes 128x64 and 16"):
        build_image_encoder(load_pair("embedded", "").model, (256, 128))
    timm_model = {"timm_model_name": "test_vit", "image_size": 160}
    foreign = open_clip.CLIP(64, timm_model, {"width": 32, "heads": 2, "layers": 1})
    with pytest.raises(ValueError, match="tower is a VisionTransformer; CLIP-ReID needs a ResNet"):
        build_image_encoder(foreign, (160, 160))


def test_random_towers_have_no_weights_to_load():
    with pytest.raises(ValueError, match="weights is 'openai', and tiny-vit begins with random ones"):
        load_pair("tiny-vit", "openai")


def test_labels_are_read_at_the_middles_of_cells():
    labels = torch.arange(64 * 32).view(1, 64, 32)
    found = Cells((64, 32), 4, 2, 16, 8).read(labels)
    assert found.tolist() == [[[row * 32 + column for column in (8, 24)] for row in (8, 24, 40, 56)]]
    middles = nn.functional.interpolate(labels[None].float(), (4, 2), mode="nearest-exact")[0].long()
    assert torch.equal(found, middles)
    with pytest.raises(ValueError, match=r"labels are 128x64 pixels, and the images 64x32; resize both alike"):
        part_cells((64, 32)).read(torch.zeros(1, 128, 64))


def encoder_of(name, size):
    torch.manual_seed(0)
    if name == "mobilenet":
        return MobileNet(size)
    return build_image_encoder(load_pair(name, "").model if name == "embedded" else tiny(name), size)


@pytest.mark.parametrize("name", [*TINY, "embedded", "mobilenet"])
def test_the_middle_of_a_cell_is_the_middle_of_what_it_sees(name):
    size = (192, 128)
    if name == "embedded":
        size = (128, 64)
    encoder = encoder_of(name, size).eval()
    images = torch.randn(1, 3, *size, requires_grad=True)
    if name == "tiny-vit":  # all see all after the first block; what a patch sees is in its convolution
        maps = [(encoder.cells, encoder.tower.conv1(images))]
    else:
        levels = encoder(images).levels
        maps = [(encoder.part_cells, levels[1])]
        maps += [(encoder.cells, levels[2])] if name == "tiny-resnet" else []
    for cells, seen in maps:
        row, column = cells.rows // 2, cells.columns // 2
        (gradient,) = torch.autograd.grad(seen[:, :, row, column].abs().sum(), images, retain_graph=True)
        for place, number in enumerate((row, column)):
            sees = gradient.abs().sum(dim=(0, 1, 3 - place)).nonzero()
            middle = (sees.min() + sees.max()).item() / 2
            assert abs(middle - (number * cells.stride + cells.first)) <= 1
