"""Near-duplicates: every quick search against the loop that compares all with all."""

import math
from io import BytesIO

import numpy as np
import pytest
from person_shards import picture
from PIL import Image

from passerby.curate import near
from passerby.curate.near import near_pairs, perceptual_hash, repeated, similar_pairs
from passerby.curate.repeats import nearest_features, nearest_hashes, repeated_features, repeated_hashes
from passerby.images import ImageProblem


def bits_between(one, other):
    return (int(one) ^ int(other)).bit_count()


def clustered_hashes(distance, seed=0):
    """Draw hashes, each with neighbours on both sides of `distance`, and some twice."""
    generator = np.random.default_rng(seed)
    found = []
    for centre in generator.integers(0, 1 << 64, 15, dtype=np.uint64):
        for _ in range(6):
            flips = generator.choice(64, generator.integers(0, distance + 3), replace=False)
            found.append(int(centre) ^ sum(1 << int(bit) for bit in flips))
    return np.array(found, np.uint64)[generator.permutation(len(found))]


def all_pairs(count, is_near):
    return [[i, j] for i in range(count) for j in range(i + 1, count) if is_near(i, j)]


def greedy(count, is_near):
    """Say by a naive loop what each of `count` things repeats."""
    repeats = []
    for j in range(count):
        stay_and_near = (i for i in range(j) if repeats[i] < 0 and is_near(i, j))
        repeats.append(next(stay_and_near, -1))
    return repeats


@pytest.mark.parametrize("distance", range(9))
def test_near_pairs_are_all_pairs_within_the_distance(distance):
    hashes = clustered_hashes(distance)
    expected = all_pairs(len(hashes), lambda i, j: bits_between(hashes[i], hashes[j]) <= distance)
    assert near_pairs(hashes, distance).tolist() == expected
    assert expected


def test_with_sides_only_pairs_across_are_found():
    hashes = clustered_hashes(4)
    sides = np.arange(len(hashes)) % 3 == 0
    expected = all_pairs(len(hashes), lambda i, j: sides[i] != sides[j] and bits_between(hashes[i], hashes[j]) <= 4)
    assert near_pairs(hashes, 4, sides).tolist() == expected


@pytest.mark.parametrize("count", [0, 1])
def test_where_there_are_no_two_there_is_no_pair(count):
    assert near_pairs(np.zeros(count, np.uint64), 4).shape == (0, 2)
    assert similar_pairs(np.ones((count, 3), np.float16), 0.9).shape == (0, 2)


@pytest.mark.parametrize("distance", [-1, 9])
def test_a_distance_that_cannot_be_searched_is_refused(distance):
    with pytest.raises(ValueError, match=f"hash distance is {distance}"):
        near_pairs(np.zeros(2, np.uint64), distance)


@pytest.fixture
def features(monkeypatch):
    monkeypatch.setattr(near, "_ROWS_A_BLOCK", 7)  # so that there are many blocks, and a short one
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((6, 16))
    return (np.repeat(centres, 8, axis=0) + 0.3 * generator.standard_normal((48, 16))).astype(np.float16)


def cosine(one, other):
    one, other = one.astype(float).tolist(), other.astype(float).tolist()
    return math.fsum(x * y for x, y in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.97])
def test_similar_pairs_are_all_pairs_above_the_threshold(features, threshold):
    expected = all_pairs(len(features), lambda i, j: cosine(features[i], features[j]) >= threshold)
    assert similar_pairs(features, threshold).tolist() == expected
    assert expected


def test_similar_pairs_with_others_are_across(features):
    ours, theirs = features[::2], features[1::2][:20]
    expected = [[i, j] for i in range(len(ours)) for j in range(len(theirs)) if cosine(ours[i], theirs[j]) >= 0.9]
    assert similar_pairs(ours, 0.9, theirs).tolist() == expected


def test_the_same_features_are_near_at_a_cosine_of_one():
    assert similar_pairs(np.full((2, 512), 0.1, np.float16), 1.0).tolist() == [[0, 1]]


