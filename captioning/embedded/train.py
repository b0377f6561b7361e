"""Train the embedded CLIP on synthetic pedestrians.

Source: ours. Two losses ask about single attributes, one about whole captions:
- image to phrase: among the answers to a question, in random wordings, those that are true of the picture, where it can be seen;
- image to prototype and phrase to prototype: each answer has a learned vector that both towers must find. It leads them to
  each other long before a random text tower would be of help, and is thrown away at the end;
- InfoNCE between pictures and composed captions.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn
from torch.nn import functional

from captioning.divide import load_phrases
from captioning.embedded.captions import compose
from captioning.embedded.data import Album
from captioning.embedded.model import DEVIATION, MEAN, WIDTH, build_model, build_tokenizer, encode_texts, write_model
from captioning.embedded.questions import BANK, FRAMES, Question, bank_questions, draw_wording, table_questions
from captioning.synonyms import load_synonyms
from passerby.nets.vocabulary import trim_vocabulary


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train."""

    epochs: int = 30
    """Passes over the album."""
    batch_size: int = 128
    """Pictures a step."""
    learning_rate: float = 2e-3
    """At its peak; a cosine takes it to 0."""
    warmup_share: float = 0.05
    """Of the steps, in which the rate rises to its peak."""
    weight_decay: float = 0.05
    """Of AdamW, on matrices only."""
    caption_weight: float = 0.3
    """Of the InfoNCE between pictures and captions."""
    captions_a_step: int = 48
    """Pictures of a batch that also meet their captions."""
    candidates: int = 24
    """Answers besides the true ones that a question with hundreds of answers offers in a step."""
    asked: int = 64
    """Pictures a step of which a question with hundreds of answers is asked."""
    seed: int = 0
    """Of weights, order, wordings and augmentation."""


MANY_ANSWERS = 32
"""Questions with more answers offer a sample of them in each step."""

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's own bound; generation takes softmaxes at this scale."""


class Prototypes(nn.Module):
    """One vector for each answer to each question of the table; only training has them."""

    def __init__(self, questions: list[Question]) -> None:
        super().__init__()
        self.vectors = nn.ParameterDict(
            {question.name: nn.Parameter(torch.randn(len(question.wordings), WIDTH)) for question in questions}
        )

    def forward(self, question: Question) -> Tensor:
        """Give Float (answers, width) of unit length."""
        return functional.normalize(self.vectors[question.name], dim=-1)


class Trainer:
    """What a training step needs: the album as tensors, the questions with the answers of every picture, the random sources."""

    def __init__(self, album: Album, questions: list[Question], tokenizer: SimpleTokenizer, recipe: Recipe) -> None:
        self.album = album
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.random = Random(recipe.seed)  # noqa: S311  (no secrets)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        # shape: (pictures, 3, height, width), channels last in memory
        self.images = torch.from_numpy(album.images).permute(0, 3, 1, 2)
        self.identities = torch.tensor([sight.identity for sight in album.sights])
        self.table = [question for question in questions if not question.name.startswith(BANK)]
        bank = [question for question in questions if question.name.startswith(BANK)]
        long = [question for question in bank if len(question.wordings) > MANY_ANSWERS]
        self.turns = [[question] for question in long] + [[question for question in bank if question not in long]]
        self.accepted = {question.name: accepted_answers(album, question) for question in questions}

    def batches(self) -> Iterator[Tensor]:
        """Yield the picture numbers of one epoch's batches in a new order, without a last short one."""
        order = torch.randperm(len(self.images), generator=self.generator)
        size = min(self.recipe.batch_size, len(order))
        yield from torch.split(order[: len(order) // size * size], size)

    def loss(self, model: open_clip.CLIP, prototypes: Prototypes, batch: Tensor, step: int) -> Tensor:
        """Compute the loss of one step.

        Args:
            model: Both towers.
            prototypes: Vectors of the answers to the table's questions.
            batch: Int64 (batch,), numbers of pictures.
            step: Number of the step; the bank's long questions take turns.
        """
        scale = model.logit_scale.exp()
        features = functional.normalize(model.encode_image(self.augment(self.images[batch])), dim=-1)
        asked = self.table + self.turns[step % len(self.turns)]
        offers = [self.offer(question, batch) for question in asked]
        texts = [text for wordings, _ in offers for text in wordings]
        phrases = torch.split(encode_texts(model, self.tokenizer, texts), [len(wordings) for wordings, _ in offers])
        losses = []
        for question, (_, accepted), answers in zip(asked, offers, phrases, strict=True):
            losses.append(choice_loss(scale * features[: len(accepted)] @ answers.T, accepted))
            if question.name in prototypes.vectors:
                vectors = prototypes(question)
                losses.append(choice_loss(scale * features @ vectors.T, accepted))
                losses.append(functional.cross_entropy(scale * answers @ vectors.T, torch.arange(len(answers))))
        captions = self.caption_loss(
            model, features[: self.recipe.captions_a_step], batch[: self.recipe.captions_a_step]
        )
        return torch.stack(losses).sum() / len(asked) + self.recipe.caption_weight * captions

    def offer(self, question: Question, batch: Tensor) -> tuple[list[str], Tensor]:
        """Draw a wording of each answer, or of a sample of them that has a true one for every picture asked.

        Returns:
            The wordings, and Bool (pictures asked, wordings): which are true.
        """
        accepted = self.accepted[question.name][batch]
        if len(question.wordings) <= MANY_ANSWERS:
            return [draw_wording(wordings, self.random) for wordings in question.wordings], accepted
        accepted = accepted[: self.recipe.asked]
        true = {self.random.choice(row.nonzero().flatten().tolist()) for row in accepted if row.any()}
        others = self.random.sample(range(len(question.wordings)), self.recipe.candidates)
        offered = sorted(true.union(others))
        return [draw_wording(question.wordings[answer], self.random) for answer in offered], accepted[:, offered]

    def caption_loss(self, model: open_clip.CLIP, features: Tensor, batch: Tensor) -> Tensor:
        """Compare pictures with captions, both ways; another picture of the same person is no mistake."""
        sights = [self.album.sights[number] for number in batch.tolist()]
        texts = [compose(sight.labels, sight.visible, self.random) for sight in sights]
        # shape: (pictures, captions)
        logits = model.logit_scale.exp() * features @ encode_texts(model, self.tokenizer, texts).T
        same = self.identities[batch, None] == self.identities[None, batch]
        return (choice_loss(logits, same) + choice_loss(logits.T, same)) / 2

    def augment(self, images: Tensor) -> Tensor:
        """Flip, shift, brighten and normalise. A flip makes no caption wrong: none says left or right.

        Args:
            images: Uint8 (batch, 3, height, width).
        """
        count, _, height, width = images.shape
        flip, down, right, gain = torch.rand(4, count, 1, generator=self.generator)
        rows = (torch.arange(height) + (down * 9).long() - 4).clamp(0, height - 1)
        columns = (torch.arange(width) + (right * 7).long() - 3).clamp(0, width - 1)
        columns = torch.where(flip < 0.5, columns, width - 1 - columns)
        # shape: (batch, height, width, 3)
        moved = images.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
        pixels: Tensor = moved.permute(0, 3, 1, 2) * ((0.8 + 0.4 * gain[:, :, None, None]) / 255)
        mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))
        return (pixels - mean) / deviation


