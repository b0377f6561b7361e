"""Everything of `passerby` that reads what a stranger may have written, each with sound content to begin from.

The tests of hostile input and the coverage-guided fuzzer share this list. LMDB's and MATLAB's files are not in it: the
libraries that read them trust them, and a crafted one can end the process (SECURITY.md says so).
"""

import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import sound
import torch
from safetensors.torch import save
from shard_samples import NAMES, write_all

from captioning.attributes import read_attributes
from captioning.divide import PHRASES, load_phrases
from captioning.refine import read_probabilities
from captioning.synonyms import SYNONYMS, load_synonyms
from passerby.checkpoint import load_checkpoint, load_encoder
from passerby.config import read_sections, read_table
from passerby.curate.erasures import Erasure, read_erasures, write_erasures
from passerby.images import decode_rgb, inspect_image
from passerby.nets.parser import read_parts_table
from passerby.nets.weights import read_weights
from passerby.readers.luperson import read_names
from passerby.readers.reid import read_dataset
from passerby.report.labels import LabelMap, read_label_map, read_labels
from passerby.shards.embeddings import Embeddings, write_embeddings
from passerby.shards.verify import verify
from passerby.tokens import SPECIALS, Tokenizer
from passerby.training.reading import DataConfig
from templates import TEMPLATES


@dataclass(frozen=True)
class Target:
    """A reader, and the file of it that is damaged."""

    file: str
    """Relative to the folder in which all happens; its suffix decides how it is damaged."""

    prepare: Callable[[Path], object]
    """Make the folder's content, the file among it."""

    read: Callable[[Path], object]
    """Read all that the folder holds."""


def of_bytes(name: str, make: Callable[[], bytes], read: Callable[[Path], object]) -> Target:
    """Damage one file that lies alone."""
    return Target(name, lambda folder: (folder / name).write_bytes(make()), lambda folder: read(folder / name))


def of_shipped(path: Path, read: Callable[[Path], object]) -> Target:
    """Damage a copy of a file that `passerby` brings along."""
    return of_bytes(path.name, path.read_bytes, read)


def of_data_set(file: str, read: Callable[[Path], object]) -> Target:
    """Damage a file of a data set of ours."""
    return Target(file, write_all, read)


ERASURE = Erasure(
    revision=1, date="2026-01-01", reason="r", count=1, key_sha256=["a"], person_sha256=[], image_sha256=[]
)
PERSON = sound.PERSON
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
NAMES_AND_PEOPLE = {"keys": ["a.jpg", b"b.jpg"], "pids": np.arange(2)}
TABLE, TAR = f"meta/{NAMES[0]}.parquet", f"data/{NAMES[0]}.tar"

IMAGES = {
    f"{what} {kind}": of_bytes(f"a.{kind}", partial(sound.picture, kind, exif=TURNED), read)
    for kind in ("jpeg", "png", "webp")
    for what, read in {
        "image": lambda path: inspect_image(path.read_bytes(), decode=True),
        "pixels": lambda path: decode_rgb(path.read_bytes()),
    }.items()
}

CONTAINERS = {
    "tar of images": of_bytes("a.tar", sound.tar_of_strangers, sound.read_images),
    "tar of captions": of_bytes("a.tar", sound.tar_of_strangers, sound.read_captions),
    "arrow of images": of_bytes("a.arrow", sound.arrow_of_unipt, sound.read_arrow),
    "arrow of captions": of_bytes("a.arrow", sound.arrow_of_unipt, sound.read_captions),
    "arrow of features": Target(
        "a.arrow",
        lambda folder: write_embeddings(
            folder / "a.arrow", Embeddings(("a", "b"), np.ones((2, 4), np.float16)), {"model": "m"}
        ),
        sound.read_features,
    ),
}

DATA_SETS = {
    "manifest": of_data_set("manifest.json", sound.read_data_set),
    "manifest, verified": of_data_set("manifest.json", verify),
    "sizes, verified": of_data_set("data/sizes.json", verify),
    "quarantine, verified": of_data_set("quarantine.parquet", verify),
    "table of a shard": of_data_set(TABLE, sound.read_data_set),
    "table of a shard, verified": of_data_set(TABLE, verify),
    "table of a shard, as images": of_data_set(TABLE, sound.read_images),
    "tar of a shard": of_data_set(TAR, sound.read_data_set),
    "tar of a shard, verified": of_data_set(TAR, verify),
    "erasures": Target("erasures.jsonl", lambda folder: write_erasures(folder, [ERASURE]), read_erasures),
}

