"""The two runs of pi-VL: prompts are tuned in `RUN/prompts`, and the encoder learns in `RUN`, whose `config.toml` tells of both."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finetune.data import NamedPeople, open_people
from finetune.encoder_tuning import EncoderTuning, Texts
from finetune.job import course_of
from finetune.pi_vl import KIND, Config, statistics_of
from finetune.prompt_tuning import Prompts, PromptTuning, describe_prompts, load_prompts
from passerby.checkpoint import ENCODER_TABLE_NAME
from passerby.nets.clip_pair import ClipPair, load_pair, read_architecture
from passerby.nets.clip_reid import ImageEncoder, build_image_encoder
from passerby.nets.mobilenet import MobileNet
from passerby.nets.prompts import BEFORE, PART_NAMES, WHOLE, PromptEncoder, PromptLearner, encode_table
from passerby.training.augment import Augmentation
from passerby.training.batch import PARSING_MEMBER
from passerby.training.run import Course, Job, write_config

PROMPTS_FOLDER = "prompts"


@dataclass(frozen=True)
class Stages:
    """What is to be done, in this order."""

    prompts: Job[NamedPeople]
    encoder: Job[NamedPeople]

    @property
    def has_prompts(self) -> bool:
        """Whether the prompts are tuned, or come from another run."""
        return bool(self.encoder.sections["method"].prompts) or (self.prompts.run / ENCODER_TABLE_NAME).is_file()


def build_stages(
    sections: Mapping[str, Any], *, root: str, run: Path, workers: int = 0, device: str = "auto"
) -> Stages:
    """Put both runs together.

    Args:
        sections: Configurations: `method`, `prompts`, `loop`, `data` and `augment`.
        root: A data set of ours, whose split `train` is learnt.
        run: Folder of the run.
        workers: Processes that read, for each rank.
        device: See `passerby.ranks.join_ranks`.

    Raises:
        ValueError: parsing maps are needed, and not to be read.
    """
    method, prompts, loop, data = (sections[name] for name in ("method", "prompts", "loop", "data"))
    if method.has_parts and not data.parsing:
        raise ValueError(
            f"data.parsing is false, and method.variant {method.variant!r} compares parts, which parsing maps tell; set"
            " data.parsing=true, or method.variant=clip-reid"
        )
    first = {
        **sections,
        "loop": prompts.loop(loop, has_parts=method.tunes_parts),
        "data": replace(data, parsing=method.tunes_parts),
        "augment": Augmentation(),
    }
    note = f"{prompts.identity_epochs} identity-aware epochs, then {prompts.part_epochs * method.tunes_parts} part-informed"
    folder = run / PROMPTS_FOLDER
    encoder = Job(
        name=KIND,
        sections=sections,
        open_data=lambda state: _open(root, sections, state),
        begin=lambda people: _begin_encoder(sections, people, Path(method.prompts or folder)),
        run=run,
        workers=workers,
        device=device,
        trained_on=root,
    )

    def begin(people: NamedPeople) -> Course:
        course = _begin_prompts(first, people)
        # What does not fit into the second stage shows now, and not after hours of prompts.
        _build_tuning(sections, _open(root, sections, {}), _load(method, loop.seed), _rehearse)
        write_config(encoder)
        return course

    tuning = Job(
        name=f"{KIND} prompts",
        sections=first,
        open_data=lambda state: replace(_open(root, first, state), held_out=None, notes=(note,)),
        begin=begin,
        run=folder,
        workers=workers,
        device=device,
        trained_on=root,
    )
    return Stages(tuning, encoder)


def _open(root: str, sections: Mapping[str, Any], state: Mapping[str, Any]) -> NamedPeople:
    method, loop = sections["method"], sections["loop"]
    people = open_people(
        root,
        sections["data"],
        sections["augment"],
        (method.image_height, method.image_width),
        build_order=loop.order,
        seed=loop.seed,
        state=state,
    )
    if sections["data"].parsing and PARSING_MEMBER not in people.train.samples[int(people.train.indices[0])]:
        raise ValueError(
            f"{root} has no parsing maps; make them with passerby parse, and pack the images anew with passerby pack --parsing"
        )
    return people


def _begin_prompts(sections: Mapping[str, Any], people: NamedPeople) -> Course:
    method, loop = sections["method"], sections["loop"]
    steps_an_epoch = people.order.steps_an_epoch
    pair = _load(method, loop.seed)
    encoder = _build_encoder(method, pair)
    with _seeded(loop.seed):
        tuning = PromptTuning(
            sections["prompts"],
            method,
            pair,
            encoder,
            people.people,
            identity_passes=sections["prompts"].identity_epochs * steps_an_epoch * loop.accumulation,
        )
    return course_of(tuning, loop, steps_an_epoch, (encoder.mean, encoder.deviation))


def _begin_encoder(sections: Mapping[str, Any], people: NamedPeople, folder: Path) -> Course:
    method, loop = sections["method"], sections["loop"]
    pair = _load(method, loop.seed)
    prompts = load_prompts(folder, describe_prompts(pair, people.people, tokens=sections["prompts"].tokens))
    tuning = _build_tuning(sections, people, pair, lambda device: write_texts(method, prompts, loop.seed, device))
    return course_of(tuning, loop, people.order.steps_an_epoch, statistics_of(tuning.searcher.encoder))


def _build_tuning(
    sections: Mapping[str, Any], people: NamedPeople, pair: ClipPair, write: Callable[[torch.device], Texts]
) -> EncoderTuning:
    """Build the second stage, with the image tower of a CLIP, which is changed.

    Raises:
        ValueError: something in it does not fit.
    """
    method, loop = sections["method"], sections["loop"]
    _check_cameras(method, people)
    encoder: ImageEncoder | MobileNet
    with _seeded(loop.seed):
        if method.student == "none":
            encoder = _build_encoder(method, pair, cameras=people.camera_count if method.cameras else 0)
        else:
            encoder = MobileNet((method.image_height, method.image_width))
            if method.student_weights:
                encoder.load(method.student_weights)
        return EncoderTuning(
            method,
            encoder,
            people=len(people.people),
            embed_dim=pair.model.text_projection.shape[1],
            tower=read_architecture(method.clip_model, method.clip_weights),
            write_texts=write,
        )


def write_texts(method: Config, prompts: Prompts, seed: int, device: torch.device) -> Texts:
    """Let CLIP's text tower read the sentences about all people and parts; it is needed this once.

    Args:
        method: Which CLIP, and which sentences.
        prompts: Tokens of all people.
        seed: Of the weights of a tiny CLIP.
        device: Where it is read.
    """
    pair = _load(method, seed)
    people, tokens, _ = prompts.whole.shape
    learner = PromptLearner(*pair, people=people, tokens=tokens).to(device)
    encoder = PromptEncoder(pair.model).to(device)

    def read(context: Tensor, kinds: Sequence[int]) -> Tensor:
        learner.load_state_dict({"context": context})
        return encode_table(learner, encoder, kinds)

    whole = read(prompts.whole if method.whole_text == "identity" else prompts.parts, [WHOLE])[:, 0]
    if method.tunes_parts:
        return Texts(whole, read(prompts.parts, range(len(PART_NAMES))))
    if not method.has_parts:
        return Texts(whole, whole.new_zeros(1, 0, whole.shape[1]))
    sentences = pair.tokenizer([f"{BEFORE} person {part}" for part in PART_NAMES])
    with torch.no_grad():
        return Texts(whole, pair.model.to(device).encode_text(sentences.to(device)).float()[None])


def _rehearse(device: torch.device) -> Texts:
    raise AssertionError("a rehearsal ends before the texts are wanted")


def _load(method: Config, seed: int) -> ClipPair:
    """Load a CLIP; both stages get the same one, though its weights be random."""
    with _seeded(seed):
        return load_pair(method.clip_model, method.clip_weights)


def _build_encoder(method: Config, pair: ClipPair, *, cameras: int = 0) -> ImageEncoder:
    size = method.image_height, method.image_width
    return build_image_encoder(pair.model, size, stride=method.stride, cameras=cameras)


def _check_cameras(method: Config, people: NamedPeople) -> None:
    """Make sure that every camera of the people held out is one that is learnt, where cameras are."""
    if not method.cameras:
        return
    for name, those in (("train", people.train), ("val", people.held_out)):
        ids = those.camera_ids[those.indices] if those else np.zeros(1, np.int64)
        if ids.min() < 0 or ids.max() >= people.camera_count:
            raise ValueError(
                f"camera_id is {ids.min()} to {ids.max()} in {name}, and method.cameras=true learns those of the training images,"
                f" 0 to {people.camera_count - 1}; set method.cameras=false"
            )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw weights by a seed, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
