"""Ranks that hold a part of every parameter each: for methods that do not fit one GPU together with what the optimizer keeps.

Source: Zhao et al., PyTorch FSDP (2023), in its second form, `torch.distributed.fsdp.fully_shard`. Its own checkpoints are not
used: they name the optimizer's state otherwise than a run on one GPU does, and know no wrapped optimizers such as LookAhead.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from passerby.optim import Optimizer
from passerby.ranks import Ranks


class Sharded:
    """Every rank holds a part of each parameter, of its gradient and of the optimizer's state; single numbers it holds whole.

    Blocks are gathered one after the other as they are needed, and dropped again; what is in no block stays gathered from the
    forward to the end of the backward pass. The first rank keeps a whole copy in the memory of the CPU, which it brings up to
    date when the method is to be validated or exported.

    Args:
        module: On its device; changed. Ranks begin with the first one's weights and buffers.
        ranks: This process and the others.
        is_bf16: Gather the weights of blocks without statistics, such as those of transformers, as bfloat16.

    Raises:
        ValueError: a parameter is in several blocks.
    """

    def __init__(self, module: nn.Module, ranks: Ranks, *, is_bf16: bool) -> None:
        blocks = [*find_blocks(module)]
        _check_untied(module, blocks)
        module.to(memory_format=torch.contiguous_format)  # others cannot be cut
        for tensor in chain(module.parameters(), module.buffers()):
            distributed.broadcast(tensor.detach(), 0)
        self._ranks, self._module = ranks, module
        self.forward: nn.Module = module
        self._copy = deepcopy(module.cpu()) if ranks.is_first else None
        module.to(ranks.device)
        _shard(module, [block for _, block in blocks], ranks, is_bf16=is_bf16)

    @contextmanager
    def passing(self, *, is_last: bool) -> Iterator[None]:
        """Share gradients in every pass: whole ones are what there is no room for. Blocks that were idle get zeros."""
        yield
        for parameter in self._module.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def clip(self, greatest: float) -> Tensor:
        """See `passerby.training.parallel.Parallel`."""
        norm: Tensor = _gather(nn.utils.clip_grad_norm_(self._module.parameters(), greatest))
        return norm

    @contextmanager
    def whole(self) -> Iterator[nn.Module]:
        """Give the copy, brought up to date, on the device within the block; on other ranks the method as it is."""
        state = self._gather_model()
        if self._copy is None:
            yield self._module
            return
        self._copy.load_state_dict(state)
        yield self._copy.to(self._ranks.device)
        self._copy.cpu()

    def state(self, optimizer: Optimizer) -> dict[str, Any]:
        """See `passerby.training.parallel.Parallel`."""
        told = optimizer.state_dict()
        gathered = {
            number: {name: self._keep(value) for name, value in values.items()}
            for number, values in told["state"].items()
        }
        return {"model": self._gather_model(), "optimizer": {**told, "state": gathered}}

    def load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Cut what the optimizer knows of each parameter as the parameter is cut."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

        def cut(value: Any, parameter: Tensor) -> Any:  # noqa: ANN401  (a number or a tensor)
            if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
                value = value.to(self._ranks.device).contiguous()
                return distribute_tensor(value, parameter.device_mesh, parameter.placements)
            return value

        shares = {
            number: {name: cut(value, parameters[number]) for name, value in values.items()}
            for number, values in state["state"].items()
        }
        optimizer.load_state_dict({**state, "state": shares})

    def _gather_model(self) -> dict[str, Any]:
        return {name: self._keep(value) for name, value in self._module.state_dict().items()}

    def _keep(self, value: Any) -> Any:  # noqa: ANN401  (a number or a tensor)
        """Gather what ranks share; the first one keeps it."""
        whole = _gather(value)
        if not self._ranks.is_first:
            return None
        return whole.cpu() if isinstance(whole, Tensor) else whole


def find_blocks(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Find the blocks of a method with their names: what is a member of a list or of a sequence and has parts of its own.

    Of blocks within blocks it is the outermost.
    """
    for child_name, child in module.named_children():
        path = f"{name}.{child_name}".lstrip(".")
        is_member = isinstance(module, nn.ModuleList | nn.Sequential)
        if is_member and any(True for _ in child.children()) and any(True for _ in child.parameters()):
            yield path, child
        else:
            yield from find_blocks(child, path)


def _check_untied(module: nn.Module, blocks: Iterable[tuple[str, nn.Module]]) -> None:
    """Make sure that whatever parameter is used under two names is in one block, or in none, under both."""
    paths = [name for name, _ in blocks]
    places: dict[nn.Parameter, tuple[str, str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        block = next((path for path in paths if name.startswith(f"{path}.")), "")
        other, other_block = places.setdefault(parameter, (name, block))
        if other_block != block:
            raise ValueError(f"--fsdp cannot cut {name}, which is {other} too, in another block; train without --fsdp")


def _shard(module: nn.Module, blocks: Iterable[nn.Module], ranks: Ranks, *, is_bf16: bool) -> None:
    """Leave every rank its part of the parameters."""
    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    numbers = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    # Autocast does the rest; gradients are added up in full precision.
    halved = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        has_statistics = any(True for _ in block.buffers())
        policy = halved if is_bf16 and not has_statistics else MixedPrecisionPolicy()
        fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=numbers)
    fully_shard(module, mesh=mesh, reshard_after_forward=False, ignored_params=numbers)
    for number in numbers:
        number.register_post_accumulate_grad_hook(_average)  # type: ignore[no-untyped-call]


def _average(parameter: Tensor) -> None:
    """Make a gradient the mean over the ranks; what was one before (of an earlier pass) stays the same."""
    assert parameter.grad is not None, "it has just been added to"
    distributed.all_reduce(parameter.grad)
    parameter.grad /= distributed.get_world_size()


def _gather(value: Any) -> Any:  # noqa: ANN401  (a number or a tensor)
    return value.full_tensor() if isinstance(value, DTensor) else value
