"""`gen-captions luperson-t`: unlabelled person crops in, captioned shards out."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from passerby.cli.clip import Clip, warn_of_the_embedded_model
from passerby.cli.counts import counts_of, counts_text
from passerby.cli.engines import ActorCpus, ActorGpus, EngineOption, RayAddress, Spread, Units, read_part
from passerby.cli.places import Out, Staging, open_place
from passerby.cli.progress import generate_shards

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from captioning.conquer import Scorer
    from captioning.words import Words
    from passerby.generate import Recipe
    from passerby.shards.manifest import Manifest
    from passerby.shards.output import Output

REPORT_NAME = "published.json"
"""The comparison with the published data set; `report.json` is what `passerby report` writes."""
TEXTS = "texts"
"""Name of the kept text features among the embeddings."""

EXAMPLES = """
Examples:

    gen-captions luperson-t people/images --out luperson-t --clip-model embedded

    gen-captions luperson-t LUPerson --out luperson-t --clip-weights ViT-B-16.safetensors --list CFS_list.pkl --keep 1281167

    gen-captions luperson-t --from-embeddings luperson-t --out stricter --threshold 0.95
"""


def register(app: typer.Typer) -> None:
    """Add the command to `gen-captions`."""
    app.command("luperson-t", epilog=EXAMPLES)(luperson_t)


def luperson_t(
    out: Out,
    images: Annotated[
        str | None,
        typer.Argument(help="Person crops: a folder or tars, here or at a URL; an LMDB, or UniPT's Arrow files."),
    ] = None,
    from_embeddings: Annotated[
        Path | None,
        typer.Option(help="A data set made with --embeddings, to match and caption again without decoding."),
    ] = None,
    kind: Annotated[
        Literal["auto", "flat", "tree", "lmdb", "tars", "arrow"],
        typer.Option(help="How the images lie on disk; found by looking."),
    ] = "auto",
    names: Annotated[
        Path | None, typer.Option("--list", help="List of the images to use, best first: text or pickle.")
    ] = None,
    keep: Annotated[int | None, typer.Option(min=1, help="Use only the first so many.")] = None,
    clip_model: Annotated[str, typer.Option(help="open_clip's name of a model, or 'embedded'.")] = "ViT-B-16-quickgelu",
    clip_weights: Annotated[str, typer.Option(help="A tag of open_clip, a file, or local-dir:FOLDER.")] = "openai",
    image_mode: Annotated[str, typer.Option(help="squash, pad, center, bands or interp:HxW.")] = "squash",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[Literal["fp32", "fp16", "bf16"], typer.Option(help="Of the image tower.")] = "fp32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass.")] = 64,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads in each process that decode while a batch is encoded; 0: as is best.")
    ] = 0,
    phrases: Annotated[Path | None, typer.Option(help="Your own phrase bank.")] = None,
    templates: Annotated[Path | None, typer.Option(help="Folder of your own sentence families.")] = None,
    synonyms: Annotated[Path | None, typer.Option(help="Your own synonym table.")] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="An optional attribute needs a probability above this.")
    ] = 0.9,
    logit_scale: Annotated[
        str, typer.Option(help="Factor on cosines before the softmax: a number, or 'model'.")
    ] = "100",
    optional_rule: Annotated[
        Literal["phrase", "attribute"], typer.Option(help="What must pass the threshold.")
    ] = "phrase",
    negatives: Annotated[
        Literal["phrase", "neutral", "both"], typer.Option(help="What positives compete with.")
    ] = "phrase",
    vote: Annotated[Literal["none", "person_id"], typer.Option(help="Whose images decide together.")] = "none",
    captions: Annotated[int, typer.Option(min=1, help="Captions an image.")] = 1,
    policy: Annotated[
        Literal["conditional", "exact"], typer.Option(help="Clauses that vanish, or fixed blanks.")
    ] = "conditional",
    neutral: Annotated[bool, typer.Option("--neutral", help="Say nothing of age and gender.")] = False,
    no_synonyms: Annotated[bool, typer.Option("--no-synonyms", help="Keep the bank's words.")] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="Keep the features (fp16) in ROOT/embeddings.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seeds templates and synonyms.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes; each loads the model.")] = 1,
    engine: EngineOption = "local",
    actor_cpus: ActorCpus = 1,
    actor_gpus: ActorGpus = 0,
    ray_address: RayAddress = "",
    units: Units = "",
    staging: Staging = None,
    shard_size: Annotated[int, typer.Option(min=0, help="Images a shard; 0 aims at 64-256 MB and at 64 shards.")] = 0,
    split: Annotated[str, typer.Option(help="Name of the split.")] = "train",
    source: Annotated[str, typer.Option(help="Name of the image data set.")] = "",
    max_bad: Annotated[float, typer.Option(min=0, max=1, help="Stop when more than this share is unreadable.")] = 0.01,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Build LUPerson-T: match each crop with attribute phrases by CLIP, and word what was matched."""
    from captioning.conquer import MatchOptions
    from captioning.divide import load_phrases
    from captioning.words import Options, Words
    from passerby.storage import to_location

    if (images is None) == (from_embeddings is None):
        raise ValueError("give either IMAGES or --from-embeddings ROOT")
    spread = Spread(engine, workers, actor_cpus, actor_gpus, ray_address, read_part(units), as_json)
    output = open_place(out, staging)
    place = to_location(images) if images else None
    clip = Clip(clip_model, clip_weights, image_mode, device, precision, batch_size)
    scorer = None if from_embeddings else clip.load()
    scale = _logit_scale(logit_scale, scorer)
    options = Options(
        match=MatchOptions(threshold, scale, optional_rule, negatives),
        seed=seed,
        captions=captions,
        policy=policy,
        is_neutral=neutral,
        use_synonyms=not no_synonyms,
        is_voted=vote == "person_id",
        source=source or _source_name(place, from_embeddings),
    )
    words = Words(load_phrases(phrases), options, templates, synonyms)
    if phrases or templates or synonyms:
        words.check()
    recipe: Recipe
    if from_embeddings is not None:
        recipe = _rematch(output.root, from_embeddings, words, clip)
    else:
        assert place is not None
        assert scorer is not None
        threads = threads or (0 if isinstance(place, Path) else 1)  # what a network delays can be overtaken
        shards = Shards(output.root, place, kind, names, keep, shard_size, split, batch_size, threads, embeddings)
        recipe = _from_images(shards, words, scorer)
    _run(recipe, spread, output, max_bad)


