import math
from dataclasses import fields, replace

import numpy as np
import pytest

from captioning.conquer import HashScorer, Matcher, Matches, MatchOptions, match, pool_by_person, prompts_of
from captioning.divide import REQUIRED, Attribute, Phrase, PhraseBank, load_phrases
from passerby.shards.embeddings import Embeddings, embeddings_path, read_embeddings, write_embeddings


def attribute(name: str, phrases: str, *, is_required: bool, view_dependent: bool = False) -> Attribute:
    """One letter a phrase: p for a positive one, n for a negative one."""
    made = [Phrase(f"{name}.{i}", name, f"{name} {i}", is_negative=kind == "n") for i, kind in enumerate(phrases)]
    return Attribute(name, is_required, view_dependent, tuple(made))


BANK = PhraseBank(
    1,
    (
        attribute("upper_clothes", "ppppp", is_required=True),
        attribute("gender", "p", is_required=True),
        attribute("action", "ppp", is_required=True, view_dependent=True),
        attribute("bag", "ppn", is_required=False),
        attribute("hat", "np", is_required=False, view_dependent=True),
    ),
)
PROMPTS = 5 + 1 + 3 + 3 + 2
BAG, HAT = 3, 4
BAG_NEGATIVE, NEUTRAL = 11, PROMPTS


