"""Reading for training: what chance may change, who is held out, and what does not depend on workers."""

import multiprocessing
import subprocess
import sys
import tarfile
from dataclasses import replace
from io import BytesIO
from itertools import islice

import numpy as np
import pytest
import tiny_people
import torch
from PIL import Image
from tiny_method import Config
from torch import Tensor

from passerby.shards.read import ShardDataset
from passerby.training.augment import Augmentation
from passerby.training.batch import ToDevice
from passerby.training.data import is_held_out, number_people, open_data
from passerby.training.reading import DataConfig, Share
from passerby.training.stream import expand, open_stream

EVERYTHING = Augmentation(crop="resized", flip=0.5, erasing=0.5, brightness=0.3)
UNCHANGED = DataConfig(validation_share=0.0)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_people.write_people(tmp_path_factory.mktemp("shards"))


def share(**options) -> Share:
    defaults = {"batch_size": 8, "accumulation": 1, "rank": 0, "world": 1, "workers": 0, "pin_memory": False}
    return Share(**{**defaults, **options})


def flat(batches, name):
    return [each for batch in batches for each in batch[name]]


def equal(batches, others):
    return len(batches) == len(others) and all(
        torch.equal(one[name], other[name]) if isinstance(one[name], Tensor) else one[name] == other[name]
        for one, other in zip(batches, others, strict=True)
        for name in one
    )


def test_colours_survive(root):
    data = open_data(root, UNCHANGED, EVERYTHING, Config(), seed=1)

    for batch in islice(data.training(0, 100, share()), 20):
        for image, key in zip(batch["images"].float(), batch["keys"], strict=True):
            expected = torch.tensor(list(tiny_people.COLORS.values())[int(key[:4]) % 4], dtype=torch.float)
            bright = image.flatten(1).T[image.flatten(1).sum(0) > 0.5 * expected.sum()].median(0).values
            assert torch.cosine_similarity(bright, expected, dim=0) > 0.97


def test_without_chance_a_sample_is_what_the_shards_hold(root):
    data = open_data(
        root, replace(UNCHANGED, parsing=True), Augmentation(), Config(image_height=48, image_width=24), seed=1
    )
    samples = ShardDataset(root)

    (batch, *_) = data.training(0, 1, share())

    for place, key in enumerate(batch["keys"]):
        stored = samples[key]
        pixels = np.asarray(Image.open(BytesIO(stored["jpg"])))
        assert np.array_equal(batch["images"][place].permute(1, 2, 0).numpy(), pixels)
        assert np.array_equal(batch["parsing"][place].numpy(), np.asarray(Image.open(BytesIO(stored["parsing.png"]))))
        ids = batch["token_ids"][place][batch["token_mask"][place]].tolist()
        assert data.tokenizer.decode(ids) == stored["txt"].lower()
        assert batch["person_ids"][place] == int(stored["json"]["person_id"])


def test_padding_is_no_token(root):
    (batch, *_) = open_data(root, replace(UNCHANGED, captions="random"), Augmentation(), Config(), seed=1).training(
        0, 1, share()
    )

    assert torch.equal(batch["token_mask"], batch["token_ids"] != 0)
    assert batch["token_mask"].sum(1).max() == batch["token_ids"].shape[1]
    assert not batch["token_mask"].all()


def test_workers_and_ranks_do_not_matter(root):
    data = open_data(root, UNCHANGED, EVERYTHING, Config(), seed=1)
    alone = [*data.training(0, 7, share())]

    assert equal([*data.training(0, 7, share(workers=2))], alone)
    ranks = [[*data.training(0, 7, share(rank=rank, world=2))] for rank in range(2)]
    pairs = [*zip(*ranks, strict=True)]
    assert [[*first["keys"], *second["keys"]] for first, second in pairs] == [batch["keys"] for batch in alone]
    assert torch.equal(torch.cat([each["images"] for each in pairs[3]]), alone[3]["images"])


def test_a_resumed_reader_gives_what_was_left(root):
    data = open_data(root, UNCHANGED, EVERYTHING, Config(), seed=1)

    assert equal([*data.training(5, 9, share())], [*data.training(0, 9, share())][5:])


def test_every_epoch_and_seed_changes_a_sample_in_another_way(root):
    data, other = (open_data(root, UNCHANGED, EVERYTHING, Config(), seed=seed) for seed in (1, 2))

    first, again, third = data.train[0, 0]["image"], data.train[0, 1]["image"], other.train[0, 0]["image"]

    assert not torch.equal(first, again)
    assert not torch.equal(first, third)
    assert torch.equal(first, data.train[0, 0]["image"])


