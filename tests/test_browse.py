"""The page of `passerby browse`, used as people use it: in a browser, from its file."""

import json
import shutil
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from urllib.parse import quote, urlencode

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import typer
from conftest import digests
from headless import CHROMIUM, Browser
from PIL import Image
from typer.testing import CliRunner

from passerby.browse import MAX_VALUES, TILE_HEIGHT, TILE_WIDTH, TILES, choose_evenly, write_page
from passerby.cli import browse as command
from passerby.sample import Sample
from passerby.shards.manifest import finalise
from passerby.shards.read import ShardDataset
from passerby.shards.write import shard_name, write_shard

COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("key", "caption", "caption_1", "sha256", "path", "person_id")),
        ("camera_id", pa.int16()),
        ("is_adult", pa.bool_()),
        *((name, pa.string()) for name in ("hat", "bag")),
        *((name, pa.float64()) for name in ("hat_confidence", "hat_margin")),
        ("mentioned", pa.list_(pa.string())),
    ]
)
HATS = ("hat.baseball_cap", "hat.sun_hat", "")
HOSTILE = (
    "</script><script>window.caught = 1</script>",
    "<img src=x onerror='window.caught = 2'>",
    "\"'`${window.caught = 3}\\u003cb> <!-- ]]> &lt;b&gt;",
    "שלום 👩🏽‍🦱 \u202eesrever __proto__ constructor",
    "W" * 300,
)
"""Ends of scripts, tags, quotes, templates, text from right to left, no place to break; to be read, and nothing else."""


def colour(number):
    """Give each sample a colour of its own."""
    return number * 6 % 256, number * 37 % 256, 255 - number * 6 % 256


def make_sample(number, *, has_image=True, **changes):
    file = BytesIO()
    Image.new("RGB", ((24, 24), (16, 32), (8, 32))[number % 3], colour(number)).save(file, "PNG")
    image = file.getvalue() if has_image else b""
    fields = {
        "key": f"{number:04d}_c{number % 3}",
        "caption": f"Person {number} carries a {('backpack', 'Red backpack', 'bag')[number % 3]}.",
        "caption_1": f"Number {number}, in other words.",
        "sha256": sha256(image).hexdigest(),
        "path": f"images/{number}.png",
        "person_id": f"{number // 4:04d}",
        "camera_id": number % 5,
        "is_adult": number % 7 != 0,
        "hat": HATS[number // 2 % 3],
        "bag": ("yes", "no")[number % 2],
        "hat_confidence": number % 11 / 10,
        "hat_margin": number / 100 - 0.2,
        "mentioned": ["hat"][: number % 2],
        **changes,
    }
    return Sample(fields["key"], image, "png" if has_image else "", fields, fields["caption"])


def write_root(root, samples, title="Forty people", columns=COLUMNS):
    half = len(samples) // 2
    for index, part in enumerate((samples[:half], samples[half:])):
        write_shard(root, shard_name("train", index, 2), part, columns=columns, config_hash="config")
    finalise(root, {"train": 2}, {"title": title})
    return root


@pytest.fixture(scope="module")
def forty(tmp_path_factory):
    return write_root(tmp_path_factory.mktemp("data") / "forty", [make_sample(number) for number in range(40)])


@pytest.fixture(scope="module")
def index(forty):
    """Give the page of the forty."""
    return write_page(forty, forty.parent / "page").folder / "index.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs chromium, chromium-browser or google-chrome on the path")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def shown_keys(browser):
    return browser.run("[...document.querySelectorAll('#grid li:not([hidden]) .key')].map((node) => node.textContent)")


def complaints(browser):
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    return [event["params"] for event in browser.events if event["method"] in kinds]


