"""timm without what takes longer to import than timm itself (`python -m bench startup`).

torchvision and timm import `torch._dynamo` for two functions that no backbone calls. While timm is imported, a stand-in
has its place; whatever else is asked of it loads the compiler after all, and so does its first use afterwards. On the
meta device torch needs the compiler's parts to fill a tensor with random numbers, although it has no values.

timm imports the hub's client, too, which brings HTTP libraries. It comes when timm first asks the hub for something.
"""

import functools
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from avpea.threads import WATCHING

__all__ = ["WithoutValues"]

_COMPILER = ("torch._dynamo", "torch._dynamo.utils")
_CLIENT = _HUB, _HUB_ERRORS = ("huggingface_hub", "huggingface_hub.utils")
_ASKED, _RAISED = ("HfApi", "hf_hub_download", "model_info"), ("EntryNotFoundError", "RepositoryNotFoundError")


class _Later(ModuleType):
    """One of some modules that are loaded when anything is looked up that their stand-ins lack."""

    def __init__(self, name: str, together: tuple[str, ...]) -> None:
        super().__init__(name)
        self.__path__: list[str] = []  # so that it counts as a package
        self._together = together

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of the import system and of `inspect`
            raise AttributeError(name)
        _withdraw(self._together)
        return getattr(importlib.import_module(self.__name__), name)


class _Compiler(_Later):
    """The compiler, of which timm and torchvision import these two functions."""

    def is_compile_supported(self, device_type: str) -> bool:
        """As the compiler's."""
        return bool(importlib.import_module(_COMPILER[1]).is_compile_supported(device_type))

    def disable(self, function: Callable[..., Any], *options: Any, **named: Any) -> Callable[..., Any]:
        """As the compiler's, which is asked when the function is called first."""
        known: list[Callable[..., Any]] = []

        @functools.wraps(function)
        def disabled(*arguments: Any, **keywords: Any) -> Any:
            if not known:
                known.append(importlib.import_module(_COMPILER[0]).disable(function, *options, **named))
            return known[0](*arguments, **keywords)

        return disabled


def _withdraw(names: tuple[str, ...]) -> None:
    for name in names:
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


def _hub_later() -> dict[str, ModuleType]:
    """Stand-ins for what timm imports of the hub's client, which get it when one of them is called."""
    spec = importlib.util.find_spec(_HUB)
    if spec is None:
        return {}
    client, errors = _Later(_HUB, _CLIENT), _Later(_HUB_ERRORS, _CLIENT)
    client.__spec__, client.__path__ = spec, list(spec.submodule_search_locations or ())  # other submodules are real

    def later(name: str) -> Callable[..., Any]:
        def asked(*options: Any, **named: Any) -> Any:
            real, raised = importlib.import_module(_HUB), importlib.import_module(_HUB_ERRORS)
            # timm catches the hub's errors by these names, and looks them up when one is raised.
            user = importlib.import_module("timm.models._hub")
            for each in _RAISED:
                setattr(user, each, getattr(raised, each))
            return getattr(real, name)(*options, **named)

        return asked

    for each in _ASKED:
        setattr(client, each, later(each))
    for each in _RAISED:
        setattr(errors, each, type(each, (Exception,), {}))  # nobody raises it
    return {_HUB: client, _HUB_ERRORS: errors}


def _import_timm() -> None:
    if not any(name in sys.modules for name in ("timm", "torchvision", *_COMPILER)):
        sys.modules.update({name: _Compiler(name, _COMPILER) for name in _COMPILER})
    # No thread that may import the hub's client must meet the stand-ins; the one that waits for a decoder does not.
    others = [one for one in threading.enumerate() if one is not threading.current_thread() and one.name != WATCHING]
    hub = {} if others or any(name in sys.modules for name in ("timm", _HUB)) else _hub_later()
    sys.modules.update(hub)
    # A log of timm's scripts imports it where it is installed, which takes a second and makes a temporary folder.
    kept = {"wandb": sys.modules["wandb"]} if "wandb" in sys.modules else {}
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("timm")
    finally:
        del sys.modules["wandb"]
        sys.modules.update(kept)
        _withdraw((*_CLIENT, *_COMPILER))


class WithoutValues(TorchFunctionMode):
    """A context in which what only sets the values of a tensor on the meta device is left out."""

    _SETTERS = frozenset({"uniform_", "normal_", "erfinv_", "mul_", "add_", "sub_", "div_", "clamp_", "fill_", "zero_"})

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See torch."""
        named = kwargs or {}
        sets = getattr(function, "__module__", "") == "torch.nn.init" or function.__name__ in self._SETTERS
        tensor = args[0] if args else named.get("tensor")
        if sets and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return function(*args, **named)


_import_timm()