def with_cosines(cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make image and text features that have these cosines: texts are axes, a last axis fills images up to length 1."""
    images = np.zeros((len(cosines), PROMPTS + 2), np.float32)
    images[:, : PROMPTS + 1] = cosines
    images[:, -1] = np.sqrt(1 - (images**2).sum(axis=1))
    return images, np.eye(PROMPTS + 1, PROMPTS + 2, dtype=np.float32)


def bag_of(*logits: float, options: MatchOptions) -> tuple[int, float]:
    cosines = np.zeros((1, PROMPTS + 1))
    cosines[0, 9:12] = np.array(logits) / options.logit_scale
    found = match(*with_cosines(cosines), BANK, options)
    return int(found.index[0, BAG]), float(found.confidence[0, BAG])


def naive(images: np.ndarray, texts: np.ndarray, bank: PhraseBank, options: MatchOptions) -> list[list[tuple]]:
    """Decide image by image, attribute by attribute, phrase by phrase."""
    rows = []
    for image in images.astype(np.float16):
        row = []
        for each in bank.attributes:
            block = bank.block(each.name)
            rivals = []
            for place, phrase in zip(range(block.start, block.stop), each.phrases, strict=True):
                if not phrase.is_negative or options.negatives in ("phrase", "both"):
                    rivals.append((place, not phrase.is_negative))
            if not each.is_required and options.negatives in ("neutral", "both"):
                rivals.append((len(bank.prompts), False))
            cosines = {
                place: math.fsum(
                    float(a) * float(b) for a, b in zip(image, texts[place].astype(np.float16), strict=True)
                )
                for place, _ in rivals
            }
            weights = {place: math.exp(options.logit_scale * cosine) for place, cosine in cosines.items()}
            positives = [place for place, is_positive in rivals if is_positive]
            best = max(positives, key=lambda place: (cosines[place], -place))
            counted = positives if options.optional_rule == "attribute" and not each.is_required else [best]
            probability = sum(weights[place] for place in counted) / sum(weights.values())
            others = [place for place in cosines if place != best]
            runner_up = max(others, key=lambda place: (cosines[place], -place)) if others else -1
            margin = cosines[best] - cosines[runner_up] if others else 2
            is_selected = each.is_required or np.float32(probability) > np.float32(options.threshold)
            row.append((best if is_selected else -1, probability, margin, runner_up))
        rows.append(row)
    return rows


OPTIONS = [
    MatchOptions(threshold=threshold, logit_scale=scale, optional_rule=rule, negatives=negatives)
    for threshold, scale in ((0.9, 100.0), (0.5, 20.0))
    for rule in ("phrase", "attribute")
    for negatives in ("phrase", "neutral", "both")
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: f"{o.threshold}-{o.optional_rule}-{o.negatives}")
@pytest.mark.parametrize("kind", ["random", "ties", "all negative", "flat"])
def test_matches_are_those_of_a_naive_loop(options, kind):
    generator = np.random.default_rng(5)
    cosines = generator.uniform(-0.2, 0.25, (40, PROMPTS + 1))
    if kind == "ties":
        cosines = generator.integers(0, 3, cosines.shape) / 16
    elif kind == "all negative":
        cosines[:, [BAG_NEGATIVE, 12, NEUTRAL]] = 0.3
    elif kind == "flat":
        cosines[:] = 0.125
    images, texts = with_cosines(cosines)
    found = match(images, texts, BANK, options)
    expected = naive(images, texts, BANK, options)
    index, confidence, margin, runner_up = (np.array(column) for column in np.moveaxis(np.array(expected), -1, 0))
    assert (found.index == index).all()
    assert (found.runner_up == runner_up).all()
    np.testing.assert_allclose(found.confidence, confidence, rtol=1e-6)
    np.testing.assert_allclose(found.margin, margin, atol=1e-7)


@pytest.mark.parametrize(("logits", "probability", "selected"), [((28, 26, 25), 0.8438, -1), ((28, 24, 24), 0.9647, 9)])
def test_the_rule_gives_the_worked_numbers(logits, probability, selected):
    # scale 128 instead of 100: then 28, 26 and 25 are exact in 16 bits
    index, confidence = bag_of(*logits, options=MatchOptions(logit_scale=128))
    assert index == selected
    assert confidence == pytest.approx(probability, abs=5e-5)


def test_a_probability_of_exactly_the_threshold_is_not_enough():
    options = MatchOptions(logit_scale=math.log(18) / 0.25)  # 18 / (18 + 1 + 1) = 0.9
    at_threshold = bag_of(math.log(18), 0, 0, options=options)
    assert at_threshold == (-1, pytest.approx(0.9, abs=1e-7))
    assert bag_of(math.log(18), 0, 0, options=replace(options, threshold=0.8999))[0] == 9


def test_with_a_scale_of_one_nothing_can_be_selected():
    assert bag_of(0.9, -0.3, -0.3, options=MatchOptions(logit_scale=1))[0] == -1


def test_ties_go_to_the_lowest_index():
    found = match(*with_cosines(np.full((1, PROMPTS + 1), 0.125)), BANK, MatchOptions())
    assert found.index[0, :3].tolist() == [0, 5, 6]
    assert found.runner_up[0, :3].tolist() == [1, -1, 7]


@pytest.mark.parametrize("negatives", ["phrase", "neutral", "both"])
def test_negatives_are_never_selected(negatives):
    bank = load_phrases()
    scorer = HashScorer()
    generator = np.random.default_rng(0)
    images = scorer.encode_images([generator.integers(0, 256, (4, 2, 3), dtype=np.uint8) for _ in range(300)])
    options = MatchOptions(threshold=0.0, logit_scale=20.0, negatives=negatives)
    found = match(images, scorer.encode_texts(prompts_of(bank)), bank, options)
    assert (found.index >= 0).all()
    assert not any(bank.phrases[place].is_negative for place in np.unique(found.index))
    assert (found.margin < 0).any()  # a negative phrase was ahead


def test_each_image_is_matched_alike_in_any_company():
    generator = np.random.default_rng(3)
    bank = load_phrases()
    images = generator.standard_normal((1100, 96)).astype(np.float32)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    texts = HashScorer().encode_texts(prompts_of(bank))
    texts = (
        np.concatenate([texts, texts[::-1, :32]], axis=1)
        / np.sqrt((texts**2).sum(1) + (texts[::-1, :32] ** 2).sum(1))[:, None]
    )
    together = match(images, texts, bank, MatchOptions())
    order = generator.permutation(len(images))
    shuffled = match(images[order], texts, bank, MatchOptions())
    for field in fields(Matches):
        assert getattr(together, field.name)[order].tobytes() == getattr(shuffled, field.name).tobytes()
    for row in (0, 511, 1023, 1024, 1099):
        alone = match(images[row : row + 1], texts, bank, MatchOptions())
        for field in fields(Matches):
            assert getattr(together, field.name)[row].tobytes() == getattr(alone, field.name).tobytes()


def test_one_matcher_serves_batch_after_batch():
    generator = np.random.default_rng(6)
    images, texts = unit(generator, 150), with_cosines(np.zeros((1, PROMPTS + 1)))[1]
    persons = [f"{row // 3}" for row in range(150)]
    pooled = pool_by_person(images, persons)
    matcher = Matcher(texts, BANK, MatchOptions(negatives="both"))
    together = match(images, texts, BANK, MatchOptions(negatives="both"), pooled_features=pooled)
    batches = [slice(0, 3), slice(3, 90), slice(90, 150)]
    found = [matcher.match(images[batch], pooled_features=pooled[batch]) for batch in batches]
    for field in fields(Matches):
        parts = [getattr(each, field.name) for each in found]
        assert np.concatenate(parts).tobytes() == getattr(together, field.name).tobytes()


def test_matches_have_the_promised_types():
    found = match(*with_cosines(np.zeros((2, PROMPTS + 1))), BANK, MatchOptions())
    assert [getattr(found, field.name).dtype.name for field in fields(Matches)] == [
        "int16",
        "float32",
        "float32",
        "int16",
    ]
    assert {getattr(found, field.name).shape for field in fields(Matches)} == {(2, 5)}


def test_no_images_give_no_matches():
    assert match(
        np.empty((0, PROMPTS + 2), np.float32), with_cosines(np.zeros((1, PROMPTS + 1)))[1], BANK, MatchOptions()
    ).index.shape == (0, 5)


def test_features_without_unit_length_are_refused():
    images, texts = with_cosines(np.zeros((3, PROMPTS + 1)))
    with pytest.raises(ValueError, match="image features 1 have length 10"):
        match(images * np.array([[1], [10], [1]], np.float32), texts, BANK, MatchOptions())
    with pytest.raises(ValueError, match="image features 2 have length nan"):
        match(images * np.array([[1], [1], [np.nan]], np.float32), texts, BANK, MatchOptions())


def test_text_features_without_the_neutral_prompt_are_refused():
    images, texts = with_cosines(np.zeros((3, PROMPTS + 1)))
    with pytest.raises(ValueError, match="14 text features for 14 prompts"):
        match(images, texts[:-1], BANK, MatchOptions())


@pytest.mark.parametrize(
    ("field", "value"), [("threshold", 1.5), ("threshold", -0.1), ("logit_scale", 0.0), ("logit_scale", math.nan)]
)
def test_an_option_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=rf"{field} is {value}"):
        MatchOptions(**{field: value})


def unit(generator: np.random.Generator, images: int) -> np.ndarray:
    features = generator.standard_normal((images, PROMPTS + 2))
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def test_a_persons_images_vote_by_mean_log_probability():
    generator = np.random.default_rng(8)
    images, texts = unit(generator, 60), with_cosines(np.zeros((1, PROMPTS + 1)))[1]
    persons = [f"{row % 7:04d}" for row in range(60)]
    options = MatchOptions(logit_scale=20.0, threshold=0.6)
    found = match(images, texts, BANK, options, pooled_features=pool_by_person(images, persons))
    alone = match(images, texts, BANK, options)
    logits = options.logit_scale * images.astype(np.float64) @ texts.T.astype(np.float64)
    for number, each in enumerate(BANK.attributes):
        if each.view_dependent:
            assert (found.index[:, number] == alone.index[:, number]).all()
            continue
        block = logits[:, BANK.block(each.name)]
        log_probabilities = block - np.log(np.exp(block).sum(axis=1, keepdims=True))
        for person in set(persons):
            rows = [row for row in range(60) if persons[row] == person]
            pooled = np.exp(log_probabilities[rows].mean(axis=0))
            pooled /= pooled.sum()
            positives = [place for place, phrase in enumerate(each.phrases) if not phrase.is_negative]
            best = max(positives, key=lambda place, pooled=pooled: pooled[place])
            selected = each.is_required or pooled[best] > options.threshold
            assert set(found.index[rows, number]) == {BANK.block(each.name).start + best if selected else -1}
            np.testing.assert_allclose(found.confidence[rows, number], pooled[best], atol=5e-3)
    assert (found.index != alone.index).any()


def test_an_image_of_an_unknown_person_votes_for_nobody():
    images = unit(np.random.default_rng(1), 6)
    pooled = pool_by_person(images, ["", "a", "", "a", "b", ""])
    own = images.astype(np.float16)
    assert (pooled[[0, 2, 5, 4]] == own[[0, 2, 5, 4]]).all()
    np.testing.assert_array_equal(pooled[1], pooled[3])
    np.testing.assert_allclose(pooled[1], own[[1, 3]].astype(np.float64).mean(axis=0), rtol=1e-3, atol=1e-7)


def test_the_order_of_a_persons_images_changes_no_byte():
    generator = np.random.default_rng(2)
    # large and small values together, of which a 32-bit sum would lose some
    images = np.exp(generator.uniform(-14, 0, (6000, 100))) * generator.choice([-1, 1], (6000, 100))
    persons = np.array([f"{row % 2}" for row in range(6000)])
    order = generator.permutation(6000)
    assert pool_by_person(images, persons)[order].tobytes() == pool_by_person(images[order], persons[order]).tobytes()


IDENTITY = {"model": "ViT-B-16-quickgelu", "weights_sha256": "ab", "image_mode": "squash"}


@pytest.fixture
def embeddings():
    generator = np.random.default_rng(0)
    return Embeddings(tuple(f"key{row}" for row in range(50)), unit(generator, 50).astype(np.float16))


def test_the_cache_gives_back_what_it_got(tmp_path, embeddings):
    path = embeddings_path(tmp_path, "train-00000-of-00002")
    write_embeddings(path, embeddings, IDENTITY)
    found = read_embeddings(path, IDENTITY, embeddings.keys)
    assert found.keys == embeddings.keys
    assert found.features.tobytes() == embeddings.features.tobytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["train-00000-of-00002.arrow"]


def test_an_empty_shard_has_a_cache_too(tmp_path):
    write_embeddings(tmp_path / "a.arrow", Embeddings((), np.empty((0, 512), np.float16)), IDENTITY)
    assert read_embeddings(tmp_path / "a.arrow", IDENTITY, []).features.shape == (0, 512)


def test_the_same_features_give_the_same_bytes(tmp_path, embeddings):
    write_embeddings(tmp_path / "a.arrow", embeddings, IDENTITY)
    write_embeddings(tmp_path / "b.arrow", embeddings, dict(reversed(IDENTITY.items())))
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


def test_matches_from_the_cache_are_those_of_the_model(tmp_path):
    generator = np.random.default_rng(4)
    images, texts = unit(generator, 50), with_cosines(np.zeros((1, PROMPTS + 1)))[1]
    write_embeddings(tmp_path / "a.arrow", Embeddings(tuple(map(str, range(50))), images), IDENTITY)
    cached = match(read_embeddings(tmp_path / "a.arrow", IDENTITY).features, texts, BANK, MatchOptions())
    direct = match(images, texts, BANK, MatchOptions())
    for field in fields(Matches):
        assert getattr(cached, field.name).tobytes() == getattr(direct, field.name).tobytes()


def test_features_of_another_model_are_refused(tmp_path, embeddings):
    write_embeddings(tmp_path / "a.arrow", embeddings, IDENTITY)
    with pytest.raises(ValueError, match=r"another model \(image_mode: 'squash' there, 'pad' here\)"):
        read_embeddings(tmp_path / "a.arrow", IDENTITY | {"image_mode": "pad"})


def test_features_of_other_keys_or_prompts_are_refused(tmp_path, embeddings):
    write_embeddings(tmp_path / "a.arrow", embeddings, IDENTITY)
    with pytest.raises(ValueError, match="row 3 is 'key3' there, 'other' here"):
        read_embeddings(tmp_path / "a.arrow", IDENTITY, [*embeddings.keys[:3], "other", *embeddings.keys[4:]])
    with pytest.raises(ValueError, match="50 there, 49 here"):
        read_embeddings(tmp_path / "a.arrow", IDENTITY, embeddings.keys[:49])


def test_a_cut_cache_is_refused(tmp_path, embeddings):
    write_embeddings(tmp_path / "a.arrow", embeddings, IDENTITY)
    (tmp_path / "b.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:-100])
    with pytest.raises(ValueError, match="no whole feature cache"):
        read_embeddings(tmp_path / "b.arrow", IDENTITY)


def test_another_arrow_file_is_no_cache(tmp_path):
    pa = pytest.importorskip("pyarrow")
    with pa.ipc.new_file(str(tmp_path / "a.arrow"), pa.schema([("image", pa.binary())])):
        pass
    with pytest.raises(ValueError, match=r"no whole feature cache: .*a.arrow has the columns image \(binary\)"):
        read_embeddings(tmp_path / "a.arrow", IDENTITY)


def test_a_row_too_few_is_refused(tmp_path, embeddings):
    with pytest.raises(ValueError, match=r"\(49, 16\) for 50 keys"):
        write_embeddings(tmp_path / "a.arrow", replace(embeddings, features=embeddings.features[:49]), IDENTITY)


def test_the_hash_scorer_depends_on_pixels_and_words_only():
    scorer = HashScorer()
    first, second = np.zeros((4, 2, 3), np.uint8), np.ones((6, 2, 3), np.uint8)
    features = scorer.encode_images([first, second, first[::-1]])
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
    assert (features[0] == features[2]).all()
    assert (features[0] != features[1]).any()
    assert (scorer.encode_texts(["a", "b"])[1] == scorer.encode_texts(["b"])[0]).all()


def test_the_hash_scorer_tells_images_apart():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (40, 8, 3), dtype=np.uint8) for _ in range(500)]
    features = HashScorer().encode_images(images)
    assert len(np.unique(features, axis=0)) == 500
    cosines = (features @ features.T)[~np.eye(500, dtype=bool)]
    assert cosines.std() == pytest.approx(0.1 / np.sqrt(HashScorer.width - 1), rel=0.1)  # no two of a kind


def test_guesses_name_as_many_optional_attributes_as_the_published_captions():
    bank, scorer = load_phrases(), HashScorer()
    generator = np.random.default_rng(0)
    images = scorer.encode_images([generator.integers(0, 256, (40, 8, 3), dtype=np.uint8) for _ in range(500)])
    found = match(images, scorer.encode_texts(prompts_of(bank)), bank, MatchOptions())
    assert 0.3 < (found.index[:, len(REQUIRED) :] >= 0).sum(axis=1).mean() < 0.7
