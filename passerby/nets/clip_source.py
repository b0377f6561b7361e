"""Find the weights of an open_clip model and load them: by tag, from a file, or from a folder.

Nothing is unpickled but tensors. A hash says which weights they were.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast
from urllib.error import HTTPError
from urllib.request import urlopen

import huggingface_hub
import open_clip

import passerby.nets.tower  # noqa: F401  (makes timm know the tower that the embedded model's configuration names)
from passerby.tensors import DAMAGE
from passerby.untrusted import read_json

ClipModel: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP

EMBEDDED = Path(__file__).parent / "embedded"
"""Folder of the tiny CLIP that this package brings along."""

LOCAL_FOLDER = "local-dir:"
"""Begins the name of a folder with `open_clip_config.json` and weights, as open_clip spells it."""

_CONFIG_NAME = "open_clip_config.json"
_PATIENCE_SECONDS = 10
_MODEL_FILES = (".json", ".safetensors", ".bin", ".pth", ".pt", ".gz", ".txt")
"""Files of a model folder that decide what it says: config, weights, vocabulary."""
_NO_MODEL_FILES = ("metrics.json",)
"""Files beside them that do not: scoring a model again makes no other model of it."""
_UNUSABLE = (*DAMAGE, StopIteration)
"""What open_clip raises besides, on weights of another architecture."""


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A model and its weights, found but not loaded."""

    name: str
    """Of the architecture, or of the folder that defines it."""

    label: str
    """Of the weights: tag, file or folder, without its path."""

    open_clip_name: str
    """What open_clip calls the architecture, a path in case of a folder."""

    pretrained: str | None
    """The file of the weights; none where open_clip looks into the folder."""

    config: Mapping[str, Any]
    """The architecture, as in open_clip's JSON."""

    sha256: str
    """Of the weights, in hexadecimal; of a folder, of all files that matter."""

    statistics: Mapping[str, Any] = field(default_factory=dict)
    """Mean and deviation of the pixels that a tag was trained with, where they are not the model's own."""

    def tokenizer_options(self) -> dict[str, str]:
        """Resolve a vocabulary that lies in the model's folder, which open_clip leaves to the caller."""
        vocabulary = self.config["text_cfg"].get("tokenizer_kwargs", {}).get("bpe_path")
        if vocabulary is None or not self.open_clip_name.startswith(LOCAL_FOLDER):
            return {}
        return {"bpe_path": str(Path(self.open_clip_name.removeprefix(LOCAL_FOLDER)) / vocabulary)}


def find(model: str, weights: str) -> ClipSource:
    """Find a model and its weights; a tag is downloaded on first use. Arguments and errors as of `clip.load_clip`."""
    if model == "embedded":
        if not (EMBEDDED / _CONFIG_NAME).is_file():
            raise FileNotFoundError(
                f"this installation has no embedded CLIP ({EMBEDDED}); give --clip-model and --clip-weights FILE"
            )
        return _find_folder("embedded", EMBEDDED)
    if weights.startswith(LOCAL_FOLDER):
        folder = Path(weights.removeprefix(LOCAL_FOLDER))
        return _find_folder(folder.resolve().name, folder)
    config = open_clip.get_model_config(model)
    if config is None:
        close = difflib.get_close_matches(model, open_clip.list_models(), n=3, cutoff=0.4)
        raise ValueError(f"open_clip has no model {model!r}; close are {', '.join(close) or 'none'}")
    if weights in open_clip.list_pretrained_tags_by_model(model):
        return _find_tag(model, weights, config)
    path = Path(weights)
    if not path.is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
        raise ValueError(f"weights {weights!r} are neither a file nor a tag of {model}; its tags are {tags}")
    return ClipSource(model, path.name, model, str(path), config, _sha256([path]))


