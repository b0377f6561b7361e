"""One vector for an image: of a ResNet's last map its mean, of a vision transformer its class token."""

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from passerby.nets.resnet import build_resnet, keep_last_resolution
from passerby.nets.vit import ARCHITECTURES, build_vit


class ImageEncoder(nn.Module):
    """Gives one vector for each image.

    Args:
        architecture: A ResNet of timm, or one of `passerby.nets.vit.ARCHITECTURES`.
        height_width: Of the images, pixels.
        last_stride: 1 or 2, of the last stage of a ResNet.

    Raises:
        ValueError: there is no such architecture, or it does not fit the images.
    """

    def __init__(self, architecture: str, height_width: tuple[int, int], *, last_stride: int = 1) -> None:
        super().__init__()
        self.backbone: nn.Module
        if architecture in ARCHITECTURES:
            self.backbone = build_vit(architecture, height_width)
        else:
            self.backbone = build_resnet(architecture)
            if last_stride == 1:
                keep_last_resolution(self.backbone)
        self.width = int(self.backbone.num_features)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Give the vectors: Float (batch, width), of images Float (batch, 3, height, width), normalised."""
        states: Tensor = self.backbone(images)
        if isinstance(self.backbone, VisionTransformer):
            return states[:, 0]
        # shape: (batch, width)
        return states.mean(dim=(2, 3))
