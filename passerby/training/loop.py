"""The loop of training, by step; it knows no method.

A run is decided by its configuration, its data and its seed: data, augmentation, masks and dropout of a step are drawn
from the number of the step, so that a run that was interrupted goes on to the same losses. Several forward passes a
step (`accumulation`) make up a larger batch for the gradient only: contrastive losses still compare within one pass.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from passerby.optim import check_groups
from passerby.ranks import Ranks
from passerby.runtime import draw
from passerby.training.batch import Batch, ToDevice
from passerby.training.clock import Clock, Progress
from passerby.training.journal import Journal
from passerby.training.method import LoopConfig, Method
from passerby.training.parallel import build_parallel
from passerby.training.reading import Loader, Share, TrainingData


class Loop:
    """A method, its optimizer and its place in the run.

    Args:
        method: With random weights; see `passerby.training.method.Method`.
        config: How it learns.
        data: What it learns from.
        factor: Part of its greatest value that every learning rate has, by the number of steps done.
        to_device: Finishes batches.
        ranks: This process and the others.
        workers: Processes that read.
        is_sharded: Every rank holds a part of the method only; see `passerby.training.sharded.Sharded`.
        is_prepared: Let the method look at the data before the first step, where the run begins.
        checkpoint: Of the run that goes on; without it the run begins.

    Raises:
        ValueError: a parameter is in no group of the optimizer, or in several; or the method cannot be shared among ranks.
    """

    def __init__(
        self,
        method: nn.Module,
        config: LoopConfig,
        data: TrainingData,
        *,
        factor: Callable[[int], float],
        to_device: ToDevice,
        ranks: Ranks,
        workers: int,
        is_sharded: bool,
        is_prepared: bool = True,
        checkpoint: dict[str, Any] | None,
    ) -> None:
        self.config, self.data, self.ranks = config, data, ranks
        self.step: int = checkpoint["step"] if checkpoint else 0
        self.best: dict[str, Any] = checkpoint["best"] if checkpoint else {}
        self.share = Share(
            batch_size=config.batch_size,
            accumulation=config.accumulation,
            rank=ranks.rank,
            world=ranks.world,
            workers=workers,
            pin_memory=ranks.device.type == "cuda",
        )
        self.module = method.to(ranks.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.method = cast(Method, self.module)
        self._factor = factor
        self._to_device = to_device
        if checkpoint:
            self.module.load_state_dict(checkpoint["model"])
        elif ranks.is_first and is_prepared:
            alone = replace(self.share, world=1, accumulation=config.accumulation * ranks.world)  # as large as any pass
            self.method.prepare(self._finished(data.training(0, config.steps, alone), "prepare"))
        if is_sharded and config.compile:
            raise ValueError("loop.compile is true, and --fsdp takes methods as they are; set loop.compile=false")
        is_bf16 = config.precision == "bf16" and ranks.device.type == "cuda"
        self.parallel = build_parallel(self.module, ranks, is_sharded=is_sharded, is_bf16=is_bf16)
        groups = self.method.parameter_groups()
        check_groups(self.module, groups)
        self.optimizer = self.method.build_optimizer(groups)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        if checkpoint:
            self.parallel.load(self.optimizer, checkpoint["optimizer"])
        self._forward = torch.compile(self.parallel.forward) if config.compile else self.parallel.forward

    def run(
        self,
        save: Callable[[dict[str, Any], bool], None],
        journal: Journal | None,
        *,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Make the steps that are left; say whether the run is at its end.

        Args:
            save: Writes a checkpoint; told the state, and whether it is the best so far. Called on the first rank only.
            journal: Of the first rank.
            on_progress: Told after every step.
            should_stop: Asked after every step; if so, the run writes a checkpoint and ends early.

        Raises:
            RuntimeError: the loss is no longer a finite number.
            ValueError: `best_by` names no number of the validation.
        """
        config, clock = self.config, Clock()
        self.module.train()
        passes = iter(self.data.training(self.step, config.steps, self.share))
        while self.step < config.steps:
            clock.start()
            collated = [*islice(passes, config.accumulation)]
            clock.data_is_here()
            losses = self.make_step(collated)
            is_stopped = self._agree(losses["loss"], collated, is_stopped=should_stop())
            self.step += 1
            is_last = self.step == config.steps
            clock.stop(self.config.batch_size)
            if self._is_due(config.log_every) or is_last:
                self._write_numbers(journal, losses, clock)
            is_best = (self._is_due(config.validate_every) or is_last) and self._validate(journal)
            if is_best or is_stopped or is_last or self._is_due(config.save_every):
                state = self._state()
                if self.ranks.is_first:
                    save(state, is_best)
            on_progress(clock.progress(self.step, config.steps, float(losses["loss"])))
            if is_stopped and not is_last:
                return False
        return True

    def make_step(self, collated: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Learn from the passes of a step; give the loss and its components, as means over the passes."""
        config, count = self.config, len(collated)
        factor = self._factor(self.step)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self.optimizer.zero_grad()
        means: dict[str, Tensor] = {}
        for number, each in enumerate(collated):
            batch = self._finish(each, str(self.step), self.share.rank * config.accumulation + number)
            torch.manual_seed(int(batch["seed"]))  # for dropout
            with self.parallel.passing(is_last=number == count - 1):
                with self._autocast():
                    output = self._forward({**batch, "keys": []} if config.compile else batch)
                (output["loss"] / count).backward()
            for name, value in {**output["loss_components"], "loss": output["loss"].detach()}.items():
                means[name] = means.get(name, 0.0) + value / count
        if config.clip_norm:
            means["gradient_norm"] = self.parallel.clip(config.clip_norm)
        self.optimizer.step()
        return means

    def _agree(self, loss: Tensor, collated: list[dict[str, Any]], *, is_stopped: bool) -> bool:
        """Make sure that the loss of all ranks is finite, and say whether one of them is to stop."""
        is_broken = not bool(loss.isfinite())
        some_broken, some_stopped = self.ranks.any(is_broken, is_stopped)
        if some_broken:
            keys = ", ".join(key for each in collated for key in each["keys"])
            raise RuntimeError(
                f"the loss is {float(loss)} in step {self.step + 1} (rank {self.ranks.rank}), of no use from there on; lower the"
                f" learning rate, set loop.clip_norm, or look at the samples of the step: {keys}"
            )
        return some_stopped

    def _validate(self, journal: Journal | None) -> bool:
        """Measure on the people held out, on the first rank while the others wait; say whether it went best so far."""
        loader = self.data.validation(self.share)
        if loader is None:
            return False
        is_best = False
        with self.parallel.whole() as method:
            if journal is not None:
                method.eval()
                with torch.no_grad(), self._autocast():
                    numbers = cast(Method, method).evaluate(self._finished(loader, "validation"))
                method.train()
                is_best = self._is_best(numbers)
                best = {"best_step": self.best["step"]} if self.best else {}
                journal.numbers(self.step, "validation", {**numbers, **best})
        (is_best,) = self.ranks.any(is_best)
        return is_best

    def _is_best(self, numbers: dict[str, float]) -> bool:
        name = self.config.best_by
        if not name:
            return False
        if name not in numbers:
            raise ValueError(f"loop.best_by is {name!r}; the validation gives {', '.join(numbers)}")
        value = -numbers[name] if name.endswith("loss") else numbers[name]
        if self.best and value <= self.best["value"]:
            return False
        self.best = {"step": self.step, "value": value}
        return True

    def _write_numbers(self, journal: Journal | None, losses: dict[str, Tensor], clock: "Clock") -> None:
        """Write the means over all ranks."""
        means = {name: self.ranks.mean(value) for name, value in losses.items()}
        if journal is None:
            return
        steps_an_epoch = self.data.steps_an_epoch(self.config.batch_size)
        rates = {f"learning_rate_{number}": group["lr"] for number, group in enumerate(self.optimizer.param_groups)}
        told = {
            "learning_rate": max(rates.values()),
            "samples_a_second": clock.rate,
            "waiting_share": clock.waiting_share,
        }
        epoch = {"epoch": self.step / steps_an_epoch} if steps_an_epoch else {}
        journal.numbers(self.step, "training", {**means, **told, **epoch})

    def _state(self) -> dict[str, Any]:
        """Give what goes on: what is drawn depends on the step, so there is no state of chance."""
        return {
            "step": self.step,
            "best": self.best,
            **self.parallel.state(self.optimizer),
        }

    def _finished(self, loader: Loader, purpose: str) -> Iterator[Batch]:
        return (self._finish(each, purpose, number) for number, each in enumerate(loader))

    def _finish(self, collated: dict[str, Any], of_all: str, of_pass: int) -> Batch:
        """Move a batch to the device; `of_all` seeds what ranks share, `of_pass` what they do not."""
        seeds = draw(self.config.seed, of_all, purpose="step"), draw(self.config.seed, of_all, of_pass, "pass")
        shared_seed, seed = (number >> 1 for number in seeds)  # Int64 has 63 bits for positive numbers
        return self._to_device(collated, seed=seed, shared_seed=shared_seed)

    def _autocast(self) -> torch.autocast:
        device = self.ranks.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16" and device == "cuda")

    def _is_due(self, every: int) -> bool:
        return not self.step % every
