"""The header of a data card, by which the Hugging Face Hub and `datasets` know the data set.

Source: the dataset card format of the Hub. `configs` and `dataset_info.features` are declared because types inferred from the
first samples turn 1.5 into 1.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from passerby.shards.manifest import Manifest

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


def hub_header(
    manifest: Manifest, *, images: Sequence[str], extras: Sequence[str], licence: Mapping[str, str]
) -> dict[str, Any]:
    """Give the header of `README.md`, which tells the Hub and `datasets` what is there and how to load it.

    Args:
        manifest: of the data set.
        images: extensions of the images in the shards; none where only captions are there.
        extras: further members of a sample, such as `parsing.png`; they are images.
        licence: `id` as the Hub calls it; where that is `other`, also `name` and `url`.
    """
    creators = manifest.header.get("annotated_by", "machine-generated")
    features = [
        {"name": "__key__", "dtype": "string"},
        {"name": "__url__", "dtype": "string"},
        *({"name": extension, "dtype": "image"} for extension in images),
        {"name": "json", "struct": [_feature(name, kind) for name, kind in manifest.header["columns"].items()]},
        *([{"name": "txt", "dtype": "string"}] if manifest.has_captions else []),
        *({"name": extra, "dtype": "image"} for extra in extras),
    ]
    larger = [name for bound, name in SIZE_CATEGORIES if manifest.kept < bound]
    splits = manifest.totals_by_split
    return {
        "pretty_name": manifest.header["title"],
        "license": licence["id"],
        **({"license_name": licence["name"], "license_link": licence["url"]} if licence["id"] == "other" else {}),
        **({"language": ["en"], "language_creators": [creators]} if manifest.has_captions else {}),
        "annotations_creators": [creators],
        "source_datasets": ["original" if manifest.header["is_synthetic"] else "extended"],
        "task_categories": [*(["image-to-text"] if manifest.has_captions else []), "image-feature-extraction"],
        "tags": tags_of(manifest),
        "size_categories": [larger[0] if larger else "n>10M"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"data/{split}-*.tar"} for split in splits],
            }
        ],
        "dataset_info": {
            "features": features,
            "splits": [
                {"name": split, "num_bytes": totals["size_bytes"], "num_examples": totals["kept"]}
                for split, totals in splits.items()
            ],
            "download_size": manifest.totals["size_bytes"],
            "dataset_size": manifest.totals["size_bytes"],
        },
    }


def tags_of(manifest: Manifest) -> list[str]:
    """Give the words by which the data set is found."""
    return ["person-re-identification", "webdataset", *(["captions"] if manifest.has_captions else [])]


def _feature(name: str, kind: str) -> dict[str, Any]:
    if kind.startswith("list<"):
        return {"name": name, "sequence": FEATURE_TYPES[kind.partition(": ")[2].rstrip(">")]}
    return {"name": name, "dtype": FEATURE_TYPES[kind]}
