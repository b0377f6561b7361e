"""The data card: what it claims and from what, and that people, the Hub and machines are told the same."""

import hashlib
import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import programs
import pytest
import yaml
from conftest import digests, write_people
from huggingface_hub import DatasetCard
from shard_samples import COLUMNS, make_sample

from passerby.about import about_source
from passerby.card import croissant_json, gather, readme, write_card, write_contact
from passerby.curate.rules import Rules
from passerby.curate.select import select
from passerby.generate import SYNTHETIC
from passerby.report.measure import Measurement, measure
from passerby.report.sources import open_source
from passerby.shards.manifest import finalise, read_manifest
from passerby.shards.write import shard_name, write_shard

DATA_CARDS = Path(__file__).parents[1] / "data_cards"
RECIPES = ("finegpr-c", "luperson-t")


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    """One small data set of each recipe; their images claim to be those of the papers."""
    folder = tmp_path_factory.mktemp("cards")
    people = write_people(folder / "people", 4)
    for recipe in RECIPES:
        generate(recipe, people, folder / recipe)
    return {recipe: folder / recipe for recipe in RECIPES}


def generate(recipe, people, out):
    options = {
        "finegpr-c": ["--attributes", people / "attributes.csv", "--lambda", "0.8"],
        "luperson-t": ["--clip-model", "none"],
    }
    programs.succeed("gen-captions", recipe, people / "images", "--out", out, *options[recipe])


@pytest.fixture
def facts(roots):
    return {recipe: gather(root, read_manifest(root)) for recipe, root in roots.items()}


def with_header(facts, **changes):
    return replace(facts, manifest=replace(facts.manifest, header={**facts.manifest.header, **changes}))


def make_data_set(root, facts, samples):
    """Write other samples under the header of `facts`."""
    write_shard(root, shard_name("train", 0, 1), samples, columns=COLUMNS, config_hash="config")
    columns = {column.name: str(column.type) for column in COLUMNS}
    return finalise(root, {"train": 1}, {**facts.manifest.header, "columns": columns})


def hub_header(text):
    return yaml.safe_load(text.split("---\n")[1])


def feature_names(text):
    return [feature["name"] for feature in hub_header(text)["dataset_info"]["features"]]


@pytest.fixture(scope="module")
def measured(roots, tmp_path_factory):
    """A data set with its report."""
    root = copy_of(roots["luperson-t"], tmp_path_factory.mktemp("measured"))
    (root / "report.json").write_text(json.dumps(measure(Measurement(open_source(str(root))), workers=1)))
    return root


@pytest.mark.parametrize("recipe", RECIPES)
def test_generating_writes_the_card_and_croissant(roots, facts, recipe):
    assert (roots[recipe] / "README.md").read_text() == readme(facts[recipe])
    assert (roots[recipe] / "croissant.json").read_text() == croissant_json(facts[recipe])


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_hub_reads_the_header(roots, facts, recipe):
    card = DatasetCard.load(roots[recipe] / "README.md")
    said = card.data.to_dict()
    assert said == hub_header(readme(facts[recipe]))
    assert said["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.tar"}]}
    ]
    assert said["dataset_info"]["splits"][0]["num_examples"] == facts[recipe].manifest.kept
    assert card.text.strip().startswith("# ")


@pytest.mark.parametrize("recipe", RECIPES)
def test_croissant_makes_the_claims_of_the_card(facts, recipe):
    card, told = readme(facts[recipe]), json.loads(croissant_json(facts[recipe]))
    texts = [text for name, value in told.items() if name.startswith("rai:data") for text in as_list(value)]
    shown = [text for text in texts if text in card]
    assert len(shown) >= 10
    assert [text for text in texts if len(text) > 60 and text not in card] == []


def as_list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize(
    ("recipe", "claims"),
    [
        (
            "finegpr-c",
            ["non-commercial research only", "do not exist", "AOST", "chosen by supervised results", "xiang2021less"],
        ),
        ("luperson-t", ["nobody asked them", "states no licence", "YouTube", "--not-near", "fu2021unsupervised"]),
    ],
)
def test_the_card_says_what_is_known_of_the_source(facts, recipe, claims):
    card = readme(facts[recipe])
    assert [claim for claim in claims if claim not in card] == []
    assert "synthetic renders" not in card


def test_only_the_published_lambda_inherits_the_choice_of_its_authors(facts):
    config = facts["finegpr-c"].manifest.header["config"]
    other = with_header(facts["finegpr-c"], config={**config, "lambda": "0.5"})
    assert "chosen by supervised results" not in readme(other)


