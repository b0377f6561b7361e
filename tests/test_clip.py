import functools
import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from urllib.error import URLError

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from passerby.nets import clip_source
from passerby.nets.clip import load_clip
from passerby.nets.pixels import bands

SIZE = 48
WIDTH = 16
MODEL = {
    "embed_dim": WIDTH,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
STATISTICS = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.25]}
PROMPTS = ["A photo of a person.", "A photo of a person wearing a white pure color t-shirt.", "a man"]


def make_model(folder: Path, **changes) -> Path:
    """Write a model folder of open_clip's format, with random weights."""
    folder.mkdir()
    text = MODEL["text_cfg"] | changes.pop("text_cfg", {})
    config = {"model_cfg": {**MODEL, "text_cfg": text, **changes}, "preprocess_cfg": STATISTICS}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    network = open_clip.create_model(f"local-dir:{folder}")
    save_file(network.state_dict(), folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture(scope="module")
def named(tmp_path_factory, folder):
    """The same model under a name, as open_clip's own models are."""
    path = tmp_path_factory.mktemp("configs") / "tiny-named.json"
    path.write_text(json.dumps(MODEL))
    open_clip.add_model_config(path)
    return "tiny-named", str(folder / "open_clip_model.safetensors")


def load(folder, **options):
    return load_clip(weights=f"local-dir:{folder}", device="cpu", batch_size=4, **options)


scorer_of = functools.cache(load)
"""For folders that stay as they are."""


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth image with something in every corner."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


PICTURES = [
    picture(*size, seed) for seed, size in enumerate([(128, 64), (90, 31), (128, 64), (40, 100), (200, 70), (64, 64)])
]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1)


@pytest.mark.parametrize(("image_mode", "resize_mode"), [("squash", "squash"), ("center", "shortest")])
def test_image_features_are_those_of_open_clips_own_pipeline(folder, image_mode, resize_mode):
    network, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}", image_resize_mode=resize_mode)
    network.eval()
    with torch.no_grad():
        batch = torch.stack([transform(Image.fromarray(pixels)) for pixels in PICTURES])
        expected = network.encode_image(batch, normalize=True).numpy()
    found = scorer_of(folder, image_mode=image_mode).encode_images(PICTURES)
    assert found.dtype == np.float32
    np.testing.assert_allclose(cosines(found, expected), 1, atol=2e-4)
    # pictures differ by more than the tolerance, or this would prove nothing
    assert cosines(expected[:1], expected[1:]).max() < 0.998


@pytest.mark.parametrize("text_cfg", [{}, {"no_causal_mask": True}, {"pool_type": "last"}])
def test_text_features_are_those_of_the_padded_prompts(tmp_path, text_cfg):
    folder = make_model(tmp_path / "model", text_cfg=text_cfg)
    network = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        expected = network.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(PROMPTS), normalize=True).numpy()
    np.testing.assert_allclose(scorer_of(folder).encode_texts(PROMPTS), expected, atol=1e-6)


def test_an_image_has_the_same_features_in_any_company(folder):
    scorer = scorer_of(folder)
    together = scorer.encode_images(PICTURES)
    backwards = scorer.encode_images(PICTURES[::-1])[::-1]
    alone = np.concatenate([scorer.encode_images([pixels]) for pixels in PICTURES])
    assert together.tobytes() == backwards.tobytes() == alone.tobytes()
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)


def test_no_images_give_no_features(folder):
    assert scorer_of(folder).encode_images([]).shape == (0, WIDTH)