@dataclass(frozen=True)
class Shards:
    """Where images come from and how shards are cut."""

    out: Path
    images: Path | str
    kind: Literal["auto", "flat", "tree", "lmdb", "tars", "arrow"]
    names: Path | None
    keep: int | None
    size: int
    split: str
    batch_size: int
    threads: int
    keeps_embeddings: bool


def _logit_scale(text: str, scorer: "Scorer | None") -> float:
    if text == "model":
        if scorer is None:
            raise ValueError("--logit-scale model needs the model; with --from-embeddings give a number")
        return scorer.logit_scale
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"logit scale is {text!r}; give a number such as 100, or 'model'") from None


def _source_name(images: Path | str | None, old_root: Path | None) -> str:
    from passerby.generate import source_name
    from passerby.shards.manifest import read_manifest

    if images is not None:
        return source_name(images, "LUPerson")
    assert old_root is not None
    return str(read_manifest(old_root).header["source"])


def _from_images(shards: Shards, words: "Words", scorer: "Scorer") -> "Recipe":
    from captioning.conquer import prompts_of
    from captioning.luperson_t import LUPersonT, mean_size, sort_by_person, unit_bounds
    from passerby.generate import SYNTHETIC
    from passerby.readers.luperson import open_source
    from passerby.shards.begin import count_shards

    found = open_source(shards.images, kind=shards.kind, names=shards.names, keep=shards.keep)
    by_person = words.options.is_voted
    inputs = sort_by_person(found.inputs) if by_person else found.inputs
    units = count_shards(len(inputs), mean_size(found), shards.size)
    if "embedded" in scorer.identity["model"]:
        warn_of_the_embedded_model(words, is_at_home=words.options.source == SYNTHETIC)
    return LUPersonT(
        root=shards.out,
        source=found,
        inputs=inputs,
        words=words,
        scorer=scorer,
        text_features=scorer.encode_texts(prompts_of(words.bank)),
        bounds=unit_bounds(inputs, units, by_person=by_person),
        split=shards.split,
        batch_size=shards.batch_size,
        threads=shards.threads,
        keeps_embeddings=shards.keeps_embeddings,
    )


def _rematch(out: Path, old_root: Path, words: "Words", clip: Clip) -> "Recipe":
    from captioning.conquer import prompts_of
    from captioning.rematch import Rematch
    from passerby.config import describe_difference
    from passerby.shards.embeddings import embeddings_path, read_embeddings
    from passerby.shards.manifest import read_manifest

    old = read_manifest(old_root)
    kept = embeddings_path(old_root, TEXTS)
    if not kept.exists():
        raise ValueError(f"{old_root} keeps no embeddings; make it with --embeddings")
    texts = read_embeddings(kept, old.header["scorer"])
    features: NDArray[np.floating] = texts.features
    if texts.keys != prompts_of(words.bank):
        scorer = clip.load()  # other phrases are other texts, which only the model can read
        if dict(scorer.identity) != old.header["scorer"]:
            difference = describe_difference(old.header["scorer"], scorer.identity)
            raise ValueError(
                f"{old_root} was matched with another model ({difference}); name that one with --clip-model"
            )
        features = scorer.encode_texts(prompts_of(words.bank))
    return Rematch(out, old_root, old, words, features)


def _run(recipe: "Recipe", spread: Spread, output: "Output", max_bad: float) -> None:
    manifest = generate_shards(recipe, "matching", spread, output, max_bad=max_bad, beside=lambda: _keep_texts(recipe))
    if manifest is not None:
        tell(output, manifest, as_json=spread.as_json)


def tell(output: "Output", manifest: "Manifest", *, as_json: bool) -> None:
    """Compare a data set with the published one, finish it, and say what it holds."""
    from captioning.luperson_report import measure, show
    from passerby.runtime import write_atomically

    report = measure(output.root)
    told = json.dumps(report, indent=2, ensure_ascii=False)
    write_atomically(output.root / REPORT_NAME, f"{told}\n".encode())
    output.finish()
    counts = counts_of(str(output), manifest)
    if as_json:
        typer.echo(json.dumps({**counts, "report": report}, ensure_ascii=False))
        return
    typer.echo(f"{show(report)}\n\n{counts_text(counts)}")


def _keep_texts(recipe: "Recipe") -> None:
    """Keep the text features beside the image features, so that matching again needs no model."""
    from captioning.conquer import prompts_of
    from captioning.luperson_t import LUPersonT
    from passerby.shards.embeddings import Embeddings, embeddings_path, write_embeddings

    if isinstance(recipe, LUPersonT) and recipe.keeps_embeddings:
        texts = Embeddings(prompts_of(recipe.words.bank), recipe.text_features.astype("float16"))
        write_embeddings(embeddings_path(recipe.root, TEXTS), texts, recipe.scorer.identity)
