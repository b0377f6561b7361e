import json
import math
from pathlib import Path
from random import Random

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from typer.testing import CliRunner

from captioning.divide import load_phrases
from captioning.embedded.captions import compose
from captioning.embedded.card import (
    check_new_people,
    evaluation_of,
    model_card,
    read_metrics,
    write_scores,
    write_training,
)
from captioning.embedded.data import HEIGHT_WIDTH, Album, AlbumJob, Sight, load_album
from captioning.embedded.evaluate import FEWEST, balanced_accuracy, evaluate, retrieval
from captioning.embedded.losses import choice_loss
from captioning.embedded.model import VOCABULARY, WEIGHTS, build_model, build_tokenizer, encode_texts
from captioning.embedded.questions import (
    BANK_IDS,
    LOWER_GARMENTS,
    UPPER_GARMENTS,
    accepted_phrases,
    bank_questions,
    table_questions,
)
from captioning.embedded.train import Recipe, Trainer, accepted_answers, train_model
from captioning.synonyms import load_synonyms
from passerby.cli import generators
from passerby.nets import tower
from passerby.nets.clip import load_clip
from passerby.nets.clip_source import EMBEDDED
from passerby.nets.vocabulary import trim_vocabulary, unknown_words, vocabulary_size
from passerby.synthetic import ACTIONS, WORDS, draw_person
from passerby.text import lint

TEXTS = ("A photo of a person wearing a blue striped t-shirt.", "A photo of a man.", "an elderly woman, running")


def labels(**changes: str) -> dict[str, str]:
    plain = {
        "gender": "male",
        "hair": "short",
        "age": "adult",
        "glasses": "no",
        "sleeve": "long",
        "top_length": "short",
        "dress": "no",
        "boots": "no",
        "hat": "no",
        "bag": "no",
        "shoes": "dark",
        "upper_color": "red",
        "lower_color": "blue",
        "upper_garment": "sweater",
        "lower_garment": "jeans",
        "upper_pattern": "striped",
        "lower_pattern": "plain",
        "glasses_kind": "none",
        "hat_kind": "none",
        "bag_kind": "none",
        "umbrella": "no",
        "gloves": "no",
        "cellphone": "no",
        "cellphone_use": "none",
        "action": "walking",
    }
    return plain | changes


