"""The data card: the `README.md` of a data set, with the Hugging Face header, made from its manifest alone.

Source: the dataset card format of the Hugging Face Hub; `configs` and `dataset_info.features` are declared because types inferred
from the first samples turn 1.5 into 1.
"""

from pathlib import Path
from typing import Any

import jinja2
import yaml

from passerby.runtime import write_atomically
from passerby.shards.manifest import Manifest
from templates import TEMPLATES

SIZE_CATEGORIES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
)
"""The Hub's size classes: an upper bound of the sample count, and its name."""

FEATURE_TYPES = {"string": "string", "int16": "int16", "int32": "int32", "double": "float64", "bool": "bool"}
"""Arrow's names of types, and those of the Hub's features."""


def write_card(root: Path, manifest: Manifest) -> None:
    """Write `ROOT/README.md` with the card template that the manifest's `card` names, `templates/data_card/CARD.md.j2`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES / "data_card"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (Markdown, from our own manifest)
    )
    body = environment.get_template(f"{manifest.header['card']}.md.j2").render(manifest=manifest, **manifest.header)
    header = yaml.safe_dump(_header(manifest), sort_keys=False, allow_unicode=True)
    write_atomically(root / "README.md", f"---\n{header}---\n\n{body.strip()}\n".encode())


def _header(manifest: Manifest) -> dict[str, Any]:
    split = manifest.split
    features = [
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
        {"name": "jpg", "dtype": "image"},
        {"name": "json", "struct": [_feature(name, kind) for name, kind in manifest.header["columns"].items()]},
        {"name": "txt", "dtype": "string"},
    ]
    larger = [name for bound, name in SIZE_CATEGORIES if manifest.kept < bound]
    return {
        "pretty_name": manifest.header["title"],
        "license": "other",
        "language": ["en"],
        "task_categories": ["image-to-text", "text-to-image"],
        "tags": ["person-re-identification", "webdataset", "captions"],
        "size_categories": [larger[0] if larger else "n>10M"],
        "configs": [{"config_name": "default", "data_files": [{"split": split, "path": f"data/{split}-*.tar"}]}],
        "dataset_info": {
            "features": features,
            "splits": [{"name": split, "num_bytes": manifest.totals["size_bytes"], "num_examples": manifest.kept}],
        },
    }


def _feature(name: str, kind: str) -> dict[str, Any]:
    if kind.startswith("list<"):
        return {"name": name, "sequence": FEATURE_TYPES[kind.partition(": ")[2].rstrip(">")]}
    return {"name": name, "dtype": FEATURE_TYPES[kind]}
