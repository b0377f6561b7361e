"""The image and text encoders, and the weights of others in them."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertForPreTraining

from passerby.nets.text import TextEncoder
from passerby.nets.vit import build_vit, load_vit
from passerby.nets.weights import read_weights

NANO = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("architecture", "count"), [("vit_base_patch16", 85_795_584), ("deit_small_patch16", 21_664_128)]
)
def test_image_encoders_have_the_papers_size(architecture, count):
    with torch.device("meta"):
        assert parameters(build_vit(architecture, (384, 128))) == count


def test_bert_base_has_the_papers_size():
    with torch.device("meta"):
        encoder = TextEncoder("bert_base", vocabulary_size=30_522, pad_id=0)
    assert parameters(encoder) == 109_482_240 - 590_592  # but for the pooler


def test_a_vit_gives_all_tokens_of_a_tall_image():
    assert build_vit("vit_nano_patch8", (48, 16))(torch.zeros(2, 3, 48, 16)).shape == (2, 1 + 6 * 2, 96)


@pytest.mark.parametrize(
    ("architecture", "size", "message"),
    [
        ("vit_huge", (48, 16), "architecture is 'vit_huge'; allowed are vit_base_patch16"),
        ("vit_nano_patch8", (50, 16), "image_height is 50; vit_nano_patch8 takes multiples of its patches' 8"),
        ("vit_nano_patch8", (48, 0), "image_width is 0"),
    ],
)
def test_what_no_vit_can_be_built_of_is_named(architecture, size, message):
    with pytest.raises(ValueError, match=message):
        build_vit(architecture, size)


def published(height_width=(32, 32), *, classes=10):
    """What timm's own net of this shape holds."""
    torch.manual_seed(1)
    return timm.models.vision_transformer.VisionTransformer(img_size=height_width, num_classes=classes, **NANO).eval()


def test_weights_of_timm_give_the_tokens_of_timm(tmp_path):
    theirs = published((48, 16))
    save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    vit = build_vit("vit_nano_patch8", (48, 16)).eval()
    load_vit(vit, str(tmp_path / "vit.safetensors"), grid=[6, 2])
    images = torch.randn(2, 3, 48, 16)
    torch.testing.assert_close(vit(images), theirs.forward_features(images))


@pytest.mark.parametrize("wrap", [lambda state: {"model": state}, lambda state: {"epoch": 3, "state_dict": state}])
def test_wrapped_weights_are_found(tmp_path, wrap):
    state = published((48, 16)).state_dict()
    torch.save(wrap(state), tmp_path / "vit.pth")
    vit = build_vit("vit_nano_patch8", (48, 16))
    load_vit(vit, str(tmp_path / "vit.pth"), grid=[6, 2])
    assert torch.equal(vit.blocks[2].attn.qkv.weight, state["blocks.2.attn.qkv.weight"])


def test_weights_of_dino_and_of_distilled_deit_are_understood(tmp_path):
    state = published().state_dict()
    positions = state["pos_embed"]
    state["pos_embed"] = torch.cat([positions[:, :1], torch.full((1, 1, 96), 9.0), positions[:, 1:]], dim=1)
    distilled = {**state, "dist_token": torch.zeros(1, 1, 96), "head_dist.weight": torch.zeros(10, 96)}
    torch.save(
        {"teacher": {f"module.backbone.{name}": value for name, value in distilled.items()}}, tmp_path / "deit.pth"
    )
    vit = build_vit("vit_nano_patch8", (32, 32))
    load_vit(vit, str(tmp_path / "deit.pth"))
    assert torch.equal(vit.pos_embed, positions)


