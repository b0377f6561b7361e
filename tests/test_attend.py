"""`passerby attend`: maps against gradients taken here, and what a person sees on the sheets."""

import re
import sys
from io import BytesIO

import numpy as np
import pytest
import tiny_reid
import tiny_runs
import torch
import typer
from PIL import Image
from torch.nn import functional
from typer.testing import CliRunner

from finetune.attention import attend, find_layer
from finetune.evaluate import Protocol, find
from finetune.features import Reading, read_images
from finetune.ranked import choose_queries, search
from finetune.sheets import FRAMES, MARGIN, TILE_HEIGHT, TILE_WIDTH, Row, Sheet, Tile, draw_sheet
from finetune.target import open_target
from finetune.trained import load_trained
from passerby.cli import attend as command
from passerby.nets.clip_pair import build_blank, read_architecture
from passerby.nets.clip_reid import build_image_encoder
from passerby.nets.mobilenet import MobileNet

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attend")


@pytest.fixture(scope="module")
def market(folder):
    return tiny_reid.write_reid(folder / "market")


@pytest.fixture(scope="module")
def runs(folder):
    tables = {"resnet": tiny_runs.REID, "vit": tiny_runs.VIT, "t2i": tiny_runs.TEXT_TO_IMAGE}
    return {name: tiny_runs.write_run(folder / name, table) for name, table in tables.items()}


def invoke(*words):
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, [*map(str, words), "--workers", "0", "--device", "cpu"])


def own_grad_cam(searcher, images, references, feature):
    """Weigh the channels of the last map by the mean of their gradients; scale from 0 to 1 and enlarge."""
    seen = []
    backbone = searcher.encoder.backbone
    layer = backbone.layer4 if hasattr(backbone, "layer4") else backbone.blocks[-1].norm1
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    found = searcher.embed_images(images)[feature]
    hook.remove()
    (gradient,) = torch.autograd.grad(functional.cosine_similarity(found, references).sum(), seen[0])
    states = seen[0]
    if states.ndim == 3:  # tokens, of 8 x 4 patches
        states, gradient = (each[:, 1:].mT.reshape(len(images), -1, 8, 4) for each in (states, gradient))
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * states).sum(dim=1).relu().detach()
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    cam = functional.interpolate(((cam - low) / (high - low))[:, None], images.shape[2:], mode="bilinear")[:, 0]
    low, high = cam.amin((1, 2), keepdim=True), cam.amax((1, 2), keepdim=True)
    return ((cam - low) / (high - low)).numpy()


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_grad_cam_is_that_of_gradients_taken_by_hand(name, runs, market):
    trained, target = load_trained(runs[name], CPU), open_target(market, by_captions=False)
    batch = next(iter(read_images(trained, target, target.queries[:3], Reading())))
    references = torch.from_numpy(find(trained, target, Protocol(), Reading()).gallery[4:7])

    maps = attend(trained, batch, references, feature="after_neck", distance="cosine")

    expected = own_grad_cam(trained.searcher, batch["images"], references, "after_neck")
    np.testing.assert_allclose(maps.grad_cam, expected, atol=1e-3)
    assert maps.eigen_cam.shape == (3, 64, 32)
    assert maps.eigen_cam.min() >= 0
    assert maps.eigen_cam.max(axis=(1, 2)) == pytest.approx(1, abs=1e-3)
    assert all(parameter.grad is None for parameter in trained.searcher.parameters())


def test_eigen_cam_shows_what_stands_out_whatever_the_sign_of_the_decomposition(runs, market, monkeypatch):
    trained, target = load_trained(runs["resnet"], CPU), open_target(market, by_captions=False)
    batch = next(iter(read_images(trained, target, target.queries[:3], Reading())))
    references = torch.ones(3, 512)
    told = {"feature": "after_neck", "distance": "euclidean"}
    before = attend(trained, batch, references, **told).eigen_cam
    decompose = np.linalg.svd

    def negated(matrix, **options):
        left, values, right = decompose(matrix, **options)
        return -left, values, -right

    monkeypatch.setattr(np.linalg, "svd", negated)

    np.testing.assert_allclose(attend(trained, batch, references, **told).eigen_cam, before, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "map_shape"),
    [
        ("tiny-resnet", (64, 32), (4, 2)),
        ("tiny-vit", (64, 32), (4, 2)),
        ("embedded", (128, 64), (8, 4)),
        ("mobile", (64, 32), (4, 2)),
    ],
)
def test_every_encoder_has_a_map(name, size, map_shape):
    encoder = MobileNet(size) if name == "mobile" else build_image_encoder(_blank(name), size)
    layer, as_map = find_layer(torch.nn.ModuleDict({"encoder": encoder}))
    seen = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder.eval()(torch.randn(2, 3, *size))

    assert (as_map or (lambda states: states))(seen[0]).shape[2:] == map_shape