def test_renders_are_labelled_and_their_licence_is_ours(facts):
    drawn = with_header(facts["luperson-t"], source=SYNTHETIC, is_synthetic=True)
    assert "**These are synthetic renders.** No real person is shown" in readme(drawn)
    assert hub_header(readme(drawn))["license"] == "mit"
    assert "nobody asked" not in readme(drawn)


def test_a_source_that_nobody_knows_is_taken_for_real_people(facts):
    card = readme(with_header(facts["luperson-t"], source="{{ 6 * 7 }} Market"))
    assert "Take it that these are real people whom nobody asked" in card
    assert "passerby does not know the licence of {{ 6 * 7 }} Market" in card
    assert hub_header(card)["license"] == "unknown"


@pytest.mark.parametrize("name", ["FineGPR", "LUPerson", SYNTHETIC])
def test_every_source_answers_the_same_questions(name):
    assert about_source(name).keys() == about_source("anything else").keys()


def test_picks_by_lot_and_by_the_embedded_model_are_owned_up_to(facts):
    assert "no caption is true but by chance" in readme(facts["luperson-t"])
    embedded = with_header(facts["luperson-t"], scorer={"model": "embedded", "image_mode": "squash"})
    assert "On photographs its picks mean nothing" in readme(embedded)


def test_a_report_puts_its_figures_into_the_card(measured, facts):
    assert "Nothing yet. `passerby report ROOT`" in readme(facts["luperson-t"])
    report = json.loads((measured / "report.json").read_bytes())
    card = readme(gather(measured, read_manifest(measured)))
    assert f"| Vocabulary, words | {report['diversity']['vocabulary']:,} |" in card
    row = report["fidelity"]["attributes"]["gender"]
    assert f"| {row['confidence']['mean']:.2f} | {row['confidence']['below_half']:.1%} |" in card
    assert "was **not measured**" in card


def test_agreement_with_labels_names_the_worst_class(facts):
    report = json.loads((DATA_CARDS / "demo" / "luperson-t.json").read_bytes())["report"]
    gender = report["fidelity"]["agreement"]["attributes"]["gender"]
    shares = {label: counts["correct"] / counts["images"] for label, counts in gender["classes"].items()}
    worst = min(shares, key=shares.get)
    card = readme(replace(facts["luperson-t"], report=report))
    assert (
        f"| gender | 480 | {gender['accuracy']:.1%} | {gender['balanced_accuracy']:.1%} | {worst} {shares[worst]:.1%} |"
        in card
    )


def test_a_report_of_another_state_is_not_quoted(measured, tmp_path):
    root = copy_of(measured, tmp_path)
    manifest = root / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"splits"', b' "splits"', 1))  # the same said in other bytes
    assert gather(root, read_manifest(root)).report is None
    (root / "report.json").write_text('{"format": "something else"}')
    assert gather(root, read_manifest(root)).report is None


def test_a_broken_report_is_named(roots, tmp_path):
    root = copy_of(roots["finegpr-c"], tmp_path)
    (root / "report.json").write_text("{")
    with pytest.raises(ValueError, match=r"report\.json is malformed; delete it"):
        write_card(root, read_manifest(root))


def test_a_contact_stays_named(roots, tmp_path):
    root = copy_of(roots["finegpr-c"], tmp_path)
    assert "**No contact is named yet.**" in (root / "README.md").read_text()
    write_contact(root, "privacy@lab.example")
    for _ in range(2):
        facts = write_card(root, read_manifest(root))
        assert facts.contact == "privacy@lab.example"
        assert "reports of errors: privacy@lab.example." in (root / "README.md").read_text()
        assert (
            "privacy@lab.example"
            in json.loads((root / "croissant.json").read_bytes())["rai:dataReleaseMaintenancePlan"]
        )


@pytest.mark.parametrize("contact", ["", "  ", "a\nb"])
def test_a_contact_is_one_line(tmp_path, contact):
    with pytest.raises(ValueError, match="give one line"):
        write_contact(tmp_path, contact)


def test_a_broken_contact_is_named(roots, tmp_path):
    root = copy_of(roots["finegpr-c"], tmp_path)
    (root / "contact.json").write_text("[]")
    with pytest.raises(ValueError, match=r"contact\.json is malformed; delete it"):
        write_card(root, read_manifest(root))


