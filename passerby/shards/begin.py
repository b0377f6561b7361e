"""How a run begins: it claims its folder, so that no two configurations ever write into one, and counts its shards."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from passerby.config import config_hash, describe_difference
from passerby.runtime import create_atomically
from passerby.untrusted import parse_json

CONFIG_NAME = "config.json"
ERASURES_NAME = "erasures.jsonl"
"""The log of what was removed by request; `passerby.curate.exclude` writes it."""

SHARD_BYTES = 128 << 20
BYTES_BESIDE_IMAGE = 4 << 10
"""Headers, padding, JSON and text of a sample."""
SHARDS_WISHED, IMAGES_A_SHARD_AT_LEAST = 64, 256


def claim(root: Path, config: Mapping[str, Any]) -> None:
    """Mark `root` as the folder of this configuration, or refuse.

    Raises:
        ValueError: it belongs to another configuration, holds other files, or has had samples removed by request, which a
            run would bring back.
    """
    root.mkdir(parents=True, exist_ok=True)
    target = root / CONFIG_NAME
    found = {path.name for path in root.glob("[!.]*")}
    # asked after listing: another run that has just claimed the folder is no stranger
    if check_claimable(root, found, is_claimed=target.exists()):
        create_atomically(target, encode_claim(config))
    check_claim(root, target.read_bytes(), config)


def check_claimable(root: Path | str, found: Iterable[str], *, is_claimed: bool) -> bool:
    """Say whether a folder is free to be claimed, by the names of what lies in it; false where a run has claimed it.

    Raises:
        ValueError: it holds other files, or has had samples removed by request.
    """
    strangers = sorted(found)
    if ERASURES_NAME in strangers:
        raise ValueError(
            f"{root} has had samples removed by request ({ERASURES_NAME}), which a run could bring back; write to another"
            " folder, and remove them there too with passerby exclude"
        )
    if strangers and not is_claimed:
        raise ValueError(f"{root} holds {strangers[0]!r} and is no data set of ours; give --out a new or empty folder")
    return not is_claimed


def encode_claim(config: Mapping[str, Any]) -> bytes:
    """Give what `config.json` holds."""
    return (json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def check_claim(root: Path | str, claimed: bytes, config: Mapping[str, Any]) -> None:
    """Hold a configuration to the one that has claimed the folder.

    Raises:
        ValueError: it is another.
    """
    before = parse_json(claimed, f"{root}/{CONFIG_NAME}")
    if config_hash(before) != config_hash(config):
        difference = describe_difference(before, config)
        raise ValueError(f"{root} was made with another configuration ({difference}); give another --out, or delete it")


def count_shards(images: int, mean_bytes: float, shard_size: int = 0) -> int:
    """Say into how many shards to cut a data set: `shard_size` images each, or as many as make 64–256 MB each.

    Small sets are cut finer, towards 64 shards, since a streaming client needs a shard for every worker of every rank.

    Args:
        images: How many there are.
        mean_bytes: Size of an image file.
        shard_size: Images a shard; 0 leaves it to the bytes.
    """
    if shard_size:
        return max(1, -(-images // shard_size))
    fine = min(SHARDS_WISHED, images // IMAGES_A_SHARD_AT_LEAST)
    return max(1, fine, round(images * (mean_bytes + BYTES_BESIDE_IMAGE) / SHARD_BYTES))


def count_shards_by_split(images: Mapping[str, int], mean_bytes: float, shards: int = 0) -> dict[str, int]:
    """Say into how many shards to cut each split: `shards` the largest and the others in proportion, or see `count_shards`.

    Args:
        images: How many each split has.
        mean_bytes: Size of an image file.
        shards: Of the largest split; 0 leaves it to the bytes.

    Raises:
        ValueError: `shards` is more than the images of the largest split.
    """
    largest = max(images.values())
    if shards > largest:
        raise ValueError(f"shards is {shards:,}, and the largest split has {largest:,} images; give at most as many")
    if not shards:
        return {split: count_shards(count, mean_bytes) for split, count in images.items()}
    return {split: max(1, round(shards * count / largest)) for split, count in images.items()}