def _blank(name):
    return build_blank(read_architecture(name, ""), mean=(0.5,) * 3, deviation=(0.5,) * 3)


def test_an_encoder_without_a_map_is_refused():
    with pytest.raises(ValueError, match="ResNets, vision transformers and MobileNets; Linear has none"):
        find_layer(torch.nn.Linear(2, 2))


def test_queries_find_what_counts_nearest_first_and_junk_is_left_out(runs, market):
    trained, target = load_trained(runs["resnet"], CPU), open_target(market, by_captions=False)
    whole = find(trained, target, Protocol(), Reading())
    picked = target.pick(choose_queries(target, keys=["0010_c2_00", "0009_c1_00"], count=1))
    found = find(trained, picked, Protocol(), Reading())

    searches = search(picked, found, top=10)

    assert [target.keys[each.query] for each in searches] == ["0010_c2_00", "0009_c1_00"]
    for each in searches:
        person, camera = target.names[each.query], target.camera_ids[each.query]
        query = whole.queries[target.queries.tolist().index(each.query)].astype(float)
        kept = []
        for place, sample in enumerate(target.gallery.tolist()):
            if (target.names[sample], target.camera_ids[sample]) != (person, camera):
                other = whole.gallery[place].astype(float)
                kept.append((1 - query @ other / np.sqrt((query @ query) * (other @ other)), sample, place))
        ranked = sorted(kept)
        assert list(each.found) == [sample for _, sample, _ in ranked[:10]]
        assert list(each.is_right) == [target.names[sample] == person for sample in each.found]
        assert each.nearest_right == next(place for _, sample, place in ranked if target.names[sample] == person)


def test_some_queries_are_chosen_evenly_and_have_answers(market):
    target = open_target(market, by_captions=False)
    chosen = choose_queries(target, keys=[], count=4)

    assert len({place // 3 for place in chosen}) == 4  # of 12 queries, one of each three
    assert choose_queries(target, keys=[], count=99) == list(range(12))


@pytest.mark.parametrize("name", ["resnet", "t2i"])
def test_the_command_leaves_two_sheets_and_a_page_that_needs_nothing_else(name, runs, market, tmp_path):
    root = market if name == "resnet" else tiny_reid.write_pedes(tmp_path / "pedes")
    done = invoke(runs[name], root, "--out", tmp_path / "out", "--count", 3)

    assert done.exit_code == 0, done.output
    assert "attention.png, ranked.png, index.html" in done.stdout
    assert all(Image.open(tmp_path / f"out/{sheet}.png").width > 300 for sheet in ("attention", "ranked"))
    page = (tmp_path / "out/index.html").read_text()
    assert not re.search(r'(src|href)="(?!data:image/jpeg;base64,)|<script|url\(', page)
    columns = 4 if name == "resnet" else 3  # the caption needs no picture
    assert page.count("<img") == 3 * columns + 3 * (11 if name == "resnet" else 10)
    assert page.count(">Grad-CAM<") == page.count(">Eigen-CAM<") == 3
    assert 'class="right"' in page
    assert 'class="wrong"' in page
    if name == "t2i":
        assert page.count("“A person in a") + page.count("“Someone wears") == 6


def test_right_and_wrong_are_framed_and_the_query_is_not():
    picture = Image.new("RGB", (32, 64), (10, 20, 200))
    row = Row("0001", [Tile(picture, "query"), Tile(picture, "1", "right"), Tile(picture, "2", "wrong")])
    sheet = Image.open(BytesIO(draw_sheet(Sheet("t", "n", [row])))).convert("RGB")

    middle = sheet.height - TILE_HEIGHT // 2 - 2 * MARGIN
    edges = [sheet.getpixel((MARGIN + place * (TILE_WIDTH + MARGIN) + 1, middle)) for place in range(3)]
    assert edges == [(10, 20, 200), FRAMES["right"], FRAMES["wrong"]]


def test_misuse_is_told_in_one_line(runs, market, tmp_path, monkeypatch):
    out = ("--out", tmp_path / "out")
    assert "0042 asks nothing in" in str(invoke(runs["resnet"], market, *out, "--key", "0042").exception)
    assert "no feature 'neck'" in str(invoke(runs["resnet"], market, *out, "--feature", "neck").exception)

    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    assert "pip install 'passerby[attend]'" in str(invoke(runs["resnet"], market, *out).exception)
    assert not (tmp_path / "out").exists()
