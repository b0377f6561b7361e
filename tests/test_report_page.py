"""The page of a report, and the command that writes it."""

import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from passerby.cli.report import register
from passerby.report.charts import HEIGHT, WIDTH, histogram, shares
from passerby.report.compare import FIGURES
from passerby.report.page import render_page

HOSTILE = (
    "</style></title><script>document.body.id='owned'</script><img src=x onerror=\"document.body.id='owned'\">"
    " \"'&amp; 😀 \u202eabc"
)


@pytest.fixture
def captions(tmp_path):
    rows = [
        {"key": f"{place}", "caption": text, "hat": "cap", "hat_confidence": 0.25, "person_id": f"{place % 2}"}
        for place, text in enumerate(["A man in a cap.", "A man in a cap.", "an Asian woman", "A man."])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "captions.parquet")
    return tmp_path / "captions.parquet"


@pytest.fixture
def hostile(tmp_path):
    names = {
        "key": HOSTILE,
        "caption": HOSTILE,
        "hat": HOSTILE,
        "person_id": HOSTILE,
        "split": HOSTILE,
        HOSTILE: HOSTILE,
    }
    pq.write_table(pa.Table.from_pylist([names]), tmp_path / "a'<b>.parquet")
    return tmp_path / "a'<b>.parquet"


def report(*words: object):
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(map(str, words)))


