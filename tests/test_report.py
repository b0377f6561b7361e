"""What `passerby report` counts, beside naive counts of the same captions."""

import json
import math
import random
import shutil
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from programs import succeed

from passerby.report.clip_tokens import ClipTokens
from passerby.report.compare import FIGURES, compare, value_at
from passerby.report.health import CUTS
from passerby.report.measure import Measurement, measure
from passerby.report.sources import open_source
from passerby.report.terms import load_terms
from passerby.shards.read import ShardDataset
from passerby.text import lint
from passerby.tokens import Tokenizer

WILD = (
    "A man in a black coat and a black hat.",
    "A man in a black coat and a black hat.",
    "a asian woman , who wears a jeans",
    "The black man walks; his coat is black.",
    "A middle aged lady with fair skin.",
    "Ein älterer Herr — mit “Schirm” & Hut. 紅色 shirt\u2019s",
    "boots boots boots boots",
    "x",
    "…",
)


@pytest.fixture(scope="module")
def root(people, tmp_path_factory):
    """LUPerson-T in four shards, by a scorer that guesses; one of 72 inputs is left out."""
    folder = tmp_path_factory.mktemp("report")
    images = shutil.copytree(people / "images", folder / "images")
    min(images.rglob("*.jpg")).write_bytes(b"no image")
    options = ("--clip-model", "none", "--shard-size", "20", "--captions", "2", "--max-bad", "0.1")
    succeed("gen-captions", "luperson-t", images, "--out", folder / "root", *options)
    return folder / "root"


@pytest.fixture(scope="module")
def figures(root):
    return measure(Measurement(open_source(str(root))))


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """Captions as people and faulty templates write them, some said of several people."""
    folder = tmp_path_factory.mktemp("wild")
    generator = random.Random(0)
    rows = []
    for number in range(300):
        texts = [
            " ".join(generator.choices(WILD, k=generator.choice((1, 1, 1, 2)))) for _ in range(generator.randrange(3))
        ]
        person = generator.choice(("", "1", "2", "3"))
        rows.append({"key": f"{number}", "captions": texts, "person_id": person, "sha256": f"{number // 2 * 2:064d}"})
    rows[7]["captions"] = ["", "  "]
    for part in range(3):
        pq.write_table(pa.Table.from_pylist(rows[part * 100 : part * 100 + 100]), folder / f"{part}.parquet")
    return folder, rows


def naive_words(text: str) -> list[str]:
    """Split as `passerby.text.WORD` says, one character after the other."""
    words, word = [], ""
    lowered = text.lower()
    for place, letter in enumerate(lowered):
        is_joint = word and letter in "-'\u2019" and lowered[place + 1 : place + 2].isalnum()
        if letter.isalnum() or is_joint:
            word += letter
        elif word:
            words.append(word)
            word = ""
    return [*words, word] if word else words


def report_on(path: object) -> dict:
    return measure(Measurement(open_source(str(path))))


def captions_of(rows: list[dict]) -> list[tuple[str, str]]:
    return [(row["person_id"], text) for row in rows for text in row["captions"] if text.strip()]


def test_words_and_runs_of_words_are_those_of_a_naive_count(wild):
    folder, rows = wild
    found = report_on(folder)["diversity"]
    texts = [naive_words(text) for _, text in captions_of(rows)]
    words = Counter(word for text in texts for word in text)
    assert found["words"] == words.total()
    assert found["vocabulary"] == len(words)
    assert found["top_words"] == dict(words)
    for order in (1, 2, 3):
        runs = [tuple(text[place : place + order]) for text in texts for place in range(len(text) - order + 1)]
        assert found[f"distinct_{order}"] == round(len(set(runs)) / len(runs), 6)


def test_texts_said_of_several_people_are_found(wild):
    folder, rows = wild
    found = report_on(folder)["diversity"]
    said = defaultdict(set)
    for person, text in captions_of(rows):
        said[text].add(person)
    assert found["distinct_captions"] == len(said)
    known = {text: people - {""} for text, people in said.items()}
    shared = {text: people for text, people in known.items() if len(people) > 1}
    people = set().union(*shared.values())
    most = max(map(len, known.values()))
    assert found["shared_texts"] == {"texts": len(shared), "people": len(people), "most_people": most}
    assert 0 < len(shared) < len(said)


