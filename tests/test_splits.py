"""Data sets with several splits, and samples without captions: every command takes them as it takes others."""

import json
import tarfile
from dataclasses import replace

import pyarrow as pa
import pytest
from person_shards import COLUMNS, fields_of, make_sample, members_by_key
from typer.testing import CliRunner

from passerby.card import write_card
from passerby.cli import app
from passerby.curate.exclude import Request, exclude
from passerby.curate.rules import Rules
from passerby.curate.select import select
from passerby.publish.publish import publish
from passerby.sample import Rejected
from passerby.shards.begin import count_shards_by_split
from passerby.shards.manifest import finalise, read_manifest
from passerby.shards.read import ShardDataset
from passerby.shards.splits import read_splits
from passerby.shards.verify import verify
from passerby.shards.write import shard_names, write_shard

SPLITS = {"train": 2, "query": 1, "gallery": 1}
BARE = pa.schema([field for field in COLUMNS if field.name != "caption"])


def without_caption(sample):
    fields = {name: value for name, value in sample.fields.items() if name != "caption"}
    return replace(sample, fields=fields, caption="")


def write_splits(root, splits=None, *, captioned=True):
    """Write twelve samples a shard, and a rejected input; only the first split has parsing maps."""
    splits = splits or SPLITS
    for index, name in enumerate(shard_names(splits)):
        samples = [make_sample(number) for number in range(index * 12, index * 12 + 12)]
        samples = samples if captioned else [without_caption(sample) for sample in samples]
        if not name.startswith(next(iter(splits))):
            samples = [replace(sample, extras={}) for sample in samples]
        entries = [Rejected(f"bad{index}.jpg", "truncated", "ends early", f"bad{index}"), *samples]
        write_shard(root, name, entries, columns=COLUMNS if captioned else BARE, config_hash="made")
    header = {
        "title": "Some people",
        "card": "pack",
        "source": "some street",
        "is_synthetic": False,
        "config": {"recipe": "pack", "version": "0", "seed": 0, "dataset": "some", "parsing": ["train"]},
        "columns": {field.name: str(field.type) for field in (COLUMNS if captioned else BARE)},
        "dropped": {},
        "published": ["train", "query", "gallery"],
        **({} if captioned else {"has_captions": False}),
    }
    write_card(root, finalise(root, splits, header))
    return root


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("splits") / "root")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return write_splits(tmp_path_factory.mktemp("bare") / "root", captioned=False)


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, str(result.exception or result.output)


def test_the_manifest_groups_its_shards_by_split(sound):
    manifest = read_manifest(sound)
    assert manifest.splits == {"train": range(2), "query": range(2, 3), "gallery": range(3, 4)}
    assert manifest.shard_counts == SPLITS
    assert json.loads((sound / "manifest.json").read_bytes())["splits"] == ["train", "query", "gallery"]
    assert [record.name for record in manifest.shards] == [
        "train-00000-of-00002",
        "train-00001-of-00002",
        "query-00000-of-00001",
        "gallery-00000-of-00001",
    ]


@pytest.mark.parametrize("order", [["query", "train", "gallery"], ["train", "query"], ["train", "query", "test"]])
def test_splits_that_are_not_those_of_the_shards_are_refused(tmp_path, order):
    root = write_splits(tmp_path)
    path = root / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "splits": order}))
    with pytest.raises(ValueError, match=r"manifest\.json is malformed"):
        read_manifest(root)


def test_a_split_has_the_samples_of_its_tars(sound):
    dataset = ShardDataset(sound)
    for split in SPLITS:
        expected = []
        for path in sorted((sound / "data").glob(f"{split}-*.tar")):
            with tarfile.open(path) as tar:
                expected += [name.partition(".")[0] for name in tar.getnames() if name.endswith(".json")]
        assert [dataset[index]["__key__"] for index in dataset.split(split)] == expected


def test_an_unknown_split_is_answered_with_those_there_are(sound):
    with pytest.raises(ValueError, match=r"no split 'val'; it has train, query, gallery"):
        ShardDataset(sound).split("val")


