"""Captions worded anew while a model trains on them: what `data.captions = "rerender"` reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from passerby.cli.words import RECIPES, finegpr_voice, luperson_voice

if TYPE_CHECKING:
    from captioning.rerender import Voice


@dataclass(frozen=True)
class Rewording:
    """Words the samples of a data set as `passerby rerender --seed` would, with another seed in every epoch. Picklable."""

    root: Path

    def __call__(self, fields: Mapping[str, Any], epoch: int) -> str:
        """Give the caption of a sample for an epoch; where nothing can be said of it anew, the stored one."""
        from passerby.shards.stored import Stored

        sample = voice_of(self.root, epoch).rephrase(Stored(fields, b"", "", {}))
        return str(getattr(sample, "caption", fields["caption"]))


@lru_cache(maxsize=2)
def voice_of(root: Path, epoch: int) -> "Voice":
    """Give what words the samples of a data set in an epoch; once in each process and epoch.

    Raises:
        ValueError: the data set was worded by other templates than the shipped ones, or is not ours.
    """
    from passerby.shards.manifest import read_manifest

    manifest = read_manifest(root)
    config = manifest.header.get("config", {})
    if config.get("recipe") not in RECIPES:
        raise ValueError(f"{root} was not made by gen-captions, so that its captions cannot be worded anew")
    seed = config["seed"] + 1 + epoch
    voice = (
        luperson_voice(manifest, {"seed": seed}, None, None, None)
        if config["recipe"] == "luperson-t"
        else finegpr_voice(manifest, seed, None, None)[0]
    )
    if voice.config()["templates_sha256"] != config["templates_sha256"]:
        raise ValueError(
            f"{root} was worded by templates of your own; use data.captions=first, or passerby rerender before"
        )
    return voice