def requested(browser):
    sent = [event["params"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent]


def test_the_page_loads_from_its_file_and_from_nowhere_else(browser, index):
    browser.open(index)
    assert browser.text("h1") == "Forty people"
    assert browser.text("#count") == "40 samples"
    assert len(shown_keys(browser)) == 40
    assert complaints(browser) == []
    assert {url.rpartition("/")[0].removesuffix("/sprites") for url in requested(browser)} == {index.parent.as_uri()}


def test_the_page_may_not_reach_the_network(browser, index):
    browser.open(index)
    assert browser.run("fetch('http://localhost:9/').then(() => 'reached', () => 'refused')") == "refused"
    assert "Content Security Policy" in json.dumps(complaints(browser))


@pytest.mark.parametrize(
    ("hash", "expected"),
    [
        ("#text=backpack", pc.match_substring(pc.field("caption"), "backpack", ignore_case=True)),
        ("#text=RED%20person%202", pc.match_substring_regex(pc.field("caption"), "Person.*2.*Red")),
        ("#text=0007_c", pc.field("key") == "0007_c1"),
        ("#person=0003", pc.field("person_id") == "0003"),
        ("#camera=4", pc.field("camera_id") == 4),
        ("#is_adult=false", pc.field("is_adult") == pa.scalar(value=False)),
        ("#hat=hat.sun_hat&bag=no", (pc.field("hat") == "hat.sun_hat") & (pc.field("bag") == "no")),
        ("#hat=", pc.field("hat") == ""),
        ("#confidence=hat:0.9..1", pc.field("hat_confidence") >= 0.9),
        ("#confidence=hat:.2..0.5", (pc.field("hat_confidence") >= 0.2) & (pc.field("hat_confidence") <= 0.5)),
        ("#bag=perhaps", pc.field("bag") == "perhaps"),
    ],
)
def test_a_link_shows_what_the_tables_say(browser, forty, index, hash, expected):
    keys = ShardDataset(forty).metadata().filter(expected)["key"].to_pylist()
    assert keys or "perhaps" in hash
    browser.open(index, hash)
    assert shown_keys(browser) == keys
    assert browser.text("#count") == f"{len(keys)} match · 40 samples"
    assert browser.run("document.querySelector('#nothing').hidden") == bool(keys)


def test_the_choices_count_what_they_would_leave(browser, forty, index):
    browser.open(index, "#hat=hat.sun_hat&bag=no")
    table = ShardDataset(forty).metadata(["hat", "bag"])
    for attribute, others in (("hat", pc.field("bag") == "no"), ("bag", pc.field("hat") == "hat.sun_hat")):
        expected = {row["values"]: row["counts"] for row in table.filter(others)[attribute].value_counts().to_pylist()}
        script = f"attributes.find(({{name}}) => name === {attribute!r})"
        options = browser.run(f"[...{script}.select.options].slice(1).filter((o) => !o.hidden).map((o) => o.text)")
        names = {value: value.removeprefix("hat.").replace("_", " ") or "—" for value in expected}
        assert sorted(options) == sorted(f"{names[value]} ({counted})" for value, counted in expected.items())


def test_controls_write_the_link_and_a_changed_link_moves_the_controls(browser, index):
    browser.open(index, "", 390, 844)
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.run("document.querySelector('#text').focus()")
    browser.call("Input.insertText", text="red backpack")
    assert browser.run("scrollY") == 0
    select = "attributes.find(({name}) => name === 'bag').select"
    browser.run(f"{select}.selectedIndex = 1, {select}.dispatchEvent(new Event('change'))")
    assert browser.run("location.hash") == "#text=red%20backpack&bag=no"
    assert browser.run("document.querySelector('#confidence-from').disabled")
    browser.run("document.querySelector('#confidence-of').value = 'hat'")
    browser.run("document.querySelector('#confidence-from').value = '0.25'")
    browser.run("document.querySelector('#confidence').dispatchEvent(new Event('change'))")
    assert browser.run("location.hash") == "#text=red%20backpack&bag=no&confidence=hat:0.25..1"
    browser.run("location.hash = '#bag=yes&person=0003'")
    assert browser.run(f"[{select}.value, document.querySelector('#text').value]") == ["yes (2)", ""]
    assert browser.run("document.querySelector('#person').value") == "0003"
    browser.run("document.querySelector('#clear').click()")
    assert browser.text("#count") == "40 samples"


def test_a_link_that_is_not_understood_is_told(browser, index):
    browser.open(index, "#colour=red&confidence=hat:high&sample=nobody")
    fault = browser.text("#fault")
    for part in ("colour is no filter; there are sample, text, confidence, person", "hat:high is not", "sample nobody"):
        assert part in fault


def test_a_sample_shows_all_that_is_stored(browser, index):
    browser.open(index, "#sample=0013_c1")
    text = browser.run("document.querySelector('dialog').textContent.replace(/\\s+/g, ' ')")
    for part in (
        "Red backpack",
        "Number 13, in other words.",
        "person id0003",
        "camera id3",
        "hatbaseball cap0.20-0.070",
        "bagno",
    ):
        assert part in text
    for part in ("sha256", "pathimages/13.png", "mentionedhat"):
        assert part in text
    assert browser.run("document.querySelector('.bar[style]').style.getPropertyValue('--share')") == "0.2"


def test_everything_is_reached_by_keyboard(browser, index):
    browser.open(index, "#bag=no")
    keys = shown_keys(browser)
    for _ in range(20):
        browser.press("Tab", 9)
        if browser.run("document.activeElement.className") == "cell":
            break
    columns = browser.run("getComputedStyle(document.querySelector('#grid')).gridTemplateColumns.split(' ').length")
    assert columns == 4
    browser.press("ArrowRight", 39)
    browser.press("ArrowDown", 40)
    assert browser.run("scrollY") == 0
    browser.press("Enter", 13)
    assert browser.text("#detail-key") == keys[5]
    browser.press("ArrowLeft", 37)
    assert browser.text("#detail-key") == keys[4]
    assert browser.run("location.hash") == f"#bag=no&sample={keys[4]}"
    browser.press("Escape", 27)
    browser.wait_for(lambda: browser.run("location.hash") == "#bag=no")
    assert browser.run("document.activeElement.querySelector('.key').textContent") == keys[4]
    browser.press("End", 35)
    assert browser.run("document.activeElement.querySelector('.key').textContent") == keys[-1]


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_each_picture_stands_beside_its_own_caption(browser, index, width, height):
    browser.open(index, "#text=1", width, height)
    middles = browser.run(
        "matches.map((i) => [i, cells[i].querySelector('.picture').getBoundingClientRect()])"
        ".map(([i, box]) => [i, box.x + box.width / 2, box.y + box.height / 2])"
    )
    visible = [(i, (int(x), int(y))) for i, x, y in middles if y < height]
    assert len(visible) >= 4

    def are_painted():
        screen = browser.screenshot().convert("RGB")
        return all(np.abs(np.subtract(screen.getpixel(middle), colour(i))).max() <= 6 for i, middle in visible)

    browser.wait_for(are_painted)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_only_the_sprites_near_the_screen_are_loaded(browser, index):
    def sprites():
        return {url.rpartition("/")[2] for url in requested(browser) if "sprites" in url}

    browser.open(index, "", 390, 844)
    browser.wait_for(sprites)
    assert sprites() == {"00000.webp"}
    assert browser.run("cells.filter((cell) => cell.querySelector('.picture').style.backgroundImage).length") < 20
    browser.run("scrollTo(0, document.body.scrollHeight)")
    browser.wait_for(lambda: "00002.webp" in sprites())


def test_hostile_texts_are_read_and_do_nothing(browser, tmp_path):
    names = ("caption", "caption_1", "person_id", "hat", "__proto__", "text", "text_margin")
    samples = [
        make_sample(number, **dict.fromkeys(names, text), bag=f"{text}\u2028") for number, text in enumerate(HOSTILE)
    ]
    columns = pa.schema([*COLUMNS, ("__proto__", pa.string()), ("text", pa.string()), ("text_margin", pa.string())])
    page = write_page(write_root(tmp_path / "hostile", samples, HOSTILE[0], columns), tmp_path / "page")
    browser.open(page.folder / "index.html", "#hat=%3Cscript%3Ewindow.caught%3D4%3C/script%3E&<b>=1")
    assert browser.text("#fault").startswith("<b> is no filter")
    browser.open(page.folder / "index.html", "#sample=0004_c1", 390, 844)
    assert browser.run("[document.documentElement, detail].every((box) => box.scrollWidth <= box.clientWidth)")
    browser.open(page.folder / "index.html", "#sample=0001_c1")
    assert browser.run("document.title") == HOSTILE[0]
    captions = browser.run("[...document.querySelectorAll('.cell .caption')].map((node) => node.textContent)")
    assert captions == list(HOSTILE)
    assert browser.run("document.querySelector('#detail-captions').textContent") == HOSTILE[1] * 2
    assert browser.run("document.querySelectorAll('img, b, script:not([src]), [onerror]').length") == 0
    assert browser.run("typeof caught") == "undefined"
    assert complaints(browser) == []
    for number, text in enumerate(HOSTILE):
        link = urlencode(
            dict.fromkeys(("text", "hat", "__proto__", "text_"), text) | {"bag": f"{text}\u2028"}, quote_via=quote
        )
        browser.run(f"location.hash = {json.dumps(link)}")
        assert shown_keys(browser) == [samples[number].key]
        assert browser.run("document.querySelector('#fault').hidden"), "a field named text answers to text_"
    assert (page.folder / "samples.js").read_bytes().isascii()
    assert b"<" not in (page.folder / "samples.js").read_bytes()


def test_people_are_found_however_many_but_a_text_is_no_choice(browser, tmp_path):
    number = MAX_VALUES + 1
    samples = [make_sample(i, has_image=False, person_id=f"{i}", bag=f"bag {i}") for i in range(number)]
    page = write_page(write_root(tmp_path / "many", samples), tmp_path / "page")
    browser.open(page.folder / "index.html", "#person=1000")
    assert shown_keys(browser) == ["1000_c1"]
    labels = browser.run("[...document.querySelectorAll('#attributes label')].map((node) => node.firstChild.data)")
    assert labels == ["camera id", "is adult", "hat"]


def test_captions_without_images_are_shown(browser, tmp_path):
    samples = [make_sample(number, has_image=False) for number in range(6)]
    page = write_page(write_root(tmp_path / "texts", samples), tmp_path / "page")
    assert page.problems == ()
    assert list((page.folder / "sprites").iterdir()) == []
    browser.open(page.folder / "index.html", "#hat=hat.sun_hat&sample=0002_c2")
    assert shown_keys(browser) == ["0002_c2", "0003_c0"]
    assert browser.run("cells[matches[0]].querySelector('.picture').checkVisibility()") is False
    assert [url for url in requested(browser) if "sprites" in url] == []


def test_an_image_that_cannot_be_decoded_is_told_of(browser, tmp_path):
    good = make_sample(0)
    broken = make_sample(1)
    damaged = broken.image[:60] + bytes(len(broken.image) - 76) + broken.image[-16:]
    broken = Sample(
        broken.key, damaged, "png", {**broken.fields, "sha256": sha256(damaged).hexdigest()}, broken.caption
    )
    page = write_page(write_root(tmp_path / "broken", [good, broken]), tmp_path / "page")
    ((key, problem),) = page.problems
    assert key == broken.key
    assert "cannot be decoded" in problem
    browser.open(page.folder / "index.html")
    told = browser.run("[...document.querySelectorAll('.cell .picture')].map((node) => node.textContent)")
    assert told == ["", f"no picture: its image {problem}"]


def test_of_more_samples_than_the_limit_an_even_choice_is_shown(browser, forty, tmp_path):
    page = write_page(forty, tmp_path / "page", limit=8, seed=3)
    assert (page.shown, page.total) == (8, 40)
    browser.open(page.folder / "index.html")
    assert browser.text("#count") == "8 of 40 samples"
    numbers = [int(key[:4]) for key in shown_keys(browser)]
    assert [number // 5 for number in numbers] == list(range(8))


def test_the_choice_takes_one_of_each_stretch_and_the_seed_decides_which():
    chosen = choose_evenly(1_281_167, 5000, 0)
    stretches = [[part * 1_281_167 // 5000, (part + 1) * 1_281_167 // 5000] for part in range(5000)]
    assert all(start <= index < end for index, (start, end) in zip(chosen, stretches, strict=True))
    places = [(index - start) / (end - start) for index, (start, end) in zip(chosen, stretches, strict=True)]
    assert abs(np.mean(places) - 0.5) < 0.02
    assert choose_evenly(1_281_167, 5000, 1) != chosen
    assert choose_evenly(5, 5, 1) == [0, 1, 2, 3, 4]


def test_a_list_of_keys_is_shown_in_its_order(browser, forty, tmp_path):
    keys = ["0031_c1", "0002_c2", "0031_c1", "0030_c0"]
    page = write_page(forty, tmp_path / "page", keys=keys)
    browser.open(page.folder / "index.html")
    assert shown_keys(browser) == ["0031_c1", "0002_c2", "0030_c0"]
    sprite = Image.open(page.folder / "sprites" / "00000.webp")
    for tile, number in enumerate((31, 2, 30)):
        pixel = sprite.getpixel((tile * TILE_WIDTH + TILE_WIDTH // 2, TILE_HEIGHT // 2))
        assert np.abs(np.subtract(pixel, (*colour(number), 255))).max() <= 6
    corners = [sprite.getpixel((tile * TILE_WIDTH + 5, 5))[3] for tile in range(3)]
    assert corners == [255, 0, 0], "what is not as tall or as wide as its tile leaves the rest transparent"


def test_any_number_of_workers_writes_the_same_bytes(forty, index, tmp_path):
    calls = []
    write_page(forty, tmp_path / "page", workers=2, on_progress=lambda *numbers: calls.append(numbers))
    assert digests(tmp_path / "page") == digests(index.parent)
    assert calls == [(TILES, 40), (2 * TILES, 40), (40, 40)]


def test_a_second_run_replaces_the_page_and_leaves_nothing_behind(forty, tmp_path):
    write_page(forty, tmp_path / "page")
    write_page(forty, tmp_path / "page", limit=5)
    assert sorted(path.name for path in (tmp_path / "page" / "sprites").iterdir()) == ["00000.webp"]
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_a_page_into_which_a_file_was_put_is_not_replaced(forty, tmp_path):
    write_page(forty, tmp_path / "page")
    (tmp_path / "page" / "notes.txt").write_text("mine")
    before = digests(tmp_path)
    with pytest.raises(FileExistsError, match=r"\(notes\.txt\)"):
        write_page(forty, tmp_path / "page")
    assert digests(tmp_path) == before


def test_a_run_that_fails_leaves_the_page_as_it_was(forty, tmp_path):
    write_page(forty, tmp_path / "page")
    before = digests(tmp_path)

    def fail(done, total):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_page(forty, tmp_path / "page", limit=5, on_progress=fail)
    assert digests(tmp_path) == before


def test_what_a_killed_run_leaves_is_removed_by_the_next(forty, tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from passerby.browse import write_page\n"
        "write_page(Path(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda done, total: os.kill(os.getpid(), 9))"
    )
    subprocess.run([sys.executable, "-c", script, forty, tmp_path / "page"], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".page.")
    living = tmp_path / left.name.replace("browse-part", "of-another-writer")
    living.mkdir()
    write_page(forty, tmp_path / "page")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["page", living.name])


def test_two_runs_do_not_disturb_each_other(forty, tmp_path):
    write_page(forty, tmp_path / "page", limit=20, on_progress=lambda *_: write_page(forty, tmp_path / "page", limit=5))
    assert len(list((tmp_path / "page" / "sprites").iterdir())) == 2


def run_command(*words):
    app = typer.Typer()
    command.register(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_writes_beside_the_data_set_and_says_where(forty, tmp_path):
    root = shutil.copytree(forty, tmp_path / "forty")
    done = run_command(root)
    assert done.exit_code == 0
    page = tmp_path / "forty-browse" / "index.html"
    assert page.is_file()
    assert done.output.startswith("40 of 40 samples, 0.0 MB.")
    assert str(page) in done.output
    keys = tmp_path / "keys.txt"
    keys.write_text("0001_c1\n\n 0002_c2 \n")
    assert run_command(root, "--limit", 7).output.startswith("7 of 40 samples")
    assert run_command(root, "--keys", keys, "--out", tmp_path / "two").output.startswith("2 of 40 samples")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "{root}/browse"], "lies in the data set"),
        (["--out", "{folder}/taken"], "holds something else than a page of ours (notes.txt)"),
        (["--out", "{folder}/similar"], "holds something else than a page of ours"),
        (["--keys", "{folder}/keys.txt"], "2 of 3 keys are not in {root}: 'nobody', '<b>'"),
        (["--keys", "{folder}/empty.txt"], "there is nothing to show: the list of keys is empty"),
        (["--keys", "{folder}/binary.txt"], "{folder}/binary.txt is not UTF-8"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(forty, tmp_path, options, message):
    names = {"root": forty, "folder": tmp_path}
    for file, content in {
        "taken/notes.txt": b"mine",
        "similar/index.html": b"<title>another page</title>",
        "keys.txt": b"nobody\n0001_c1\n<b>\n",
        "empty.txt": b"\n",
        "binary.txt": b"\xff\xfe0",
    }.items():
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(content)
    before = digests(tmp_path)
    done = run_command(forty, "--out", tmp_path / "new", *(option.format(**names) for option in options))
    assert isinstance(done.exception, ValueError | OSError)
    assert message.format(**names) in str(done.exception)
    assert "\n" not in str(done.exception)
    assert digests(tmp_path) == before


def test_no_data_set_and_no_samples_are_refused(forty, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no data set"):
        write_page(tmp_path, tmp_path.parent / "page")
    with pytest.raises(ValueError, match="limit is 0; it must be at least 1"):
        write_page(forty, tmp_path / "page", limit=0)
    with pytest.raises(ValueError, match="workers is 0"):
        write_page(forty, tmp_path / "page", workers=0)
