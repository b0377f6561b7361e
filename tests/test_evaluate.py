"""`passerby evaluate`: against an evaluation written out here, on tiny people; and what it tells and refuses."""

import json
import shutil
from io import BytesIO

import numpy as np
import pytest
import tiny_reid
import tiny_runs
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from finetune.evaluate import NEUTRAL_CAPTION, Protocol, find
from finetune.evaluate import evaluate as score
from finetune.features import Reading, embed_images
from finetune.paper import read_paper
from finetune.target import open_target
from finetune.trained import load_trained
from finetune.validation import score_images
from passerby.cli import evaluate as command
from passerby.cli import finetune
from passerby.shards.read import ShardDataset

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("evaluate")


@pytest.fixture(scope="module")
def market(folder):
    return tiny_reid.write_reid(folder / "market")


@pytest.fixture(scope="module")
def pedes(folder):
    return tiny_reid.write_pedes(folder / "pedes")


@pytest.fixture(scope="module")
def runs(folder):
    """One run of each kind, and three of image Re-ID."""
    tables = {"reid": tiny_runs.REID, "plain": tiny_runs.PLAIN, "t2i": tiny_runs.TEXT_TO_IMAGE, "mmet": tiny_runs.MMET}
    made = {name: tiny_runs.write_run(folder / name, table) for name, table in tables.items()}
    return made | {f"seed{n}": tiny_runs.write_run(folder / f"seed{n}", tiny_runs.REID, seed=n) for n in (1, 2)}


def invoke(*words):
    app = typer.Typer()
    command.register(app)
    app.command("other")(lambda: None)
    finetune.register(app)
    return CliRunner().invoke(app, ["evaluate", *map(str, words), "--workers", "0"])