def test_lengths_tokens_faults_and_terms_are_those_of_a_naive_count(wild):
    folder, rows = wild
    found = report_on(folder)["health"]
    texts = [text for _, text in captions_of(rows)]
    lengths = Counter(len(naive_words(text)) for text in texts)
    assert found["words"]["histogram"] == {str(length): lengths[length] for length in sorted(lengths)}
    assert found["words"]["mean"] == round(sum(map(len, map(naive_words, texts))) / len(texts), 4)
    tokens = list(map(ClipTokens(), texts))
    cut = found["tokens"]["clip_bpe"]["cut"]
    assert cut == {str(limit): round(sum(count > limit for count in tokens) / len(texts), 6) for limit in CUTS}
    assert found["lint"]["captions"] == sum(bool(lint(text)) for text in texts)
    doubled = sum(any("doubled word" in fault for fault in lint(text)) for text in texts)
    assert found["lint"]["kinds"]["doubled word …"]["captions"] == doubled > 0
    for group, classes in load_terms().items():
        named = Counter(term for text in texts for term in naive_terms(naive_words(text), classes))
        assert found["demographic_terms"][group]["terms"] == dict(named)


def naive_terms(words: list[str], classes: dict[str, str]) -> set[str]:
    found = {f"{first} {second}" for first, second in pairwise(words) if f"{first} {second}" in classes}
    consumed = {
        place + side for place, pair in enumerate(pairwise(words)) if " ".join(pair) in classes for side in (0, 1)
    }
    return found | {word for place, word in enumerate(words) if word in classes and place not in consumed}


def test_a_colour_is_one_of_a_person_only_before_a_word_for_one(wild):
    terms = report_on(wild[0])["health"]["demographic_terms"]["skin_or_ethnicity"]
    assert {"asian", "black man", "skin"} == terms["terms"].keys()
    assert terms["captions"] == sum(
        "asian" in text or "black man" in text or "skin" in text for _, text in captions_of(wild[1])
    )
    assert all("key" in example and "caption" in example for example in terms["examples"])


def test_a_term_of_two_words_lies_within_one_caption(tmp_path):
    captions = ["Her shoes are black.", "Man in a coat."]
    pq.write_table(pa.table({"key": ["1", "2"], "caption": captions}), tmp_path / "a.parquet")
    assert report_on(tmp_path)["health"]["demographic_terms"]["skin_or_ethnicity"]["captions"] == 0


def test_two_words_are_counted_as_one_term_and_not_again_alone(tmp_path):
    pq.write_table(
        pa.table({"key": ["1", "2"], "caption": ["A middle aged man.", "An aged man."]}), tmp_path / "a.parquet"
    )
    ages = report_on(tmp_path)["health"]["demographic_terms"]["perceived_age"]
    assert ages["terms"] == {"aged": 1, "middle aged": 1}
    assert ages["classes"] == {"child": 0, "young": 0, "adult": 1, "old": 1}


def test_images_captions_and_people_are_counted(wild):
    folder, rows = wild
    found = report_on(folder)
    numbers = Counter(len(row["captions"]) for row in rows)
    assert found["images"] == {"total": 300, "repeated_keys": 0}
    assert found["captions"] == {
        "total": sum(len(row["captions"]) for row in rows),
        "empty": 2,
        "per_image": {str(number): numbers[number] for number in sorted(numbers)},
    }
    people = Counter(row["person_id"] for row in rows if row["person_id"])
    assert found["people"]["total"] == 3
    assert found["people"]["images_with_person"] == people.total()
    assert found["people"]["images_per_person"]["max"] == max(people.values())
    assert found["health"]["duplicates"] == {"images": 150, "groups": 150, "largest": 2}
    assert found["health"]["image_sizes"] is None


