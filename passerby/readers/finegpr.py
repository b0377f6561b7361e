"""FineGPR on disk: `ID/ID_cNN_wNN_lNN_pNN.jpg` (full tree) or the same names in one folder (flat subset).

Source: FineGPR (JeremyXSC/FineGPR): 1,150 identities × 36 cameras × 7 weathers × 7 illuminations, one scene an identity.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from passerby.readers.inputs import IMAGE_SUFFIXES, stem_keys, walk_images
from passerby.readers.official import Counts, Facts, ReidInputs, build_reid_table, parse_names
from passerby.readers.remote import images_among, list_remote
from passerby.storage import RemoteFolder

CODES = {"camera_id": 36, "weather_id": 7, "illumination_id": 7, "scene_id": 9}
"""Number of codes of each field of a name; codes count from 1."""

NAME_PATTERN = (
    r"^(?P<person_id>[0-9]{1,8})_c(?P<camera_id>[0-9]{1,3})_w(?P<weather_id>[0-9]{1,3})"
    r"_l(?P<illumination_id>[0-9]{1,3})_p(?P<scene_id>[0-9]{1,3})(?P<rest>.*)$"
)

_FACTS = Facts(
    "FineGPR",
    {"train": Counts(2_028_600, 1_150)},
    "FineGPR (Xiang et al., 2021): pedestrians rendered in 36 viewpoints, 7 weathers and 7 illuminations",
    "Non-commercial research and education, as its repository says; no redistribution.",
)
_SUBSET = replace(_FACTS, title="FineGPR_subset", counts={"train": Counts(4_600, 1_150)})
"""Four views of each person in one folder."""

ViewpointBins = Literal["cardinal", "group9"]
VIEWPOINT_BINS: tuple[ViewpointBins, ...] = ("cardinal", "group9")


def camera_angle(camera_id: int) -> int:
    """Give the viewpoint angle of a camera in degrees: 90 faces the camera, 180 faces image-right, 270 is the back.

    Source: FineGPR's viewpoint figure: angle = (90 + 10·(c − 1)) mod 360.
    """
    return (90 + 10 * (camera_id - 1)) % 360


def camera_view(camera_id: int, bins: ViewpointBins = "cardinal") -> str:
    """Name the side of the person a camera sees: front, right, back or left, nine cameras each.

    `cardinal` takes the nearest of 90, 180, 270 and 0 degrees; `group9` starts a group at each of them, as FineGPR's
    figure brackets them (it calls 170 degrees "front", which the eye does not).

    Raises:
        ValueError: `camera_id` is not in 1…36.
    """
    if not 1 <= camera_id <= CODES["camera_id"]:
        raise ValueError(f"camera code {camera_id} is outside 1…{CODES['camera_id']}")
    start = 50 if bins == "cardinal" else 90
    return ("front", "right", "back", "left")[(camera_angle(camera_id) - start) % 360 // 90]


def list_images(source: Path | str) -> pa.Table:
    """List FineGPR images as a table sorted by key, with what their names say.

    Args:
        source: A folder, searched at any depth, or its URL; or a text file with one path a line, relative to the file's folder.

    Returns:
        Columns `key` and `path` (relative to the folder), `person_id` (four digits or more; "" where the name does not
        parse), and `camera_id`, `weather_id`, `illumination_id`, `scene_id` (int16, 1-based as written; −1 where the name
        does not parse); of a URL, `size_bytes` too. Codes are not checked here: a code out of range stays as written, for
        the caller to report.

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: no image was found.
    """
    sizes = None if isinstance(source, Path) else images_among(list_remote(RemoteFolder(source)))
    paths = pa.array(_paths(source) if isinstance(source, Path) else sizes, pa.string())
    if len(paths) == 0:
        raise ValueError(f"{source} holds no image; allowed are files ending in {', '.join(IMAGE_SUFFIXES)}")
    stems = pc.replace_substring_regex(paths, pattern=r"^.*/|\.[^./]*$", replacement="")
    fields = pc.extract_regex(stems, pattern=NAME_PATTERN)
    columns: dict[str, pa.Array] = {"path": paths}
    person_id = pc.fill_null(pc.struct_field(fields, "person_id"), "")
    columns["person_id"] = pc.if_else(pc.equal(person_id, ""), "", pc.utf8_lpad(person_id, width=4, padding="0"))
    for name in CODES:
        columns[name] = pc.fill_null(pc.struct_field(fields, name).cast(pa.int16()), -1)
    columns["key"] = stem_keys(paths, stems, pc.fill_null(pc.equal(pc.struct_field(fields, "rest"), ""), False))
    if sizes is not None:
        columns["size_bytes"] = pa.array(sizes.values(), pa.int64())
    table = pa.table(columns)
    return table.take(pc.sort_indices(table, sort_keys=[("key", "ascending"), ("path", "ascending")]))


def read_finegpr(folder: Path, *, allow_missing: bool = False) -> ReidInputs:
    """Read FineGPR for Re-ID; see `Reader`. It has no official split: everybody is in `train`. Nothing can be missing.

    Its viewpoints are the cameras. A folder `images` beside others, as ours has parsing maps, is where the images are.
    """
    root = folder / "images" if (folder / "images").is_dir() else folder
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder; give FineGPR's image folder")
    listed = list_images(root)
    paths = listed["path"].combine_chunks()
    is_flat = not pc.any(pc.match_substring(paths, "/")).as_py()
    facts = _SUBSET if is_flat else _FACTS
    parse_names(paths, NAME_PATTERN, facts, where=root, example="0001_c01_w01_l01_p01.jpg")
    splits = pa.array(["train"] * len(paths), pa.string())
    return ReidInputs(facts, root, build_reid_table(paths, splits, listed["person_id"], listed["camera_id"]))


def fraction_mask(images: pa.Table, numerator: int, denominator: int, offsets: dict[str, int]) -> np.ndarray:
    """Mark the share numerator / denominator of every identity's images, spread evenly over view, weather and light.

    An image stays where (camera + weather + illumination + the identity's offset) mod denominator < numerator; with
    1/2 that is every other cell of the grid, so 882 of FineGPR's 1,764 images of a person, balanced in every factor.

    Args:
        images: The table of `list_images`.
        numerator: Share to keep.
        denominator: Of how many.
        offsets: A (seeded) whole number for each `person_id`, so that identities do not all keep the same cells.

    Returns:
        Bool (images,).
    """
    cell = sum(np.asarray(images[name], dtype=np.int64) for name in ("camera_id", "weather_id", "illumination_id"))
    person = images["person_id"].combine_chunks().dictionary_encode()
    shift = np.array([offsets[name] % denominator for name in person.dictionary.to_pylist()], dtype=np.int64)
    mask: np.ndarray = (cell + shift[np.asarray(person.indices)]) % denominator < numerator
    return mask


def _paths(source: Path) -> list[str]:
    if source.is_file():
        return [line for line in source.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist; give FineGPR's image folder, or a text file of image paths")
    return list(walk_images(str(source)))
