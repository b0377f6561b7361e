"""Networks that say of each pixel which part of a person it shows. They are other people's, and their labels become LIP's."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from passerby.nets.prompts import PART_NAMES
from passerby.nets.weights import HUB

IGNORED_NAME, IGNORED = "ignored", 255
"""Of a label that is no part of LIP's, and what stands in a map for it."""


class PersonParser:
    """A network for semantic segmentation, of transformers.

    Args:
        source: Its folder, or `hub:owner/name`, which is downloaded.
        parts: What its labels are called in LIP, by label; LIP's own names need none. See `read_parts_table`.
        device: Where it runs.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: the hub does not answer, or has no such network.
        ValueError: it is no such network, or it has labels that `parts` does not name.
    """

    def __init__(self, source: str, parts: Mapping[str, str], *, device: torch.device) -> None:
        from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation  # noqa: PLC0415  (slow to load)

        is_hub = source.startswith(HUB)
        if not is_hub and not Path(source).is_dir():
            raise FileNotFoundError(
                f"there is no folder {source}; give one of transformers, or {HUB}owner/name to download"
            )
        name, options = source.removeprefix(HUB), {"local_files_only": not is_hub}
        try:
            network = AutoModelForSemanticSegmentation.from_pretrained(name, **options)
            self._processor = AutoImageProcessor.from_pretrained(name, **options)  # type: ignore[no-untyped-call]  # theirs
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise (OSError if is_hub else ValueError)(f"{source} is no network for segmentation: {reason}") from None
        self._network = network.float().to(device).eval()
        self.labels: list[str] = [label for _, label in sorted(network.config.id2label.items())]
        self.parts = name_parts(self.labels, parts, source=source)
        digest = hashlib.blake2b(digest_size=8)
        for tensor in network.state_dict().values():
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        self.weights = digest.hexdigest()
        self._places = np.array([part_number(part) for part in self.parts], np.uint8)

    @torch.no_grad()
    def parse(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        """Give maps of LIP's classes, and 255: Uint8 (height, width) each, as large as the images.

        Args:
            images: RGB, Uint8 (height, width, 3) each.
        """
        device = self._network.device
        inputs = self._processor(images=[*images], return_tensors="pt").to(device)
        found = self._processor.post_process_semantic_segmentation(
            self._network(**inputs), target_sizes=[image.shape[:2] for image in images]
        )
        return [self._places[labels.cpu().numpy()] for labels in found]


def read_parts_table(path: Path) -> dict[str, str]:
    """Read what labels are called in LIP, from YAML: `LABEL: PART` in each line, or `LABEL: ignored`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table, or names no part.
    """
    try:
        stored = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  (strings only: no is no)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(stored, dict) or not all(isinstance(part, str) for part in stored.values()):
        raise ValueError(f"{path} is no table of labels; a line reads LABEL: PART, such as bag: background")
    table = {plain(label): plain(part) for label, part in stored.items()}
    if strange := sorted({*table.values()} - {*PART_NAMES, IGNORED_NAME}):
        raise ValueError(
            f"{path} names {strange[0]!r}, which is no part of LIP's; allowed are {', '.join(PART_NAMES)}, and {IGNORED_NAME}"
        )
    return table


def name_parts(labels: Sequence[str], parts: Mapping[str, str], *, source: str) -> list[str]:
    """Give the part that each label is.

    Raises:
        ValueError: labels are neither LIP's nor in the table; all are named.
    """
    known = {part: part for part in PART_NAMES} | dict(parts)
    if unknown := [label for label in labels if plain(label) not in known]:
        raise ValueError(
            f"{source} has the labels {', '.join(unknown)}, which are not LIP's; say in a file what each is, a line such as"
            f" '{unknown[0]}: {PART_NAMES[0]}', and give it as --mapping FILE (templates/parsing/parts.yaml is one)"
        )
    return [known[plain(label)] for label in labels]


def part_number(part: str) -> int:
    """Give what stands in a map for a part.

    >>> part_number("hat"), part_number("ignored")
    (1, 255)
    """
    return IGNORED if part == IGNORED_NAME else PART_NAMES.index(part)


def plain(name: str) -> str:
    """Write a name as those of LIP are written here.

    >>> plain("Upper-clothes")
    'upper clothes'
    """
    return re.sub(r"[\s_-]+", " ", name).strip().lower()