def accepted_answers(album: Album, question: Question) -> Tensor:
    """Give Bool (pictures, answers): which answers are true; none where the picture does not show what it takes."""
    accepted = torch.zeros(len(album.sights), len(question.wordings), dtype=torch.bool)
    for row, sight in zip(accepted, album.sights, strict=True):
        if question.needs <= sight.visible:
            row[sorted(question.accepts(sight.labels))] = True
    return accepted


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


def train_model(
    folder: Path,
    album: Album,
    recipe: Recipe,
    *,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[float]:
    """Train a CLIP on an album, with the shipped phrases and synonyms, and write it to `folder` when it is done.

    Returns:
        The mean loss of each epoch.
    """
    questions = [*table_questions(), *bank_questions(load_phrases(), load_synonyms())]
    vocabulary = trim_vocabulary(_texts(album, questions))
    torch.manual_seed(recipe.seed)
    model = build_model(vocabulary)
    losses = train(model, build_tokenizer(vocabulary), album, questions, recipe, on_epoch=on_epoch)
    write_model(folder, model, vocabulary)
    return losses


def train(
    model: open_clip.CLIP,
    tokenizer: SimpleTokenizer,
    album: Album,
    questions: list[Question],
    recipe: Recipe,
    *,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> list[float]:
    """Train a model in place.

    Args:
        model: Both towers, with random weights.
        tokenizer: Of the trimmed vocabulary.
        album: Pictures.
        questions: Of the table and of the phrase bank.
        recipe: How.
        on_epoch: Called after each epoch with its number from 1 and its mean loss.

    Returns:
        The mean loss of each epoch.
    """
    trainer = Trainer(album, questions, tokenizer, recipe)
    prototypes = Prototypes(trainer.table)
    model.to(memory_format=torch.channels_last).train()
    optimizer, schedule = _optimizer(nn.ModuleList([model, prototypes]), recipe, len(list(trainer.batches())))
    losses = []
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        first = step
        for batch in trainer.batches():
            loss = trainer.loss(model, prototypes, batch, step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
            total += loss.item()
            step += 1
        losses.append(total / (step - first))
        on_epoch(epoch, losses[-1])
    model.eval()
    return losses


def _texts(album: Album, questions: Sequence[Question]) -> Iterator[str]:
    """Yield texts that have every word training can draw."""
    yield from FRAMES
    for question in questions:
        for wordings in question.wordings:
            yield from wordings
    random = Random(0)  # noqa: S311  (no secrets)
    for sight in album.sights:
        yield compose(sight.labels, sight.visible)
        yield compose(sight.labels, sight.visible, random)


def _optimizer(
    modules: nn.Module, recipe: Recipe, steps_an_epoch: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    matrices = [parameter for parameter in modules.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in modules.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=recipe.epochs * steps_an_epoch,
        pct_start=recipe.warmup_share,
        cycle_momentum=False,
    )
    return optimizer, schedule
