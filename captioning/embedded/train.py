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
from captioning.embedded.losses import Prototypes, choice_loss
from captioning.embedded.model import DEVIATION, MEAN, build_model, build_tokenizer, encode_texts, write_model
from captioning.embedded.questions import BANK, FRAMES, Question, bank_questions, draw_wording, table_questions
from captioning.synonyms import load_synonyms
from passerby.nets.vocabulary import trim_vocabulary


@dataclass(frozen=True)
class Recipe:
    """How long and how hard to train."""

    epochs: int = 34
    """Passes over the album."""
    batch_size: int = 64
    """Pictures a step."""
    text_every: int = 2
    """Steps from one that reads texts to the next; in those between only prototypes teach, at half the cost."""
    learning_rate: float = 2e-3
    """At its peak."""
    warmup_steps: int = 200
    """In which the rate rises to its peak."""
    decay_share: float = 0.3
    """Of the steps, at the end, in which the rate falls to 0. Until then a longer training is the same as a shorter one."""
    weight_decay: float = 0.05
    """Of AdamW, on matrices only."""
    caption_weight: float = 0.3
    """Of the InfoNCE between pictures and captions."""
    captions_a_step: int = 32
    """Pictures of a batch that also meet their captions."""
    candidates: int = 16
    """Answers besides the true ones that a question with hundreds of answers offers in a step."""
    asked: int = 32
    """Pictures a step of which a question with hundreds of answers is asked."""
    seed: int = 0
    """Of weights, order, wordings and augmentation."""


MANY_ANSWERS = 32
"""Questions with more answers offer a sample of them in each step."""

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's own bound; generation takes softmaxes at this scale."""


class Trainer:
    """What a training step needs: the album as tensors, the questions with the answers of every picture, the random sources."""

    def __init__(self, album: Album, questions: list[Question], tokenizer: SimpleTokenizer, recipe: Recipe) -> None:
        self.album = album
        self.recipe = recipe
        self.tokenizer = tokenizer
        self.batch_size = min(recipe.batch_size, len(album.sights))
        self.steps_an_epoch = len(album.sights) // self.batch_size
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
        yield from torch.split(order, self.batch_size)[: self.steps_an_epoch]

    def loss(self, model: open_clip.CLIP, prototypes: Prototypes, batch: Tensor, step: int) -> Tensor:
        """Compute the loss of one step.

        Args:
            model: Both towers.
            prototypes: Vectors of the answers to the table's questions.
            batch: Int64 (batch,), numbers of pictures.
            step: Number of the step; the bank's long questions take turns.
        """
        features = functional.normalize(model.encode_image(self.augment(self.images[batch])), dim=-1)
        scale = model.logit_scale.exp()
        losses = [
            choice_loss(scale * features @ prototypes(question).T, self.accepted[question.name][batch])
            for question in self.table
        ]
        loss = torch.stack(losses).mean()
        if step % self.recipe.text_every:
            return loss
        turn = self.turns[step // self.recipe.text_every % len(self.turns)]
        captioned = self.recipe.captions_a_step
        captions = self.caption_loss(model, features[:captioned], batch[:captioned])
        return loss + self.phrase_loss(model, prototypes, features, batch, turn) + self.recipe.caption_weight * captions

    def phrase_loss(
        self, model: open_clip.CLIP, prototypes: Prototypes, features: Tensor, batch: Tensor, turn: Sequence[Question]
    ) -> Tensor:
        """Compare pictures with phrases, and the table's phrases with their prototypes.

        Args:
            model: Both towers.
            prototypes: Vectors of the answers to the table's questions.
            features: Float (batch, width), of the pictures, of unit length.
            batch: Int64 (batch,), numbers of pictures.
            turn: The bank's questions whose turn it is.
        """
        asked = [*self.table, *turn]
        offers = [self.offer(question, batch) for question in asked]
        texts = [text for wordings, _ in offers for text in wordings]
        phrases = torch.split(encode_texts(model, self.tokenizer, texts), [len(wordings) for wordings, _ in offers])
        scale = model.logit_scale.exp()
        losses = []
        for question, (_, accepted), answers in zip(asked, offers, phrases, strict=True):
            losses.append(choice_loss(scale * features[: len(accepted)] @ answers.T, accepted))
            if question.name in prototypes.vectors:
                found = scale * answers @ prototypes(question).T
                losses.append(functional.cross_entropy(found, torch.arange(len(answers))))
        return torch.stack(losses).sum() / len(asked)

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
    optimizer = _optimizer(nn.ModuleList([model, prototypes]), recipe)
    steps = recipe.epochs * trainer.steps_an_epoch
    losses: list[float] = []
    step = 0
    for epoch in range(1, recipe.epochs + 1):
        total = 0.0
        for batch in trainer.batches():
            loss = trainer.loss(model, prototypes, batch, step)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _rate(step, steps, recipe)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
            total += loss.item()
            step += 1
        losses.append(total / trainer.steps_an_epoch)
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


def _optimizer(modules: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [parameter for parameter in modules.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in modules.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def _rate(step: int, steps: int, recipe: Recipe) -> float:
    """Give the learning rate as a share of its peak: up, level, and down in straight lines."""
    return min(1.0, (step + 1) / recipe.warmup_steps, (steps - step) / (recipe.decay_share * steps))
