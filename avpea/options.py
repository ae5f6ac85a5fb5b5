"""Options: what a recipe can set on an extension. Each kind of extension has a base class, each extension its own.

    @dataclass(frozen=True)
    class LoRAOptions(AdapterOptions):
        rank: int = 8

A section of a recipe is parsed by the options class of the extension that it names. Unknown names and values that do
not fit are refused at that point, before anything runs.
"""

import dataclasses
import inspect
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import ConfigDict, TypeAdapter, ValidationError

from avpea.errors import AvpeaError, ExperimentError
from avpea.parsing import BIGGEST, parse_yaml

__all__ = ["Options", "Word", "countable", "declared", "option_names", "parse", "plain", "require", "require_choice"]

O = TypeVar("O", bound="Options")
_LARGE = 2**16  # smaller numbers are not to blame for a tensor that cannot be


@dataclass(frozen=True)
class Options:
    """Base of all options: a frozen dataclass with one field for each option, and its default.

    Checks beyond types belong in `__post_init__` and raise `ExperimentError`.

    Attributes:
        locations: Names of options that say where a file or folder is. What lies there decides, not the place.
        harmless: Names of other options that may change when an interrupted run is resumed.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)
    locations: ClassVar[tuple[str, ...]] = ()
    harmless: ClassVar[tuple[str, ...]] = ()

    def outside(self) -> dict[str, str]:
        """The files, folders and hub names that loading a trained model would open, by the option that names each.

        By default all `locations` that are no keyword. What comes with an installed package is none of them, nor are
        the weights that `pretrained` stands for.
        """
        places = {name: getattr(self, name) for name in self.locations}
        found = {name: place for name, place in places.items() if place not in ("", "pretrained", "random")}
        for field in dataclasses.fields(self):
            if isinstance(nested := getattr(self, field.name), Options):
                found |= {f"{field.name}.{name}": place for name, place in nested.outside().items()}
        return found

    def rebuilt(self: O) -> O:
        """The options for rebuilding a trained model, without files that only training starts from."""
        return self


class Word(str):
    """A value as typed on the command line; how it is read depends on the type of the option."""


def require(condition: bool, message: str) -> None:
    """Refuse a value unless a condition holds.

    Raises:
        ExperimentError: The condition is false.
    """
    if not condition:
        raise ExperimentError(message)


def require_choice(name: str, value: Any, choices: Any, error: Callable[[str], AvpeaError] = ExperimentError) -> None:
    """Refuse a value that is none of a closed list, which a type hint alone does not.

    Args:
        name: Name of the argument.
        value: Its value.
        choices: The `Literal` that lists them.
        error: Makes the error of its sentence.

    Raises:
        ExperimentError: It is none of them, unless `error` makes another.
    """
    known = [one for one in typing.get_args(choices) if type(one) is type(value) and one == value]
    if not known:
        *others, last = map(repr, typing.get_args(choices))
        raise error(f"{name} is {_shown(value)}; expected {', '.join(others)}{' or ' * bool(others)}{last}.")


def declared(extension: Any, base: type[O], skip: tuple[str, ...] = ()) -> type[O]:
    """The options class of an extension: its `Options`, or one made of its constructor's keyword-only arguments.

    Args:
        extension: The extension's class.
        base: Options that all extensions of its kind have.
        skip: Keyword-only arguments that are not options.
    """
    own: type[O] | None = getattr(extension, "Options", None)
    if own is not None:
        return own
    made: type[O] = _from_constructor(extension, cast("Any", base), skip)
    return made


@cache
def _from_constructor(extension: Any, base: Any, skip: tuple[str, ...]) -> Any:
    try:
        hints = typing.get_type_hints(extension.__init__)
    except NameError:  # a name that is only imported for type checkers: then any value is taken
        hints = {}
    fields = []
    for argument in inspect.signature(extension.__init__).parameters.values():
        if argument.kind is argument.KEYWORD_ONLY and argument.name not in skip:
            needed = argument.default is argument.empty
            default = dataclasses.field(kw_only=True) if needed else dataclasses.field(default=argument.default)
            fields.append((argument.name, hints.get(argument.name, Any), default))
    return dataclasses.make_dataclass(f"{extension.__name__}Options", fields, bases=(base,), frozen=True)


def option_names(cls: type[Options], prefix: str = "") -> list[str]:
    """Names of a class's options, with dotted names for nested ones."""
    names: list[str] = []
    for field in dataclasses.fields(cls):
        nested = _nested(field.type)
        names += option_names(nested, f"{prefix}{field.name}.") if nested else [f"{prefix}{field.name}"]
    return names


