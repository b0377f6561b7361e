"""How often a head is right, beside how often it would be by always telling the same."""

from collections import Counter

from torch import Tensor


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
