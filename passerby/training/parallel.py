"""How the ranks of a run hold a method: each all of it, or each a part of every parameter, see `passerby.training.sharded`.

Either way a rank learns from its part of the batch, gradients are means over the ranks, and checkpoints hold everything in the
same form. So a run may go on the other way, and on another number of ranks.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from passerby.optim import Optimizer
from passerby.ranks import Ranks


class Parallel(Protocol):
    """A method on all ranks."""

    forward: nn.Module
    """Gives what the method gives; the gradient of its loss becomes the mean over all ranks."""

    def passing(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """Go forwards and backwards within the block; ranks may share gradients in the last pass of a step only."""
        ...

    def clip(self, greatest: float) -> Tensor:
        """Shorten the gradient to an L2 norm at most, and give the norm that it had. All must ask."""
        ...

    def whole(self) -> AbstractContextManager[nn.Module]:
        """Give the method with all its weights, which only the first rank may use. All must ask."""
        ...

    def state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Give `model` and `optimizer` as a checkpoint has them, on the first rank. All must ask."""
        ...

    def load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """Load the state of an optimizer, as a checkpoint has it. All must ask."""
        ...


def build_parallel(module: nn.Module, ranks: Ranks, *, is_sharded: bool, is_bf16: bool) -> Parallel:
    """Share a method out, or keep it whole; see `Replicated` and `passerby.training.sharded.Sharded`.

    Raises:
        ModuleNotFoundError: PyTorch is too old.
        ValueError: the method cannot be shared out.
    """
    if not is_sharded:
        return Replicated(module, ranks)
    try:
        from passerby.training.sharded import Sharded  # noqa: PLC0415  (slow to load, and not in every PyTorch)
    except ImportError:
        raise ModuleNotFoundError("--fsdp needs a newer PyTorch: pip install 'torch>=2.8'") from None
    return Sharded(module, ranks, is_bf16=is_bf16)


class Replicated:
    """Every rank holds the whole method; also where there is one rank.

    Args:
        module: On its device. Ranks begin with the first one's weights and buffers.
        ranks: This process and the others.
    """

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        self._module = module
        # Inputs are on the device already, or meant for the CPU.
        self._parallel = DistributedDataParallel(module) if ranks.world > 1 else None
        self.forward: nn.Module = self._parallel or module

    def passing(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """Share gradients in the last pass."""
        return nullcontext() if self._parallel is None or is_last else self._parallel.no_sync()

    def clip(self, greatest: float) -> Tensor:
        """See `Parallel`."""
        return nn.utils.clip_grad_norm_(self._module.parameters(), greatest)

    def whole(self) -> AbstractContextManager[nn.Module]:
        """Give the method itself."""
        return nullcontext(self._module)

    def state(self, optimizer: Optimizer) -> dict[str, Any]:
        """See `Parallel`."""
        return {"model": self._module.state_dict(), "optimizer": optimizer.state_dict()}

    def load(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        """See `Parallel`."""
        optimizer.load_state_dict(state)
