"""pi-VL and CLIP-ReID: what they are told, and what is left of them when they are trained.

Two stages lie between. `finetune.prompt_tuning` finds sentences about people and their parts, `finetune.encoder_tuning` draws
an image encoder to them, and `finetune.stages` runs one after the other.

Source: CLIP-ReID (Li et al., AAAI 2023), section 3.2, and its code; pi-VL, sections 3 and 4. What the papers leave open, and why
it is as it is here, stands at each field of `Config`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from finetune.alignment import IGNORED, Distance
from finetune.contrast import Similarity
from passerby.nets.clip_pair import build_blank
from passerby.nets.clip_reid import ImageEncoder, build_image_encoder
from passerby.nets.features import Cells, Triple
from passerby.nets.mobilenet import MobileNet
from passerby.nets.prompts import PART_NAMES

KIND = "pi-vl"

TEST_FEATURE = "before_neck"

Variant = Literal["clip-reid", "part-text", "identity-aware", "pi-vl"]

Background = Literal["include", "ignore"]

BACKGROUND = PART_NAMES.index("background")

IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that MobileNet's weights were trained with."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The defaults are the papers' for CLIP's ResNet-50."""

    clip_model: str = "RN50-quickgelu"
    """A model of open_clip with CLIP's tokens, `embedded`, or one of `passerby.nets.clip_pair.TINY`."""

    clip_weights: str = "openai"
    """A tag of open_clip, a file, or `local-dir:FOLDER`; empty for `embedded` and the tiny ones."""

    variant: Variant = "pi-vl"
    """Rows of pi-VL's table 3. `clip-reid`: no parts. `part-text`: texts of parts, the same for all people, against the last map.
    `identity-aware`: each person's own. `pi-vl`: those, against fused maps."""

    student: Literal["none", "mobilenet"] = "none"
    """Train a MobileNetV2 of a quarter of the channels on the texts, instead of CLIP's image tower (table 5)."""

    student_weights: str = ""
    """Where the student begins: a file of torchvision's net of that width, or empty for random weights."""

    prompts: str = ""
    """Folder of prompts that were tuned before, `RUN/prompts`; empty to tune them in this run."""

    image_height: int = 256
    """Pixels."""

    image_width: int = 128
    """Pixels."""

    stride: int = 16
    """Pixels between the cells of the last map; 12 makes a vision transformer's patches overlap."""

    cameras: bool = False
    """Whether a vision transformer learns a vector for each camera; it knows no others then, so it goes to no other data set."""

    similarity: Similarity = "product"
    """Of images and texts about whole people: the plain product, as CLIP-ReID's code has it, or the cosine over `temperature`."""

    temperature: float = 0.07
    """Divides cosines: of pixels and texts about parts, and of images and texts if `similarity` is theirs. The paper tells none."""

    whole_text: Literal["identity", "final"] = "identity"
    """Which tokens tell of a person as a whole: as the identity-aware epochs left them, so that it is CLIP-ReID's text, or those
    after the part-informed ones."""

    background: Background = "include"
    """Whether pixels beside the person are drawn to a text, too; the paper excludes none of LIP's classes."""

    widening: str = "depthwise"
    """How the head brings maps to one width; see `passerby.nets.part_head.FusionHead`. A student's mixes, pointwise."""

    identity_weight: float = 1.0
    """Of the identity losses; 0.25 for CLIP-ReID's vision transformer."""

    triplet_weight: float = 1.0
    """Of the triplet losses."""

    text_weight: float = 1.0
    """Of the loss of finding a person's text (equation 3)."""

    alignment_weight: float = 1.0
    """Lambda: of the alignment of parts (equation 12); the paper does not tell it."""

    alignment: Distance = "cosine"
    """What is made small between pixels and texts; `mse` is equation 11 to the letter."""

    label_smoothing: float = 0.1
    """Share of a label that goes to all people alike."""

    margin: float = 0.3
    """Of the triplet losses."""

    learning_rate: float = 3.5e-4
    """Greatest, of Adam; biases have twice as much."""

    head_learning_rate: float = 3.5e-4
    """The same of the head, which begins at random and so cannot do with a vision transformer's 5e-6."""

    weight_decay: float = 5e-4
    """L2 penalty, of everything."""

    def __post_init__(self) -> None:
        if self.student != "none" and self.variant not in ("clip-reid", "pi-vl"):
            raise ValueError(f"variant is {self.variant!r}; a student takes clip-reid or pi-vl")
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if self.student != "none" and self.cameras:
            raise ValueError("cameras is true, and a student learns none; leave it false")

    @property
    def has_parts(self) -> bool:
        """Whether parsing maps are needed."""
        return self.variant != "clip-reid"

    @property
    def tunes_parts(self) -> bool:
        """Whether the first stage has part-informed epochs."""
        return self.variant in ("identity-aware", "pi-vl")


