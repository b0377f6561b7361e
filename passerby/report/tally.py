"""How many captions are of some kind, and the first few of them to look at."""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class Tally:
    """A count with examples."""

    kept: ClassVar[int] = 3
    """Examples; those that come first."""

    captions: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, captions: int, examples: list[dict[str, str]]) -> None:
        """Count captions, and keep their examples as long as there is room."""
        self.captions += captions
        self.examples += examples[: self.kept - len(self.examples)]

    def merge(self, other: "Tally") -> None:
        """Take in the tally of captions that come after these."""
        self.add(other.captions, other.examples)