def test_bands_are_the_mean_of_three_squares(folder):
    tall = PICTURES[4]
    height, width = tall.shape[:2]
    starts = (0, (height - width) // 2, height - width)
    squares = [tall[start : start + width] for start in starts]
    mean = scorer_of(folder).encode_images(squares).mean(axis=0)
    found = scorer_of(folder, image_mode="bands").encode_images([tall])[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
    wide = [square.transpose(1, 0, 2) for square in bands(tall)]
    assert all((one == other).all() for one, other in zip(bands(tall.transpose(1, 0, 2)), wide, strict=True))


def test_interpolated_positions_see_the_whole_crop(folder):
    scorer = scorer_of(folder, image_mode="interp:96x48")
    network = open_clip.create_model(f"local-dir:{folder}", force_image_size=(96, 48)).eval()
    pixels = (
        np.stack([np.asarray(Image.fromarray(p).resize((48, 96), Image.Resampling.BICUBIC)) for p in PICTURES]) / 255
    )
    batch = torch.from_numpy((pixels - STATISTICS["mean"]) / STATISTICS["std"]).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        expected = network.encode_image(batch, normalize=True).numpy()
    np.testing.assert_allclose(cosines(scorer.encode_images(PICTURES), expected), 1, atol=2e-4)


@pytest.mark.parametrize(
    ("image_mode", "problem"),
    [
        ("interp:144x16", "as many patches as the trained 48x48"),
        ("interp:16x144", "as many patches as the trained 48x48"),
        ("interp:96x40", "multiples of 16"),
        ("stretch", "unknown image mode 'stretch'; allowed are squash, pad, center, bands, interp:HxW"),
        ("interp:HxW", "unknown image mode"),
        ("interp:0x48", "unknown image mode"),
    ],
)
def test_an_image_mode_that_would_misread_is_refused(folder, image_mode, problem):
    with pytest.raises(ValueError, match=problem):
        scorer_of(folder, image_mode=image_mode)


def test_the_trained_square_itself_is_allowed(folder):
    found = scorer_of(folder, image_mode=f"interp:{SIZE}x{SIZE}").encode_images(PICTURES)
    assert found.tobytes() == scorer_of(folder).encode_images(PICTURES).tobytes()


def test_interpolation_needs_a_vision_transformer(tmp_path):
    folder = make_model(tmp_path / "resnet", vision_cfg={"image_size": 64, "layers": [1, 1, 1, 1], "width": 8})
    with pytest.raises(ValueError, match="needs a vision transformer"):
        scorer_of(folder, image_mode="interp:128x64")
    assert scorer_of(folder).encode_images(PICTURES[:1]).shape == (1, WIDTH)


def test_a_file_of_weights_serves_a_named_model(folder, named):
    model, weights = named
    scorer = load_clip(model, weights, device="cpu", precision="fp32", image_mode="pad")
    expected = hashlib.sha256((folder / "open_clip_model.safetensors").read_bytes()).hexdigest()
    shown = {name: scorer.identity[name] for name in ("model", "weights", "weights_sha256", "image_mode", "precision")}
    assert shown == {
        "model": "tiny-named",
        "weights": "open_clip_model.safetensors",
        "weights_sha256": expected,
        "image_mode": "pad",
        "precision": "fp32",
    }
    assert not any(os.sep in value for value in scorer.identity.values())
    np.testing.assert_allclose(scorer.encode_texts(PROMPTS), scorer_of(folder).encode_texts(PROMPTS), atol=1e-6)
    assert scorer.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_a_folder_is_known_by_its_content_not_its_place(folder, tmp_path):
    identity = scorer_of(folder).identity
    elsewhere = shutil.copytree(folder, tmp_path / "tiny")
    assert load(elsewhere).identity == identity
    config = json.loads((elsewhere / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (elsewhere / "open_clip_config.json").write_text(json.dumps(config))
    assert load(elsewhere).identity != identity


def test_a_vocabulary_travels_with_its_folder(folder, tmp_path, monkeypatch):
    elsewhere = shutil.copytree(folder, tmp_path / "tiny")
    shutil.copy(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz", elsewhere / "words.txt.gz")
    config = json.loads((elsewhere / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"bpe_path": "words.txt.gz"}
    (elsewhere / "open_clip_config.json").write_text(json.dumps(config))
    monkeypatch.chdir("/")
    assert (scorer_of(elsewhere).encode_texts(PROMPTS) == scorer_of(folder).encode_texts(PROMPTS)).all()


def test_a_pickled_scorer_is_its_settings(folder):
    scorer = scorer_of(folder, image_mode="pad")
    pickled = pickle.dumps(scorer)
    assert len(pickled) < 1000
    assert pickle.loads(pickled).encode_images(PICTURES).tobytes() == scorer.encode_images(PICTURES).tobytes()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_agrees_roughly(folder, precision):
    half = scorer_of(folder, precision=precision)
    assert half.identity["precision"] == precision
    found, exact = half.encode_images(PICTURES), scorer_of(folder).encode_images(PICTURES)
    assert found.tobytes() != exact.tobytes()
    np.testing.assert_allclose(cosines(found, exact), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("image_mode", ["squash", "pad", "center", "bands"])
def test_cuda_agrees_with_the_cpu(folder, image_mode):
    options = {"weights": f"local-dir:{folder}", "image_mode": image_mode}
    found, expected = (load_clip(**options, device=device).encode_images(PICTURES) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(cosines(found, expected), 1, atol=2e-4)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


def test_weights_that_would_run_code_are_refused(tmp_path, named, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Bomb()}, "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt cannot be loaded into tiny-named"):
        load_clip(named[0], "weights.pt", device="cpu")
    assert not Path("bomb-went-off").exists()


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_damaged_weights_are_named(tmp_path, named, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} cannot be loaded into tiny-named"):
        load_clip(named[0], str(tmp_path / name), device="cpu")


@pytest.mark.parametrize("weights", [{}, {"head.weight": torch.zeros(3)}, {"positional_embedding": torch.zeros(77, 8)}])
def test_weights_of_another_architecture_are_named(tmp_path, named, weights):
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt cannot be loaded into tiny-named"):
        load_clip(named[0], str(tmp_path / "other.pt"), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"model": "ViT-B16"}, r"no model 'ViT-B16'; close are ViT-B-16"),
        ({"weights": "openia"}, r"'openia' are neither a file nor a tag of ViT-B-16-quickgelu; its tags are .*openai"),
        ({"model": "ViT-B-16"}, "another activation than ViT-B-16; use the model ViT-B-16-quickgelu"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; allowed are fp32, fp16, bf16"),
        ({"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_a_mistaken_option_is_named(arguments, problem):
    with pytest.raises(ValueError, match=problem):
        load_clip(**arguments)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no model folder: it has no open_clip_config\.json"):
        load(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ValueError, match="is no open_clip configuration: it has no model_cfg"):
        load(tmp_path)


def test_a_folder_without_weights_is_named(folder, tmp_path):
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded"):
        scorer_of(tmp_path)


def test_a_missing_embedded_model_says_what_else_to_give(tmp_path, monkeypatch):
    monkeypatch.setattr(clip_source, "EMBEDDED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no embedded CLIP.*--clip-weights FILE"):
        load_clip("embedded")


def test_the_embedded_model_comes_from_its_folder(folder, monkeypatch):
    monkeypatch.setattr(clip_source, "EMBEDDED", folder)
    scorer = load_clip("embedded", device="cpu")
    assert scorer.identity["model"] == "embedded"
    assert scorer.encode_texts(PROMPTS).shape == (3, WIDTH)


def unreachable(*_, **__):
    raise URLError("Name or service not known")


def test_without_a_network_the_two_ways_out_are_named(monkeypatch):
    monkeypatch.setattr(clip_source, "urlopen", unreachable)
    monkeypatch.setattr(clip_source.huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(
        RuntimeError, match=r"'openai' .* cannot be downloaded.*--clip-weights FILE.*--clip-model embedded"
    ):
        load_clip()


def test_weights_downloaded_before_need_no_network(tmp_path, monkeypatch):
    weights = tmp_path / "open_clip_model.safetensors"
    weights.write_bytes(b"weights")
    asked = []
    monkeypatch.setattr(clip_source, "urlopen", unreachable)
    monkeypatch.setattr(
        clip_source.huggingface_hub, "try_to_load_from_cache", lambda *names: asked.append(names) or str(weights)
    )
    found = clip_source.find("ViT-B-16-quickgelu", "openai")
    assert found.pretrained == str(weights)
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert asked == [("timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors")]
