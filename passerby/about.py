"""What is known of the image data sets that captions are made from; `templates/data_card/sources.yaml` says it, for every card."""

import textwrap
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jinja2
import yaml

from templates import TEMPLATES

LINE = 128
"""Characters a line of a card."""

TOLD = ("collection", "licence", "notice")
"""What the reader of a data set may tell of one that the file does not know."""


def about_source(source: str, told: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Give what is known of an image data set: how it was collected, licences, consent.

    Args:
        source: Its name; see `sources.yaml`.
        told: Some of `TOLD`, which counts where the file does not know the source. It is taken as it is, never as a template.
    """
    known: dict[str, dict[str, Any]] = yaml.safe_load((TEMPLATES / "data_card" / "sources.yaml").read_text("utf-8"))
    about = {"url": "", "citation": "", "notice": "", **(known.get(source) or known["other"])}
    filled = {name: _fill_in(text, source) if isinstance(text, str) else text for name, text in about.items()}
    known_better = {} if source in known else {name: _wrap(str(told[name])) for name in TOLD if name in told}
    return {**filled, **known_better}


def _fill_in(text: str, source: str) -> str:
    return _wrap(jinja2.Template(text, undefined=jinja2.StrictUndefined).render(source=source))


def _wrap(text: str) -> str:
    """Wrap a paragraph; what has lines already, as BibTeX, keeps them."""
    return text if "\n" in text else textwrap.fill(text, LINE, break_on_hyphens=False, break_long_words=False)