def results_of(*words):
    done = invoke(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def naive_features(table, samples, feature):
    """One image at a time, decoded and normalised here."""
    searcher = tiny_runs.build_searcher(table)
    rows = []
    for sample in samples:
        pixels = np.asarray(Image.open(BytesIO(sample["jpg"])), np.float32) / 255
        pixels = (pixels - np.float32(table["image_mean"])) / np.float32(table["image_std"])
        with torch.no_grad():
            found = searcher.embed_images(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        rows.append(found[feature][0].double().numpy())
    return np.stack(rows)


def compare(one, other, distance):
    if distance == "cosine":
        return 1 - one @ other / np.sqrt((one @ one) * (other @ other))
    return ((one - other) ** 2).sum()


def naive_scores(distances, queries, gallery, *, average="step"):
    """Rank-1, mAP and mINP of (person, camera) pairs; a camera `None` is unlike all others."""
    firsts, averages, penalties = [], [], []
    for (person, camera), row in zip(queries, distances, strict=True):
        kept = [place for place, seen in enumerate(gallery) if seen[0] != person or seen[1] != camera]
        ranked = [gallery[place][0] == person for place in sorted(kept, key=lambda place: row[place])]
        ranks = [rank for rank, is_good in enumerate(ranked, start=1) if is_good]
        precisions = [
            (found / rank, 1.0 if rank == 1 else (found - 1) / (rank - 1)) for found, rank in enumerate(ranks, 1)
        ]
        firsts.append(ranks[0] == 1)
        averages.append(np.mean([now if average == "step" else (now + before) / 2 for now, before in precisions]))
        penalties.append(len(ranks) / ranks[-1])
    return {"rank_1": np.mean(firsts), "mAP": np.mean(averages), "mINP": np.mean(penalties)}


def scores_of(result):
    return {name: result[name] for name in ("rank_1", "mAP", "mINP")}


def split_of(root, name):
    samples = ShardDataset(root)
    return [samples[index] for index in samples.split(name)]


def seen_on(samples):
    return [(sample["json"]["person_id"], sample["json"]["camera_id"]) for sample in samples]


@pytest.mark.parametrize(
    ("name", "feature", "distance", "average"),
    [
        ("reid", "after_neck", "cosine", "step"),
        ("reid", "before_neck", "euclidean", "trapezoid"),
        ("plain", "pooled", "cosine", "step"),
    ],
)
def test_scores_are_those_of_an_evaluation_written_out(name, feature, distance, average, runs, market):
    words = ("--feature", feature, "--distance", distance, "--average-precision", average)
    (result,) = results_of(runs[name], market, *words)

    table = {"reid": tiny_runs.REID, "plain": tiny_runs.PLAIN}[name]
    queries, gallery = split_of(market, "query"), split_of(market, "gallery")
    one, other = naive_features(table, queries, feature), naive_features(table, gallery, feature)
    distances = [[compare(a, b, distance) for b in other] for a in one]
    expected = naive_scores(distances, seen_on(queries), seen_on(gallery), average=average)
    assert scores_of(result) == pytest.approx(expected, abs=1e-6)
    assert 0 < expected["mAP"] < 1
    told = {name: result[name] for name in ("feature", "distance", "is_normalised", "average_precision", "same_camera")}
    assert told == {
        "feature": feature,
        "distance": distance,
        "is_normalised": distance == "cosine",
        "average_precision": average,
        "same_camera": "drop",
    }


def test_features_come_in_the_order_of_the_data_set_for_any_workers_and_batches(runs, market):
    trained, target = load_trained(runs["reid"], CPU), open_target(market, by_captions=False)
    expected = naive_features(tiny_runs.REID, split_of(market, "gallery"), "after_neck")
    told = []
    for batch_size, workers in ((64, 0), (4, 2)):
        reading = Reading(batch_size=batch_size, workers=workers, on_progress=lambda *now: told.append(now))
        found = embed_images(trained, target, target.gallery, feature="after_neck", reading=reading)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert told == [(14, 14), (4, 14), (8, 14), (12, 14), (14, 14)]


def test_nothing_of_the_target_changes_the_run(runs, market):
    trained = load_trained(runs["reid"], CPU)
    before = {name: tensor.clone() for name, tensor in trained.searcher.state_dict().items()}

    find(trained, open_target(market, by_captions=False), Protocol(), Reading())

    assert not trained.searcher.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.searcher.state_dict().items())


def test_a_split_is_searched_in_itself_as_in_validation(runs, market):
    (result,) = results_of(runs["reid"], market, "--split", "val")

    samples = split_of(market, "val")
    images = [np.asarray(Image.open(BytesIO(sample["jpg"])), np.float32) / 255 for sample in samples]
    mean, std = (np.float32(tiny_runs.REID[name]) for name in ("image_mean", "image_std"))
    batch = {
        "images": torch.from_numpy(np.stack([(image - mean) / std for image in images])).permute(0, 3, 1, 2),
        "person_ids": torch.tensor([int(person) for person, _ in seen_on(samples)]),
        "camera_ids": torch.tensor([camera for _, camera in seen_on(samples)]),
    }
    with torch.no_grad():
        searcher = tiny_runs.build_searcher(tiny_runs.REID)
        expected = score_images([batch], searcher, feature="after_neck", distance="cosine")
    assert scores_of(result) == pytest.approx(expected, abs=1e-6)
    assert (result["split"], result["queries"], result["gallery"]) == ("val", 12, 12)


def test_with_cameras_kept_an_image_finds_all_but_itself(runs, market):
    (result,) = results_of(runs["reid"], market, "--split", "val", "--same-camera", "keep")

    samples = split_of(market, "val")
    features = naive_features(tiny_runs.REID, samples, "after_neck")
    distances = [[compare(a, b, "cosine") for b in features] for a in features]
    alone = [(person, number) for number, (person, _) in enumerate(seen_on(samples))]
    assert scores_of(result) == pytest.approx(naive_scores(distances, alone, alone), abs=1e-6)


@pytest.mark.parametrize("feature", ["global", "pgu"])
def test_captions_search_all_images_whatever_the_camera(feature, runs, pedes):
    (result,) = results_of(runs["t2i"], pedes, "--feature", feature)

    samples = split_of(pedes, "test")
    searcher = tiny_runs.build_searcher(tiny_runs.TEXT_TO_IMAGE)
    images = naive_features(tiny_runs.TEXT_TO_IMAGE, samples, feature)
    queries, texts = [], []
    for sample in samples:
        for caption in sample["json"]["captions"]:
            ids = torch.tensor([searcher.tokenizer.encode(caption, 24)[0]])
            with torch.no_grad():
                texts.append(searcher.embed_texts(ids, torch.ones_like(ids, dtype=bool))[feature][0].double().numpy())
            queries.append((sample["json"]["person_id"], None))
    distances = [[compare(text, image, "cosine") for image in images] for text in texts]
    assert scores_of(result) == pytest.approx(naive_scores(distances, queries, seen_on(samples)), abs=1e-6)
    assert (result["queries"], result["gallery"], result["same_camera"]) == (48, 24, "any")


def test_images_are_seen_alone_with_their_captions_or_with_one_that_says_nothing(runs, pedes, tmp_path):
    samples = split_of(pedes, "test")
    lines = [
        {"path": f"elsewhere/people/{each['json']['path']}", "caption": each["json"]["captions"][1]} for each in samples
    ]
    written = tmp_path / "written.jsonl"
    written.write_text("".join(json.dumps({**line, "log_probability": -1}) + "\n" for line in lines))
    trained = load_trained(runs["mmet"], CPU)
    searcher = tiny_runs.build_searcher(tiny_runs.MMET)
    target = open_target(pedes, by_captions=False, split="test")
    images = torch.cat([batch["images"] for batch in _batches(trained, target)])

    def pairs(captions):
        with torch.no_grad():
            return searcher.embed_pairs(images, *trained.tokens(captions))["after_neck"].numpy()

    for captions, expected in (
        ("stored", pairs([each["json"]["caption"] for each in samples])),
        ("neutral", pairs([NEUTRAL_CAPTION] * len(samples))),
        (str(written), pairs([line["caption"] for line in lines])),
    ):
        found = find(trained, target, Protocol(captions=captions, split="test"), Reading(batch_size=5))
        np.testing.assert_allclose(found.queries, expected, atol=1e-5)
    alone = find(trained, target, Protocol(feature="before_neck"), Reading())
    np.testing.assert_allclose(alone.gallery, searcher.embed_images(images)["before_neck"].detach(), atol=1e-5)

    (result,) = results_of(runs["mmet"], pedes, "--split", "test", "--captions", "neutral")
    assert result["captions"] == "neutral"
    written.write_text(written.read_text().partition("\n")[2])
    lacking = invoke(runs["mmet"], pedes, "--split", "test", "--captions", written).exception
    assert f"has no caption, or several, of 1 of 24 images, such as {samples[0]['json']['path']}" in str(lacking)
    written.write_text("a.jpg: A person.\n")
    other = invoke(runs["mmet"], pedes, "--split", "test", "--captions", written).exception
    assert "line 1, is no line of `pretrain caption --json`: 'a.jpg: A person.'" in str(other)


def _batches(trained, target):
    from finetune.features import read_images

    return read_images(trained, target, target.gallery, Reading())


def test_an_encoder_that_knows_cameras_is_told_them(market, tmp_path):
    trained = load_trained(tiny_runs.write_run(tmp_path / "run", tiny_runs.PI_VL), CPU)
    target = open_target(market, by_captions=False)
    cameras = torch.tensor([camera for _, camera in seen_on(split_of(market, "gallery"))])
    images = torch.cat([batch["images"] for batch in _batches(trained, target)])

    found = find(trained, target, Protocol(), Reading(batch_size=5)).gallery

    searcher = tiny_runs.build_searcher(tiny_runs.PI_VL)
    with torch.no_grad():
        expected, other = (searcher.embed_images(images, told)["before_neck"] for told in (cameras, 0 * cameras))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not np.allclose(found, other, atol=1e-3)


def test_several_targets_and_seeds_give_a_file_each_and_their_mean(runs, market, pedes, tmp_path):
    other = shutil.copytree(market, tmp_path / "other")
    seeds = [runs["reid"], runs["seed1"], runs["seed2"]]
    words = (market, other, "--also", seeds[1], "--also", seeds[2], "--out", tmp_path / "results")
    done = invoke(seeds[0], *words)

    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "results").glob("*.json"))
    stored = [json.loads(path.read_text()) for path in files]
    assert sorted((each["run"], each["target"]) for each in stored) == sorted(
        (str(run), str(root)) for run in seeds for root in (market, other)
    )
    found = [100 * each["mAP"] for each in stored if each["target"] == str(market)]
    row = next(line for line in done.stdout.splitlines() if line.startswith("mean of 3 seeds") and str(market) in line)
    assert f"{np.mean(found):.1f} ± {np.std(found, ddof=1):.1f}" in row
    page = (tmp_path / "results/results.md").read_text()
    assert page.count("| mean of 3 seeds |") == 2
    told = {name: stored[0][name] for name in ("init", "trained_on", "epoch", "method", "people", "cameras", "dataset")}
    assert told == {
        "init": "runs/vtbr",
        "trained_on": "somewhere",
        "epoch": 4.0,
        "method": "reid",
        "people": 5,
        "cameras": 3,
        "dataset": "",
    }

    assert invoke(seeds[0], market, "--out", tmp_path / "results").exit_code == 0
    assert sorted((tmp_path / "results").glob("*.json")) == files