def people(count: int) -> list[dict[str, str]]:
    return [
        {**draw_person(5, number, is_balanced=True).attributes, "action": ACTIONS[number % 3]}
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def album() -> Album:
    return load_album(AlbumJob(identities=16, images_per_identity=2, seed=3))


@pytest.fixture(scope="module")
def trained(album: Album, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("clip")
    recipe = Recipe(epochs=6, batch_size=16, captions_a_step=8, candidates=4, warmup_steps=4)
    return folder, train_model(folder, album, recipe)


# What is asked


def test_every_word_of_the_renderer_is_an_answer() -> None:
    words = {question.name: len(question.wordings) for question in table_questions()}
    for name, values in {**WORDS, "action": ACTIONS}.items():
        # An unknown age and the lower garment of a dress are no answers.
        expected = len([value for value in values if value and (name, value) != ("lower_garment", "none")])
        assert words[name] == expected, name


@pytest.mark.parametrize("person", people(40), ids=lambda person: person["upper_garment"])
def test_everyone_has_a_true_phrase_for_every_attribute_of_the_bank(person: dict[str, str]) -> None:
    for attribute in load_phrases().attributes:
        accepted = accepted_phrases(attribute.phrases, person)
        assert accepted or (attribute.name == "age" and not person["age"]), attribute.name


def test_the_map_onto_the_bank_names_phrases_that_exist() -> None:
    bank = load_phrases()
    ids = {phrase.id for phrase in bank.phrases}
    garments = {phrase.garment for phrase in bank.phrases}
    assert {f"{name}.{last}" for name, (_, words) in BANK_IDS.items() for last in words.values()} <= ids
    assert {word for words in (UPPER_GARMENTS | LOWER_GARMENTS).values() for word in words} <= garments
    for column, words in BANK_IDS.values():
        assert {*words} == {word for word in {**WORDS, "action": ACTIONS}[column] if word}, column


@pytest.mark.parametrize(
    ("changes", "attribute", "surfaces"),
    [
        ({}, "upper_clothes", {"a red striped sweater"}),
        ({}, "lower_clothes", {"blue jeans"}),
        (
            {"upper_garment": "shirt", "upper_pattern": "plain"},
            "upper_clothes",
            {"a red pure color shirt", "a red pure color long sleeve shirt"},
        ),
        (
            {"upper_garment": "dress", "lower_garment": "none"},
            "lower_clothes",
            {"a blue short skirt", "a blue long skirt"},
        ),
        ({"age": "older"}, "age", {"elderly"}),
        ({"age": ""}, "age", set()),
        ({"hat": "yes", "hat_kind": "beanie"}, "hat", {"an ordinary hat"}),
        ({"cellphone": "yes", "cellphone_use": "looking"}, "cellphone", {"a cell phone"}),
        ({}, "smoke", {""}),
    ],
)
def test_phrases_are_true_of_the_labels(changes: dict[str, str], attribute: str, surfaces: set[str]) -> None:
    bank = load_phrases()
    phrases = bank.phrases[bank.block(attribute)]
    assert {phrases[place].surface for place in accepted_phrases(phrases, labels(**changes))} == surfaces


def test_wordings_of_two_answers_are_never_the_same() -> None:
    for question in [*table_questions(), *bank_questions(load_phrases(), load_synonyms())]:
        if question.name == "bank cellphone":
            continue  # synonyms of the phone, not of what is done with it
        wordings = [wording for answer in question.wordings for wording in set(answer)]
        assert len(wordings) == len(set(wordings)), question.name


def test_a_question_is_unanswered_where_it_takes_what_cannot_be_seen() -> None:
    sights = (Sight(0, labels(), frozenset({"hat"})), Sight(0, labels(), frozenset()))
    hat = next(question for question in table_questions() if question.name == "hat")
    assert accepted_answers(Album(np.zeros((2, 1, 1, 3), np.uint8), sights), hat).tolist() == [
        [False, True],
        [False, False],
    ]


# Captions


def test_a_caption_says_all_that_is_seen() -> None:
    everything = labels(hat="yes", hat_kind="cap", umbrella="yes", bag="yes", bag_kind="sling-bag")
    assert compose(everything, everything) == (
        "An adult man with short hair, walking, wearing a red striped short long-sleeved sweater, blue plain jeans, dark shoes"
        " and a cap, carrying a sling bag, holding an umbrella."
    )


def test_a_caption_says_nothing_that_is_not_seen() -> None:
    assert compose(labels(), {"gender", "lower_color"}) == "A man, wearing a top and a blue bottom."


def test_captions_are_good_english() -> None:
    faults = [fault for person in people(200) for fault in lint(compose(person, person, Random(person["age"])))]
    assert faults == []


# Vocabulary


def test_trimmed_tokens_are_those_of_the_whole_vocabulary(tmp_path: Path) -> None:
    (tmp_path / VOCABULARY).write_bytes(trim_vocabulary(TEXTS))
    whole, trimmed = SimpleTokenizer(), SimpleTokenizer(bpe_path=str(tmp_path / VOCABULARY))
    for text in TEXTS:
        assert trimmed.decode(trimmed.encode(text)) == whole.decode(whole.encode(text))
        assert len(trimmed.encode(text)) == len(whole.encode(text))


def test_vocabulary_counts_its_tokens() -> None:
    vocabulary = trim_vocabulary(TEXTS)
    assert vocabulary_size(vocabulary) == build_tokenizer(vocabulary).vocab_size
    assert vocabulary_size(vocabulary) < 600


def test_vocabulary_is_the_same_for_the_same_words_in_any_order() -> None:
    assert trim_vocabulary(TEXTS) == trim_vocabulary(reversed(TEXTS))


def test_words_that_were_trimmed_away_are_named(tmp_path: Path) -> None:
    (tmp_path / VOCABULARY).write_bytes(trim_vocabulary(TEXTS))
    assert unknown_words(["A man in a turquoise café", "a blue person"], tmp_path / VOCABULARY) == [
        "café",
        "in",
        "turquoise",
    ]


# The model


def test_tower_keeps_where_things_are() -> None:
    torch.manual_seed(0)
    model = tower.PedestrianTower(8).eval()
    images = torch.rand(1, 3, *HEIGHT_WIDTH)
    cells = model.stages(images)
    assert cells.shape == (1, 128, 8, 4)
    # Averaging, a network would forget that two cells changed places; this one does not.
    assert not torch.allclose(model.head(cells.flatten(1)), model.head(cells.flip(2).flatten(1)), rtol=0.01)


def test_tower_and_renders_have_one_size() -> None:
    assert tower.HEIGHT_WIDTH == HEIGHT_WIDTH


def test_tower_refuses_another_size() -> None:
    with pytest.raises(ValueError, match=r"\(224, 224\)"):
        tower.PedestrianTower(8)(torch.zeros(1, 3, 224, 224))


def test_tower_refuses_pooling() -> None:
    with pytest.raises(ValueError, match="no pooling"):
        tower.passerby_tower(num_classes=8, global_pool="avg", pretrained=False)


def test_texts_encoded_without_padding_have_the_features_of_padded_ones() -> None:
    vocabulary = trim_vocabulary(TEXTS)
    torch.manual_seed(0)
    model, tokenizer = build_model(vocabulary).eval(), build_tokenizer(vocabulary)
    expected = model.encode_text(tokenizer(list(TEXTS)), normalize=True)
    torch.testing.assert_close(encode_texts(model, tokenizer, TEXTS), expected)


# Pictures


def test_album_is_the_same_for_any_number_of_workers() -> None:
    job = AlbumJob(identities=11, images_per_identity=1, seed=4)
    one, two = load_album(job), load_album(job, workers=2)
    assert np.array_equal(one.images, two.images)
    assert one.sights == two.sights
    assert [sight.identity for sight in one.sights] == list(range(11))


def test_album_is_kept(album: Album, tmp_path: Path) -> None:
    job = AlbumJob(identities=2, images_per_identity=1, seed=4)
    rendered = load_album(job, tmp_path / "kept")
    (before,) = {path.stat().st_mtime_ns for path in (tmp_path / "kept").glob("*.npy")}
    again = load_album(job, tmp_path / "kept")
    assert np.array_equal(rendered.images, again.images)
    assert rendered.sights == again.sights
    assert {path.stat().st_mtime_ns for path in (tmp_path / "kept").glob("*.npy")} == {before}


def test_album_of_other_people_is_refused(tmp_path: Path) -> None:
    load_album(AlbumJob(identities=1, images_per_identity=1, seed=4), tmp_path)
    with pytest.raises(ValueError, match="'seed': 4"):
        load_album(AlbumJob(identities=1, images_per_identity=1, seed=5), tmp_path)


# Training


def test_choice_loss_is_the_cross_entropy_of_all_that_is_true() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0], [9.0, 9.0, 9.0]])
    accepted = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    naive = []
    for row, true in zip(logits.tolist()[:2], accepted.tolist(), strict=False):
        total = sum(math.exp(value) for value in row)
        naive.append(
            -math.log(sum(math.exp(value) for value, is_true in zip(row, true, strict=True) if is_true) / total)
        )
    assert choice_loss(logits, accepted).item() == pytest.approx(sum(naive) / 2)


