"""How frozen blocks are run: with trained copies of weights, compiled, or computed again in the backward pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avpea.adapters import Tuning

__all__ = ["Compiled", "lend", "lend_tuned", "recomputed"]

_MOST_VARIANTS = 64  # of one compiled function: streams, grids, batches of odd sizes, with and without gradient


class _Lent(nn.Module):
    def __init__(self, lent_to: nn.Module) -> None:
        super().__init__()
        self.lent_to = lent_to

    def forward(self, run: Callable[..., Any], *arguments: Any) -> Any:
        return run(*arguments)


def lend(weights: Mapping[str, Tensor], module: nn.Module, run: Callable[..., Any], *arguments: Any) -> Any:
    """`run(*arguments)` with some weights of `module` replaced, cast to the type of the originals."""
    own = dict(module.named_parameters())
    lent = {f"lent_to.{name}": weight.to(own[name].dtype) for name, weight in weights.items()}
    return torch.func.functional_call(_Lent(module), lent, (run, *arguments))


def lend_tuned(
    tuned: Tuning | None, module: nn.Module, run: Callable[..., Any], *arguments: Any, within: str = ""
) -> Any:
    """`run(*arguments)` with the trained copies of weights of `module`, if there are any.

    Args:
        tuned: The copies.
        module: The module whose weights they are.
        run: The function.
        arguments: Its arguments.
        within: How names begin of the weights that it needs.
    """
    if tuned is None:
        return run(*arguments)
    return lend({n: w for n, w in tuned.by_name().items() if n.startswith(within)}, module, run, *arguments)


def recomputed(run: Callable[..., Any], *tokens: Tensor, trained: Iterable[nn.Module] = ()) -> Any:
    """`run(*tokens)`, whose activations are forgotten and computed again in the backward pass.

    What is lent to a module is not lent to it any more by then, so `run` has to lend it itself.

    Args:
        run: The function.
        tokens: Its arguments.
        trained: Trained modules that it calls; their BatchNorm keeps its running statistics while it is run again.
    """
    if not torch.is_grad_enabled():
        return run(*tokens)
    norms = [one for part in trained for one in part.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    return checkpoint(run, *tokens, use_reentrant=False, context_fn=lambda: (nullcontext(), _still(norms)))


@contextmanager
def _still(norms: Iterable[Any]) -> Iterator[None]:
    """Leave the running statistics as they are, in a pass in training mode over a batch that they have seen."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, batches in before:
        # With the momentum 0 they move by nothing. The buffers themselves must not be written back afterwards: torch
        # refuses a backward pass through what was changed since.
        norm.momentum = 0.0
        norm.num_batches_tracked = None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


class Compiled:
    """Runs the branches of frozen blocks through torch.compile, until that turns out to be impossible.

    All blocks share two compiled functions, so that a transformer takes no longer to compile than one of its blocks.

    Attributes:
        obstacle: Why nothing is compiled; empty if it is.
    """

    def __init__(self, device: torch.device) -> None:
        self.obstacle = ""
        try:
            import torch._dynamo as dynamo

            limit = "recompile_limit" if hasattr(dynamo.config, "recompile_limit") else "cache_size_limit"  # torch 2.6
            setattr(dynamo.config, limit, max(getattr(dynamo.config, limit), _MOST_VARIANTS))
            self._failures: tuple[type[BaseException], ...] = (dynamo.exc.TorchDynamoException,)
            self._branches = {"attend": torch.compile(_attend), "feed": torch.compile(_feed)}
            _try(device)
        except Exception as error:  # whatever a missing compiler or an unknown platform makes of it
            self.obstacle = _reason(error)

    def run(self, branch: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
        """`branch(tokens)`, where `branch` is a method of a block, or something else that is not compiled."""
        compiled = self._branches.get(getattr(branch, "__name__", "")) if not self.obstacle else None
        if compiled is None:
            return branch(tokens)
        try:
            out: Tensor = compiled(branch.__self__, tokens)  # type: ignore[attr-defined]
            return out
        except self._failures as error:
            self.obstacle = _reason(error)
            return branch(tokens)


def _attend(block: Any, x: Tensor) -> Any:
    return block.attend(x)


def _feed(block: Any, x: Tensor) -> Any:
    return block.feed(x)


def _try(device: torch.device) -> None:
    """Compile something small, forward and backward."""
    with torch.enable_grad():
        x = torch.ones(4, 4, device=device, requires_grad=True)
        torch.autograd.backward(torch.compile(_small)(x))


def _small(x: Tensor) -> Tensor:
    return torch.nn.functional.gelu(x @ x).sum()


def _reason(error: BaseException) -> str:
    """An error of torch.compile, which may be pages, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}"[:200].rstrip(".:")
