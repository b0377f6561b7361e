"""What the folder of an embedded CLIP says of itself: `metrics.json`, and a model card whose every number comes from it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from captioning.embedded.data import AlbumJob
from captioning.embedded.evaluate import FEWEST, Scores
from captioning.embedded.model import CARD, METRICS, weights_sha256
from captioning.embedded.train import Recipe
from passerby.runtime import write_atomically
from templates import TEMPLATES

TARGETS: Mapping[str, float] = {
    "upper_color": 0.93,
    "lower_color": 0.93,
    "dress": 0.93,
    "shoes": 0.93,
    "boots": 0.85,
    "hat": 0.85,
    "sleeve": 0.85,
    "gender": 0.80,
    "hair": 0.80,
    "the mean": 0.80,
    "person R@1": 0.80,
}
"""What training aims at: balanced accuracies of columns of the table, their mean over all columns, and recall of captions."""


def write_training(folder: Path, job: AlbumJob, recipe: Recipe, losses: list[float], elapsed_seconds: float) -> None:
    """Write how the weights of a folder came about; scores of earlier weights are dropped."""
    training = {
        "pictures": asdict(job),
        "recipe": asdict(recipe),
        "loss_by_epoch": [round(loss, 4) for loss in losses],
        "elapsed_seconds": round(elapsed_seconds),
    }
    _write(folder, {"weights_sha256": weights_sha256(folder), "training": training})


def check_new_people(folder: Path, job: AlbumJob) -> None:
    """Make sure that the model of a folder has not learnt from the people of a test.

    Raises:
        FileNotFoundError: the folder has no `metrics.json`.
        ValueError: it has, or the weights are not those whose training is described there.
    """
    if job.seed == read_metrics(folder)["training"]["pictures"]["seed"]:
        raise ValueError(
            f"seed {job.seed} is the seed of training; use another, or the people are not new to the model"
        )


def evaluation_of(job: AlbumJob, scores: Scores) -> dict[str, Any]:
    """Give scores on an album as they are kept."""
    return {
        "pictures": asdict(job),
        "attributes": _table(scores.attributes),
        "bank": _table(scores.bank),
        "mean": scores.mean,
        "mean_chance": scores.mean_chance,
        "retrieval": dict(scores.retrieval),
    }


def write_scores(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Write what the weights of a folder reach on new people, and the model card."""
    metrics = {**read_metrics(folder), "evaluation": evaluation}
    _write(folder, metrics)
    write_atomically(folder / CARD, model_card(metrics).encode())


def read_metrics(folder: Path) -> dict[str, Any]:
    """Read the metrics of a folder.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they describe other weights.
    """
    metrics: dict[str, Any] = json.loads((folder / METRICS).read_bytes())
    if metrics["weights_sha256"] != weights_sha256(folder):
        raise ValueError(f"{folder / METRICS} describes other weights than those beside it; train again")
    return metrics


def model_card(metrics: Mapping[str, Any]) -> str:
    """Write the model card of finished metrics."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES / "model_card"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  (Markdown, from our own metrics)
    )
    template = environment.get_template("embedded_clip.md.j2")
    return template.render(metrics, fewest=FEWEST, missed=_missed(metrics["evaluation"])).strip() + "\n"


def _write(folder: Path, metrics: Mapping[str, Any]) -> None:
    write_atomically(folder / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())


def _table(accuracies: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    return {name: asdict(accuracy) for name, accuracy in accuracies.items()}


def _missed(evaluation: Mapping[str, Any]) -> list[str]:
    """Say what stays below its aim, and what else stays below half the way from chance to perfection."""
    attributes = evaluation["attributes"]
    reached = {name: row["balanced"] for name, row in attributes.items()}
    reached |= {"the mean": evaluation["mean"], "person R@1": evaluation["retrieval"]["person R@1"]}
    aims = [(name, reached.get(name, 0.0), aim) for name, aim in TARGETS.items()]
    lines = [f"{name}: {score:.3f}, aimed at {aim:.2f}" for name, score, aim in aims if score < aim]
    return lines + [
        f"{name}: {row['balanced']:.3f}, where chance is {row['chance']:.3f}"
        for name, row in attributes.items()
        if name not in TARGETS and row["balanced"] < (1 + row["chance"]) / 2
    ]
