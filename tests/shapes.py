"""Shapes are checked while the tests run, at each function of avpea that says any: imported before them.

jaxtyping's hook decorates each function and dataclass of the modules that say shapes. Here that is `checked`, in the
place of jaxtyping's own decorator, which binds the arguments of each call, checks them twice, and does so where there
are no shapes, too: a sixth of the time of a tiny training. mypy knows the types there. Shapes that a function has taken
and answered with before are not checked again, as they would pass again: a sixth of the rest.
"""

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import jaxtyping
import numpy as np
import torch

# beartype checks methods one by one, where `Self` has no meaning.
CHECKER = (
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True,violation_type=__import__('jaxtyping')."
    "TypeCheckError,hint_overrides=beartype.FrozenDict({beartype.typing.Self:beartype.typing.Any})))"
)
_PACKAGE = Path(__file__).parents[1] / "avpea"
_jaxtyped = jaxtyping.jaxtyped
_SCOPE = _jaxtyped("context")
_answer = threading.local()


def with_shapes() -> list[str]:
    """Names of the modules that say shapes."""
    found = (path for path in _PACKAGE.rglob("*.py") if "jaxtyping" in path.read_text(encoding="utf-8"))
    parts = (path.relative_to(_PACKAGE.parent).with_suffix("").parts for path in found)
    return sorted(".".join(one[:-1] if one[-1] == "__init__" else one) for one in parts)


def shapes_in(hint: Any) -> Iterator[str]:
    """The axes of each shape that a type says, as jaxtyping's strings."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        yield hint.dim_str
    for part in get_args(hint):
        yield from shapes_in(part)


def checked(typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decorator of functions and dataclasses: their shapes are checked at each call, if they say any."""
    return functools.partial(_checked, typechecker)


def _checked(typechecker: Callable[[Any], Any], made: Any) -> Any:
    if isinstance(made, type):
        if "__dataclass_fields__" in vars(made):
            made.__init__ = _checked(typechecker, made.__init__)  # type: ignore[misc]
        return made
    axes = [axes for hint in made.__annotations__.values() for axes in shapes_in(hint)]
    if not axes:
        return made
    if any("{" in one for one in axes):  # sizes are named by arguments, which jaxtyping's own decorator looks up
        return _jaxtyped(made, typechecker=typechecker)
    inside = typechecker(made)
    passed: set[Any] = set()

    @functools.wraps(made)
    def answered(*_: Any, **__: Any) -> Any:
        return _answer.held

    @functools.wraps(made)
    def within(*args: Any, **named: Any) -> Any:
        if jaxtyping.config.jaxtyping_disable:
            return made(*args, **named)
        given = form((args, named))
        if given is None or given not in passed:
            with _SCOPE:
                answer = inside(*args, **named)
            found = form(answer)
        else:
            answer = made(*args, **named)
            found = form(answer)
            if found is None or (given, found) not in passed:
                _answer.held = answer
                with _SCOPE:
                    typechecker(answered)(*args, **named)
        if given is not None and found is not None:
            passed.update((given, (given, found)))
        return answer

    return within


def form(value: Any) -> Any:
    """All that the check of a value looks at, to be compared; None where that would take longer than the check."""
    kind = type(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        return kind, value.dtype, value.shape
    if isinstance(value, list | tuple | dict):
        if len(value) > 20:
            return None
        parts = [form(part) for part in (value.values() if isinstance(value, dict) else value)]
        names = tuple(value) if isinstance(value, dict) else ()
        return None if None in parts else (kind, names, *parts)
    return (kind, value) if value is None or kind in (bool, str) else kind


assert not sys.modules.keys() & set(with_shapes()), "avpea is imported already, and its types are not checked"
jaxtyping.jaxtyped = checked  # type: ignore[assignment]
jaxtyping.install_import_hook(with_shapes(), CHECKER)
