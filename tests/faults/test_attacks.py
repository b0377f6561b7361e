"""Attacks that are meant, not only damage: code in templates, files, names and URLs, and what may never leave the machine.

Beside these: templates in test_render.py, pickles in test_readers_unpickle.py, SQL in test_where.py, checkpoints in test_optim.py,
pages in test_report_page.py and test_browse.py, forged copies in test_hydrate.py, bombs in test_found.py.
"""

import ast
import io
import tarfile
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import digests
from PIL import Image
from works import FINEGPR

from captioning.divide import load_phrases
from captioning.render import TemplateError, load_templates
from captioning.synonyms import load_synonyms
from finetune.sheets import Row, Sheet, Tile, render_sheets
from passerby.nets.parser import read_parts_table
from passerby.readers.luperson import open_source
from passerby.report.labels import read_label_map
from passerby.sample import KEY_PATTERN
from passerby.training.stream import _read_captions, expand

ROOT = Path(__file__).parents[2]
PACKAGES = ("passerby", "captioning", "pretrain", "finetune", "configs", "templates")

# --- the code itself

NEVER = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "subprocess.getoutput", "marshal.loads"),
    *(
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "shelve.open",
        "yaml.unsafe_load",
        "yaml.full_load",
        "dill.loads",
    ),
    *("tarfile.open", "shutil.unpack_archive", "zipfile.ZipFile", "joblib.load", "torch.jit.load"),
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.BaseLoader"}