def check_grid(source: ClipSource, size: tuple[int, int]) -> None:
    """Refuse an input size whose position embeddings open_clip would not interpolate, or not rightly.

    It interpolates only when the number of patches changes, and takes the trained grid to be square: 448x112 has the
    196 patches of 224x224 and would silently read them in the wrong order.

    Raises:
        ValueError: the size has this fault, is no multiple of the patch size, or the model has no such grid.
    """
    vision = source.config["vision_cfg"]
    trained = vision.get("image_size", 224)
    is_transformer = "timm_model_name" not in vision and isinstance(vision.get("layers", 12), int)
    if not is_transformer or not isinstance(trained, int):
        raise ValueError(f"interp needs a vision transformer of open_clip's own, trained on squares, not {source.name}")
    patch = vision.get("patch_size", 16)
    height, width = size
    if height % patch or width % patch:
        raise ValueError(
            f"interp:{height}x{width}: height and width must be multiples of {patch}, the patch size of {source.name}"
        )
    if height * width == trained * trained and height != width:
        raise ValueError(
            f"interp:{height}x{width} has as many patches as the trained {trained}x{trained}, so its positions"
            " would be misread; use another size, such as interp:384x192"
        )


def build(source: ClipSource, size: tuple[int, int] | None) -> ClipModel:
    """Load the model, for images of `size` (height, width) instead of its own where given.

    Raises:
        ValueError: the weights are damaged, would run code, or are another architecture's.
    """
    try:
        network = open_clip.create_model(
            source.open_clip_name,
            pretrained=source.pretrained,
            force_image_size=size,
            force_preprocess_cfg=source.statistics,
            require_pretrained=True,
            weights_only=True,
        )
    except _UNUSABLE as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"the weights {source.label} cannot be loaded into {source.name}: {reason} (allowed are safetensors and"
            " state dicts; OpenAI's TorchScript .pt must be converted once)"
        ) from error
    return cast(ClipModel, network)


def _find_folder(name: str, folder: Path) -> ClipSource:
    file = folder / _CONFIG_NAME
    if not file.is_file():
        raise FileNotFoundError(f"{folder} is no model folder: it has no {file.name}")
    stored = read_json(file)
    config = stored.get("model_cfg") if isinstance(stored, dict) else None
    if not isinstance(config, dict):
        raise ValueError(f"{file} is no open_clip configuration: it has no model_cfg")
    files = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in _MODEL_FILES and path.name not in _NO_MODEL_FILES and path.is_file()
    )
    return ClipSource(name, folder.resolve().name, f"{LOCAL_FOLDER}{folder}", None, config, _sha256(files))


def _find_tag(model: str, tag: str, config: Mapping[str, Any]) -> ClipSource:
    about = open_clip.get_pretrained_cfg(model, tag)
    if bool(about.get("quick_gelu")) != bool(config.get("quick_gelu")):
        other = model.removesuffix("-quickgelu") if config.get("quick_gelu") else f"{model}-quickgelu"
        raise ValueError(f"the weights {tag!r} have another activation than {model}; use the model {other}")
    path = _cached(about) or _download(model, tag, about)
    statistics = {name: about[name] for name in ("mean", "std") if name in about}
    return ClipSource(model, tag, model, str(path), config, _sha256([path]), statistics)


def _cached(about: Mapping[str, Any]) -> Path | None:
    """Look for weights of the hub that were downloaded before; open_clip would ask the hub for newer ones first."""
    repository, _, name = about.get("hf_hub", "").rpartition("/")
    for candidate in (name,) if name else ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        found = huggingface_hub.try_to_load_from_cache(repository, candidate) if repository else None
        if isinstance(found, str):
            return Path(found)
    return None


def _download(model: str, tag: str, about: Mapping[str, Any]) -> Path:
    try:
        if about.get("hf_hub"):
            _reach(huggingface_hub.constants.ENDPOINT)
        return Path(open_clip.download_pretrained(about))
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"the weights {tag!r} of {model} cannot be downloaded; give a local file with --clip-weights FILE,"
            " or use --clip-model embedded"
        ) from error


def _reach(url: str) -> None:
    """Raise `OSError` at once where the hub's client would try for a minute, and say so in a dozen lines."""
    with suppress(HTTPError):  # an answer, whichever
        urlopen(url, timeout=_PATIENCE_SECONDS).close()  # noqa: S310  (the hub's own address, https)


def _sha256(paths: Sequence[Path]) -> str:
    """Hash the weights; of several files, their names and hashes."""
    hashes = {}
    for path in paths:
        with path.open("rb") as file:
            hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    if len(hashes) == 1:
        return hashes.popitem()[1]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