TABLES = {
    "attributes csv": of_bytes(
        "a.csv",
        lambda: ",".join(["id", *PERSON]).encode() + b"\n" + ",".join(["1", *PERSON.values()]).encode(),
        read_attributes,
    ),
    "attributes json": of_bytes(
        "a.json", lambda: json.dumps([{"id": 1, **PERSON}, {"id": "2", "hat": 1}]).encode(), read_attributes
    ),
    "attributes parquet": of_bytes(
        "a.parquet", lambda: sound.parquet({"id": [1, 2], "hat": ["yes", None], "age": [1, 2]}), read_attributes
    ),
    "captions json": of_bytes("a.json", lambda: json.dumps(sound.PEDES * 2).encode(), sound.read_captions),
    "captions lines": of_bytes("a.txt", lambda: b"ImageName: a.jpg, the caption is: A man.\n" * 3, sound.read_captions),
    "captions parquet": of_bytes("a.parquet", lambda: sound.parquet(sound.CAPTIONED), sound.read_captions),
    "names pickled": of_bytes("a.pkl", lambda: pickle.dumps(NAMES_AND_PEOPLE), read_names),
    "names listed": of_bytes("a.txt", lambda: b"a.jpg\nb/c.jpg\n", read_names),
    "pedes": Target("reid_raw.json", sound.prepare_pedes, partial(read_dataset, "cuhk-pedes")),
    "labels csv": of_bytes(
        "a.csv", lambda: b"key,gender\na,male\nb,female\n", lambda path: read_labels(path, LabelMap())
    ),
    "labels json": of_bytes(
        "a.json",
        lambda: b'[{"key": "a", "gender": "male"}, {"key": "b", "gender": 1}]',
        lambda path: read_labels(path, LabelMap()),
    ),
    "probabilities": of_bytes(
        "manifest.json",
        lambda: b'{"probabilities": [{"slot": "hat", "value": "no", "count": 1, "total": 2}]}',
        read_probabilities,
    ),
}

WORDS = {
    "label map": of_shipped(TEMPLATES / "report" / "finegpr_labels.yaml", read_label_map),
    "parts": of_shipped(TEMPLATES / "parsing" / "parts.yaml", read_parts_table),
    "phrases": of_shipped(PHRASES, load_phrases),
    "synonyms": of_shipped(SYNONYMS, load_synonyms),
    "patterns": of_shipped(TEMPLATES / "finegpr_c" / "07_picture.j2", sound.check_patterns),
    "families": Target("f02.j2", sound.prepare_families, sound.read_families),
    "blanks": Target("blanks.yaml", sound.prepare_families, sound.read_families),
    "vocabulary": of_bytes(
        "vocab.txt",
        lambda: "\n".join([*SPECIALS, "a", "##b", "man"]).encode(),
        lambda path: Tokenizer.from_file(path).encode("a man", 9),
    ),
}

RUNS = {
    "configuration": of_bytes(
        "a.toml",
        lambda: b'[data]\nvocabulary = ""\nvocabulary_size = 30\nvalidation_share = 0.1\nparsing = true\n',
        lambda path: read_sections({"data": DataConfig}, read_table(path)),
    ),
    "encoder": Target("encoder.safetensors", sound.write_encoder, load_encoder),
    "encoder table": Target("encoder.toml", sound.write_encoder, load_encoder),
    "weights": of_bytes(
        "a.safetensors",
        lambda: save({"a": torch.ones(2, 3)}, {"format": "pt"}),
        lambda path: read_weights(str(path)),
    ),
    "weights of old": of_bytes("a.bin", sound.old_weights, lambda path: read_weights(str(path))),
    "checkpoint": of_bytes("a.pt", sound.checkpoint, load_checkpoint),
}

TARGETS: dict[str, Target] = IMAGES | CONTAINERS | DATA_SETS | TABLES | WORDS | RUNS


def named(chosen: Iterable[str]) -> dict[str, Target]:
    """Give some targets by name, or all."""
    return {name: TARGETS[name] for name in chosen} or TARGETS
