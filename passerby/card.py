"""The data card: `README.md` for people and the Hugging Face Hub, `croissant.json` for machines, with the same claims in both.

They are made from the manifest, and from the report where there is one of this manifest; never by hand.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml

from passerby.about import about_source
from passerby.croissant import croissant
from passerby.hub_header import hub_header, tags_of
from passerby.runtime import write_atomically
from passerby.shards.manifest import MANIFEST_NAME, Manifest
from passerby.shards.splits import read_splits
from passerby.shards.table import TEXT_MEMBERS, read_rows
from passerby.shards.write import IMAGE_EXTENSIONS, meta_path
from templates import TEMPLATES

CARD_NAME, CROISSANT_NAME, CONTACT_NAME, REPORT_NAME = "README.md", "croissant.json", "contact.json", "report.json"
REPORT_FORMAT = "passerby-report"

REQUIRED = ("card", "columns", "config", "is_synthetic", "source", "title")
"""What a manifest must say for a card."""

EXAMPLES_SHOWN, VALUES_SHOWN = 3, 3
"""Captions in the card, and values of an attribute in its table."""

_SINGULAR = {"samples": "sample", "shards": "shard", "people": "person", "cameras": "camera", "captions": "caption"}

RESPONSIBLE_AI = {
    "collection": "dataCollection",
    "missing": "dataCollectionMissingData",
    "provenance": "dataPreprocessingProtocol",
    "annotation": "dataAnnotationProtocol",
    "annotators": "annotatorDemographics",
    "quality": "dataAnnotationAnalysis",
    "biases": "dataBiases",
    "limitations": "dataLimitations",
    "people": "personalSensitiveInformation",
    "uses": "dataUseCases",
    "impact": "dataSocialImpact",
    "maintenance": "dataReleaseMaintenancePlan",
}
"""Sections of the card, and the properties of Croissant's RAI vocabulary that say the same."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card is made from; equal facts give equal bytes."""

    manifest: Manifest

    splits: Mapping[str, Mapping[str, int]]
    """What lies in each split; see `passerby.shards.splits.Split`."""

    images: tuple[str, ...]
    """Extensions of the images in the shards, such as `jpg`; none where only captions are there."""

    extras: tuple[str, ...] = ()
    """Further members of a sample, such as `parsing.png`."""

    examples: tuple[str, ...] = ()
    """A few captions."""

    report: Mapping[str, Any] | None = None
    """What `passerby report` measured of this very manifest."""

    contact: str = ""
    """Who answers requests for removal."""


def write_card(root: Path, manifest: Manifest) -> Facts:
    """Write `ROOT/README.md` and `ROOT/croissant.json` from the manifest and what lies beside it, which is returned.

    Raises:
        FileNotFoundError, ValueError: as `gather`; or the manifest asks for a card that there is not.
    """
    facts = gather(root, manifest)
    write_atomically(root / CARD_NAME, readme(facts).encode())
    write_atomically(root / CROISSANT_NAME, croissant_json(facts).encode())
    return facts


def write_contact(root: Path, contact: str) -> None:
    """Keep in `ROOT/contact.json` who answers requests for removal; every card written from now on names them.

    Raises:
        ValueError: it is not one line.
    """
    if contact.splitlines() != [contact] or not contact.strip():
        raise ValueError(f"contact is {contact!r}; give one line, such as privacy@example.org")
    write_atomically(root / CONTACT_NAME, (json.dumps({"contact": contact}, ensure_ascii=False) + "\n").encode())