def parse(cls: type[O], values: Mapping[str, Any], section: str) -> O:
    """Options from plain values; options that are left out keep their defaults.

    Args:
        cls: The options class.
        values: Values by option name, nested like the options.
        section: Name of the section in error messages, such as `adapter`.

    Raises:
        ExperimentError: Values have a wrong type or cannot work; the message names all of them. Unknown names are for
            the caller to refuse first, since it knows which other section has them.
    """
    try:
        made: O = _adapter(cast("Any", cls)).validate_python(_read_words(cls, values, section))
    except ValidationError as error:
        raise ExperimentError(" ".join(_sentence(section, one) for one in error.errors())) from None
    for where, value in _numbers(made, section):  # no tensor holds them, and no loop ends at them
        if abs(value) >= BIGGEST:
            raise ExperimentError(f"{where} is {value:.6g}; expected a number below 2**63 (9.2e18).")
    return made


@contextmanager
def countable(options: Any) -> Iterator[None]:
    """Let a tensor whose bytes torch cannot count be a sentence with the option that asks for it.

    No limit on each option would do: products of several become sizes, and most are bounded by a width alone.

    Args:
        options: All options, as a dataclass of their sections.

    Raises:
        ExperimentError: There was such a tensor in the block.
    """
    try:
        yield
    except (RuntimeError, TypeError, OverflowError) as error:
        said = str(error)
        found = [one for one in _numbers(options) if one[1] >= _LARGE and _is_a_size(one[0])]
        if isinstance(error, AvpeaError) or "overflow" not in said.lower() or not found:
            raise
        where, value = max(found, key=lambda one: (str(one[1]) in said, one[1]))
        raise ExperimentError(
            f"{where} is {value:.6g}, which makes a tensor of more bytes than can be counted (2**63); choose a smaller "
            "number."
        ) from None


def _is_a_size(name: str) -> bool:
    """Whether an option can be a size of a tensor; of those of training few are."""
    return not name.startswith("train.") or name in ("train.batch_size", "train.segments")


def _numbers(value: Any, where: str = "") -> Iterator[tuple[str, int]]:
    """Whole numbers with the names of their options."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{where}.{field.name}" if where else field.name)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{where}.{key}")
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _numbers(item, where)
    elif isinstance(value, int):
        yield where, value


@cache
def _adapter(cls: Any) -> Any:
    return TypeAdapter(cls)


def plain(value: Any) -> Any:
    """Convert options, or part of them, to lists, dictionaries and scalars."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _nested(kind: Any) -> type[Options] | None:
    return kind if isinstance(kind, type) and issubclass(kind, Options) else None


def _read_words(cls: type[Options], values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """Values with `Word`s converted; what pydantic would accept too leniently is refused."""
    kinds = {field.name: field.type for field in dataclasses.fields(cls)}
    found = {}
    for name, value in values.items():
        kind, where = kinds.get(name), f"{section}.{name}"
        if value is None:
            raise ExperimentError(f"{where} is empty; give it a value or leave it out.")
        nested = _nested(kind)
        if nested is not None:
            if not isinstance(value, Mapping):
                raise ExperimentError(f"{where} is {_shown(value)}; expected names and values.")
            value = _read_words(nested, value, where)
        elif isinstance(value, os.PathLike):
            value = os.fspath(value)  # options are text; what is none, for an option of another kind, is refused below
        elif isinstance(value, Word):
            value = _read_word(kind, value, where)
        if isinstance(value, bool) and kind in (int, float):
            raise ExperimentError(f"{where} is {value}; expected a {'whole ' * (kind is int)}number.")
        found[name] = value
    return found


def _read_word(kind: Any, word: Word, where: str) -> Any:
    """Parse a word as YAML, unless the option takes text; a list may stand without its brackets."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if kind is str or (typing.get_origin(kind) is Literal and all(isinstance(x, str) for x in typing.get_args(kind))):
        return str(word)
    bare = typing.get_origin(kind) is tuple and not word.lstrip().startswith("[")
    try:
        return parse_yaml(f"[{word}]" if bare else word)
    except ExperimentError as error:
        raise ExperimentError(f"--{where} {_shown(str(word))} cannot be read: {error}") from None


_EXPECTED = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "dataclass": "names and values",
    "dict": "names and values",
}


def _sentence(section: str, error: Any) -> str:
    """One of pydantic's errors as a sentence: which option, what was given, what was expected."""
    kind, place = error["type"], ".".join(map(str, (section, *error["loc"])))
    if kind == "missing":
        return f"{place} is missing, and has no default; give it a value."
    if kind == "value_error":  # from a check in `__post_init__`: already a sentence
        return str(error["ctx"]["error"])
    if kind == "literal_error":
        expected = f"one of {error['ctx']['expected']}"
    else:
        expected = _EXPECTED.get(kind) or _EXPECTED.get(kind.partition("_")[0]) or error["msg"]
    return f"{place} is {_shown(error['input'])}; expected {expected}."


def _shown(value: Any) -> str:
    """A value as it would be typed, shortened: somebody else's file may have a page there."""
    return shown if len(shown := repr(value)) <= 200 else f"{shown[:200]}…"
