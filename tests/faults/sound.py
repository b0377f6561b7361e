"""Sound content of every kind, to be damaged; and readers that read all of it."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn

from captioning.attributes import IDENTITY_SLOTS
from captioning.families import FAMILIES, load_families
from captioning.render import check_templates, load_templates
from captioning.sentence import VARIABLES, examples, phrases
from captioning.synonyms import load_synonyms
from captioning.wording import variables
from passerby.checkpoint import save_encoder
from passerby.readers import containers
from passerby.readers.caption_files import open_caption_files
from passerby.readers.luperson import open_source
from passerby.shards.embeddings import read_embeddings
from passerby.shards.read import ShardDataset
from passerby.shards.stored import read_stored

PERSON = {slot: values[0] for slot, values in IDENTITY_SLOTS.items()}
PEDES = [{"split": "train", "captions": ["A man.", "He walks."], "file_path": "a.png", "id": 1}]
CAPTIONED = {"image_id": ["a.jpg", "b.jpg"], "caption": ["A man.", "A woman."], "width": [3, 4]}


def picture(kind: str, **options: object) -> bytes:
    """Encode a small picture."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def tar_of_strangers() -> bytes:
    """Write a tar as others do: extended headers, a link, a long name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        long_name = "é" * 70 + ".png"
        members = {"a.jpg": picture("JPEG"), "a.txt": b"A man.", "a.json": b'{"id": 1}', long_name: picture("PNG")}
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 0.5
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("b.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return file.getvalue()


def arrow_of_unipt() -> bytes:
    """Write what UniPT publishes."""
    table = pa.table(
        {
            "image": [picture("JPEG"), picture("PNG"), picture("WEBP")],
            "caption": [["A man."], ["A woman.", "She walks."], []],
            "image_id": ["0001_c1_1.jpg", "0002_c1_1.jpg", "c"],
            "split": ["train"] * 3,
        }
    )
    file = io.BytesIO()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def parquet(table: dict[str, list[object]]) -> bytes:
    """Write a table."""
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    return file.getvalue()


def prepare_pedes(folder: Path) -> None:
    """Make CUHK-PEDES of one image."""
    (folder / "imgs").mkdir()
    (folder / "imgs" / "a.png").write_bytes(picture("PNG"))
    (folder / "reid_raw.json").write_text(json.dumps(PEDES))


def prepare_families(folder: Path) -> None:
    """Copy two families of LUPerson-T."""
    for name in ("f01.j2", "f02.j2", "blanks.yaml"):
        (folder / name).write_bytes((FAMILIES / name).read_bytes())


def write_encoder(folder: Path) -> None:
    """Write what `pretrain` leaves."""
    save_encoder(folder, nn.Linear(2, 3), {"architecture": "resnet50", "height_width": [256, 128]})


def checkpoint() -> bytes:
    """Write what a run goes on from."""
    file = io.BytesIO()
    torch.save({"step": 3, "model": nn.Linear(2, 3).state_dict(), "text": "x", "list": [1.5, None]}, file)
    return file.getvalue()


def old_weights() -> bytes:
    """Write weights as PyTorch did before 1.6."""
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def read_images(place: Path) -> int:
    """Read every image of a source."""
    source = open_source(place)
    return sum(len(source.read(row)) for row in source.inputs.to_pylist())


def read_arrow(path: Path) -> int:
    """Read UniPT's file anew."""
    containers._arrow_table.cache_clear()
    return read_images(path)


def read_captions(path: Path) -> int:
    """Read every row of a caption file."""
    files = open_caption_files(str(path))
    return sum(len(table.to_pylist()) for index in range(len(files)) for table in files.batches(index))


def read_features(folder: Path) -> None:
    """Read a feature cache."""
    read_embeddings(folder / "a.arrow", {"model": "m"}).features.sum()


def read_data_set(folder: Path) -> None:
    """Read a data set of ours in every way."""
    dataset = ShardDataset(folder)
    for index in range(0, len(dataset), 5):
        dataset[index]
    for _ in dataset:
        pass
    for record in dataset.manifest.shards:
        for _ in read_stored(folder, record.name):
            pass


def check_patterns(path: Path) -> None:
    """Compile patterns of FineGPR-C, and try them."""
    check_templates(load_templates(path.parent, variables=VARIABLES), map(phrases, examples()))


def read_families(folder: Path) -> None:
    """Load families of LUPerson-T."""
    load_families(folder, variables=variables(load_synonyms()))
