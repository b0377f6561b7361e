"""Words: `passerby explain` (where a caption came from), `passerby rerender` (new ones), `gen-captions check-words`."""

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from passerby.cli.progress import progress

if TYPE_CHECKING:
    from captioning.rerender import FineGprVoice, LUPersonVoice
    from passerby.shards.manifest import Manifest

EXPLAIN_EXAMPLES = """
Examples:

    passerby explain luperson-t 0001_c05_w02_l04_p03

    passerby explain finegpr-c 0001_c05_w02_l04_p03 --picture why.png
"""
RERENDER_EXAMPLES = """
Examples:

    passerby rerender luperson-t --out neutral --neutral

    passerby rerender finegpr-c --out short --lambda 0.5 --seed 1
"""


CHECK_EXAMPLES = """
Examples:

    gen-captions check-words

    gen-captions check-words --phrases my-phrases.yaml --synonyms my-synonyms.yaml
"""
FAULTS_FOUND = 1

RECIPES = ("finegpr-c", "luperson-t")
"""Those whose captions are rendered from attributes that the samples hold."""


def register(app: typer.Typer, generators: typer.Typer) -> None:
    """Add the commands to `passerby` and to `gen-captions`."""
    app.command(epilog=EXPLAIN_EXAMPLES)(explain)
    app.command(epilog=RERENDER_EXAMPLES)(rerender)
    generators.command(epilog=CHECK_EXAMPLES)(check_words)


