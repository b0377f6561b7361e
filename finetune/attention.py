"""Where a run looks: Grad-CAM of what makes an image like another or like a caption, and Eigen-CAM of what it sees at all.

Grad-CAM needs something to explain. A class there is none, since people of the test were never learnt; the similarity of an image
to itself has no gradient. So it is the similarity to what a search should find: the nearest right image, or the caption.

Source: Grad-CAM (Selvaraju et al., ICCV 2017), as MMET shows it in figure 4; Eigen-CAM (Muhammad and Yeasin, IJCNN 2020), whose
sign is arbitrary, and is chosen so that what stands out is bright (Chung and Ying, Seg-Eigen-CAM, 2025, equation 13).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from finetune.trained import Trained
from passerby.nets.clip_reid import VitEncoder
from passerby.nets.mobilenet import MobileNet
from passerby.nets.tower_encoder import TowerEncoder
from passerby.training.batch import Batch

CELLS_AFTER = 1
"""Of a transformer's tokens, the first is the class token; the others are cells."""


@dataclass(frozen=True)
class Attention:
    """Maps of some images, each scaled by itself from 0 to 1: Float32 (images, height, width)."""

    grad_cam: NDArray[np.float32]
    eigen_cam: NDArray[np.float32]


def attend(trained: Trained, batch: Batch, references: Tensor, *, feature: str, distance: str) -> Attention:
    """See what in images makes them like their references.

    Args:
        trained: The run.
        batch: With the images.
        references: Features of what each image is compared with: Float (batch, width).
        feature: Of the images, compared with the references.
        distance: How: `cosine` or `euclidean`.

    Raises:
        ModuleNotFoundError: the package grad-cam is not installed.
        ValueError: the run's encoder has no map that is known here.
    """
    try:
        from pytorch_grad_cam import GradCAM  # noqa: PLC0415  (optional, and slow to import)
        from pytorch_grad_cam.utils.image import scale_cam_image  # noqa: PLC0415
        from pytorch_grad_cam.utils.svd_on_activations import (  # noqa: PLC0415
            get_2d_projection_with_sign_correction as project,
        )
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"maps of attention need {error.name}; pip install 'passerby[attend]'") from None

    layer, as_map = find_layer(trained.searcher)
    compared = _Compared(trained, batch["camera_ids"], feature)
    cam = GradCAM(compared, [layer], reshape_transform=as_map)
    try:
        grad_cam = cam(batch["images"], [partial(_similarity, reference, distance) for reference in references])
        states = cam.activations_and_grads.activations[0].numpy()
    finally:
        cam.activations_and_grads.release()
        compared.zero_grad()
    height, width = batch["images"].shape[2:]
    eigen_cam = scale_cam_image(scale_cam_image(np.maximum(project(states), 0), (width, height)))
    return Attention(np.float32(grad_cam), np.float32(eigen_cam))  # type: ignore[arg-type]


def find_layer(searcher: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor] | None]:
    """Find where a searcher's encoder of images still has a map: the module, and what makes a map of its output.

    Of a convolutional net that is its last map; of a transformer the input of the last attention, after which only the
    class token goes on.

    Raises:
        ValueError: there is none that is known here.
    """
    for module in searcher.modules():
        found: Any = module
        if isinstance(module, VisionTransformer):
            return found.blocks[-1].norm1, partial(_cells, found.patch_embed.grid_size)
        if isinstance(module, VitEncoder):
            cells = found.cells.rows, found.cells.columns
            return found.tower.transformer.resblocks[-1].ln_1, partial(_cells, cells)
        if isinstance(module, TowerEncoder):
            return found.tower.stages[-1], None
        if isinstance(module, MobileNet):
            return found.features[-1], None
        if hasattr(module, "layer4"):
            return found.layer4, None
    raise ValueError(
        f"attention is read from ResNets, vision transformers and MobileNets; {type(searcher).__name__} has none"
    )


class _Compared(nn.Module):
    """A run as one function, from images to the feature that is compared."""

    def __init__(self, trained: Trained, camera_ids: Tensor, feature: str) -> None:
        super().__init__()
        self.searcher = trained.searcher
        self.trained, self.camera_ids, self.feature = trained, camera_ids, feature

    def forward(self, images: Tensor) -> Tensor:
        """Give the feature: Float (batch, width)."""
        return self.trained.choose_feature(self.trained.embed_images(images, self.camera_ids), self.feature)


def _similarity(reference: Tensor, distance: str, found: Tensor) -> Tensor:
    """Compare two features, Float (width,) each."""
    if distance == "cosine":
        return functional.cosine_similarity(found, reference, dim=0)
    return -(found - reference).square().sum()


def _cells(rows_columns: tuple[int, int], tokens: Tensor) -> Tensor:
    """Lay tokens out as a map: Float (batch, width, rows, columns)."""
    return torch.unflatten(tokens[:, CELLS_AFTER:].transpose(1, 2), 2, rows_columns)
