"""What the methods of pre-training have in common: their data, their schedule, and how a run of theirs is put together."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from passerby.optim import multiplier
from passerby.tokens import Tokenizer
from passerby.training.batch import Reword
from passerby.training.data import IndexedData, open_data
from passerby.training.method import LoopConfig
from passerby.training.run import Course, Job
from passerby.training.stream import StreamedData, is_stream, open_stream


class MethodModule(Protocol):
    """A Python module such as `pretrain.vtbr`."""

    Config: type[Any]

    def build(self, config: Any, tokenizer: Tokenizer, *, generator_seed: int) -> nn.Module:  # noqa: ANN401
        """Build the method, with random weights."""
        ...


def build_job(
    name: str,
    module: MethodModule,
    sections: Mapping[str, Any],
    *,
    root: str,
    run: Path,
    workers: int = 0,
    device: str = "auto",
    reword: Reword | None = None,
) -> Job[IndexedData | StreamedData]:
    """Put a run of pre-training together.

    Args:
        name: Of the method.
        module: Where it lives.
        sections: Its configurations: `method`, `loop`, `data` and `augment`.
        root: A data set of ours, or a pattern of tars.
        run: Folder of the run.
        workers: Processes that read, for each rank.
        device: See `passerby.ranks.join_ranks`.
        reword: Words captions anew; see `passerby.training.batch.Reword`.
    """
    loop: LoopConfig = sections["loop"]

    def open_captions(state: Mapping[str, Any]) -> IndexedData | StreamedData:
        tokenizer = Tokenizer.from_json(state["tokenizer"]) if state else None
        told = sections["data"], sections["augment"], sections["method"]
        if is_stream(root):
            return open_stream(root, *told, seed=loop.seed, tokenizer=tokenizer)
        return open_data(root, *told, seed=loop.seed, tokenizer=tokenizer, reword=reword)

    def begin(data: IndexedData | StreamedData) -> Course:
        method = sections["method"]
        factor = partial(
            multiplier,
            steps=loop.steps,
            warmup_steps=loop.warmup_steps,
            schedule=loop.schedule,
            milestones=loop.milestones,
        )
        return Course(
            method=module.build(method, data.tokenizer, generator_seed=loop.seed),
            loop=loop,
            factor=factor,
            image_mean=method.image_mean,
            image_std=method.image_std,
        )

    return Job(
        name=name,
        sections=sections,
        open_data=open_captions,
        begin=begin,
        run=run,
        trained_on=str(root),
        workers=workers,
        device=device,
    )