def test_a_key_in_two_splits_is_refused(tmp_path):
    for name in shard_names({"train": 1, "val": 1}):
        write_shard(tmp_path, name, [make_sample(1)], columns=COLUMNS, config_hash="")
    with pytest.raises(ValueError, match=r"0007_c2 is there 2 times, in train-.*, val-"):
        finalise(tmp_path, {"train": 1, "val": 1}, {})


def test_verifying_names_the_split_that_is_damaged(tmp_path):
    root = write_splits(tmp_path)
    assert verify(root).problems == ()
    (root / "data" / "query-00000-of-00001.tar").unlink()
    assert {problem.shard for problem in verify(root).problems} == {"query-00000-of-00001"}


def test_each_split_is_described(sound, bare):
    told = {name: split.counts for name, split in read_splits(sound, read_manifest(sound)).items()}
    # numbers 0 to 23 are of persons 0 to 3, one in twelve of nobody; see `person_shards.make_sample`
    assert told["train"] == {"samples": 24, "shards": 2, "people": 4, "cameras": 6, "captions": 24}
    assert told["query"] == {"samples": 12, "shards": 1, "people": 2, "cameras": 6, "captions": 12}
    assert "captions" not in read_splits(bare, read_manifest(bare))["gallery"].counts


def test_selecting_keeps_every_sample_in_its_split(sound, tmp_path):
    pytest.importorskip("duckdb")
    manifest = select(sound, tmp_path / "out", Rules(where="camera_id < 4"), shards=2)
    assert verify(tmp_path / "out").problems == ()
    assert manifest.shard_counts == {"train": 2, "query": 1, "gallery": 1}
    before, after = ShardDataset(sound), ShardDataset(tmp_path / "out")
    for split in SPLITS:
        expected = [before[index] for index in before.split(split) if before[index]["json"]["camera_id"] < 4]
        assert [after[index] for index in after.split(split)] == expected


def test_a_split_of_which_nothing_is_left_is_gone(sound, tmp_path):
    pytest.importorskip("duckdb")
    left = {sample["__key__"] for sample in map(ShardDataset(sound).__getitem__, ShardDataset(sound).split("query"))}
    condition = f"key IN ({', '.join(repr(key) for key in sorted(left))})"
    manifest = select(sound, tmp_path / "out", Rules(where=condition))
    assert manifest.shard_counts == {"query": 1}
    assert manifest.header["selected_from"][0]["dropped"] == {"where": 36}
    assert {fields["key"] for fields in fields_of(tmp_path / "out")} == left


def test_excluding_leaves_the_other_splits_as_they_are(tmp_path):
    root = write_splits(tmp_path)
    tars = {path.name: path.read_bytes() for path in (root / "data").glob("*.tar")}
    key = ShardDataset(root)[ShardDataset(root).split("query")[3]]["__key__"]
    assert exclude(root, Request(keys=[key], date="2024-01-01")).removed == 1
    assert verify(root).problems == ()
    changed = [name for name, data in tars.items() if (root / "data" / name).read_bytes() != data]
    assert changed == ["query-00000-of-00001.tar"]


def test_the_hub_and_the_card_know_every_split(sound):
    text = (sound / "README.md").read_text()
    assert "  - split: query\n    path: data/query-*.tar" in text
    assert "| Split `train` | 24 samples, 2 shards, 4 people, 6 cameras, 24 captions |" in text
    assert "| Split `gallery` | 12 samples, 1 shard, 2 people, 6 cameras, 12 captions |" in text


def test_croissant_names_the_splits(sound):
    told = json.loads((sound / "croissant.json").read_bytes())
    (splits,) = [records for records in told["recordSet"] if records["@id"] == "splits"]
    assert splits["data"] == [
        {"splits/name": "train", "splits/url": "cr:TrainingSplit"},
        {"splits/name": "query", "splits/url": "cr:TestSplit"},
        {"splits/name": "gallery", "splits/url": "cr:TestSplit"},
    ]


def test_without_a_caption_there_is_no_text(bare):
    names = {name.partition(".")[2] for members in members_by_key(bare).values() for name, _ in members}
    assert names == {"jpg", "json", "parsing.png"}
    sample = ShardDataset(bare)[0]
    assert sample.keys() == {"__key__", "jpg", "json", "parsing.png"}
    assert "caption" not in sample["json"]
    assert verify(bare).problems == ()