def test_a_selection_tells_its_rules_and_what_it_was_compared_with(roots, tmp_path):
    first_person = write_people(tmp_path / "people", 1)  # whose six images are the data sets' too
    generate("finegpr-c", first_person, tmp_path / "test")
    compared_with = hashlib.sha256((tmp_path / "test" / "manifest.json").read_bytes()).hexdigest()
    select(roots["finegpr-c"], tmp_path / "selected", Rules(not_near=tmp_path / "test", per_person=2))
    card = (tmp_path / "selected" / "README.md").read_text()
    assert f"manifest has SHA-256 `{compared_with[:12]}…`: 6 images were dropped" in card
    assert "Selected from *FineGPR-C captions of FineGPR*, revision 1" in card
    assert "6 of 24 samples were kept" in card
    assert "- `per_person`: `2`" in card
    assert "- dropped, near another set: 6" in card
    assert "| Samples | 6 |" in card
    told = json.loads((tmp_path / "selected" / "croissant.json").read_bytes())
    assert compared_with[:12] in told["rai:dataLimitations"][1]
    assert "`per_person`" in told["rai:dataPreprocessingProtocol"]


def test_members_are_declared_as_they_are(tmp_path, facts):
    make_data_set(tmp_path, facts["finegpr-c"], map(make_sample, range(4)))
    text = readme(gather(tmp_path, read_manifest(tmp_path)))
    assert feature_names(text) == ["__key__", "__url__", "jpg", "json", "txt", "parsing.png"]
    assert "`KEY.parsing.png`" in text


def test_images_of_other_formats_are_declared(tmp_path, facts):
    samples = [replace(make_sample(number), image_extension="png", extras={}) for number in range(4)]
    make_data_set(tmp_path, facts["finegpr-c"], samples)
    assert feature_names(readme(gather(tmp_path, read_manifest(tmp_path)))) == [
        "__key__",
        "__url__",
        "png",
        "json",
        "txt",
    ]


def test_captions_without_images_say_so(tmp_path, facts):
    samples = [replace(make_sample(number), image=b"", image_extension="", extras={}) for number in range(4)]
    make_data_set(tmp_path, facts["finegpr-c"], samples)
    text = readme(gather(tmp_path, read_manifest(tmp_path)))
    assert feature_names(text) == ["__key__", "__url__", "json", "txt"]
    assert "**Captions only.**" in text
    assert "passerby hydrate" in text


def test_examples_are_captions_from_all_over_the_data_set(tmp_path, facts):
    samples = [replace(make_sample(number), extras={}) for number in range(6)]
    make_data_set(tmp_path, facts["finegpr-c"], samples)
    assert gather(tmp_path, read_manifest(tmp_path)).examples == tuple(samples[place].caption for place in (1, 3, 5))


def test_a_manifest_of_nobody_we_know_is_refused(tmp_path, facts):
    write_shard(tmp_path, shard_name("train", 0, 1), [make_sample(0)], columns=COLUMNS, config_hash="config")
    with pytest.raises(ValueError, match=r"lacks \['card', 'columns', 'config'.*make the data set with passerby"):
        write_card(tmp_path, finalise(tmp_path, {"train": 1}, {"seed": 1}))
    with pytest.raises(ValueError, match="the card 'nobody'"):
        readme(with_header(facts["finegpr-c"], card="nobody"))


def test_the_command_writes_the_same_bytes_again(roots, tmp_path):
    root = copy_of(roots["luperson-t"], tmp_path)
    before = digests(root)
    for name in ("README.md", "croissant.json"):
        (root / name).unlink()
    told = programs.succeed("passerby", "card", root)
    assert digests(root) == before
    assert "no figures yet: passerby report measures them" in told
    refused = programs.run("passerby", "card", tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {tmp_path} is no data set")


@pytest.mark.parametrize("name", RECIPES)
def test_the_published_cards_are_those_of_the_facts(name):
    make = load_make()
    facts = make.read_facts(DATA_CARDS / "demo" / f"{name}.json")
    assert (DATA_CARDS / f"{name}.md").read_text() == readme(facts), "run python data_cards/make.py"
    assert (DATA_CARDS / f"{name}.croissant.json").read_text() == croissant_json(facts), "run python data_cards/make.py"


@pytest.mark.parametrize("recipe", RECIPES)
def test_facts_are_kept_whole_and_without_the_machine(roots, facts, tmp_path, recipe):
    make, path = load_make(), tmp_path / "facts.json"
    make.write_facts(path, roots[recipe])
    assert readme(make.read_facts(path)) == readme(facts[recipe])
    assert croissant_json(make.read_facts(path)) == croissant_json(facts[recipe])
    machine = [*facts[recipe].manifest.header["versions"].values(), str(tmp_path), str(roots[recipe].parent)]
    assert [word for word in machine if f'"{word}"' in path.read_text() or word in readme(facts[recipe])] == []


def load_make():
    spec = importlib.util.spec_from_file_location("make_data_cards", DATA_CARDS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_of(root, folder):
    return shutil.copytree(root, folder / "copy")
