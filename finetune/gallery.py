"""The sheets of `passerby attend`: where a run looks, and what it finds."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from finetune.attention import Attention, attend
from finetune.evaluate import Found
from finetune.features import Reading, read_images
from finetune.ranked import Search
from finetune.sheets import Row, Sheet, Tile
from finetune.target import Target
from finetune.trained import Trained
from passerby.images import decode_rgb
from passerby.training.batch import IMAGE_MEMBERS

ATTENTION_NOTE = (
    "Grad-CAM shows what of the query makes it like the last column: the nearest image of the same person that counts, or the"
    " caption. Eigen-CAM shows what stands out to the encoder at all. Red is much, blue little; each map is scaled by itself, and"
    " one that is blue throughout says that nothing speaks for it."
)
RANKED_NOTE = (
    "The nearest images of the gallery, nearest first. Green: the person of the query. Red and, on the page, dashed: somebody else."
    " What does not count, such as the person's other images from the camera of the query, is left out."
)


def attention_sheet(
    trained: Trained, target: Target, found: Found, searches: Sequence[Search], reading: Reading
) -> Sheet:
    """Show where the run looks in the image of each query that has an answer.

    Raises:
        ModuleNotFoundError: the package grad-cam is not installed.
        ValueError: the run's encoder has no map that is known here.
    """
    answered = [place for place, each in enumerate(searches) if each.caption or each.nearest_right >= 0]
    rows: list[Row] = []
    indices = np.array([searches[place].query for place in answered])
    for batch in read_images(trained, target, indices, reading):
        places = answered[len(rows) : len(rows) + len(batch["keys"])]
        references = np.stack(
            [
                found.queries[place] if searches[place].caption else found.gallery[searches[place].nearest_right]
                for place in places
            ]
        )
        told = torch.from_numpy(references).to(trained.device)
        maps = attend(trained, batch, told, feature=found.feature, distance=found.distance)
        rows += [_attention_row(target, searches[place], maps, number) for number, place in enumerate(places)]
    return Sheet("Where it looks", ATTENTION_NOTE, rows)


def ranked_sheet(target: Target, searches: Sequence[Search]) -> Sheet:
    """Show what each query finds."""
    rows = []
    for each in searches:
        tiles = [] if each.caption else [Tile(_picture(target, each.query), "query")]
        for rank, (sample, is_right) in enumerate(zip(each.found, each.is_right, strict=True), start=1):
            label = f"{rank}: {_person(target, sample)}"
            tiles.append(Tile(_picture(target, sample), label, "right" if is_right else "wrong"))
        rows.append(Row(_title(target, each), tiles))
    return Sheet("What it finds", RANKED_NOTE, rows)


def _attention_row(target: Target, search: Search, maps: Attention, number: int) -> Row:
    image = _picture(target, search.query)
    tiles = [
        Tile(image, "its image" if search.caption else "query"),
        Tile(_overlaid(image, maps.grad_cam[number]), "Grad-CAM"),
        Tile(_overlaid(image, maps.eigen_cam[number]), "Eigen-CAM"),
    ]
    if not search.caption:
        right = int(target.gallery[search.nearest_right])
        tiles.append(Tile(_picture(target, right), f"right: {_person(target, right)}"))
    return Row(_title(target, search), tiles)


def _overlaid(image: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """Lay a map over an image, half and half, from blue to red."""
    from pytorch_grad_cam.utils.image import show_cam_on_image  # noqa: PLC0415  (optional)

    height, width = heat.shape
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32) / 255
    return Image.fromarray(show_cam_on_image(pixels, heat, use_rgb=True))


def _picture(target: Target, index: int) -> Image.Image:
    sample = target.samples[index]
    return Image.fromarray(decode_rgb(next(sample[name] for name in IMAGE_MEMBERS if name in sample)))


def _title(target: Target, search: Search) -> str:
    named = f"{target.keys[search.query]}, person {_person(target, search.query)}"
    return f"“{search.caption}” ({named})" if search.caption else named


def _person(target: Target, index: int) -> str:
    camera = int(target.camera_ids[index])
    return target.names[index] + (f", camera {camera}" if camera >= 0 else "")