class Searcher(nn.Module):
    """What is left when training is over: the image encoder, without necks, classifiers and head.

    `embed_images` gives `before_neck`: a CLIP's `feature` and `projected` side by side, of a student its only feature, as
    they are before any normalisation; they are compared by cosine.

    Args:
        encoder: Of images.
    """

    def __init__(self, encoder: ImageEncoder | MobileNet) -> None:
        super().__init__()
        self.encoder = encoder

    @property
    def cameras(self) -> int:
        """How many cameras the encoder knows, from 0; none if it does without."""
        embedding = getattr(self.encoder, "camera_embedding", None)
        return 0 if embedding is None else int(embedding.num_embeddings)

    def embed_images(self, images: Tensor, camera_ids: Tensor | None = None) -> dict[str, Tensor]:
        """Give features by name: Float (batch, width) each.

        Args:
            images: Float (batch, 3, height, width), normalised.
            camera_ids: Int64 (batch,); needed where the encoder knows cameras, and without effect elsewhere.

        Raises:
            ValueError: the encoder knows cameras, and not these.
        """
        found = self.encoder(images, *self.told(camera_ids))
        parts = [found.feature] if isinstance(self.encoder, MobileNet) else [found.feature, found.projected]
        return {TEST_FEATURE: torch.cat(parts, dim=1)}

    def told(self, camera_ids: Tensor | None) -> tuple[Tensor, ...]:
        """Give what the encoder is told besides the images."""
        if not self.cameras:
            return ()
        if camera_ids is None or int(camera_ids.min()) < 0 or int(camera_ids.max()) >= self.cameras:
            known = "unknown" if camera_ids is None else f"{int(camera_ids.min())} to {int(camera_ids.max())}"
            raise ValueError(
                f"camera_id is {known} here, and the encoder learnt cameras 0 to {self.cameras - 1}; for other cameras train"
                " with method.cameras=false"
            )
        return (camera_ids,)


def rebuild(table: dict[str, Any]) -> Searcher:
    """Build the searcher of an export, with random weights.

    Args:
        table: Of `finetune.encoder_tuning.EncoderTuning.encoder`.
    """
    size = table["image_height"], table["image_width"]
    if table["student"] != "none":
        return Searcher(MobileNet(size))
    clip = build_blank(table["tower"], mean=tuple(table["image_mean"]), deviation=tuple(table["image_std"]))
    return Searcher(build_image_encoder(clip, size, stride=table["stride"], cameras=table["cameras"]))


def read_parts(cells: Cells, parsing: Tensor, background: Background) -> Tensor:
    """Give the part at the middle of each cell, or `IGNORED`: (batch, rows, columns), of the type of the maps."""
    labels = cells.read(parsing)
    return labels.masked_fill(labels == BACKGROUND, IGNORED) if background == "ignore" else labels


def statistics_of(encoder: ImageEncoder | MobileNet) -> tuple[Triple, Triple]:
    """Give mean and deviation of the images' levels that an encoder wants."""
    return IMAGENET if isinstance(encoder, MobileNet) else (encoder.mean, encoder.deviation)
