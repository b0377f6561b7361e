"""Captions of other projects, in their own files: each is read as its makers wrote it."""

import hashlib
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from passerby.readers.caption_files import open_caption_files
from passerby.report.measure import Measurement, measure
from passerby.report.sources import open_source

CAPTIONS = {
    "0001_c1_0001.jpg": ["A man in a red coat.", "A man with a bag."],
    "0001_c2_0002.jpg": ["A man in a red coat."],
    "0002_c1_0003.jpg": ["A woman in a red coat."],
}
PEOPLE = {name: name[:4] for name in CAPTIONS}


def jpeg(number: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8 + number, 16), (number, 0, 0)).save(data, "JPEG")
    return data.getvalue()


IMAGES = {name: jpeg(number) for number, name in enumerate(CAPTIONS)}


def write_cuhk(folder):
    rows = [
        {"split": "train", "captions": texts, "file_path": f"CUHK01/{name}", "id": int(PEOPLE[name])}
        for name, texts in CAPTIONS.items()
    ]
    (folder / "reid_raw.json").write_text(json.dumps(rows))
    return folder / "reid_raw.json"


def write_icfg(folder):
    """As ICFG-PEDES: the tokens of a test record have one nesting level more."""
    rows = [
        {"split": split, "captions": texts, "file_path": name, "processed_tokens": tokens, "id": int(PEOPLE[name])}
        for (name, texts), split, tokens in zip(
            CAPTIONS.items(), ("train", "train", "test"), ([["a"]], [["a"]], [[["a"]]]), strict=True
        )
    ]
    (folder / "ICFG-PEDES.json").write_text(json.dumps(rows))
    return folder / "ICFG-PEDES.json"


def write_rstp(folder):
    rows = [
        {"id": int(PEOPLE[name]), "img_path": name, "captions": texts, "split": "train"}
        for name, texts in CAPTIONS.items()
    ]
    (folder / "data_captions.json").write_text(json.dumps(rows))
    return folder / "data_captions.json"