class Elements(HTMLParser):
    """Counts elements and checks that they are closed in order."""

    VOID = frozenset({"meta", "br", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names, self.open, self.attributes, self.text = Counter(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names[tag] += 1
        self.attributes += attrs
        if tag not in self.VOID and tag not in ("rect", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in ("rect", "line"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_command_writes_the_figures_and_the_page(captions, tmp_path):
    done = report(captions, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    figures = json.loads((tmp_path / "out" / "report.json").read_text())
    assert figures["captions"]["total"] == 4
    assert re.search(r"^Captions +4$", done.stdout, re.MULTILINE)
    assert "note: 1 caption may name skin or ethnicity" in done.stdout
    assert (tmp_path / "out" / "report.html").read_text() == render_page(figures)


def test_json_is_what_is_in_the_file(captions, tmp_path):
    done = report(captions, "--out", tmp_path / "out", "--json")
    assert done.stdout == (tmp_path / "out" / "report.json").read_text()


def test_every_figure_stands_on_the_page(captions, tmp_path):
    report(captions, "--out", tmp_path / "out")
    page = Elements((tmp_path / "out" / "report.html").read_text())
    text = " ".join(" ".join(page.text).split())
    assert all(figure.name in text for figure in FIGURES)
    assert "an Asian woman" in text
    assert "Confidence, 0 to 1: mean 0.25, below one half in 100% of images" in text
    assert page.names["svg"] == 3


def test_two_reports_stand_beside_each_other_with_marks(captions, tmp_path):
    others = pa.table({"key": list("1234"), "caption": ["A man."] * 4, "hat": ["no"] * 4})
    pq.write_table(others, tmp_path / "other.parquet")
    done = report(captions, "--against", tmp_path / "other.parquet", "--out", tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'Captions that name skin or ethnicity</th><td class="n worse">▲ 1</td><td class="n">0</td>' in page
    assert 'Distinct captions</th><td class="n better">▲ 3</td><td class="n">1</td>' in page
    assert 'Words a caption, most</th><td class="n ">▲ 5</td>' in page
    assert "distance 100%" in page
    assert re.search(r"^Distinct captions +3 +1 +better$", done.stdout, re.MULTILINE)
    Elements(page)


def test_what_grows_with_the_captions_is_no_improvement(captions, tmp_path):
    pq.write_table(pa.table({"key": ["1"], "caption": ["A man"]}), tmp_path / "other.parquet")
    done = report(captions, "--against", tmp_path / "other.parquet", "--out", tmp_path / "out")
    assert re.search(r"^Distinct captions +3 +1$", done.stdout, re.MULTILINE)
    assert re.search(r"^Captions with faults of English +25.0% +100% +better$", done.stdout, re.MULTILINE)


def test_labels_stand_on_the_page(captions, tmp_path):
    (tmp_path / "labels.csv").write_text("key,cap,hat,shoes\n0,cap,cap,x\n1,hat,beret,x\n")
    (tmp_path / "map.yaml").write_text("cap: {attribute: hat, hat: bonnet}\n")
    done = report(
        captions, "--labels", tmp_path / "labels.csv", "--label-map", tmp_path / "map.yaml", "--out", tmp_path / "out"
    )
    assert "label cap: 50.0% right, 50.0% balanced, of 2" in done.stdout
    assert "1 not compared: no value 'beret' occurs" in done.stdout
    text = " ".join(" ".join(Elements((tmp_path / "out" / "report.html").read_text()).text).split())
    assert "cap as hat 2 50.0% 50.0% 50.0%" in text
    assert "1 image (no value 'beret' occurs" in text
    assert "the data set has no such attribute: shoes" in text


def test_hostile_text_is_text(hostile, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps([{"key": HOSTILE, "hat": HOSTILE, HOSTILE: "x"}]))
    done = report(hostile, "--labels", tmp_path / "labels.json", "--against", hostile, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    page = Elements((tmp_path / "out" / "report.html").read_text())
    assert not {"script", "img", "link", "iframe", "object"} & page.names.keys()
    assert page.names["style"] == 1
    assert not [name for name, value in page.attributes if name.startswith("on") or name in ("src", "srcset")]
    assert {value for name, value in page.attributes if name == "href"} == {
        "#figures",
        "#fidelity",
        "#diversity",
        "#health",
    }
    assert HOSTILE in "".join(page.text)


def test_a_browser_finds_hostile_text_inert(hostile, tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("needs chromium on the path")
    report(hostile, "--out", tmp_path / "out")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
    ]
    done = subprocess.run(
        [*command, f"file://{tmp_path / 'out' / 'report.html'}"], check=True, capture_output=True, text=True
    )
    assert "<footer>" in done.stdout
    assert 'id="owned"' not in done.stdout
    assert "<script" not in done.stdout


def test_a_vocabulary_of_bert_is_read_from_its_file(captions, tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "in", "cap", "."])
    )
    report(captions, "--bert-vocab", tmp_path / "vocab.txt", "--out", tmp_path / "out")
    tokens = json.loads((tmp_path / "out" / "report.json").read_text())["health"]["tokens"]
    assert tokens["bert_wordpiece"]["histogram"] == {"5": 2, "8": 2}
    assert "BERT tokens" in (tmp_path / "out" / "report.html").read_text()


def test_a_map_needs_labels(captions, tmp_path):
    done = report(captions, "--label-map", tmp_path / "map.yaml")
    assert isinstance(done.exception, ValueError)
    assert "--labels" in str(done.exception)


def test_by_default_the_report_of_files_lies_beside_the_user(captions, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    report(captions)
    assert sorted(path.name for path in (tmp_path / "here" / "captions-report").iterdir()) == [
        "report.html",
        "report.json",
    ]


@pytest.mark.parametrize(
    ("counts", "cuts", "columns", "ticks", "lines"),
    [
        ({"5": 2, "6": 1, "8": 1}, (), [2, 1, 0, 1], ["5", "6", "7", "8"], []),
        ({"1": 1, "100": 3}, (), [1, *[0] * 19, 3], ["0", "20", "40", "60", "80", "100"], []),
        ({"60": 1, "62": 1}, (64, 100), [1, 0, 1, 0, 0], ["60", "61", "62", "63", "64"], ["64"]),
        ({"7": 3}, (), [3], ["7"], []),
    ],
)
def test_a_histogram_counts_what_it_draws(counts, cuts, columns, ticks, lines):
    chart = histogram(counts, unit="words", cuts=cuts)
    highest = max(columns)
    assert [round(column.height / HEIGHT * highest) for column in chart.columns] == columns
    assert [tick.text for tick in chart.ticks] == ticks
    assert [cut.text for cut in chart.cuts] == lines
    assert all(0 <= mark.x <= WIDTH for mark in [*chart.ticks, *chart.cuts])
    assert sum(int(re.search(r": ([\d,]+) \(", column.title)[1]) for column in chart.columns) == sum(counts.values())


def test_a_line_marks_the_end_of_what_is_read():
    chart = histogram({"60": 1, "64": 1, "65": 1}, unit="tokens", cuts=[64])
    assert chart.cuts[0].x == pytest.approx(chart.columns[5].x)


def test_shares_are_drawn_in_their_bins():
    chart = shares([1, 0, 0, 3])
    assert [round(column.height) for column in chart.columns] == [33, 0, 0, 100]
    assert chart.columns[3].title == "0.75 to 1.00: 3 (75.0%)"