def test_choice_loss_without_answers_is_0() -> None:
    assert choice_loss(torch.ones(2, 3), torch.zeros(2, 3, dtype=torch.bool)).item() == 0


def test_loss_falls(trained: tuple[Path, list[float]]) -> None:
    _, losses = trained
    assert losses[-1] < 0.75 * losses[0]


def test_training_again_gives_the_same_weights(album: Album, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=16, captions_a_step=4, candidates=2, warmup_steps=1)
    few = Album(album.images[:16], album.sights[:16])
    for name in ("one", "two"):
        train_model(tmp_path / name, few, recipe)
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()


def test_augmentation_flips_shifts_and_brightens_but_keeps_the_picture(album: Album) -> None:
    trainer = Trainer(album, [], build_tokenizer(trim_vocabulary(TEXTS)), Recipe())
    image = torch.zeros(1, 3, *HEIGHT_WIDTH, dtype=torch.uint8)
    image[:, :, 60:68, 10:14] = 200
    places = set()
    for row in trainer.augment(image.repeat(64, 1, 1, 1)):
        spots = (row[0] > row[0].min() + 1).nonzero()
        assert len(spots) == 8 * 4
        places.add((int(spots[0, 0]), int(spots[0, 1]) > 32))
    assert {down for down, _ in places} == set(range(56, 65))
    assert {is_flipped for _, is_flipped in places} == {False, True}


# Scores


def test_balanced_accuracy_is_the_mean_over_classes_of_enough_pictures() -> None:
    truth = ["a"] * 60 + ["b"] * FEWEST + ["rare"] * (FEWEST - 1) + [""] * 50
    hits = [True] * 45 + [False] * 15 + [True] * 5 + [False] * (FEWEST - 5) + [True] * 69
    accuracy = balanced_accuracy(truth, hits)
    assert accuracy is not None
    assert accuracy.balanced == pytest.approx((0.75 + 0.25) / 2)
    assert (accuracy.chance, accuracy.pictures, accuracy.classes) == (0.5, 80, 2)


def test_one_class_proves_nothing() -> None:
    assert balanced_accuracy(["a"] * 100 + ["b"] * (FEWEST - 1), [True] * (99 + FEWEST)) is None


class CaptionScorer:
    """Knows the captions; an image is the number of its caption."""

    def __init__(self, captions: list[str]) -> None:
        self.captions = captions

    def encode_texts(self, prompts: list[str]) -> np.ndarray:
        return np.eye(len(self.captions), dtype=np.float32)[[self.captions.index(prompt) for prompt in prompts]]