def test_people_are_held_out_whole_and_for_ever(root):
    small = open_data(root, DataConfig(validation_share=0.4), EVERYTHING, Config(), seed=1)
    people = [f"{person:04d}" for person in range(2000) for _ in range(3)]
    keys = [f"{place}" for place in range(6000)]

    held_out = is_held_out(keys, people, 0.4)

    train, validation = (
        {key[:4] for key in flat([*reader], "keys")}
        for reader in (small.training(0, small.steps_an_epoch(8), share()), small.validation(share()))
    )
    assert train | validation == {f"{person:04d}" for person in range(16)}
    assert not train & validation
    assert validation == {
        person for person, is_out in zip(people[:48], held_out, strict=False) if is_out
    }  # as in a larger set
    assert 0.37 < held_out.mean() < 0.43
    assert not any(held_out.reshape(2000, 3).any(1) ^ held_out.reshape(2000, 3).all(1))
    assert is_held_out(keys, [""] * 6000, 0.4).mean() == pytest.approx(0.4, abs=0.03)  # by key where nobody is known


def test_validation_is_left_alone_by_chance(root):
    data = open_data(root, DataConfig(validation_share=0.4, captions="random"), EVERYTHING, Config(), seed=1)

    batches = [*data.validation(share())]

    assert equal(batches, [*data.validation(share())])
    ids = [
        row[mask].tolist()
        for batch in batches
        for row, mask in zip(batch["token_ids"], batch["token_mask"], strict=True)
    ]
    assert all("left" in data.tokenizer.decode(each) for each in ids)
    assert sorted(flat(batches, "keys")) == sorted({*flat(batches, "keys")})


def test_people_are_numbered_by_name():
    assert number_people(["b", "", "a", "b"]).tolist() == [1, -1, 0, 1]


def test_any_caption_of_several_is_read(root):
    data = open_data(root, replace(UNCHANGED, captions="random"), Augmentation(), Config(), seed=1)

    texts = {data.tokenizer.decode(data.train[0, epoch]["token_ids"]) for epoch in range(20)}

    assert texts == {"a person in bright red, number 0, seen from the left.", "someone wears red."}


def test_captions_are_worded_anew(root):
    data = open_data(
        root,
        replace(UNCHANGED, captions="rerender"),
        Augmentation(),
        Config(),
        seed=1,
        reword=lambda fields, epoch: f"number {int(fields['person_id'])} {epoch}",
    )

    assert data.tokenizer.decode(data.train[3, 2]["token_ids"]) == "number 1 2"


def test_captions_that_are_cut_are_told(root):
    (note,) = open_data(root, UNCHANGED, Augmentation(), Config(text_length=10), seed=1).notes

    # [CLS] a person in bright red , number 0 , seen from the left . [SEP]
    assert "48 of 48 captions (100.0%) are longer than 10 tokens" in note
    assert open_data(root, UNCHANGED, Augmentation(), Config(text_length=17), seed=1).notes == ()


def test_a_damaged_sample_ends_with_shard_and_key(tmp_path):
    broken = tiny_people.make_person(1, 0, picture=b"\xff\xd8\xff no picture")
    root = tiny_people.write_samples(tmp_path, [tiny_people.make_person(0, 0), broken], shards=2)
    data = open_data(root, UNCHANGED, Augmentation(), Config(), seed=1)

    for workers in (0, 1):
        with pytest.raises(ValueError, match="train-00001-of-00002, sample 0001_0: cannot be decoded") as caught:
            list(data.training(0, 1, share(workers=workers)))
        assert len(str(caught.value).splitlines()) == 1
        assert multiprocessing.active_children() == []


DOOMED = """
import passerby.training.reading
from passerby.training.reading import Share, read_batches

class Numbers:
    def __len__(self):
        return 100
    def __getitem__(self, index):
        return index

passerby.training.reading.Collate = lambda pad_id: list
share = Share(batch_size=8, accumulation=1, rank=0, world=1, workers=2, pin_memory=False)
batches = read_batches(Numbers(), 0, share, batch_size=2)
print(next(batches), flush=True)
raise RuntimeError("the loss is nan")
"""