def official(root, copy, dataset, **header):
    """Copy a data set that says it is an official one."""
    path = shutil.copytree(root, copy) / "manifest.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "config": {"dataset": dataset}, "published": ["train"], **header}))
    return copy


def test_ours_stand_beside_the_papers_only_on_the_same_data_set_and_never_for_them(runs, market, tmp_path):
    real = official(market, tmp_path / "real", "market1501")
    drawn = official(market, tmp_path / "drawn", "dukemtmc-reid", is_synthetic=True)
    words = ("--out", tmp_path / "out", "--as", "vtbr-supervised/vtbr-rs")

    ours = results_of(runs["reid"], real, drawn, *words)[0]
    assert invoke(runs["reid"], real, *words, "--rerank").exit_code == 0

    page = (tmp_path / "out/results.md").read_text().partition("## Beside the papers")[2]
    rows = [line for line in page.splitlines() if line.startswith("| VTBR+RS")]
    found = [100 * ours["rank_1"], 100 * ours["mAP"]]
    farthest = max((found[0] - 94.9, found[1] - 85.3), key=abs)
    numbers = f"| 94.9 | 85.3 | {found[0]:.1f} | {found[1]:.1f} | run, {farthest:+.1f} at most |"
    assert rows[0] == f"| VTBR+RS (FineGPR-C) | market1501 | after_neck, cosine {numbers}"
    assert rows[1] == "| VTBR+RS (FineGPR-C) | dukemtmc-reid |  | 87.3 | 76.8 |  |  | not run |"
    assert (
        page.count("| not run |")
        == sum(len(row.published) for table in read_paper().values() for row in table.rows.values()) - 1
    )


