"""LUPerson-T from the command line, with a scorer that guesses: everything around the model is real."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import IMAGES_A_PERSON, digests
from programs import run

from captioning import luperson_report
from captioning.conquer import Matches
from captioning.divide import load_phrases
from captioning.luperson_report import PUBLISHED, measure, rank_correlation
from captioning.words import Options, Words
from passerby.shards.read import ShardDataset
from templates import TEMPLATES

BIN = Path(sys.executable).parent
COUNT = 12 * IMAGES_A_PERSON


def words(images: Path, out: Path, *extra: object) -> list[object]:
    return ["luperson-t", images, "--out", out, "--clip-model", "none", "--shard-size", 20, *extra]


def make(images: Path, out: Path, *extra: object) -> dict[str, object]:
    done = run("gen-captions", *words(images, out, "--json", *extra))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    root = tmp_path_factory.mktemp("luperson") / "root"
    make(people / "images", root, "--embeddings")
    return root


def only_shards(root: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(root).items() if name.startswith("data/")}


def test_every_crop_becomes_a_captioned_sample(people, undisturbed):
    dataset = ShardDataset(undisturbed)
    assert len(dataset) == COUNT
    for sample in dataset:
        fields = sample["json"]
        assert sample["jpg"] == (people / "images" / fields["path"]).read_bytes()
        assert sample["txt"] == fields["caption"]
        assert fields["upper_clothes"].startswith("upper_clothes.")
        assert 0 <= fields["bag_confidence"] <= 1
    assert run("passerby", "verify", undisturbed).returncode == 0


@pytest.mark.parametrize("extra", [["--workers", 4], ["--batch-size", 7, "--threads", 3]])
def test_workers_batches_and_threads_change_no_byte(people, undisturbed, tmp_path, extra):
    make(people / "images", tmp_path / "root", "--embeddings", *extra)
    assert digests(tmp_path / "root") == digests(undisturbed)


def test_what_a_dead_writer_left_is_removed_everywhere(people, undisturbed, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(undisturbed, root)
    for folder in ("data", "meta", "embeddings"):
        (root / folder / ".half-written.12345678.passerby-part").write_bytes(b"half")
    make(people / "images", root, "--embeddings")
    assert digests(root) == digests(undisturbed)


def test_kill_9_and_run_again(people, undisturbed, tmp_path):
    root = tmp_path / "root"
    command = [
        str(word) for word in (BIN / "gen-captions", *words(people / "images", root, "--embeddings", "--workers", 2))
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(root.glob("meta/*.parquet"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    make(people / "images", root, "--embeddings", "--workers", 2)
    assert digests(root) == digests(undisturbed)


def test_corrupt_images_and_odd_names(people, tmp_path):
    images = shutil.copytree(people / "images", tmp_path / "images")
    good = next(iter(sorted(images.rglob("*.jpg")))).read_bytes()
    (images / "empty.jpg").touch()
    (images / "half.jpg").write_bytes(good[: len(good) // 2])
    (images / "text.jpg").write_text("no image")
    (images / "gone.jpg").symlink_to("nowhere")
    (images / "año nuevo 1.2.jpg").write_bytes(good)
    result = make(images, tmp_path / "root", "--max-bad", 1)
    assert result["reasons"] == {"empty": 1, "missing": 1, "not an image": 1, "truncated": 1}
    assert (result["kept"], result["seen"]) == (COUNT + 1, COUNT + 5)
    assert run("passerby", "verify", tmp_path / "root").returncode == 0
    for table in sorted((tmp_path / "root" / "meta").iterdir()):  # in the order of the inputs, good and bad ones mixed
        keys = pq.read_table(table)["key"].to_pylist()
        assert keys == sorted(keys)
    make(images, tmp_path / "small", "--max-bad", 1, "--batch-size", 3)
    assert digests(tmp_path / "small") == digests(tmp_path / "root")


def test_matching_again_from_embeddings_gives_the_same_shards(undisturbed, tmp_path):
    done = run(
        "gen-captions",
        "luperson-t",
        "--from-embeddings",
        undisturbed,
        "--out",
        tmp_path / "again",
        "--clip-model",
        "none",
    )
    assert done.returncode == 0, done.stderr
    assert only_shards(tmp_path / "again") == only_shards(undisturbed)


def test_matching_again_obeys_another_threshold(undisturbed, tmp_path):
    again = [
        "luperson-t",
        "--from-embeddings",
        undisturbed,
        "--clip-model",
        "none",
        "--threshold",
        1,
        "--out",
        tmp_path / "strict",
    ]
    assert run("gen-captions", *again).returncode == 0
    assert all(not sample["json"]["bag"] for sample in ShardDataset(tmp_path / "strict"))
    assert any(sample["json"]["bag"] for sample in ShardDataset(undisturbed))


def test_embeddings_that_were_not_kept_are_asked_for(people, tmp_path):
    make(people / "images", tmp_path / "plain")
    done = run("gen-captions", "luperson-t", "--from-embeddings", tmp_path / "plain", "--out", tmp_path / "new")
    assert done.returncode == 2
    assert "make it with --embeddings" in done.stderr


def test_picks_are_what_a_loop_over_attributes_writes_down():
    bank = load_phrases()
    generator = np.random.default_rng(0)
    shape = (200, len(bank.attributes))
    index, runner_up = (
        generator.integers(-1, end, shape).astype(np.int16) for end in (945, 946)
    )  # 945 is the neutral one
    confidence = generator.random(shape).astype(np.float32)
    confidence[0] = [0, 1, 0.5, 2**-7, 3 * 2**-7, 1e-6, 5e-7, 2.5e-6, 0.9, 0.1, 0.3, 1e-9, 1 - 2**-24, 0.123456789]
    margin = (generator.standard_normal(shape) / 10 ** generator.uniform(0, 8, shape)).astype(np.float32)
    found = list(Words(bank, Options()).picks(Matches(index, confidence, margin, runner_up)))
    for row, picks in enumerate(found):
        expected = {}
        for column, attribute in enumerate(bank.attributes):
            place = index[row, column]
            expected[attribute.name] = bank.phrases[place].id if place >= 0 else ""
            expected[f"{attribute.name}_confidence"] = round(float(confidence[row, column]), 6)
            expected[f"{attribute.name}_margin"] = round(float(margin[row, column]), 6)
        rivals = [bank.phrases[place].id if 0 <= place < 945 else "" for place in runner_up[row]]
        assert repr(picks) == repr({**expected, "runners_up": rivals})  # the same types and digits, in the same order
    assert len(found) == 200


def test_votes_unite_a_persons_images_but_for_the_view(people, tmp_path):
    make(people / "images", tmp_path / "root", "--vote", "person_id")
    told: dict[str, set[str]] = {}
    actions: dict[str, set[str]] = {}
    for sample in ShardDataset(tmp_path / "root"):
        told.setdefault(sample["json"]["person_id"], set()).add(sample["json"]["upper_clothes"])
        actions.setdefault(sample["json"]["person_id"], set()).add(sample["json"]["action"])
    assert {len(uppers) for uppers in told.values()} == {1}
    assert max(map(len, actions.values())) > 1


def test_rerendering_with_nothing_new_changes_no_shard(undisturbed, tmp_path):
    assert run("passerby", "rerender", undisturbed, "--out", tmp_path / "same").returncode == 0
    assert only_shards(tmp_path / "same") == only_shards(undisturbed)


def test_rerendering_neutral_keeps_images_and_picks(undisturbed, tmp_path):
    done = run("passerby", "rerender", undisturbed, "--out", tmp_path / "neutral", "--neutral", "--captions", 2)
    assert done.returncode == 0, done.stderr
    old, new = ShardDataset(undisturbed), ShardDataset(tmp_path / "neutral")
    for before, after in zip(old, new, strict=True):
        assert after["jpg"] == before["jpg"]
        assert after["json"]["gender"] == before["json"]["gender"]
        spoken = set(after["txt"].lower().replace(".", " ").replace(",", " ").split())
        assert not spoken & {"man", "woman", "boy", "girl", "he", "she", "his", "her"}
        assert after["json"]["caption_1"] != after["txt"]


@pytest.fixture(scope="module")
def finegpr(people, tmp_path_factory):
    root = tmp_path_factory.mktemp("finegpr") / "root"
    command = [
        "finegpr-c",
        people / "images",
        "--attributes",
        people / "attributes.csv",
        "--out",
        root,
        "--lambda",
        "0.8",
    ]
    assert run("gen-captions", *command).returncode == 0
    return root


def test_finegpr_c_rerenders_too(finegpr, people, tmp_path):
    assert run("passerby", "rerender", finegpr, "--out", tmp_path / "half", "--lambda", "0.4").returncode == 0
    command = ["finegpr-c", people / "images", "--attributes", people / "attributes.csv", "--lambda", "0.4"]
    assert run("gen-captions", *command, "--out", tmp_path / "direct").returncode == 0
    assert only_shards(tmp_path / "half") == only_shards(tmp_path / "direct")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["rerender", "LUPERSON", "--out", "OUT", "--lambda", "0.5"], "LUPerson-T has no --lambda"),
        (["rerender", "FINEGPR", "--out", "OUT", "--captions", "2"], "FineGPR-C has no captions"),
        (["explain", "LUPERSON", "nobody"], "has no sample 'nobody'"),
        (["gen-captions", "luperson-t", "--out", "OUT"], "give either IMAGES or --from-embeddings"),
        (
            ["gen-captions", "luperson-t", "IMAGES", "--out", "OUT", "--clip-model", "none", "--phrases", "no.yaml"],
            "no.yaml",
        ),
        (
            ["gen-captions", "luperson-t", "IMAGES", "--out", "OUT", "--clip-model", "none", "--logit-scale", "big"],
            "'big'",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(people, undisturbed, finegpr, tmp_path, command, message):
    places = {"LUPERSON": undisturbed, "FINEGPR": finegpr, "OUT": tmp_path / "out", "IMAGES": people / "images"}
    done = run("passerby", *(places.get(word, word) for word in command))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_weights_that_cannot_be_had_name_two_ways_out(people, tmp_path):
    done = run(
        "gen-captions", "luperson-t", people / "images", "--out", tmp_path / "root", "--clip-weights", "no-such-tag"
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_explain_shows_picks_rivals_and_words(undisturbed, finegpr, tmp_path):
    sample = ShardDataset(undisturbed)[3]
    done = run("passerby", "explain", undisturbed, sample["__key__"], "--picture", tmp_path / "why.png")
    assert sample["txt"] in done.stdout
    assert sample["json"]["templates"][0] in done.stdout
    assert sample["json"]["upper_clothes"].partition(".")[2] in done.stdout
    assert (tmp_path / "why.png").read_bytes().startswith(b"\x89PNG")
    sample = ShardDataset(finegpr)[3]
    assert sample["json"]["template"] in run("passerby", "explain", finegpr, sample["__key__"]).stdout


def test_words_are_checked_before_a_run_and_on_their_own(people, tmp_path):
    table = TEMPLATES / "luperson_t" / "synonyms.yaml"
    broken = tmp_path / "synonyms.yaml"
    broken.write_text(table.read_text().replace("umbrella: [brolly,", "umbrella: [an brolly,"))
    assert run("gen-captions", "check-words").returncode == 0
    assert "an" in run("gen-captions", "check-words", "--synonyms", broken).stdout
    done = run("gen-captions", *words(people / "images", tmp_path / "root", "--synonyms", broken))
    assert done.returncode == 2
    assert "wrong article" in done.stderr
    assert not (tmp_path / "root").exists()


def test_the_report_counts_what_the_samples_say(undisturbed, monkeypatch):
    report = json.loads((undisturbed / "published.json").read_text())
    monkeypatch.setattr(luperson_report, "_COUNTED_AT_ONCE", 7)  # of 20 in a shard
    assert report == measure(undisturbed)
    samples = list(ShardDataset(undisturbed))
    for row in report["attributes"]:
        selected = sum(bool(sample["json"][row["attribute"]]) for sample in samples)
        assert (row["selected"], row["share"]) == (selected, round(selected / COUNT, 6))
        assert row["is_far"] is not (
            PUBLISHED[row["attribute"]] / 5 <= selected / COUNT * 1_281_167 <= PUBLISHED[row["attribute"]] * 5
        )
    assert report["distinct_captions"] == len({sample["txt"] for sample in samples})


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([4, 3, 2, 1], [1, 2, 3, 4], -1.0),
        ([1, 1, 2, 3], [1, 2, 3, 4], 0.9487),
        ([0, 0], [1, 2], None),
    ],
)
def test_rank_correlation_against_hand_worked_cases(ours, theirs, expected):
    assert rank_correlation(ours, theirs) == expected