def test_a_program_that_ends_in_an_error_does_not_wait_for_its_readers():
    done = subprocess.run([sys.executable, "-c", DOOMED], check=False, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (1, "[0, 1]\n")
    assert done.stderr.endswith("RuntimeError: the loss is nan\n")


def test_a_split_that_leaves_nobody_is_refused(root):
    for value, purpose in ((0.0001, "validation"), (0.9999, "training")):
        with pytest.raises(ValueError, match=f"of the 16 people .* of {value} leaves nobody for {purpose}"):
            open_data(root, DataConfig(validation_share=value), Augmentation(), Config(), seed=1)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DataConfig, {"validation_share": 1.0}, "validation_share is 1.0; it must be at least 0 and below 1"),
        (Augmentation, {"flip": 1.5}, "flip is 1.5"),
        (Augmentation, {"crop_ratio": (0.6, 0.3)}, r"crop_ratio is \[0.6, 0.3\]"),
    ],
)
def test_impossible_values_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_pictures_are_normalised_on_the_device():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3, 1).repeat(2, 3, 1, 1)
    finish = ToDevice(torch.device("cpu"), (0.5, 0.0, 0.2), (0.5, 1.0, 0.1))

    batch = finish({"images": images, "keys": ["a", "b"]}, seed=7, shared_seed=8)

    assert torch.allclose(
        batch["images"][1, :, :, 0], torch.tensor([[-1.0, -0.6, 1.0], [0.0, 0.2, 1.0], [-2.0, 0.0, 8.0]])
    )
    assert (int(batch["seed"]), int(batch["shared_seed"])) == (7, 8)


def write_tar(path, samples):
    """Write members as strangers do: by (key, extension, content)."""
    with tarfile.open(path, "w") as tar:
        for key, extension, content in samples:
            member = tarfile.TarInfo(f"{key}.{extension}")
            member.size = len(content)
            tar.addfile(member, BytesIO(content))


def test_tars_of_others_stream_with_the_same_preparation(tmp_path, root):
    for number in range(2):
        chosen = islice(ShardDataset(root), number * 24, number * 24 + 24)
        members = [(each["__key__"], name, each[name]) for each in chosen for name in ("jpg", "txt")]
        encoded = [(key, name, data if name == "jpg" else f"{data}\n".encode()) for key, name, data in members]
        write_tar(tmp_path / f"{number:05d}.tar", encoded)
    stream = open_stream(f"{tmp_path}/{{00000..00001}}.tar", UNCHANGED, Augmentation(), Config(), seed=1)
    indexed = open_data(root, UNCHANGED, Augmentation(), Config(), seed=1, tokenizer=stream.tokenizer)

    batches = [*islice(stream.training(0, 9, share(batch_size=16, world=2)), 30)]

    assert {*flat(batches, "keys")} == {f"{person:04d}_{image}" for person in range(16) for image in range(3)}
    assert batches[0]["images"].shape == (8, 3, 32, 16)
    key = batches[0]["keys"][0]
    expected = indexed.train[int(key[:4]) * 3 + int(key[-1]), 0]
    assert torch.equal(batches[0]["images"][0], expected["image"])
    assert batches[0]["token_ids"][0][batches[0]["token_mask"][0]].tolist() == expected["token_ids"]
    assert equal([*islice(stream.training(0, 9, share(batch_size=16, world=2)), 5)], batches[:5])
    assert stream.validation(share()) is None
    assert expand(f"{tmp_path}/*.tar") == [f"{tmp_path}/00000.tar", f"{tmp_path}/00001.tar"]
    with pytest.raises(FileNotFoundError, match=r"00002.tar \(1 of 3 tars are missing\)"):
        expand(f"{tmp_path}/{{00000..00002}}.tar")


@pytest.mark.parametrize(
    ("extension", "content", "message"),
    [
        ("jpg", b"\xff\xd8\xff no picture", "cannot be decoded"),
        ("caption", b"hello", "has no caption; its members are"),
    ],
)
def test_a_bad_sample_of_a_stream_is_named_in_one_line(tmp_path, extension, content, message):
    good = tiny_people.make_person(0, 0)
    write_tar(tmp_path / "0.tar", [("good", "jpg", good.image), ("good", "txt", b"a person")])
    stream = open_stream(f"{tmp_path}/0.tar", UNCHANGED, Augmentation(), Config(), seed=1)
    write_tar(
        tmp_path / "0.tar",
        [("bad", extension, content), *([("bad", "txt", b"a person")] if extension == "jpg" else [])],
    )

    for workers in (0, 1):
        with pytest.raises(ValueError, match=f"0.tar, sample bad: {message}") as caught:
            next(iter(stream.training(0, 1, share(workers=workers))))
        assert len(str(caught.value).splitlines()) == 1