def test_the_card_of_a_set_without_captions_speaks_of_none(bare):
    text = (bare / "README.md").read_text()
    assert "KEY.txt" not in text
    assert "name: txt" not in text
    assert "image-to-text" not in text


def test_publishing_images_without_captions_leaves_json_alone(bare, tmp_path):
    publish(bare, str(tmp_path / "copy"))
    assert verify(tmp_path / "copy").problems == ()
    assert ShardDataset(tmp_path / "copy")[0].keys() == {"__key__", "json"}
    assert "**Without images.**" in (tmp_path / "copy" / "README.md").read_text()


@pytest.mark.parametrize(
    ("fields", "caption", "message"),
    [
        ({"caption": "A man."}, "", "must be one line"),
        ({}, "A man.", "must be those of the sample"),
    ],
)
def test_a_caption_is_a_field_and_a_text_or_neither(tmp_path, fields, caption, message):
    sample = without_caption(make_sample(1))
    ordered = {name: {**sample.fields, **fields}.get(name) for name in (COLUMNS if fields else BARE).names}
    broken = replace(sample, fields=ordered, caption=caption)
    with pytest.raises(ValueError, match=message):
        write_shard(tmp_path, "train-00000-of-00001", [broken], columns=COLUMNS if fields else BARE, config_hash="")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report"], "has no captions, which is what a report measures"),
        (["rerender", "--out", "new"], "recipe 'pack', which renders no captions"),
        (["explain", "0000_c1"], "recipe 'pack', which renders no captions"),
    ],
)
def test_what_needs_captions_says_so(bare, words, message):
    code, said = run(words[0], bare, *words[1:])
    assert code != 0
    assert message in said


@pytest.mark.parametrize(
    ("images", "shards", "expected"),
    [
        ({"train": 12_936, "query": 3_368}, 0, {"train": 50, "query": 13}),
        ({"train": 100, "val": 3}, 0, {"train": 1, "val": 1}),
        ({"train": 100, "val": 26}, 8, {"train": 8, "val": 2}),
    ],
)
def test_small_splits_get_few_shards(images, shards, expected):
    assert count_shards_by_split(images, 5_000, shards) == expected


def test_more_shards_than_images_are_refused():
    with pytest.raises(ValueError, match="shards is 9, and the largest split has 8 images"):
        count_shards_by_split({"train": 8, "val": 2}, 5_000, 9)


def open_for_training(root, share=0.01):
    pytest.importorskip("torch")
    from tiny_method import Config

    from passerby.training.augment import Augmentation
    from passerby.training.data import open_data
    from passerby.training.reading import DataConfig

    return open_data(root, DataConfig(validation_share=share), Augmentation(), Config(), seed=1)


def test_pretraining_learns_from_train_and_is_watched_by_val(tmp_path):
    root = write_splits(tmp_path, {"train": 1, "val": 1, "test": 1})
    data = open_for_training(root)
    assert data.train.indices.tolist() == [*ShardDataset(root).split("train")]
    assert data.held_out.indices.tolist() == [*ShardDataset(root).split("val")]
    assert open_for_training(root, share=0).held_out is None


def test_pretraining_without_a_val_holds_out_people_of_train(sound):
    data = open_for_training(sound, share=0.6)
    parts = [set(part.indices.tolist()) for part in (data.train, data.held_out)]
    assert parts[0] | parts[1] == set(ShardDataset(sound).split("train"))
    assert parts[0].isdisjoint(parts[1])


@pytest.mark.parametrize(
    ("splits", "captioned", "message"),
    [
        ({"train": 1}, False, "has no captions to learn from; make some with gen-captions"),
        ({"query": 1, "gallery": 1}, True, "has the splits query, gallery; learning needs one called train"),
    ],
)
def test_pretraining_needs_captions_and_a_train_split(tmp_path, splits, captioned, message):
    root = write_splits(tmp_path, splits, captioned=captioned)
    with pytest.raises(ValueError, match=message):
        open_for_training(root)