@pytest.mark.parametrize("seed", range(20))
def test_what_repeats_is_near_the_first_that_stays(seed):
    generator = np.random.default_rng(seed)
    is_near = np.triu(generator.random((30, 30)) < 0.1, 1)
    assert repeated(30, np.argwhere(is_near)).tolist() == greedy(30, lambda i, j: is_near[i, j])


@pytest.mark.parametrize("distance", [0, 3, 8])
@pytest.mark.parametrize("seed", range(5))
def test_repeated_hashes_are_those_of_the_naive_loop(distance, seed):
    hashes = clustered_hashes(distance, seed)
    hashes = np.concatenate([hashes, hashes[::3]])
    places, distances = repeated_hashes(hashes, distance)
    assert places.tolist() == greedy(len(hashes), lambda i, j: bits_between(hashes[i], hashes[j]) <= distance)
    for image in np.flatnonzero(places >= 0):
        assert distances[image] == bits_between(hashes[image], hashes[places[image]])


def test_repeated_features_are_those_of_the_naive_loop(features):
    places, distances = repeated_features(features, 0.9)
    assert places.tolist() == greedy(len(features), lambda i, j: cosine(features[i], features[j]) >= 0.9)
    for image in np.flatnonzero(places >= 0):
        assert distances[image] == pytest.approx(1 - cosine(features[image], features[places[image]]), abs=1e-6)


def test_the_nearest_hash_of_another_set_is_the_least_distant_and_first():
    hashes = clustered_hashes(6)
    ours, theirs = hashes[::2], np.concatenate([hashes[1::2], hashes[1::4]])
    places, distances = nearest_hashes(ours, theirs, 6)
    for image, our_hash in enumerate(ours):
        least, first = min((bits_between(our_hash, other), place) for place, other in enumerate(theirs))
        assert (places[image], distances[image]) == ((first, least) if least <= 6 else (-1, 0))


def test_the_nearest_feature_of_another_set_has_the_highest_cosine(features):
    ours, theirs = features[::2], features[1::2]
    places, _ = nearest_features(ours, theirs, 0.9)
    for image, feature in enumerate(ours):
        highest, place = max((cosine(feature, other), place) for place, other in enumerate(theirs))
        assert places[image] == (place if highest >= 0.9 else -1)


def naive_hash(image):
    """Do the cosine transform (type II) by its definition, wave by wave."""
    grey = Image.open(BytesIO(image)).convert("L").resize((32, 32), Image.Resampling.BOX)
    pixels = np.asarray(grey).astype(float).tolist()
    cosines = [[math.cos(math.pi * (2 * place + 1) * wave / 64) for place in range(32)] for wave in range(9)]
    waves = [
        math.fsum(pixels[y][x] * cosines[down][y] * cosines[across][x] for y in range(32) for x in range(32))
        for down in range(1, 9)
        for across in range(1, 9)
    ]
    median = (sorted(waves)[31] + sorted(waves)[32]) / 2
    return int("".join("1" if wave > median else "0" for wave in waves), 2)


@pytest.mark.parametrize("scene", range(3))
def test_the_hash_is_the_signs_of_the_lowest_waves(scene):
    assert perceptual_hash(picture(scene)) == naive_hash(picture(scene))


@pytest.mark.parametrize("scene", range(20))
def test_the_hash_stays_when_scaled_and_recompressed_and_changes_with_the_scene(scene):
    original = perceptual_hash(picture(scene))
    assert bits_between(original, perceptual_hash(picture(scene, quality=50))) <= 4
    assert bits_between(original, perceptual_hash(picture(scene, size=(64, 128)))) <= 4
    assert bits_between(original, perceptual_hash(picture(scene + 100))) > 8


def test_an_image_that_cannot_be_decoded_says_so():
    with pytest.raises(ImageProblem, match="cannot be decoded"):
        perceptual_hash(picture(0)[:200])
