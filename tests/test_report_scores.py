"""The scores of a report that have a formula: self-BLEU beside NLTK's, what is cut off, the distance of distributions."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

from passerby.report.compare import FIGURES, compare
from passerby.report.measure import Measurement, measure
from passerby.report.self_bleu import self_bleu
from passerby.report.sources import open_source


@pytest.mark.parametrize(
    "texts",
    [
        ["a b c d e", "a b c d f", "a b x y z q"],
        ["a a a a a a", "a a", "b"],
        ["a b c", "a b c"],
        ["a b c d e", "a b c d e f g"],
        ["the man wears a hat", "the woman wears a hat and a coat", "a man in a coat", "the man wears a hat"],
    ],
)
def test_self_bleu_is_nltks(texts):
    texts = [text.split() for text in texts]
    smoothing = SmoothingFunction().method1
    scores = [
        sentence_bleu(texts[:place] + texts[place + 1 :], text, smoothing_function=smoothing)
        for place, text in enumerate(texts)
    ]
    assert self_bleu(texts) == pytest.approx(sum(scores) / len(scores), abs=1e-9)


def test_self_bleu_of_one_text_is_not_measured():
    assert self_bleu([["a"]]) is None


def test_a_caption_that_just_fits_is_not_cut(tmp_path):
    captions = [" ".join(["man"] * (tokens - 2)) for tokens in (64, 65, 77, 78, 100)]
    pq.write_table(pa.table({"key": list("abcde"), "caption": captions}), tmp_path / "a.parquet")
    assert measure(Measurement(open_source(str(tmp_path))))["health"]["tokens"]["clip_bpe"]["cut"] == {
        "64": 0.8,
        "77": 0.4,
        "100": 0.0,
    }


def test_the_distance_of_distributions_is_the_share_to_change():
    def with_values(**values: int) -> dict:
        measured = dict.fromkeys(figure.path.partition(".")[0] for figure in FIGURES)
        return {
            **measured,
            "source": {},
            "captions": {"total": 4, "empty": 0},
            "fidelity": {"attributes": {"hat": {"values": values}}},
        }

    (row,) = compare(with_values(cap=3, none=1), with_values(cap=1, none=2, helmet=1))["attributes"]
    assert row["distance"] == 0.5
    assert row["values"] == [
        {"value": "cap", "this": 0.75, "other": 0.25},
        {"value": "none", "this": 0.25, "other": 0.5},
        {"value": "helmet", "this": 0.0, "other": 0.25},
    ]