def test_retrieval_counts_other_pictures_of_the_person_or_of_the_same_caption() -> None:
    shown = [labels(), labels(), labels(shoes="light"), labels(gender="female")]
    identities = [1, 2, 1, 3]
    sights = tuple(Sight(identity, one, frozenset(one)) for identity, one in zip(identities, shown, strict=True))
    # What each caption finds: its own picture; the first, which has the same words but shows another person; the first again,
    # the same person in other words; and a picture that is wrong either way.
    captions = list(dict.fromkeys(compose(one, one) for one in shown))
    features = np.array([[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], np.float32)
    features[2, 2] = 1
    found = retrieval(CaptionScorer(captions), features, Album(np.zeros((4, 1, 1, 3), np.uint8), sights))  # type: ignore[arg-type]
    assert found["picture R@1"] == 2 / 4
    assert found["person R@1"] == 2 / 4
    assert found["picture R@5"] == found["person R@5"] == 1
    assert (found["captions"], found["different"]) == (4, 3)


def test_a_trained_folder_is_loaded_scored_and_described(trained: tuple[Path, list[float]], album: Album) -> None:
    folder, losses = trained
    write_training(folder, AlbumJob(16, 2, seed=3), Recipe(), losses, elapsed_seconds=60)
    twice = Album(np.concatenate([album.images] * 2), album.sights * 2)
    scores = evaluate(load_clip(weights=f"local-dir:{folder}"), twice, table_questions(), load_phrases())
    assert {"gender"} <= {*scores.attributes} <= {question.name for question in table_questions()}
    write_scores(folder, evaluation_of(AlbumJob(16, 2, seed=4), scores))
    metrics = json.loads((folder / "metrics.json").read_bytes())
    card = (folder / "README.md").read_text()
    assert metrics["evaluation"]["retrieval"] == scores.retrieval
    assert f"| gender | {scores.attributes['gender'].balanced:.3f} |" in card
    assert f"**{scores.mean:.3f}**" in card


def test_a_model_is_not_tested_on_the_people_it_learnt_from(trained: tuple[Path, list[float]]) -> None:
    write_training(trained[0], AlbumJob(16, 2, seed=3), Recipe(), [1.0], elapsed_seconds=60)
    check_new_people(trained[0], AlbumJob(16, 2, seed=4))
    with pytest.raises(ValueError, match="seed 3 is the seed of training"):
        check_new_people(trained[0], AlbumJob(99, 2, seed=3))


def test_metrics_of_other_weights_are_refused(trained: tuple[Path, list[float]], tmp_path: Path) -> None:
    write_training(trained[0], AlbumJob(16, 2, seed=3), Recipe(), [1.0], elapsed_seconds=60)
    (tmp_path / "metrics.json").write_bytes((trained[0] / "metrics.json").read_bytes())
    (tmp_path / WEIGHTS).write_bytes(b"other")
    with pytest.raises(ValueError, match="other weights"):
        read_metrics(tmp_path)


# What is shipped


def test_shipped_model_is_described_by_its_own_metrics() -> None:
    metrics = read_metrics(EMBEDDED)
    assert (EMBEDDED / "README.md").read_text() == model_card(metrics)
    assert (EMBEDDED / WEIGHTS).stat().st_size < 8_000_000


def test_shipped_model_knows_every_word_of_the_shipped_bank() -> None:
    assert unknown_words(load_phrases().prompts, EMBEDDED / VOCABULARY) == []


def test_shipped_model_tells_the_colors_of_new_people() -> None:
    album = load_album(AlbumJob(identities=25, images_per_identity=2, seed=11))
    scorer = load_clip("embedded")
    features = scorer.encode_images(list(album.images))
    for question in table_questions():
        if question.name in ("upper_color", "lower_color", "shoes"):
            picks = (features @ scorer.encode_texts([answer[0] for answer in question.wordings]).T).argmax(axis=1)
            accepted = accepted_answers(album, question)
            asked = accepted.any(dim=1).numpy()
            assert accepted[np.arange(len(picks)), picks].numpy()[asked].mean() > 0.75, question.name


def test_shipped_model_is_an_open_clip_folder() -> None:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{EMBEDDED}")
    assert sum(parameter.numel() for parameter in model.parameters()) < 4_000_000
    assert "Resize(size=(128, 64)" in str(preprocess)


# Commands


def test_commands_train_and_score(tmp_path: Path) -> None:
    out, runner = str(tmp_path / "clip"), CliRunner()
    train = ["embedded-clip", "train", out, "--identities", "4", "--epochs", "2", "--workers", "1"]
    trained = runner.invoke(generators, train)
    assert trained.exit_code == 0, trained.output
    losses = [float(line.rpartition(" ")[2]) for line in trained.output.splitlines() if line.startswith("epoch")]
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)
    score = ["embedded-clip", "evaluate", out, "--identities", "20", "--workers", "1", "--json"]
    scored = runner.invoke(generators, score)
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["retrieval"]["captions"] == 40
