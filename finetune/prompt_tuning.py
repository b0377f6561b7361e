"""The first stage of CLIP-ReID and pi-VL: a few learned tokens for each person, that CLIP's frozen encoders agree on.

Follow one run: identity-aware epochs find a sentence for each person as a whole, part-informed epochs go on with the same
tokens in sentences about the person's parts, held against the pixels that show them.

Source: CLIP-ReID, section 3.2; pi-VL, section 3.3, equations 2, 7 and 8.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finetune.contrast import Counting, comparable, list_part_texts, part_loss, prompt_loss
from finetune.job import EpochConfig
from finetune.pi_vl import Config, read_parts
from finetune.schedules import PROMPT_PEAK
from finetune.seen import Seen
from passerby.checkpoint import load_encoder
from passerby.nets.clip_pair import ClipPair
from passerby.nets.clip_reid import ImageEncoder
from passerby.nets.prompts import PART_NAMES, PromptEncoder, PromptLearner, encode_people
from passerby.optim import Optimizer
from passerby.training.batch import Batch

KIND = "pi-vl-prompts"

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """How prompts are tuned; what is not here is as in the second stage. The defaults are pi-VL's and CLIP-ReID's."""

    tokens: int = 4
    """M: learned for each person."""

    identity_epochs: int = 60
    """Identity-aware epochs, the first."""

    part_epochs: int = 20
    """Part-informed epochs, after those; none where the method compares no parts with people's own texts."""

    batch_size: int = 64
    """Images a step, over all ranks and passes."""

    images_a_person: int = 4
    """K: a batch has as many images of each of its people; 0 for batches of whoever comes, as CLIP-ReID's code takes."""

    learning_rate: float = PROMPT_PEAK
    """Greatest, of Adam; it falls as one cosine over all epochs."""

    weight_decay: float = 1e-4
    """L2 penalty of the tokens."""

    warmup_epochs: int = 5
    """Epochs until the learning rate is at its greatest."""

    counting: Counting = "dedup"
    """How often a text counts: once (`dedup`), or by its pixels (`literal`); see `finetune.contrast.part_loss`."""

    cache_gib: float = 4.0
    """GiB of memory of each rank for what the frozen encoder sees in images, which never changes; 0 to look anew each time."""

    save_every: int = 10
    """Epochs between two checkpoints."""

    def __post_init__(self) -> None:
        for name in ("tokens", "identity_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.part_epochs < 0:
            raise ValueError(f"part_epochs is {self.part_epochs}; it must be 0 or more")

    def loop(self, encoders: EpochConfig, *, has_parts: bool) -> EpochConfig:
        """Tell how long this stage takes; what is not said here is as in the second stage.

        Args:
            encoders: Of the second stage.
            has_parts: Whether there are part-informed epochs.

        Raises:
            ValueError: a number does not fit.
        """
        if has_parts and self.part_epochs and not self.images_a_person:
            raise ValueError(
                "prompts.images_a_person is 0; part-informed epochs compare images of a person, so set 4, or another"
            )
        return replace(
            encoders,
            epochs=self.identity_epochs + (self.part_epochs if has_parts else 0),
            batch_size=self.batch_size,
            images_a_person=self.images_a_person,
            schedule="cosine",
            warmup_epochs=self.warmup_epochs,
            compile=False,  # what was seen is remembered by key, and a compiled method is told none
            best_by="",
            save_every=self.save_every,
        )


class Prompts(nn.Module):
    """What is left of the first stage when it is over: tokens, Float (people, M, width) each.

    Args:
        whole: As the identity-aware epochs left them.
        parts: As they are at the end.
    """

    whole: Tensor
    parts: Tensor

    def __init__(self, whole: Tensor, parts: Tensor) -> None:
        super().__init__()
        self.register_buffer("whole", whole)
        self.register_buffer("parts", parts)


class PromptTuning(nn.Module):
    """Tunes prompts; their tokens are all that learns. See `passerby.training.method.Method`.

    Args:
        config: How long and how fast.
        method: What is compared with what.
        pair: A CLIP with its tokenizer.
        encoder: Of its image tower.
        people: Names of those who get tokens.
        identity_passes: Forward passes of the identity-aware epochs, of this rank.
    """

    passes: Tensor
    whole: Tensor

    def __init__(
        self,
        config: PromptConfig,
        method: Config,
        pair: ClipPair,
        encoder: ImageEncoder,
        people: tuple[str, ...],
        *,
        identity_passes: int,
    ) -> None:
        super().__init__()
        self.config, self.method, self.identity_passes = config, method, identity_passes
        self.table = describe_prompts(pair, people, tokens=config.tokens)
        self.learner = PromptLearner(*pair, people=len(people), tokens=config.tokens)
        self.texts = PromptEncoder(pair.model)
        self.images = encoder.requires_grad_(requires_grad=False)
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.register_buffer("whole", self.learner.context.detach().clone())
        self._seen = Seen(int(config.cache_gib * GIB), has_dense=method.tunes_parts)

    def train(self, mode: bool = True) -> "PromptTuning":
        """Let the frozen encoders answer as ever: statistics of batches stay as they are."""
        super().train(mode)
        self.images.eval()
        self.texts.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Give the loss of the epoch that it is: equation 2, then equations 7 and 8."""
        passes = int(self.passes)
        is_of_parts = passes >= self.identity_passes
        if passes == self.identity_passes:
            self.whole.copy_(self.learner.context.detach())
        self.passes += 1
        sight = self._seen.look(self.images, batch["images"], batch["keys"])
        loss = self._learn_parts(batch, sight.dense) if is_of_parts else self._learn_people(batch, sight.projected)
        return {"loss": loss, "loss_components": {"part_loss" if is_of_parts else "prompt_loss": loss.detach()}}

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Learn nothing in advance."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Give the tokens."""
        return [
            {
                "params": [self.learner.context],
                "lr": self.config.learning_rate,
                "weight_decay": self.config.weight_decay,
            }
        ]

    def build_optimizer(self, groups: list[dict[str, Any]]) -> Optimizer:
        """Build Adam, with its L2 penalty."""
        return torch.optim.Adam(groups)

    def evaluate(self, batches: Iterable[Batch]) -> dict[str, float]:
        """Measure nothing: people who were held out have no tokens."""
        return {}

    def encoder(self) -> tuple[nn.Module, dict[str, Any]]:
        """Give the tokens, and what they are for."""
        parts = self.learner.context.detach()
        whole = self.whole if self.passes > self.identity_passes else parts
        return Prompts(whole.clone(), parts.clone()), self.table

    def _learn_people(self, batch: Batch, projected: Tensor) -> Tensor:
        people, method = batch["person_ids"], self.method
        texts = encode_people(self.learner, self.texts, people)
        images, texts = (
            comparable(each, method.similarity, temperature=method.temperature) for each in (projected, texts)
        )
        return prompt_loss(images, texts, people)

    def _learn_parts(self, batch: Batch, dense: Tensor) -> Tensor:
        labels = read_parts(self.images.cells, batch["parsing"], self.method.background)
        people, parts, places = list_part_texts(batch["person_ids"], labels)
        texts = self.texts(self.learner(people, parts))
        return part_loss(dense, texts, places, temperature=self.method.temperature, counting=self.config.counting)


def describe_prompts(pair: ClipPair, people: Sequence[str], *, tokens: int) -> dict[str, Any]:
    """Say what prompts are for: whose, of how many tokens, in which sentences, and for which CLIP."""
    projection = pair.model.text_projection.detach().cpu().float().contiguous()
    return {
        "kind": KIND,
        "tokens": tokens,
        "embed_dim": projection.shape[1],
        "clip": hashlib.blake2b(projection.numpy().tobytes(), digest_size=8).hexdigest(),
        "parts": [*PART_NAMES],
        "people": [*people],
    }


def load_prompts(folder: Path, expected: Mapping[str, Any]) -> Prompts:
    """Read the prompts that a first stage left.

    Args:
        folder: Of its run.
        expected: What they must be for, of `describe_prompts`.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are for other people, parts, or another CLIP.
    """
    weights, table = load_encoder(folder)
    if table.get("kind") != KIND:
        raise ValueError(
            f"{folder} holds no prompts, but {table.get('kind', 'a pre-trained encoder')!r}; give RUN/prompts of finetune pi-vl"
        )
    if faults := [_differ(name, table[name], each) for name, each in expected.items() if table[name] != each]:
        raise ValueError(
            f"the prompts of {folder} do not fit: {'; '.join(faults)}; tune new ones by leaving method.prompts empty"
        )
    return Prompts(**weights)


def _differ(name: str, found: object, expected: object) -> str:
    if not isinstance(found, list) or not isinstance(expected, list):
        return f"{name} is {found!r} there and {expected!r} here"
    strangers = sorted({*found} ^ {*expected})
    which = f"{strangers[0]!r} only on one side" if strangers else "in another order"
    return f"{name} are {len(found)} there and {len(expected)} here, {which}"