def check_words(
    phrases: Annotated[Path | None, typer.Option(help="Your own phrase bank.")] = None,
    templates: Annotated[Path | None, typer.Option(help="Folder of your own sentence families.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="Your own synonym table.")] = None,
) -> None:
    """Check LUPerson-T's words: schema, every template in English, and, where WordNet is at hand, every synonym."""
    from captioning.combine import Combiner, check_combiner, example_picks
    from captioning.divide import load_phrases
    from captioning.synonyms import audit_synonyms, load_synonyms

    bank = load_phrases(phrases)
    combiner = Combiner(bank, templates, synonyms, seed=0)
    faults = check_combiner(combiner, example_picks(bank))
    typer.echo(
        f"{len(bank.prompts):,} prompts for {len(bank.attributes)} attributes, {len(combiner.templates)} templates"
    )
    for line in (*faults, *audit_synonyms(load_synonyms(synonyms))):
        typer.echo(line)
    if faults:
        raise typer.Exit(FAULTS_FOUND)
    typer.echo("no fault in any sentence")


def explain(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    key: Annotated[str, typer.Argument(help="Key of a sample.")],
    picture: Annotated[Path | None, typer.Option(help="PNG to write: the image beside its caption.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sample's fields as JSON.")] = False,
) -> None:
    """Show how one caption came about: what was picked, how surely, and which words were drawn."""
    from passerby.shards.read import ShardDataset

    dataset = ShardDataset(root)
    try:
        sample = dataset[key]
    except KeyError:
        raise ValueError(f"{root} has no sample {key!r}; its keys are from {dataset[0]['__key__']!r} on") from None
    _check_recipe(root, dataset.manifest)
    fields, config = sample["json"], dataset.manifest.header["config"]
    if as_json:
        typer.echo(json.dumps(fields, ensure_ascii=False))
    else:
        typer.echo(
            f"{key}: {sample['txt']}\nimage {fields['path']}, {fields['width']}x{fields['height']}; seed {config['seed']}"
        )
        typer.echo(_picks(fields) if config["recipe"] == "luperson-t" else _attributes(dataset.manifest, fields))
    if picture is not None:
        from passerby.contact_sheet import Captioned, draw_contact_sheet
        from passerby.runtime import write_atomically

        image = next(value for name, value in sample.items() if name in ("jpg", "png", "webp"))
        write_atomically(picture, draw_contact_sheet([Captioned(key, image, sample["txt"])]))


def _picks(fields: Mapping[str, Any]) -> str:
    names = [name.removesuffix("_confidence") for name in fields if name.endswith("_confidence")]
    lines = [f"{'attribute':<12}{'picked':<36}{'probability':>11}  {'lead':>7}  strongest rival"]
    for name, rival in zip(names, fields["runners_up"], strict=True):
        picked = fields[name].partition(".")[2] or "-"
        confidence, margin = fields[f"{name}_confidence"], fields[f"{name}_margin"]
        lines.append(f"{name:<12}{picked:<36}{confidence:>11.4f}  {margin:>+7.4f}  {rival.partition('.')[2] or '-'}")
    lines.append(f"templates: {', '.join(fields['templates'])}")
    lines.append(f"synonyms: {', '.join(fields['synonyms']) or 'none drawn'}")
    return "\n".join(lines)


def _attributes(manifest: "Manifest", fields: Mapping[str, Any]) -> str:
    lines = [f"{'attribute':<14}{'value':<12}{'P':>6}  mentioned (lambda {manifest.header['config']['lambda']})"]
    for row in manifest.header["probabilities"]:
        if fields[row["slot"]] == row["value"]:
            probability = row["count"] / max(row["total"], 1)
            is_named = "yes" if row["slot"] in fields["mentioned"] else "no"
            lines.append(f"{row['slot']:<14}{row['value']:<12}{probability:>6.3f}  {is_named}")
    return "\n".join([*lines, f"template: {fields['template']}"])


def rerender(
    root: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    out: Annotated[Path, typer.Option(help="Folder of the new one.")],
    seed: Annotated[int | None, typer.Option(help="Another seed.")] = None,
    templates: Annotated[Path | None, typer.Option(help="Folder of your own templates.")] = None,
    threshold: Annotated[str | None, typer.Option("--lambda", help="FineGPR-C: another lambda.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="LUPerson-T: your own synonym table.")] = None,
    phrases: Annotated[
        Path | None, typer.Option(help="LUPerson-T: the phrase bank, if it was not the shipped one.")
    ] = None,
    captions: Annotated[int | None, typer.Option(min=1, help="LUPerson-T: captions an image.")] = None,
    policy: Annotated[Literal["conditional", "exact"] | None, typer.Option(help="LUPerson-T: another policy.")] = None,
    neutral: Annotated[
        bool | None, typer.Option("--neutral/--no-neutral", help="LUPerson-T: nothing of age and gender.")
    ] = None,
    use_synonyms: Annotated[
        bool | None, typer.Option("--synonyms-on/--no-synonyms", help="LUPerson-T: draw synonyms.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Write new captions from stored attributes; no image is decoded, no model loaded. What is not given stays as it was."""
    from captioning.rerender import Rerender
    from passerby.engine import LocalEngine
    from passerby.generate import generate
    from passerby.shards.manifest import read_manifest

    old = read_manifest(root)
    _check_recipe(root, old)
    luperson = {"captions": captions, "policy": policy, "is_neutral": neutral, "use_synonyms": use_synonyms}
    if old.header["config"]["recipe"] == "luperson-t":
        _refuse({"--lambda": threshold}, "LUPerson-T")
        chosen = {"seed": seed, **luperson}
        voice: LUPersonVoice | FineGprVoice = luperson_voice(old, chosen, phrases, templates, synonyms)
        told: dict[str, Any] = {}
    else:
        _refuse({**luperson, "--synonyms": synonyms, "--phrases": phrases}, "FineGPR-C")
        voice, told = finegpr_voice(old, seed, threshold, templates)
    recipe = Rerender(out, root, old, voice, told)
    with progress("rendering", "shards") as advance:
        manifest = generate(
            recipe,
            engine=LocalEngine(workers),
            max_bad=1,
            on_progress=lambda now: advance(now.units_done, now.units, f"{now.kept:,} kept"),
        )
    typer.echo(
        f"kept {manifest.kept:,} + quarantined {manifest.quarantined:,} = seen {manifest.seen:,}\nwritten to {out}"
    )


def _check_recipe(root: Path, manifest: "Manifest") -> None:
    """Refuse a data set whose captions, if it has any, are not rendered from stored attributes."""
    recipe = manifest.header.get("config", {}).get("recipe")
    if recipe not in RECIPES:
        raise ValueError(
            f"{root} was made by the recipe {recipe!r}, which renders no captions; those of {' and '.join(RECIPES)} can be"
            " explained and worded anew"
        )


def _refuse(options: Mapping[str, object], recipe: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{recipe} has no {', '.join(given)}; see passerby rerender --help")


def luperson_voice(
    old: "Manifest", chosen: Mapping[str, Any], phrases: Path | None, templates: Path | None, synonyms: Path | None
) -> "LUPersonVoice":
    """Give what words the samples of a LUPerson-T data set, with some of its options replaced."""
    from captioning.conquer import MatchOptions
    from captioning.divide import load_phrases
    from captioning.rerender import LUPersonVoice
    from captioning.words import Options, Words

    config = old.header["config"]
    bank = load_phrases(phrases)
    if bank.digest != config["phrases_sha256"]:
        raise ValueError("the picks were made with another phrase bank; give that file with --phrases")
    match = MatchOptions(
        **{name.removeprefix("match_"): value for name, value in config.items() if name.startswith("match_")}
    )
    names = ("seed", "captions", "policy", "is_neutral", "use_synonyms", "is_voted", "source")
    before = Options(match=match, **{name: config[name] for name in names})
    options = replace(before, **{name: value for name, value in chosen.items() if value is not None})
    return LUPersonVoice(Words(bank, options, templates, synonyms))


def finegpr_voice(
    old: "Manifest", seed: int | None, threshold: str | None, templates: Path | None
) -> tuple["FineGprVoice", dict[str, Any]]:
    """Give what words the samples of a FineGPR-C data set, and the entries of the manifest that this changes."""
    from captioning.finegpr_c import Captioner
    from captioning.finegpr_inputs import Options
    from captioning.refine import ProbabilityTable, parse_threshold
    from captioning.rerender import FineGprVoice
    from templates import TEMPLATES

    config = old.header["config"]
    table = ProbabilityTable.from_json(old.header["probabilities"])
    options = Options(
        threshold=parse_threshold(threshold or config["lambda"]),
        seed=config["seed"] if seed is None else seed,
        image_fraction=Fraction(config["image_fraction"]),
        **{name: config[name] for name in ("when_empty", "template_per", "viewpoint_bins", "source")},
    )
    mentioned = table.mentioned(options.threshold)
    captioner = Captioner(options, {}, mentioned, templates or TEMPLATES / "finegpr_c")
    captioner.check_templates()
    return FineGprVoice(captioner), {"probabilities": table.to_json(options.threshold)}
