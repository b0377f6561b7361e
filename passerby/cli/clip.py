"""Which CLIP a command matches with, and what must be said about it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    from captioning.conquer import Scorer
    from captioning.words import Words


@dataclass(frozen=True)
class Clip:
    """Which model to match with."""

    model: str
    weights: str
    image_mode: str
    device: str
    precision: Literal["fp32", "fp16", "bf16"]
    batch_size: int

    def load(self) -> "Scorer":
        """Load it, or explain what is missing; `none` guesses from checksums, for dry runs."""
        from captioning.conquer import HashScorer

        if self.model == "none":
            return HashScorer()
        from passerby.nets.clip import load_clip

        return load_clip(
            self.model,
            self.weights,
            image_mode=self.image_mode,
            device=self.device,
            precision=self.precision,
            batch_size=self.batch_size,
        )


def warn_of_the_embedded_model(words: "Words", *, is_at_home: bool) -> None:
    """Say that it knows our renders only, unless the images are such, and which words of the bank it never read."""
    from captioning.conquer import prompts_of
    from captioning.embedded.model import VOCABULARY
    from passerby.nets.clip_source import EMBEDDED
    from passerby.nets.vocabulary import unknown_words

    if not is_at_home:
        message = "the embedded model knows synthetic pedestrians only; on photographs its picks mean nothing"
        typer.echo(f"warning: {message}", err=True)
    if unknown := unknown_words(prompts_of(words.bank), EMBEDDED / VOCABULARY):
        typer.echo(f"warning: the embedded model has never read {', '.join(unknown)}", err=True)
