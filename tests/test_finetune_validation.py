"""How people held out are found, against slow rankings."""

import random

import pytest
import torch
from torch.nn import functional

from finetune.validation import score_alike, score_images, score_texts

IMAGES, WIDTH = 14, 6


class Lookup:
    """A searcher whose features are given: an image or a text is the number of its row."""

    def __init__(self, images, texts):
        self.images, self.texts, self.seen = images, texts, []

    def embed_images(self, images):
        self.seen += images.tolist()
        return {"plain": self.images[images], "turned": self.images[images].flip(1)}

    def embed_texts(self, token_ids, token_mask):
        return {"plain": self.texts[token_ids[:, 0]], "turned": self.texts[token_ids[:, 0]]}


def slow_scores(texts, images, text_people, image_people):
    """Rank the gallery for each text, and read the scores off."""
    firsts, averages = [], []
    for text, person in zip(texts, text_people, strict=True):
        cosines = [float(functional.cosine_similarity(text, image, dim=0)) for image in images]
        ranked = sorted(range(len(images)), key=lambda place: -cosines[place])
        hits = [rank for rank, place in enumerate(ranked, 1) if image_people[place] == person]
        firsts.append(hits[0])
        averages.append(sum(count / rank for count, rank in enumerate(hits, 1)) / len(hits))
    ranks = {f"rank_{k}": sum(first <= k for first in firsts) / len(firsts) for k in (1, 5, 10)}
    return {**ranks, "mAP": sum(averages) / len(averages)}


@pytest.mark.parametrize("batch_size", [1, 5, 28])
def test_each_caption_searches_every_image_once(batch_size):
    torch.manual_seed(0)
    people = [image // 3 for image in range(IMAGES)]
    captions = [image for image in range(IMAGES) for _ in range(2)]
    random.Random(0).shuffle(captions)  # those of one image lie in several batches
    lookup = Lookup(torch.randn(IMAGES, WIDTH), torch.randn(len(captions), WIDTH))
    batches = []
    for start in range(0, len(captions), batch_size):
        places = [*range(start, min(start + batch_size, len(captions)))]
        images = [captions[place] for place in places]
        batches.append(
            {
                "images": torch.tensor(images),
                "token_ids": torch.tensor(places)[:, None],
                "token_mask": torch.ones(len(places), 1, dtype=torch.bool),
                "person_ids": torch.tensor([people[image] for image in images]),
                "keys": [f"image {image}" for image in images],
            }
        )
    scores = score_texts(batches, lookup, distance="cosine")

    assert sorted(lookup.seen) == [*range(IMAGES)]
    text_people = [people[image] for image in captions]
    gallery = {"plain": lookup.images, "turned": lookup.images.flip(1)}
    assert {*scores} == {*gallery}
    for feature, images in gallery.items():
        assert scores[feature] == pytest.approx(slow_scores(lookup.texts, images, text_people, people))


PLACES, PEOPLE = [0.0, 0.1, 1.0, 1.06, 0.5, 1.6, 0.3], [0, 0, 1, 1, 0, 1, 1]


def make_alike(cameras):
    samples = {
        "images": torch.tensor(PLACES)[:, None],
        "person_ids": torch.tensor(PEOPLE),
        "camera_ids": torch.tensor(cameras),
    }
    return [{name: value[part] for name, value in samples.items()} for part in (slice(4), slice(4, None))]


def slow_alike(cameras):
    """Rank all other samples for each, but those of its person and its camera, if that is known."""
    firsts, averages = [], []
    for query, place in enumerate(PLACES):
        junk = [query] + [
            other
            for other in range(len(PLACES))
            if PEOPLE[other] == PEOPLE[query] and cameras[other] == cameras[query] != -1
        ]
        others = [other for other in range(len(PLACES)) if other not in junk]
        ranked = sorted(others, key=lambda other: abs(PLACES[other] - place))
        hits = [rank for rank, other in enumerate(ranked, 1) if PEOPLE[other] == PEOPLE[query]]
        if hits:
            firsts.append(hits[0])
            averages.append(sum(count / rank for count, rank in enumerate(hits, 1)) / len(hits))
    return {"rank_1": sum(first == 1 for first in firsts) / len(firsts), "mAP": sum(averages) / len(averages)}


@pytest.mark.parametrize("cameras", [[-1] * 7, [0, 0, 0, 1, 1, 1, -1]])
def test_a_camera_that_is_unknown_is_nobody_elses(cameras):
    scores = score_alike(make_alike(cameras), lambda batch: batch["images"], distance="euclidean")
    expected = slow_alike(cameras)
    assert 0 < expected["rank_1"] < 1
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_images_are_compared_by_the_feature_that_is_named():
    searcher = Lookup(torch.tensor(PLACES)[:, None], torch.empty(0))
    batches = [
        {**batch, "images": torch.arange(start, start + len(batch["person_ids"]))}
        for batch, start in zip(make_alike([-1] * 7), (0, 4), strict=True)
    ]
    scores = score_images(batches, searcher, feature="plain", distance="euclidean")
    assert {name: scores[name] for name in ("rank_1", "mAP")} == pytest.approx(slow_alike([-1] * 7))