def dangers(source: str) -> Iterator[str]:
    """Name the calls in a program that could run what a file says, or unpack where a file says."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in NEVER or name.endswith((".extractall", ".extract")) or given.get("shell", "False") != "False":
            yield f"{node.lineno}: {name}"
        if name == "torch.load" and given.get("weights_only") != "True":
            yield f"{node.lineno}: torch.load without weights_only"
        if name in ("yaml.load", "yaml.compose") and given.get("Loader") not in SAFE_LOADERS:
            yield f"{node.lineno}: {name} with another loader"
        if name == "np.load" and given.get("allow_pickle", "False") != "False":
            yield f"{node.lineno}: np.load of pickles"


def test_nothing_in_the_code_runs_or_unpacks_what_a_file_says():
    found = {
        str(path.relative_to(ROOT)): [*dangers(path.read_text("utf-8"))]
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert len(found) > 150
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "line",
    [
        "eval(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "pickle.load(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader=yaml.Loader)",
        "np.load(path, allow_pickle=True)",
        "tar.extractall(folder)",
    ],
)
def test_the_search_for_such_code_finds_it(line):
    assert [*dangers(line)]


# --- words


@pytest.mark.parametrize(
    "pattern",
    [
        "{{ ''|attr('__class__') }}",
        "{{ '%s'|format(view) }}",
        "{{ '{0.__class__.__mro__}'.format(view) }}",
        "{{ view.__class__.__base__.__subclasses__() }}",
        "{{ self._TemplateReference__context }}",
        "{{ lipsum.__globals__ }}",
        "{% import 'os' as os %}",
        "{% call view() %}{% endcall %}",
        "{% filter a %}{{ view }}{% endfilter %}",
    ],
)
def test_a_pattern_cannot_leave_the_sandbox(tmp_path, pattern):
    (tmp_path / "a.j2").write_text(pattern)
    with pytest.raises(TemplateError, match=r"a\.j2:1: "):
        load_templates(tmp_path, variables=["view"])


def test_what_a_pattern_is_filled_with_is_no_pattern(tmp_path):
    (tmp_path / "a.j2").write_text("Seen: {{ view }}")
    templates = load_templates(tmp_path, variables=["view"])
    assert "{{ 7*7 }}{% if x %}" in templates.render(0, {"view": "{{ 7*7 }}{% if x %}"})


LAUGHS = "a0: &a0 [ha, ha]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))


@pytest.mark.parametrize("read", [load_phrases, load_synonyms, read_label_map, read_parts_table])
@pytest.mark.parametrize("text", [LAUGHS, "!!python/object/apply:os.system ['touch went-off']", "a: &a {b: *a}"])
def test_yaml_neither_swells_nor_runs(tmp_path, monkeypatch, read, text):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(text)
    started_at = time.process_time()
    with pytest.raises(ValueError, match=r"a\.yaml") as caught:
        read(Path("a.yaml"))
    assert time.process_time() - started_at < 5
    assert len(str(caught.value)) < 50_000
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


# --- names and places


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_names_in_a_tar_never_become_paths(tmp_path):
    names = ["/etc/passwd.jpg", "../../up.jpg", "a/../b.jpg", "c\nd.jpg", "e;rm -rf ~.jpg", "\u202ef.jpg"]
    write_tar(tmp_path / "a.tar", {name: name.encode() for name in names})
    before = digests(tmp_path)
    source = open_source(tmp_path / "a.tar")
    rows = source.inputs.to_pylist()
    assert sorted(source.read(row).decode() for row in rows) == sorted(names)
    assert all(KEY_PATTERN.fullmatch(row["key"]) for row in rows)
    assert digests(tmp_path) == before


def test_one_name_twice_in_a_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for data in (b"1", b"22"):
            member = tarfile.TarInfo("a.jpg")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(ValueError, match=r"a/a\.jpg and a/a\.jpg have one key"):
        open_source(tmp_path / "a.tar")


@pytest.mark.parametrize(
    "url", ["pipe:touch went-off #.tar", "pipe://x; touch went-off #.tar", "{pipe:,}touch went-off #.tar"]
)
def test_a_command_in_place_of_a_tar_is_not_run(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is a command to run, and no place of a tar"):
        _read_captions(expand(url))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.txt": b"\xff"}, r"sample a: 'utf-8' codec"),
        ({"a.txt": b"A man.", "a.json": b"[1]"}, r"sample a: its \.json holds list"),
        ({"a.txt": b"A man.", "a.json": b"[" * 9000}, r"sample a: its \.json is no JSON"),
        (None, r"a\.tar: invalid header; fetch it again"),
    ],
)
def test_a_streamed_tar_that_is_damaged_is_one_line(tmp_path, members, message):
    if members is None:
        (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    else:
        write_tar(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=message) as caught:
        _read_captions([str(tmp_path / "a.tar")])
    assert len(str(caught.value).splitlines()) == 1


# --- pages

HOSTILE = """</title></style></h1><script>x()</script>"><img src=x onerror=x()><a href="javascript:x()">'"""


class Elements(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


def test_captions_and_names_stay_text_on_sheets():
    tile = Tile(Image.new("RGB", (4, 8)), HOSTILE, "right")
    page = Elements(render_sheets(HOSTILE, [Sheet(HOSTILE, HOSTILE, (Row(HOSTILE, (tile,)),))]))
    assert not page.tags & {"script", "a", "iframe", "object", "link"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert {value[:23] for name, value in page.attributes if name in ("src", "href")} == {"data:image/jpeg;base64,"}
    assert page.text.count(HOSTILE) == 6


# --- secrets


def test_credentials_reach_no_file_and_no_word_of_a_run(people, tmp_path):
    secrets = {
        name: f"secret-of-{name}"
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "WANDB_API_KEY")
    }
    done = FINEGPR.run(people, tmp_path / "root", env=secrets)
    assert done.returncode == 0
    refused = FINEGPR.run(people, tmp_path / "root", "--seed", 1, env={**secrets, "PASSERBY_DEBUG": "1"})
    assert refused.returncode == 1
    assert "Traceback" in refused.stderr
    for text in (
        done.stdout,
        done.stderr,
        refused.stderr,
        *(path.read_text("latin-1") for path in tmp_path.rglob("*.*")),
    ):
        assert "secret-of" not in text
