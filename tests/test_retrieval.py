"""Recall by caption against a full sort, and its chance against counting."""

import math

import pytest
import torch

from pretrain.retrieval import chance, retrieval_scores


def slow_recall(queries, query_captions, gallery, gallery_captions, limit):
    hits = 0
    for query, caption in zip(queries, query_captions, strict=True):
        cosines = torch.nn.functional.cosine_similarity(query[None], gallery).tolist()
        ranked = sorted(range(len(gallery)), key=lambda place: (-cosines[place], gallery_captions[place] == caption))
        hits += any(gallery_captions[place] == caption for place in ranked[:limit])
    return hits / len(queries)


def test_recall_counts_captions_not_images():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(40, 6, generator=generator), torch.randn(40, 6, generator=generator)
    token_ids = torch.randint(3, (40, 3), generator=generator)
    captions = [tuple(row) for row in token_ids.tolist()]
    texts += 2 * images
    different = sorted(set(captions))
    firsts = [captions.index(caption) for caption in different]
    assert len(different) < 30
    scores = retrieval_scores(images, texts, token_ids)
    for limit in (1, 5, 10):
        expected = slow_recall(texts[firsts], different, images, captions, limit)
        assert scores[f"text_to_image_recall_at_{limit}"] == pytest.approx(expected)
        expected = slow_recall(images, captions, texts[firsts], different, limit)
        assert scores[f"image_to_text_recall_at_{limit}"] == pytest.approx(expected)
        assert scores[f"image_to_text_chance_at_{limit}"] == pytest.approx(limit / len(different))


def test_features_that_are_all_the_same_find_nothing():
    same = torch.ones(20, 4)
    scores = retrieval_scores(same, same, torch.arange(20)[:, None])
    assert scores["text_to_image_recall_at_10"] == 0
    assert scores["image_to_text_recall_at_10"] == 0


@pytest.mark.parametrize(("right", "gallery", "limit"), [(1, 20, 1), (3, 20, 5), (15, 20, 10), (2, 4, 10)])
def test_chance_is_that_of_a_random_order(right, gallery, limit):
    drawn = min(limit, gallery)
    expected = 1 - math.comb(gallery - right, drawn) / math.comb(gallery, drawn)
    assert float(chance(torch.tensor([right]), gallery, limit)) == pytest.approx(expected)
