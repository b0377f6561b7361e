"""FineGPR-C from the command line: what it writes, what it leaves out, and what a kill leaves behind."""

import csv
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import programs
import pyarrow.parquet as pq
import pytest
from conftest import IMAGES_A_PERSON, digests
from PIL import Image

from captioning.attributes import SLOTS
from captioning.sentence import parse_caption
from passerby.shards.read import ShardDataset

PROGRAM = Path(sys.executable).parent / "gen-captions"


def command(people: Path, out: Path, *extra: object) -> list[str]:
    options = {"--attributes": people / "attributes.csv", "--out": out, "--lambda": "0.8", "--shard-size": 10}
    words = [PROGRAM, "finegpr-c", people / "images", *(word for pair in options.items() for word in pair), *extra]
    return [str(word) for word in words]


def run(people: Path, out: Path, *extra: object) -> subprocess.CompletedProcess[str]:
    return programs.run("gen-captions", *command(people, out, *extra)[1:])


def report(people: Path, out: Path, *extra: object) -> dict[str, object]:
    done = run(people, out, "--json", *extra)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def undisturbed(people, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    assert run(people, root).returncode == 0
    return root


def test_every_image_becomes_a_sample_with_its_own_bytes(people, undisturbed):
    dataset = ShardDataset(undisturbed)
    assert len(dataset) == 12 * IMAGES_A_PERSON
    for sample in dataset:
        assert sample["jpg"] == (people / "images" / sample["json"]["path"]).read_bytes()
        assert sample["txt"] == sample["json"]["caption"]


def test_captions_say_what_the_table_and_the_name_say(people, undisturbed):
    with (people / "attributes.csv").open() as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    manifest = json.loads((undisturbed / "manifest.json").read_text())
    rare = {(row["slot"], row["value"]) for row in manifest["probabilities"] if row["count"] <= 0.8 * row["total"]}
    for sample in ShardDataset(undisturbed):
        fields = sample["json"]
        known = {slot: fields[slot] for slot in SLOTS}
        assert all(known[slot] == word for slot, word in table[fields["person_id"]].items() if slot != "id")
        assert parse_caption(sample["txt"]) == {slot: word for slot, word in known.items() if (slot, word) in rare}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_any_number_of_workers_writes_the_same_bytes(people, undisturbed, tmp_path, workers):
    assert run(people, tmp_path / "root", "--workers", workers).returncode == 0
    assert digests(tmp_path / "root") == digests(undisturbed)


def test_another_place_gives_the_same_bytes(people, undisturbed, tmp_path):
    moved = shutil.copytree(people, tmp_path / "elsewhere")
    assert run(moved, tmp_path / "root").returncode == 0
    assert digests(tmp_path / "root") == digests(undisturbed)


def test_another_seed_gives_other_captions(people, undisturbed, tmp_path):
    assert run(people, tmp_path / "root", "--seed", 1).returncode == 0
    texts = [[sample["txt"] for sample in ShardDataset(root)] for root in (undisturbed, tmp_path / "root")]
    assert texts[0] != texts[1]


@pytest.mark.parametrize("seed", range(2))
def test_kill_9_at_any_moment_and_run_again(people, undisturbed, tmp_path, seed):
    root = tmp_path / "root"
    process = subprocess.Popen(
        command(people, root, "--workers", 2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    moment = random.Random(seed).randrange(1, 9)
    while process.poll() is None and len(list(root.glob("meta/*.parquet"))) < moment:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert run(people, root, "--workers", 2).returncode == 0
    assert digests(root) == digests(undisturbed)


def test_two_runs_into_one_folder_at_once(people, undisturbed, tmp_path):
    root = tmp_path / "root"
    pair = [subprocess.Popen(command(people, root), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    assert digests(root) == digests(undisturbed)


def test_a_finished_shard_is_not_made_again(people, undisturbed, tmp_path):
    root = shutil.copytree(undisturbed, tmp_path / "root")
    before = {path: path.stat().st_mtime_ns for path in root.glob("data/*.tar")}
    (root / "meta" / "train-00003-of-00008.parquet").unlink()
    assert run(people, root).returncode == 0
    made_again = [path.name for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns]
    assert made_again == ["train-00003-of-00008.tar"]


def test_another_configuration_is_refused_and_named(people, undisturbed):
    done = run(people, undisturbed, "--seed", 7)
    assert done.returncode == 2
    assert "seed: 0 there, 7 here" in done.stderr


def test_a_folder_of_somebody_elses_files_is_left_alone(people, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    done = run(people, tmp_path)
    assert done.returncode == 2
    assert "thesis.txt" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.fixture
def damaged(people, tmp_path):
    """The people again, with everything wrong that an image can be."""
    folder = shutil.copytree(people, tmp_path / "damaged")
    images = folder / "images" / "0001"
    good = next(iter(sorted(images.iterdir()))).read_bytes()
    stem = "0001_c{:02d}_w01_l01_p09.jpg"
    (images / stem.format(31)).write_bytes(b"")
    (images / stem.format(32)).write_bytes(good[: len(good) // 2])
    (images / stem.format(33)).write_text("I am a text file.")
    (images / stem.format(34)).write_bytes(header_of(30_000, 30_000))
    (images / stem.format(35)).symlink_to(images / "nowhere.jpg")
    (images / "holiday.jpg").write_bytes(good)
    (images / "0001_c36_w01_l01_p09 (cópia 1.2).jpg").write_bytes(good)
    (folder / "images" / "0099_c01_w01_l01_p01.jpg").write_bytes(good)
    (folder / "images" / "0002_c01_w09_l01_p01.jpg").write_bytes(good)
    return folder


def header_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def test_bad_images_are_set_aside_with_their_reason(damaged, tmp_path):
    result = report(damaged, tmp_path / "root", "--max-bad", 1)
    assert result["kept"] + result["quarantined"] == result["seen"] == 12 * IMAGES_A_PERSON + 9
    rows = pq.read_table(tmp_path / "root" / "quarantine.parquet").to_pylist()
    assert {Path(row["path"]).name: row["reason"] for row in rows} == {
        "0001_c31_w01_l01_p09.jpg": "empty",
        "0001_c32_w01_l01_p09.jpg": "truncated",
        "0001_c33_w01_l01_p09.jpg": "not an image",
        "0001_c34_w01_l01_p09.jpg": "too many pixels",
        "0001_c35_w01_l01_p09.jpg": "missing",
        "holiday.jpg": "name does not parse",
        "0099_c01_w01_l01_p01.jpg": "no attributes",
    }


def test_a_merely_odd_name_is_packed_under_a_safe_key(damaged, tmp_path):
    report(damaged, tmp_path / "root", "--max-bad", 1)
    odd = [sample for sample in ShardDataset(tmp_path / "root") if "cópia" in sample["json"]["path"]]
    assert [sample["json"]["person_id"] for sample in odd] == ["0001"]
    assert odd[0]["__key__"].isascii()


def test_a_code_out_of_range_stays_unknown_and_is_reported(damaged, tmp_path):
    done = run(damaged, tmp_path / "root", "--max-bad", 1)
    assert "0002_c01_w09_l01_p01.jpg: weather code 9 is outside 1…7; it stays unknown" in done.stderr
    sample = ShardDataset(tmp_path / "root")["0002_c01_w09_l01_p01"]
    assert sample["json"]["weather"] == ""
    assert "weather" not in parse_caption(sample["txt"])


def test_too_many_bad_images_stop_the_run_and_more_may_be_allowed(damaged, tmp_path):
    done = run(damaged, tmp_path / "root")
    assert done.returncode == 2
    assert "more than 1.00%" in done.stderr
    assert report(damaged, tmp_path / "root", "--max-bad", 0.1)["kept"] == 74


def test_a_person_without_images_is_reported_with_file_and_line(people, tmp_path):
    folder = shutil.copytree(people, tmp_path / "people")
    shutil.rmtree(folder / "images" / "0007")
    assert "attributes.csv:8: person 0007 has no image" in run(folder, tmp_path / "root").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lambda", "1.2"], "lambda is 1.2; allowed is 0 to 1"),
        (["--lambda", "most"], "lambda is 'most'"),
        (["--image-fraction", "0"], "image fraction is 0; allowed is above 0"),
        (["--attributes", "nowhere.csv"], "nowhere.csv"),
        (["--templates", "nowhere"], "template folder nowhere does not exist"),
        (["--probabilities", "nowhere.json"], "nowhere.json"),
        (["--text-only"], "give it a name that ends in .parquet"),
    ],
)
def test_a_mistake_is_one_clear_line(people, tmp_path, options, message):
    done = run(people, tmp_path / "root", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_template_faults_show_file_and_line_before_the_run(people, tmp_path):
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "mine.j2").write_text("{{ colour_of_eyes }}\n{% if %}\n")
    done = run(people, tmp_path / "root", "--templates", folder)
    assert done.returncode == 2
    assert "mine.j2:1" in done.stderr
    assert "mine.j2:2" in done.stderr
    assert not (tmp_path / "root").exists()


def test_lambda_zero_names_nothing_and_is_counted(people, tmp_path):
    result = report(people, tmp_path / "excluded", "--lambda", "0")
    assert result["reasons"] == {"nothing to mention": 12 * IMAGES_A_PERSON}
    assert report(people, tmp_path / "kept", "--lambda", "0", "--when-empty", "keep")["kept"] == 12 * IMAGES_A_PERSON
    assert {sample["txt"] for sample in ShardDataset(tmp_path / "kept")} == {"There is a person."}


def test_half_the_images_are_left_out_and_counted_apart(people, tmp_path):
    result = report(people, tmp_path / "root", "--image-fraction", "0.5")
    assert result["seen"] + result["left_out_by_image_fraction"] == 12 * IMAGES_A_PERSON
    assert 0.3 < result["seen"] / (12 * IMAGES_A_PERSON) < 0.7


def test_one_pattern_a_person(people, tmp_path):
    report(people, tmp_path / "root", "--template-per", "identity")
    samples = list(ShardDataset(tmp_path / "root"))
    drawn = {(sample["json"]["person_id"], sample["json"]["template"]) for sample in samples}
    assert len(drawn) == 12


def test_probabilities_of_another_data_set_apply(people, undisturbed, tmp_path):
    few = tmp_path / "few"
    shutil.copytree(people / "images" / "0001", few / "images" / "0001")
    shutil.copy(people / "attributes.csv", few)
    report(few, tmp_path / "root", "--probabilities", undisturbed / "manifest.json", "--split", "val")
    whole = ShardDataset(undisturbed)
    assert all(sample["txt"] == whole[sample["__key__"]]["txt"] for sample in ShardDataset(tmp_path / "root"))


def test_text_alone_equals_the_text_of_the_shards(people, undisturbed, tmp_path):
    out = tmp_path / "captions.parquet"
    result = report(people, out, "--text-only", "--workers", 2)
    captions = dict(zip(*(pq.read_table(out)[name].to_pylist() for name in ("key", "caption")), strict=True))
    assert captions == {sample["__key__"]: sample["txt"] for sample in ShardDataset(undisturbed)}
    assert result["kept"] == len(captions)


def test_text_alone_needs_no_images(people, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("\n".join(path.name for path in (people / "images").rglob("*.jpg")))
    arguments = [
        "--attributes",
        people / "attributes.csv",
        "--out",
        tmp_path / "c.parquet",
        "--lambda",
        "0.8",
        "--text-only",
    ]
    programs.succeed("gen-captions", "finegpr-c", names, *arguments)
    assert pq.read_table(tmp_path / "c.parquet").num_rows == 12 * IMAGES_A_PERSON


def test_parsing_maps_are_packed_beside_their_images(people, tmp_path):
    maps = tmp_path / "parsing"
    for path in (people / "images").rglob("*.jpg"):
        target = (maps / path.relative_to(people / "images")).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 32), 5).save(target)
    next(iter(maps.rglob("*.png"))).unlink()
    result = report(people, tmp_path / "root", "--parsing", maps, "--max-bad", 1)
    assert result["reasons"] == {"missing": 1}
    with tarfile.open(tmp_path / "root" / "data" / "train-00000-of-00008.tar") as tar:
        assert [name.partition(".")[2] for name in tar.getnames()[:4]] == ["jpg", "json", "txt", "parsing.png"]


def test_the_root_holds_what_is_promised_and_no_temporary_file(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "croissant.json",
        "data",
        "manifest.json",
        "meta",
        "quarantine.parquet",
    }
    assert not list(undisturbed.rglob(".*"))


def test_the_card_declares_every_column(undisturbed):
    yaml = pytest.importorskip("yaml")
    header = yaml.safe_load((undisturbed / "README.md").read_text().split("---")[1])
    declared = {field["name"] for field in header["dataset_info"]["features"][3]["struct"]}
    assert declared == set(next(iter(ShardDataset(undisturbed)))["json"])
    assert header["dataset_info"]["splits"][0]["num_examples"] == 12 * IMAGES_A_PERSON
