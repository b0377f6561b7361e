"""What a frozen encoder sees in images that stay as they are: looked at once, and remembered as far as memory goes."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from passerby.nets.clip_reid import ImageEncoder


class Sight(NamedTuple):
    """Of one image, or of a batch."""

    projected: Tensor
    """Float (embed_dim,)."""

    dense: Tensor
    """Half (embed_dim, rows, columns)."""


class Seen:
    """Looks at images for the first time, and remembers on the CPU what it saw.

    Args:
        limit_bytes: Of memory. What comes later is looked at anew each time.
        has_dense: Whether `dense` is wanted; else it is empty.
    """

    def __init__(self, limit_bytes: int, *, has_dense: bool) -> None:
        self.left_bytes, self.has_dense = limit_bytes, has_dense
        self._sights: dict[str, Sight] = {}

    @torch.no_grad()
    def look(self, encoder: ImageEncoder, images: Tensor, keys: Sequence[str]) -> Sight:
        """Give what the encoder sees: `dense` in half precision, whether it is remembered or not.

        Args:
            encoder: The same each time, and in evaluation mode.
            images: Float (batch, 3, height, width), normalised.
            keys: Of the images; one that comes twice is one image.
        """
        unseen = {key: place for place, key in enumerate(keys) if key not in self._sights}
        answers: dict[str, Sight] = {}
        if unseen:
            found = encoder(images[[*unseen.values()]])
            dense = found.dense if self.has_dense else found.dense[..., :0]
            both = zip(found.projected.float().cpu(), dense.half().cpu(), strict=True)
            answers = {key: Sight(*each) for key, each in zip(unseen, both, strict=True)}
            self._remember(answers)
        sights = [answers[key] if key in answers else self._sights[key] for key in keys]
        return Sight(*(torch.stack(each).to(images.device) for each in zip(*sights, strict=True)))

    def _remember(self, answers: dict[str, Sight]) -> None:
        size_bytes = sum(tensor.nbytes for sight in answers.values() for tensor in sight)
        if size_bytes <= self.left_bytes:
            self._sights |= answers
            self.left_bytes -= size_bytes
