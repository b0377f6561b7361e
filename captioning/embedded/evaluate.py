"""Score an embedded CLIP on people it has never seen, by its text tower: nothing here knows the prototypes of training."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from captioning.conquer import MatchOptions, Scorer, match, prompts_of
from captioning.divide import Phrase, PhraseBank
from captioning.embedded.captions import compose
from captioning.embedded.data import Album
from captioning.embedded.questions import BANK_IDS, HALVES, PATTERNS, Question, accepted_garments, frame

FEWEST = 20
"""Pictures that a class needs to count in a balanced accuracy; fewer prove nothing."""

RANKS = (1, 5, 10)
"""Depths at which retrieval is counted."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """How well one question is answered."""

    balanced: float
    """Mean over the classes of the share answered rightly, 0…1."""
    chance: float
    """What a constant answer gets: 1 / classes."""
    pictures: int
    """In which the answer can be seen."""
    classes: int
    """With at least `FEWEST` pictures each."""


@dataclass(frozen=True)
class Scores:
    """What an embedded CLIP reaches on an album."""

    attributes: Mapping[str, Accuracy]
    """By column of the renderer's table, asked in FineGPR's words."""
    bank: Mapping[str, Accuracy]
    """By attribute of the phrase bank, picked as generation does."""
    retrieval: Mapping[str, float]
    """Numbers of `captions` and of `different` ones, and recalls, 0…1; see `retrieval`."""

    @property
    def mean(self) -> float:
        """Give the mean balanced accuracy over the columns of the table."""
        return float(np.mean([accuracy.balanced for accuracy in self.attributes.values()]))

    @property
    def mean_chance(self) -> float:
        """Give the mean of what constant answers get."""
        return float(np.mean([accuracy.chance for accuracy in self.attributes.values()]))


def evaluate(scorer: Scorer, album: Album, table: Sequence[Question], bank: PhraseBank) -> Scores:
    """Ask everything of every picture.

    Args:
        scorer: The model.
        album: Pictures of people that training has not seen.
        table: Questions of the renderer's table.
        bank: The phrase bank.
    """
    features = scorer.encode_images(list(album.images))
    return Scores(
        _known(_table_accuracies(scorer, features, album, table)),
        _known(_bank_accuracies(scorer, features, album, bank)),
        retrieval(scorer, features, album),
    )


def balanced_accuracy(truth: Sequence[str], hits: Sequence[bool]) -> Accuracy | None:
    """Average the share of hits over the classes; nothing where fewer than two classes have enough pictures.

    Args:
        truth: Class of each picture; "" where it cannot be told.
        hits: Whether the answer was right.
    """
    counts = Counter(truth)
    hit_counts = Counter(name for name, is_hit in zip(truth, hits, strict=True) if is_hit)
    classes = sorted(name for name, count in counts.items() if name and count >= FEWEST)
    if len(classes) < 2:
        return None
    recalls = [hit_counts[name] / counts[name] for name in classes]
    return Accuracy(sum(recalls) / len(classes), 1 / len(classes), sum(counts[name] for name in classes), len(classes))


def retrieval(scorer: Scorer, features: Floats, album: Album) -> dict[str, float]:
    """Look up people by composed captions among all pictures.

    A caption says everything that can be seen in its picture. `person R@k`, the field's way to count: any picture of the
    person is right. `picture R@k`: only one whose own caption is word for word the same is right, so that the same person seen
    from elsewhere is mostly wrong.
    """
    captions = [compose(sight.labels, sight.visible) for sight in album.sights]
    identities = [sight.identity for sight in album.sights]
    best = np.argsort(-(scorer.encode_texts(captions) @ features.T), axis=1, kind="stable")[:, : max(RANKS)].tolist()
    counts: dict[str, float] = {"captions": len(captions), "different": len(set(captions))}
    for what, meant in (("person", identities), ("picture", captions)):
        for rank in RANKS:
            hits = [any(meant[found] == meant[place] for found in row[:rank]) for place, row in enumerate(best)]
            counts[f"{what} R@{rank}"] = sum(hits) / len(hits)
    return counts


def _table_accuracies(
    scorer: Scorer, features: Floats, album: Album, table: Sequence[Question]
) -> Iterator[tuple[str, Accuracy | None]]:
    for question in table:
        answers = scorer.encode_texts([frame(wordings[0]) for wordings in question.wordings])
        picks = (features @ answers.T).argmax(axis=1)
        accepted = [question.accepts(sight.labels) for sight in album.sights]
        hits = [int(pick) in places for pick, places in zip(picks, accepted, strict=True)]
        truth = [
            sight.labels[question.name] if question.needs <= sight.visible and places else ""
            for sight, places in zip(album.sights, accepted, strict=True)
        ]
        yield question.name, balanced_accuracy(truth, hits)


def _bank_accuracies(
    scorer: Scorer, features: Floats, album: Album, bank: PhraseBank
) -> Iterator[tuple[str, Accuracy | None]]:
    """Pick phrases as generation does, an optional one above its threshold, and hold each part of them against the labels."""
    matches = match(features, scorer.encode_texts(prompts_of(bank)), bank, MatchOptions())
    for column, attribute in enumerate(bank.attributes):
        picks = [bank.phrases[place] if place >= 0 else None for place in matches.index[:, column].tolist()]
        if attribute.name in HALVES:
            yield from _garment_accuracies(HALVES[attribute.name], picks, album)
        elif attribute.name in BANK_IDS:
            labeled, ids = BANK_IDS[attribute.name]
            truth = [ids.get(sight.labels[labeled], "") if labeled in sight.visible else "" for sight in album.sights]
            said = ["none" if pick is None else pick.id.removeprefix(f"{attribute.name}.") for pick in picks]
            yield (
                attribute.name,
                balanced_accuracy(truth, [word == right for word, right in zip(said, truth, strict=True)]),
            )


def _garment_accuracies(
    half: str, picks: Sequence[Phrase | None], album: Album
) -> Iterator[tuple[str, Accuracy | None]]:
    """Score colour, pattern and garment of the phrases picked for one half of the body; a dress is no garment of the bank."""
    phrases = [pick for pick in picks if pick is not None]
    for part, is_right in (
        ("color", lambda phrase, labels: phrase.colour == labels[f"{half}_color"]),
        ("pattern", lambda phrase, labels: phrase.pattern in PATTERNS[labels[f"{half}_pattern"]]),
        ("garment", lambda phrase, labels: phrase.garment in accepted_garments(half, labels)),
    ):
        name = f"{half}_{part}"
        truth = [sight.labels[name] if name in sight.visible else "" for sight in album.sights]
        truth = ["" if word in ("dress", "none") else word for word in truth]
        hits = [is_right(phrase, sight.labels) for phrase, sight in zip(phrases, album.sights, strict=True)]
        yield f"{half} {part}", balanced_accuracy(truth, hits)


def _known(accuracies: Iterable[tuple[str, Accuracy | None]]) -> dict[str, Accuracy]:
    """Leave out what could not be measured."""
    return {name: accuracy for name, accuracy in accuracies if accuracy is not None}
