"""What the embedded CLIP is trained with: one loss for every choice, and the prototypes that lead both towers to each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from captioning.embedded.model import WIDTH
from captioning.embedded.questions import Question


def choice_loss(logits: Tensor, accepted: Tensor) -> Tensor:
    """Mean of -log of the probability that falls on accepted choices, over the rows that have any; 0 without such rows.

    Args:
        logits: Float (rows, choices).
        accepted: Bool (rows, choices).
    """
    asked = accepted.any(dim=1)
    logits, accepted = logits[asked], accepted[asked]
    if len(logits) == 0:
        return logits.sum()
    true = logits.masked_fill(~accepted, -torch.inf).logsumexp(dim=1)
    return (logits.logsumexp(dim=1) - true).mean()


class Prototypes(nn.Module):
    """One vector for each answer to each question of the table; only training has them."""

    def __init__(self, questions: Sequence[Question]) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict(
            {question.name: nn.Parameter(torch.randn(len(question.wordings), WIDTH)) for question in questions}
        )

    def forward(self, question: Question) -> Tensor:
        """Give Float (answers, width) of unit length."""
        return functional.normalize(self.vectors[question.name], dim=-1)
