"""Weights that others trained, for towers of the same shape: from a file, a folder, or the hub where its name is given."""

from collections.abc import Mapping
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError
from torch import Tensor, nn

from passerby.tensors import read_pickled, read_safetensors

HUB = "hub:"
"""Begins the name of a repository of the Hugging Face hub."""

FILES = ("model.safetensors", "pytorch_model.bin")
"""In a folder, the first that is there; of the hub, the first alone."""

WRAPPERS = ("model", "state_dict", "teacher")
"""Entries of a checkpoint under which DeiT, other trainers and DINO keep the weights."""


def read_weights(source: str) -> dict[str, Tensor]:
    """Read weights by name, onto the CPU; nothing in them can run.

    Args:
        source: A file, a folder of Hugging Face's, or `hub:owner/name`, which is downloaded.

    Raises:
        FileNotFoundError: there is no such file, or none in the folder.
        ValueError: it holds no weights, or more than data.
        OSError: the hub does not answer, or has no such repository.
    """
    path = _find(source)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    loaded = read_pickled(path, otherwise="holds no weights, or is damaged")
    for wrapper in WRAPPERS:
        loaded = loaded.get(wrapper, loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError(f"{path} holds no weights by name, nor under {', '.join(WRAPPERS)}")
    return loaded


def load_weights(tower: nn.Module, weights: Mapping[str, Tensor], *, source: str) -> None:
    """Load all weights of a tower.

    Args:
        tower: Has random weights.
        weights: By the names that the tower gives them.
        source: Where they are from, for the message.

    Raises:
        ValueError: weights are missing, left over, or of another shape.
    """
    own = tower.state_dict()
    faults = [f"lacks {_some(own.keys() - weights.keys())}"] if own.keys() - weights.keys() else []
    faults += [f"has besides {_some(weights.keys() - own.keys())}"] if weights.keys() - own.keys() else []
    faults += [
        f"{name} is {tuple(weights[name].shape)} and not {tuple(own[name].shape)}"
        for name in own.keys() & weights.keys()
        if weights[name].shape != own[name].shape
    ][:3]
    if faults:
        raise ValueError(f"{source} holds the weights of another architecture: {'; '.join(faults)}")
    tower.load_state_dict(dict(weights))


def _find(source: str) -> Path:
    if source.startswith(HUB):
        try:
            return Path(huggingface_hub.hf_hub_download(source.removeprefix(HUB), FILES[0]))
        except (HfHubHTTPError, huggingface_hub.errors.LocalEntryNotFoundError) as error:
            raise OSError(f"cannot download {source}: {str(error).splitlines()[0]}") from None
    path = Path(source)
    candidates = [path / name for name in FILES] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"there are no weights at {' or '.join(map(str, candidates))}; give a file, a folder, {HUB}owner/name to download, or ''"
        " to begin with random weights"
    )


def _some(names: set[str]) -> str:
    """Name a few, in order."""
    first = sorted(names)[:3]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")