def test_positions_of_a_square_become_those_of_a_tall_grid_row_by_row(tmp_path):
    state = published().state_dict()
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    ramps = torch.zeros(1, 17, 96)
    ramps[0, 1:, 0], ramps[0, 1:, 1] = rows.flatten(), columns.flatten()
    save_file({**state, "pos_embed": ramps}, tmp_path / "vit.safetensors")
    vit = build_vit("vit_nano_patch8", (64, 16))
    load_vit(vit, str(tmp_path / "vit.safetensors"))
    grid = vit.pos_embed[0, 1:].detach().view(8, 2, 96)
    down, across = grid[:, :, 0], grid[:, :, 1]
    assert (down.diff(dim=0) > 0).all()
    assert (across.diff(dim=1) > 0).all()
    torch.testing.assert_close(down[:, 0], down[:, 1])
    torch.testing.assert_close(across[0], across[7])


def test_what_is_no_weights_of_this_vit_is_named(tmp_path):
    vit, path = build_vit("vit_nano_patch8", (32, 32)), tmp_path / "vit.pth"
    stem = {name: value for name, value in published().state_dict().items() if not name.startswith("patch_embed")}
    torch.save({**stem, "patch_embed.conv.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"lacks patch_embed.proj.bias.*has besides patch_embed.conv.0.weight"):
        load_vit(vit, str(path))
    torch.save({**published().state_dict(), "norm.weight": torch.zeros(7)}, path)
    with pytest.raises(ValueError, match=r"norm.weight is \(7,\) and not \(96,\)"):
        load_vit(vit, str(path))
    torch.save(published((48, 16)).state_dict(), path)
    with pytest.raises(ValueError, match=r"12 patches, which are no grid of 3 x 3; set image_weights_grid"):
        load_vit(vit, str(path))


def test_files_that_hold_no_weights_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nowhere.pt; give a file, a folder, hub:owner/name"):
        read_weights(str(tmp_path / "nowhere.pt"))
    with pytest.raises(FileNotFoundError, match=r"model.safetensors or .*pytorch_model.bin"):
        read_weights(str(tmp_path))
    for name, data in {"torn.pt": b"PK torn", "torn.safetensors": b"torn"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name} holds no weights, or is damaged"):
            read_weights(str(tmp_path / name))
    torch.save({"model": [1, 2]}, tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no weights by name"):
        read_weights(str(tmp_path / "list.pt"))


def published_bert(pieces=50):
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=pieces, hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384
    )
    return BertForPreTraining(config).eval()


def test_weights_of_bert_give_the_states_of_bert(tmp_path):
    theirs = published_bert()
    theirs.save_pretrained(tmp_path)
    encoder = TextEncoder("bert_nano", vocabulary_size=50, pad_id=0).eval()
    encoder.load(str(tmp_path))
    ids, mask = torch.randint(5, 50, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    expected = theirs.bert(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(encoder(ids, mask)[mask], expected[mask])


def test_old_names_of_bert_are_understood(tmp_path):
    state = published_bert().state_dict()
    norm = "bert.embeddings.LayerNorm"
    state[f"{norm}.gamma"], state[f"{norm}.beta"] = torch.full((96,), 3.0), torch.full((96,), 4.0)
    del state[f"{norm}.weight"], state[f"{norm}.bias"]
    torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = TextEncoder("bert_nano", vocabulary_size=50, pad_id=0)
    encoder.load(str(tmp_path))
    assert encoder.bert.embeddings.LayerNorm.weight[0] == 3
    assert encoder.bert.embeddings.LayerNorm.bias[0] == 4


def test_weights_of_another_vocabulary_are_refused(tmp_path):
    published_bert(60).save_pretrained(tmp_path)
    encoder = TextEncoder("bert_nano", vocabulary_size=50, pad_id=0)
    with pytest.raises(ValueError, match=r"of 60 pieces, and this run one of 50; set data\.vocabulary"):
        encoder.load(str(tmp_path))


def test_an_unknown_text_architecture_is_named():
    with pytest.raises(
        ValueError, match="text_architecture is 'bert_huge'; allowed are bert_base, bert_small, bert_nano"
    ):
        TextEncoder("bert_huge", vocabulary_size=50, pad_id=0)