def test_a_run_of_the_command_line_tells_where_it_is_from(market, tmp_path):
    app = typer.Typer()
    finetune.register(app)
    app.command("other")(lambda: None)
    settings = (
        "method.image_height=64",
        "method.image_width=32",
        "loop.epochs=3",
        "loop.batch_size=8",
        "loop.validate_every=1",
    )
    words = ["reid", market, "--out", tmp_path / "run", "--config", "reid-tiny", "--workers", 0, "--device", "cpu"]
    done = CliRunner().invoke(app, [str(word) for word in [*words, *(f"--set={each}" for each in settings)]])
    assert done.exit_code == 0, done.output

    (result,) = results_of(tmp_path / "run", market)

    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    steps_an_epoch = next(line["step"] for line in lines if line["kind"] == "validation")
    assert result["trained_on"] == str(market)
    assert result["epoch"] == pytest.approx(lines[-1]["best_step"] / steps_an_epoch)
    assert result["method"] == "reid"


@pytest.mark.parametrize(
    ("run", "root", "words", "message"),
    [
        ("reid", "pedes", (), "no split gallery and query; it has train, val, test"),
        ("t2i", "market", (), "no split test; it has train, val, query, gallery"),
        ("t2i", "market", ("--split", "val"), "has no captions; pack a data set that has some"),
        ("reid", "market", ("--split", "dev"), "no split dev; it has train, val, query, gallery"),
        ("reid", "market", ("--feature", "neck"), "no feature 'neck' here; --feature takes before_neck, after_neck"),
        ("reid", "market", ("--distance", "manhattan"), "--distance is 'manhattan'; allowed are cosine, euclidean"),
        (
            "reid",
            "market",
            ("--average-precision", "area"),
            "--average-precision is 'area'; allowed are step, trapezoid",
        ),
        ("reid", "market", ("--same-camera", "some"), "--same-camera is 'some'; allowed are drop, keep"),
        (
            "reid",
            "market",
            ("--split", "val", "--rerank"),
            "--rerank takes images of a query split and others of a gallery",
        ),
        ("reid", "market", ("--captions", "neutral"), "does not see images with captions; leave --captions away"),
        (
            "t2i",
            "pedes",
            ("--captions", "neutral"),
            "--captions neutral goes with images that ask; here their captions do",
        ),
        ("mmet", "market", ("--captions", "stored"), "has no captions"),
        (
            "reid",
            "market",
            ("--as", "vtbr"),
            "--as vtbr names no row of a paper; it is TABLE/ROW, and tables are vtbr-sup",
        ),
        ("reid", "market", ("--as", "pi-vl/best"), "pi-vl has clip-reid-cnn, pi-vl-cnn"),
        ("nowhere", "market", (), "has no encoder.toml; give the folder of a run that reached its end"),
    ],
)
def test_misuse_is_told_in_one_line(run, root, words, message, runs, market, pedes):
    done = invoke(runs.get(run, run), {"market": market, "pedes": pedes}[root], *words)

    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_data_that_cannot_be_searched_are_refused(runs, tmp_path):
    def sample(split, person, camera, image, **changes):
        made = tiny_reid._sample(split, person, camera, image)
        made.fields.update(changes)
        return made

    def refusal(name, queries, gallery):
        splits = {"query": queries, "gallery": gallery}
        root = tiny_reid.write_splits(tmp_path / name, splits, columns=tiny_reid.COLUMNS)
        return str(invoke(runs["reid"], root).exception)

    ask = sample("query", 8, 1, 0)
    assert "needs same_camera='keep'" in refusal("one", [ask], [sample("gallery", 8, 1, 1)])
    assert "does not say who is in its images" in refusal("nobody", [ask], [sample("gallery", 8, 2, 1, person_id="")])
    copy = sample("gallery", 8, 2, 1, sha256=ask.fields["sha256"])
    assert "are query and gallery both, such as 0009_c1_00 and 0009_c2_01" in refusal("copy", [ask], [copy])


def test_results_of_others_are_not_taken_for_ours(runs, market, tmp_path):
    (tmp_path / "notes.json").write_text("{}")

    assert "notes.json is no result of this version" in str(invoke(runs["reid"], market, "--out", tmp_path).exception)


def test_weights_of_another_kind_are_refused(runs, tmp_path):
    run = shutil.copytree(runs["reid"], tmp_path / "run")
    table = (run / "encoder.toml").read_text()
    (run / "encoder.toml").write_text(table.replace('"reid"', '"clip"'))
    with pytest.raises(ValueError, match="of the kind 'clip'; known are reid, text-to-image, mmet, pi-vl"):
        load_trained(run, CPU)

    (run / "encoder.toml").write_text(table.replace("resnet10t", "resnet18"))
    with pytest.raises(ValueError, match="holds the weights of another architecture"):
        load_trained(run, CPU)


def test_re_ranking_changes_the_scores_and_is_told(runs, market):
    trained = load_trained(runs["reid"], CPU)
    plain = score(trained, str(market), Protocol(), Reading())
    ranked = score(trained, str(market), Protocol(is_reranked=True), Reading())

    assert ranked.is_reranked
    assert ranked.mAP != plain.mAP