def write_arrow(folder):
    """As UniPT's `LUPerson_train.arrow`: encoded images, lists of captions, base names."""
    table = pa.table(
        {
            "image": pa.array(IMAGES.values(), pa.binary()),
            "caption": list(CAPTIONS.values()),
            "image_id": list(CAPTIONS),
            "split": ["train"] * len(CAPTIONS),
        }
    )
    with pa.OSFile(str(folder / "LUPerson_train.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return folder / "LUPerson_train.arrow"


def write_lines(folder):
    lines = [f"ImageName:{name}, the caption is: {text}" for name, texts in CAPTIONS.items() for text in texts]
    (folder / "captions.txt").write_text("\n".join(lines) + "\n\n")
    return folder / "captions.txt"


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_tars(folder):
    """As img2dataset: dotted stems, JSON beside the image; here with several captions in the JSON."""
    for name, texts in CAPTIONS.items():
        stem = name.removesuffix(".jpg")
        with tarfile.open(folder / f"{stem}.tar", "w") as tar:
            add(tar, f"./{stem}.jpg", IMAGES[name])
            add(
                tar,
                f"./{stem}.json",
                json.dumps({"captions": texts, "hat": "cap", "box": [1, 2], "note": None}).encode(),
            )
    return folder


def write_text_tars(folder):
    """One tar; captions as `.txt`, which wins over the JSON's. Only one caption an image fits."""
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, texts in CAPTIONS.items():
            stem = name.removesuffix(".jpg")
            add(tar, f"{stem}.jpg", IMAGES[name])
            add(tar, f"{stem}.json", json.dumps({"caption": "Not this one.", "caption_1": texts[-1]}).encode())
            add(tar, f"{stem}.txt", texts[0].encode() + b"\n")
    return folder / "*.tar"


def write_parquet(folder):
    columns = {
        "key": list(CAPTIONS),
        "caption": [texts[0] for texts in CAPTIONS.values()],
        "caption_1": [texts[1] if len(texts) > 1 else None for texts in CAPTIONS.values()],
    }
    pq.write_table(pa.table(columns), folder / "captions.parquet")
    return folder / "captions.parquet"


@pytest.mark.parametrize(
    ("write", "kind", "has_images"),
    [
        (write_cuhk, "json", False),
        (write_icfg, "json", False),
        (write_rstp, "json", False),
        (write_arrow, "arrow", True),
        (write_lines, "lines", False),
        (write_tars, "webdataset", True),
        (write_text_tars, "webdataset", True),
        (write_parquet, "parquet", False),
    ],
)
def test_every_form_tells_the_same(tmp_path, write, kind, has_images):
    found = measure(Measurement(open_source(str(write(tmp_path)))))
    total = 3 if write is write_text_tars else 4
    assert found["source"]["kind"] == kind
    assert (found["images"]["total"], found["captions"]["total"]) == (3, total)
    assert found["people"] == {
        "total": 2,
        "images_with_person": 3,
        "images_per_person": {"mean": 1.5, "min": 1, "max": 2},
    }
    assert found["diversity"]["distinct_captions"] == total - 1
    assert found["diversity"]["vocabulary"] == (6 if total == 3 else 8)
    assert found["diversity"]["shared_texts"]["texts"] == 0
    if has_images:
        assert found["health"]["duplicates"] == {"images": 0, "groups": 0, "largest": 1}
        assert found["health"]["image_sizes"]["width"] == {
            "min": 8,
            "median": 9,
            "max": 10,
            "histogram": {"8": 1, "9": 1, "10": 1},
        }
    else:
        assert found["health"]["duplicates"] is found["health"]["image_sizes"] is None


def test_one_number_in_two_splits_is_two_people(tmp_path):
    rows = [
        {"split": split, "captions": ["A man."], "file_path": f"{split}.jpg", "id": 0} for split in ("train", "test")
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = measure(Measurement(open_source(str(tmp_path / "a.json"))))
    assert found["people"]["total"] == 2
    assert found["diversity"]["shared_texts"] == {"texts": 1, "people": 2, "most_people": 2}
    assert found["source"]["splits"] == {"test": 1, "train": 1}


def test_a_name_that_is_there_twice_is_counted(tmp_path):
    rows = [{"captions": ["A man."], "file_path": "a.jpg", "id": 0}] * 2
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert measure(Measurement(open_source(str(tmp_path / "a.json"))))["images"] == {"total": 2, "repeated_keys": 1}


def test_the_rows_of_a_tar_hold_what_its_members_say(tmp_path):
    source = open_caption_files(str(write_tars(tmp_path)))
    (row,) = (row for table in source.batches(0) for row in table.to_pylist())
    name = "0001_c1_0001.jpg"
    assert row == {
        "key": "0001_c1_0001",
        "captions": CAPTIONS[name],
        "person_id": "0001",
        "hat": "cap",
        "box": [1, 2],
        "note": None,
        "sha256": hashlib.sha256(IMAGES[name]).hexdigest(),
        "width": 8,
        "height": 16,
    }


def test_a_damaged_image_keeps_its_row(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "a.jpg", b"no image")
        add(tar, "a.txt", b"A man.")
        add(tar, "b.jpg", IMAGES["0001_c1_0001.jpg"])
        add(tar, "b.txt", b"A man.")
    found = measure(Measurement(open_source(str(tmp_path))))
    assert (found["images"]["total"], found["health"]["image_sizes"]["images"]) == (2, 1)


def test_columns_of_another_kind_than_their_name_are_left_alone(tmp_path):
    rows = [
        {
            "captions": ["A.", None],
            "file_path": "a",
            "width": "8",
            "sha256": 3,
            "split": None,
            "hat": "cap",
            "hat_confidence": "high",
        }
    ]
    rows += [
        {
            "captions": [],
            "file_path": "b",
            "width": "8",
            "sha256": 3,
            "split": None,
            "hat": None,
            "hat_confidence": "low",
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = measure(Measurement(open_source(str(tmp_path / "a.parquet"))))
    assert found["captions"] == {"total": 2, "empty": 1, "per_image": {"0": 1, "2": 1}}
    assert found["health"]["duplicates"] is found["health"]["image_sizes"] is None
    assert found["fidelity"]["attributes"]["hat"]["confidence"] is None


def test_a_caption_of_null_is_none(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add(tar, "a.json", b'{"caption": null}')
        add(tar, "b.json", b'{"caption": "A man."}')
    assert measure(Measurement(open_source(str(tmp_path))))["captions"]["per_image"] == {"0": 1, "1": 1}


def spoil(name: str, data: bytes):
    def write(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return write


def spoilt_tar(name: str, data: bytes):
    def write(folder):
        with tarfile.open(folder / "a.tar", "w") as tar:
            add(tar, name, data)
        return folder

    return write


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (spoil("a.json", b"{"), "is no JSON"),
        (spoil("a.json", b'{"a": 1}'), "holds dict; a list of"),
        (spoil("a.json", b'[{"captions": ["x"], "id": 1}]'), "no column of image names"),
        (spoil("a.json", b'[{"file_path": "x"}]'), "entry 0 has no captions"),
        (spoil("a.json", b'[{"file_path": "x", "captions": [3]}]'), "entry 0 has no captions"),
        (spoil("a.txt", b"ImageName:a, the caption is: x\nboo\n"), "line 2 is 'boo'"),
        (spoil("a.txt", b"\xff"), "no UTF-8"),
        (spoil("a.arrow", b"boo"), "a.arrow is damaged, or of another kind"),
        (spoil("a.parquet", b"boo"), "a.parquet is damaged, or of another kind"),
        (spoil("a.tar", b"boo" * 999), "cannot be read as a plain tar"),
        (spoil("a.xml", b"boo"), "'.xml'"),
        (spoilt_tar("a.json", b"[1]"), "a.json cannot be read: it holds list"),
        (spoilt_tar("a.txt", b"\xff"), "a.txt cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, write, fault):
    with pytest.raises(ValueError, match=fault):
        measure(Measurement(open_source(str(write(tmp_path)))))


def test_a_folder_without_captions_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json"):
        open_source(str(tmp_path))


def test_a_name_of_nothing_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="as a pattern it matches none"):
        open_source(str(tmp_path / "*.tar"))
