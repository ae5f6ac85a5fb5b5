"""An experiment: one typed, frozen configuration naming data, inputs, backbone, adapter, head and training.

A recipe is an experiment in a YAML file under `avpea/recipes/`; `base:` names a recipe that it starts from,
so that a file holds only what is its own. Importing this module imports neither torch nor any model.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from avpea.configs import (
    AdapterConfig,
    AudioConfig,
    BackboneConfig,
    DataConfig,
    EncoderConfig,
    HeadConfig,
    TextConfig,
    TrainConfig,
)
from avpea.errors import ExperimentError
from avpea.registry import did_you_mean

__all__ = [
    "Experiment",
    "load_recipe",
    "option_names",
    "parse_overrides",
    "recipe_names",
]

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Experiment:
    """All that makes a run: `avpea.train(experiment)` needs nothing else.

    Attributes:
        title: What this is, in a line.
        task: Task: a file name in `avpea/tasks/`.
        published: Figures of the paper for this row, by name; empty where there are none.
    """

    title: str = ""
    task: str = "avel"
    published: dict[str, float] = field(default_factory=dict)
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    text: TextConfig = field(default_factory=TextConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "") -> "Experiment":
        """Build from nested plain values, refusing unknown keys and wrong types.

        Args:
            values: As in a recipe, without `base`.
            source: Named in errors: the file that the values came from, if any.

        Raises:
            ExperimentError: An unknown key, a wrong type or an impossible value.
        """
        from jsonargparse import ArgumentError, ArgumentParser

        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, fail_untyped=True)
        _refuse_unknown_keys(values, cls, source)
        try:
            config = parser.parse_object(_plain(dict(values)))
            return cls(**vars(parser.instantiate(config)))
        except ExperimentError as error:
            raise ExperimentError(f"{_where(source)}{error}") from None
        except (ArgumentError, TypeError) as error:
            raise ExperimentError(f"{_where(source)}{_in_plain_words(str(error))}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values, as `from_dict` takes them."""
        values = _plain(dataclasses.asdict(self))
        assert isinstance(values, dict)
        return values

    def to_yaml(self) -> str:
        """The experiment as YAML, every field written out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def override(self, changes: Mapping[str, Any]) -> "Experiment":
        """A copy with dotted names changed, for example `{"train.seed": 1}`.

        Raises:
            ExperimentError: An unknown name or an impossible value.
        """
        values = self.to_dict()
        for dotted, value in changes.items():
            _option_type(dotted)
            *parents, last = dotted.split(".")
            node = functools.reduce(dict.__getitem__, parents, values)
            node[last] = value
        return Experiment.from_dict(values, "")


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Read `--train.epochs 3 --data.root=DIR` as `{"train.epochs": 3, "data.root": "DIR"}`.

    Raises:
        ExperimentError: A word is no option, an option has no value, or no option has that name.
    """
    changes: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise ExperimentError(f"'{word}' is no option; options of the recipe look like --train.epochs 3.")
        kind = _option_type(name)
        if not equals:
            if not rest or (rest[0].startswith("--") and "." in rest[0]):
                raise ExperimentError(f"--{name} needs a value, for example --{name} VALUE.")
            value = rest.pop(0)
        try:
            changes[name] = value if kind is str else yaml.safe_load(value)
        except yaml.YAMLError:
            raise ExperimentError(f"--{name} {value!r} cannot be read.") from None
    return changes


def _option_type(dotted: str) -> Any:
    cls: Any = Experiment
    for part in dotted.split("."):
        fields = {f.name: f.type for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
        if part not in fields:
            beside = [name for name in option_names() if name.startswith(f"{dotted.partition('.')[0]}.")]
            raise ExperimentError(f"No option is called '--{dotted}'.{did_you_mean(dotted, beside or option_names())}")
        cls = fields[part]
    return cls


def option_names(cls: Any = None, prefix: str = "") -> list[str]:
    """Dotted names of all options, for example `train.epochs`."""
    names = []
    for f in dataclasses.fields(cls or Experiment):
        nested = isinstance(f.type, type) and dataclasses.is_dataclass(f.type)
        names += option_names(f.type, f"{prefix}{f.name}.") if nested else [f"{prefix}{f.name}"]
    return names


def recipe_names() -> list[str]:
    """Names of the recipes that come with avpea, for example `paper/avel-vit-b16`."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml"))


def load_recipe(name_or_path: str | Path) -> Experiment:
    """Read a recipe by name (`mini/avel`) or from a YAML file.

    Raises:
        ExperimentError: No such recipe, or what it holds is wrong.
    """
    return Experiment.from_dict(_resolved(str(name_or_path)), str(name_or_path))


@functools.cache
def _recipe_path(name: str) -> Path:
    if name in recipe_names():
        return RECIPES / f"{name}.yaml"
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ExperimentError(
                f"There is no recipe file '{name}'. `avpea recipes` lists the names that come with avpea."
            )
        return path
    raise ExperimentError(f"No recipe is called '{name}'.{did_you_mean(name, recipe_names())}")


def _resolved(name: str, trail: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in trail:
        raise ExperimentError(f"Recipe '{name}' is its own base: {' -> '.join((*trail, name))}.")
    path = _recipe_path(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected names and values, got {type(values).__name__}.")
    base = values.pop("base", None)
    return values if base is None else _merged(_resolved(str(base), (*trail, name)), values)


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # `published` belongs to one row of one table and is never inherited piecewise.
        nested = isinstance(old, dict) and isinstance(value, dict) and key != "published"
        merged[key] = _merged(old, value) if nested else value  # type: ignore[arg-type]
    return merged


def _where(source: str) -> str:
    return f"{source}: " if source else ""


def _in_plain_words(message: str) -> str:
    """The parser's complaint without its vocabulary of Python types."""
    text = " ".join(message.split())
    found = re.search(r'Parser key "([^"]+)": (?:.*?)Expected an? (.+?)\.? Got value: (.*)', text)
    if not found:
        return text
    name, expected, value = found.groups()
    expected = re.sub(r"<class '(\w+)'>", r"\1", expected).replace("typing.", "")
    expected = re.sub(r"Literal\[(.*)\]", r"one of \1", expected)
    return f"{name} is {value!r}; expected {expected}."


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _refuse_unknown_keys(values: Mapping[str, Any], cls: type, source: str, prefix: str = "") -> None:
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key, value in values.items():
        if key not in fields:
            raise ExperimentError(
                f"{_where(source)}no option is called '{prefix}{key}'.{did_you_mean(str(key), fields)}"
            )
        nested = fields[key].type
        if isinstance(nested, type) and dataclasses.is_dataclass(nested):
            if not isinstance(value, Mapping):
                raise ExperimentError(f"{_where(source)}'{prefix}{key}' takes names and values, got {value!r}.")
            _refuse_unknown_keys(value, nested, source, f"{prefix}{key}.")
        elif value is None:
            raise ExperimentError(f"{_where(source)}{prefix}{key} is empty; give it a value or leave it out.")
