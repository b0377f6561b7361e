"""How well a head tells what is hidden, beside how well one would by always telling the same."""

from collections import Counter
from typing import Protocol

from torch import Tensor


class Score(Protocol):
    """How well something is told."""

    def add(self, told: Tensor, targets: Tensor) -> None:
        """Count some guesses."""
        ...

    def scores(self, name: str) -> dict[str, float]:
        """Give a figure, and what it would be by chance, under names that begin with `name`."""
        ...


class Tally:
    """Counts right guesses, beside those of always telling the most frequent label."""

    def __init__(self) -> None:
        self._right = 0
        self._labels: Counter[int] = Counter()

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count some guesses: Float (guesses, labels that there are) and Int64 (guesses,)."""
        self._right += int((logits.argmax(dim=1) == labels).sum())
        self._labels.update(labels.tolist())

    @property
    def accuracy(self) -> float:
        """Share of right guesses; 0 if there was none."""
        return self._right / max(1, self._labels.total())

    @property
    def chance(self) -> float:
        """Share of the most frequent label."""
        return max(self._labels.values(), default=0) / max(1, self._labels.total())

    def scores(self, name: str) -> dict[str, float]:
        """See `Score`."""
        return {f"{name}_accuracy": self.accuracy, f"{name}_chance": self.chance}


class SquaredError:
    """Adds up squared errors, beside those of always telling 0, which is the mean of a patch."""

    def __init__(self) -> None:
        self._error = self._chance = 0.0
        self._count = 0

    def add(self, told: Tensor, targets: Tensor) -> None:
        """Add some errors: Float (patches, pixels) both."""
        self._error += float((told.float() - targets).square().sum())
        self._chance += float(targets.square().sum())
        self._count += targets.numel()

    def scores(self, name: str) -> dict[str, float]:
        """Give mean squared errors, ours and by chance."""
        count = max(1, self._count)
        return {f"{name}_error": self._error / count, f"{name}_chance": self._chance / count}


def tally_for(targets: Tensor) -> Score:
    """Give what scores labels, or pixels."""
    return SquaredError() if targets.is_floating_point() else Tally()