def read_contact(root: Path) -> str:
    """Read what `write_contact` kept; empty where nobody is named.

    Raises:
        ValueError: the file is not ours.
    """
    path = root / CONTACT_NAME
    if not path.exists():
        return ""
    try:
        contact: str = json.loads(path.read_bytes())["contact"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is malformed; delete it, and name the contact again with passerby card") from None
    return contact


def gather(root: Path, manifest: Manifest) -> Facts:
    """Collect what a card of the data set in `root` is made from.

    A report counts only if it was made of this manifest: after a removal the old figures are no longer true.

    Raises:
        FileNotFoundError: a table of the manifest is missing.
        ValueError: the manifest is none of our generators', or `report.json` is malformed.
    """
    if missing := [name for name in REQUIRED if name not in manifest.header]:
        raise ValueError(f"{root / MANIFEST_NAME} lacks {missing}, which a card needs; make the data set with passerby")
    splits = read_splits(root, manifest)
    members = dict.fromkeys(name for split in splits.values() for name in split.members)
    extensions = frozenset[str]().union(*(split.image_extensions for split in splits.values()))
    return Facts(
        manifest=manifest,
        splits={name: split.counts for name, split in splits.items()},
        images=tuple(name for name in IMAGE_EXTENSIONS if name in extensions),
        extras=tuple(name for name in members if name not in ("image", *TEXT_MEMBERS)),
        examples=tuple(_examples(root, manifest)),
        report=read_report(root),
        contact=read_contact(root),
    )


def _examples(root: Path, manifest: Manifest) -> Iterator[str]:
    """Yield captions evenly spaced over the samples, reading only the tables they are in; none where there are none."""
    count = min(EXAMPLES_SHOWN, manifest.kept) if manifest.has_captions else 0
    wanted = [(2 * number + 1) * manifest.kept // (2 * count) for number in range(count)]
    start = 0
    for record in manifest.shards:
        if rows := [position - start for position in wanted if start <= position < start + record.kept]:
            yield from read_rows(meta_path(root, record.name), "kept", ["caption"])["caption"].take(rows).to_pylist()
        start += record.kept


def read_report(root: Path) -> Mapping[str, Any] | None:
    """Read `ROOT/report.json`; `None` where there is none, or where it is of another state of the data set.

    Raises:
        ValueError: it is no JSON.
    """
    path = root / REPORT_NAME
    if not path.exists():
        return None
    try:
        report = json.loads(path.read_bytes())
    except ValueError:
        raise ValueError(f"{path} is malformed; delete it, or run passerby report again") from None
    manifest_sha256 = hashlib.sha256((root / MANIFEST_NAME).read_bytes()).hexdigest()
    is_ours = isinstance(report, dict) and report.get("format") == REPORT_FORMAT
    return report if is_ours and report["source"]["manifest_sha256"] == manifest_sha256 else None


def readme(facts: Facts) -> str:
    """Give the text of `README.md`: the Hub's header in YAML, and the card in Markdown."""
    about = _about(facts.manifest)
    header = hub_header(facts.manifest, images=facts.images, extras=facts.extras, licence=about["license"])
    template, variables = _template(facts)
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n{template.render(variables).strip()}\n"


def croissant_json(facts: Facts) -> str:
    """Give the text of `croissant.json`."""
    manifest, header, texts = facts.manifest, facts.manifest.header, _texts(facts)
    about = _about(manifest)
    told = {
        "name": header["title"],
        "description": texts["summary"],
        "license": about["license"].get("url") or texts["licences"],
        **({"citeAs": cited} if (cited := texts["recipe_citation"] or about["citation"]) else {}),
        "inLanguage": "en",
        "keywords": tags_of(manifest),
        "version": f"{header.get('revision', 1)}.0.0",
        **({"isBasedOn": about["url"]} if about["url"] else {}),
    }
    responsible_ai = {
        **{name: texts[section] for section, name in RESPONSIBLE_AI.items() if texts[section]},
        "dataLimitations": [texts["limitations"], texts["contamination"]],
        "dataCollectionType": about["collection_type"],
        "dataCollectionRawData": about["collection"],
        **_annotated(header, texts),
    }
    content = croissant(manifest, images=facts.images, extras=facts.extras, told=told, responsible_ai=responsible_ai)
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _about(manifest: Manifest) -> dict[str, Any]:
    return about_source(manifest.header["source"], manifest.header.get("about", {}))


def _annotated(header: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    """Say in Croissant's words what our tools have annotated; nothing, where the annotations came with the images."""
    if "annotated_by" in header:
        return {}
    tools = [f"passerby {header['config']['version']}", *texts.get("model", "").splitlines()]
    return {"annotationsPerItem": str(header["config"].get("captions", 1)), "machineAnnotationTools": tools}


def _counted(told: Mapping[str, int]) -> str:
    """Write counts as `1,024 samples, 1 shard`."""
    return ", ".join(f"{count:,} {_SINGULAR[name] if count == 1 else name}" for name, count in told.items())


def _texts(facts: Facts) -> dict[str, str]:
    """Give every section of the card by its name, as the whole card says it."""
    template, variables = _template(facts)
    context = template.new_context(variables)
    for name, block in _environment().get_template("card.md.j2").blocks.items():
        context.blocks.setdefault(name, []).append(block)  # as `extends` does: what the recipe leaves to the outline
    return {name: "".join(blocks[0](context)).strip() for name, blocks in context.blocks.items()}


def _template(facts: Facts) -> tuple[jinja2.Template, dict[str, Any]]:
    """Give the template that the manifest's `card` names, and what it is filled with."""
    manifest = facts.manifest
    variables = {
        "revision": 1,
        "selected_from": [],
        **manifest.header,
        "about": _about(manifest),
        "contact": facts.contact,
        "examples": facts.examples,
        "extras": facts.extras,
        "images": facts.images,
        "manifest": manifest,
        "splits": facts.splits,
        "reasons": ", ".join(f"{count:,} {reason}" for reason, count in manifest.reasons.items()),
        "report": facts.report,
    }
    name = manifest.header["card"]
    try:
        return _environment().get_template(f"{name}.md.j2"), variables
    except jinja2.TemplateNotFound:
        raise ValueError(f"the manifest asks for the card {name!r}; templates/data_card has no {name}.md.j2") from None


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES / "data_card"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701  (Markdown, from our own manifest)
    )
    environment.filters.update(
        counted=_counted, number="{:,}".format, percent="{:.1%}".format, frequent=_frequent, worst=_worst
    )
    return environment


def _frequent(values: Mapping[str, int], attribute: str) -> str:
    """Name the most frequent values of an attribute with their shares; "" is none or unknown, and needs no name."""
    shares = ((value.removeprefix(f"{attribute}."), count / sum(values.values())) for value, count in values.items())
    return ", ".join(f"{value} {share:.1%}" for value, share in [pair for pair in shares if pair[0]][:VALUES_SHOWN])


def _worst(classes: Mapping[str, Mapping[str, int]]) -> str:
    """Name the class that is told right least often, and how often."""
    share, label = min((counts["correct"] / counts["images"], label) for label, counts in classes.items())
    return f"{label} {share:.1%}"