def test_a_data_set_is_told_as_its_samples_tell_it(root, figures):
    samples = [sample["json"] for sample in ShardDataset(root)]
    assert figures["source"]["title"] == "LUPerson-T captions of LUPerson"
    assert figures["images"]["total"] == len(samples) == 71
    assert figures["captions"]["per_image"] == {"2": 71}
    assert figures["diversity"]["distinct_captions"] == len(
        {sample[name] for sample in samples for name in ("caption", "caption_1")}
    )
    attributes = figures["fidelity"]["attributes"]
    for name in ("gender", "hat", "upper_clothes"):
        assert attributes[name]["values"] == dict(Counter(sample[name] for sample in samples))
        confidence = [sample[f"{name}_confidence"] for sample in samples]
        assert attributes[name]["confidence"]["mean"] == pytest.approx(sum(confidence) / 71, abs=1e-6)
        bins = Counter(min(math.floor(value * 20), 19) for value in confidence)
        assert attributes[name]["confidence"]["bins"] == [bins[place] for place in range(20)]
    colours = Counter(sample["upper_clothes"].split(".")[1] for sample in samples)
    assert attributes["upper_clothes"]["parts"][0] == dict(colours)
    assert attributes["camera_id"]["values"] == dict(Counter(str(sample["camera_id"]) for sample in samples))
    assert not {"path", "caption", "template", "source"} & attributes.keys()
    sizes = figures["health"]["image_sizes"]
    assert (sizes["width"]["median"], sizes["height"]["max"], sizes["images"]) == (16, 32, 71)


def test_no_tar_is_opened(root, figures, tmp_path):
    copy = shutil.copytree(root, tmp_path / "root")
    shutil.rmtree(copy / "data")
    assert report_on(copy) == figures


def test_any_number_of_workers_gives_the_same_bytes(root, figures):
    assert json.dumps(measure(Measurement(open_source(str(root))), workers=2)) == json.dumps(figures)


def test_the_order_of_files_changes_no_figure(wild):
    source = open_source(str(wild[0]))
    backwards = measure(Measurement(replace(source, files=source.files[::-1])))
    forwards = measure(Measurement(source))
    for path in (figure.path for figure in FIGURES):
        assert value_at(backwards, path) == value_at(forwards, path), path


def test_a_column_of_names_is_no_attribute(tmp_path):
    rows = [{"key": f"{number}", "caption": "A man.", "note": f"n{number}", "seen": "yes"} for number in range(1200)]
    for part in range(2):
        pq.write_table(pa.Table.from_pylist(rows[part * 600 :][:600]), tmp_path / f"{part}.parquet")
    fidelity = report_on(tmp_path)["fidelity"]
    assert fidelity["attributes"].keys() == {"seen"}
    assert fidelity["not_attributes"] == {"note": "more than 1,000 values"}


def test_a_data_set_without_a_caption_is_refused(tmp_path):
    pq.write_table(pa.table({"key": ["1"], "caption": [""]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="1 images and not a single caption"):
        report_on(tmp_path)


def test_clip_tokens_are_those_of_its_tokenizer(root):
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer, count = SimpleTokenizer(), ClipTokens()
    samples = [sample["txt"] for sample in ShardDataset(root)]
    odd = [
        "it's 12:30, T-shirt's!!",
        "a &amp; b &amp;amp; c",
        "<start_of_text> x",
        "tab\tand\nline",
        "",
        "AT&T\u2019s ﬁne",
    ]
    for text in [*samples, *WILD, *odd]:
        assert count(text) == len(tokenizer.encode(text)) + 2, text


def test_bert_tokens_are_counted_where_a_vocabulary_is_given(wild):
    folder, rows = wild
    bert = Tokenizer.from_captions([text for _, text in captions_of(rows)], 75)
    found = measure(Measurement(open_source(str(folder)), bert=bert))["health"]["tokens"]["bert_wordpiece"]
    lengths = Counter(len(bert.encode(text, 1000)[0]) for _, text in captions_of(rows))
    assert found["histogram"] == {str(length): lengths[length] for length in sorted(lengths)}


def test_a_comparison_puts_the_figures_of_both_beside_each_other(root, figures, wild):
    other = report_on(wild[0])
    rows = {row["name"]: row for row in compare(figures, other)["figures"]}
    assert (rows["Images"]["this"], rows["Images"]["other"]) == (71, 300)
    assert rows["Cut at 100 BERT tokens"]["this"] is None
