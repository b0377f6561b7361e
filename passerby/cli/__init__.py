"""The command line: `passerby`, and its groups on their own: `gen-captions`, `pretrain`, `finetune`. Only it speaks to the user."""

import os
import sys

import typer

from passerby.cli import (
    attend,
    browse,
    caption,
    card,
    curate,
    data,
    embedded,
    evaluate,
    finalise,
    finegpr_c,
    finetune,
    luperson_t,
    pack,
    parse,
    pi_vl,
    plan,
    pretrain,
    publish,
    report,
    synthetic,
    tour,
    words,
)

USAGE_ERROR = 2


def _group(name: str, summary: str) -> typer.Typer:
    return typer.Typer(
        name=name, help=summary, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )


app = _group("passerby", "Make, check and train on caption data sets for person re-identification.")
generators = _group(
    "gen-captions", "Make caption data sets: FineGPR-C from attributes, and the synthetic pedestrians to try it on."
)
trainers = _group("pretrain", "Pre-train image encoders on captioned people, and let them caption.")
tuners = _group("finetune", "Fine-tune what was pre-trained: to tell people apart, and to find them by a text.")
app.add_typer(generators, name="gen-captions")
app.add_typer(trainers, name="pretrain")
app.add_typer(tuners, name="finetune")
finegpr_c.register(generators)
luperson_t.register(generators)
finalise.register(generators)
embedded.register(generators)
synthetic.register(generators)
pack.register(app)
plan.register(app)
data.register(app)
report.register(app)
browse.register(app)
curate.register(app)
card.register(app)
publish.register(app)
tour.register(app)
words.register(app, generators)
pretrain.register(trainers)
caption.register(trainers)
finetune.register(tuners)
pi_vl.register(tuners)
evaluate.register(app)
attend.register(app)
parse.register(app)


def main() -> None:
    """Run `passerby`."""
    _run(app)


def gen_captions() -> None:
    """Run `gen-captions`, which is `passerby gen-captions`."""
    _run(generators)


def run_pretrain() -> None:
    """Run `pretrain`, which is `passerby pretrain`."""
    _run(trainers)


def run_finetune() -> None:
    """Run `finetune`, which is `passerby finetune`."""
    _run(tuners)


def _run(command: typer.Typer) -> None:
    """Run a command; a mistake of the user's is one line on standard error. PASSERBY_DEBUG=1 shows where it was raised."""
    try:
        command()
    except (ValueError, OSError, RuntimeError, ModuleNotFoundError) as error:
        if os.environ.get("PASSERBY_DEBUG"):
            raise
        typer.echo(f"error: {_one_line(error)}", err=True)
        sys.exit(USAGE_ERROR)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__
