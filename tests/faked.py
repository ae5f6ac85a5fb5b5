"""A device that is not there: tensors that say they are on CUDA or MPS, and compute on the CPU.

Every operation is refused whose tensors are on different devices, by the rules of torch's FakeTensorMode, with which
`tests/test_placement.py` compares them. FakeTensorMode itself would not do: its tensors have no values, so that nothing
runs that looks at one (is this loss finite, has this text ended), and with a torch that was built for CUDA its backward
pass needs a card.
"""

import functools
import pkgutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
# What may have a device of its own: copies, and indices, which may be on the CPU.
_COPIES = (aten._to_copy, aten.copy_, aten.copy)
_INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
_MADE = (torch.tensor, torch.as_tensor)
_META = torch.device("meta")  # what torch's own code sees instead of the faked device


class Misplaced(RuntimeError):
    """An operation on tensors of different devices, or of a type that the device does not have."""


class Placed(Tensor):
    """A tensor on a faked device, with its values in `held`."""

    held: Tensor
    placed_on: torch.device

    @staticmethod
    def __new__(cls, held: Tensor, where: torch.device) -> "Placed":
        made: Any = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=_META,
        )  # fmt: skip
        made.held, made.placed_on = held, where
        found: Placed = made
        return found

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Not `meta`, which torch's own code sees."""
        return self.placed_on

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """As the device says."""
        return self.placed_on.type == "cuda"

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        """It has values."""
        return False

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Placed({self.held}, {self.placed_on})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {}, None)


class _Placing(TorchDispatchMode):
    """Puts what is made on, or moved to, the faked device there."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.device)


class _Naming(TorchFunctionMode):
    """Writes `meta` for the faked device where torch would look for a driver."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.tolist:  # which torch refuses for its subclasses
            return func(_held(args[0]))
        if func is torch.device or getattr(func, "__self__", None) is torch.device:
            return func(*args, **(kwargs or {}))
        kwargs = dict(kwargs or {})
        args = tuple(map(self._renamed, args))
        if "device" in kwargs:
            kwargs["device"] = self._renamed(kwargs["device"])
        if func is Tensor.new_tensor and isinstance(args[0], Placed):
            return torch.tensor(*args[1:], **{"dtype": args[0].dtype, **kwargs}).to(_META)
        if func in _MADE and kwargs.get("device") == _META:
            return func(*args, **{**kwargs, "device": "cpu"}).to(_META)
        return func(*args, **kwargs)

    def _renamed(self, value: Any) -> Any:
        if isinstance(value, torch.device) and value.type == self.device.type:
            return _META
        return _META if isinstance(value, str) and value.partition(":")[0] == self.device.type else value


def _run(func: Any, args: Any, kwargs: dict[str, Any], faked: torch.device | None) -> Any:
    """An operation, computed on the CPU after its devices were checked."""
    tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
    own = next((one.placed_on for one in tensors if isinstance(one, Placed)), None)
    packet = func.overloadpacket
    if own is not None and packet not in _COPIES:
        _require_one_device(packet, args, tensors, func)
    to = kwargs.get("device")
    here = {**kwargs, "device": torch.device("cpu")} if to is not None else kwargs
    if to is not None:
        own = (faked or own) if to == _META else None
    elif packet in _COPIES and tensors:
        own = getattr(tensors[0], "placed_on", None)
    made = {id(one.held): one for one in tensors if isinstance(one, Placed)}
    out = func(*tree_map(_held, args), **tree_map(_held, here))

    def placed(value: Any) -> Any:
        if own is None or not isinstance(value, Tensor):
            return value
        if own.type == "mps" and value.dtype == torch.float64:
            raise Misplaced(f"{func}: MPS has no float64")
        again = made.get(id(value))  # an operation in place returns its argument
        if again is not None:
            return again
        with torch.inference_mode(False):  # torch cannot make a view of a subclass that was made in inference mode
            return Placed(value, own)

    return tree_map(placed, out)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Placed) else value


def _require_one_device(packet: Any, args: Any, tensors: list[Tensor], func: Any) -> None:
    """A number (a tensor without dimensions) may be on the CPU, as may indices of what is on the device."""
    free = {id(one) for one in tree_leaves(args[1])} if packet in _INDEXED and isinstance(args[0], Placed) else set()
    for one in tensors:
        if not isinstance(one, Placed) and one.dim() and id(one) not in free:
            raise Misplaced(f"{func} gets a tensor of shape {tuple(one.shape)} on the CPU beside one on the device")


@contextmanager
def faked(kind: str = "cuda") -> Iterator[torch.device]:
    """A device of a kind, `cuda` or `mps`, that torch says is there."""
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    random = torch.Generator()
    there: dict[str, Any] = {
        "torch.cuda.is_available": lambda: kind == "cuda", "torch.backends.mps.is_available": lambda: kind == "mps",
        "torch.cuda.device_count": lambda: int(kind == "cuda"), "torch.cuda.get_device_name": lambda _=0: "Faked",
        "torch.cuda.get_device_capability": lambda _=0: (7, 5),
        "torch.cuda.get_rng_state": lambda _=0: random.get_state(),
        "torch.cuda.set_rng_state": lambda state, _=0: random.set_state(state),
        "torch.cuda.manual_seed_all": lambda _: None, "torch.backends.cudnn.is_acceptable": lambda _: False,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, function in there.items():
            # torch._dynamo, when it is imported, looks for what is wrapped.
            original: Any = pkgutil.resolve_name(name)
            patch.setattr(name, functools.wraps(original)(function))
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
            patch.setattr(torch.optim.Optimizer, name, lambda _: None, raising=False)  # asks the driver
        patch.setattr(Tensor, "pin_memory", lambda self, *_: self, raising=False)
        patch.setattr(Tensor, "is_pinned", lambda *_: False, raising=False)
        with _Placing(device), _Naming(device):
            yield device
