"""The experiment itself, and options that are typed on the command line."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from avpea.errors import ExperimentError
from avpea.experiment._fitting import require_fitting
from avpea.experiment._sections import Values, class_of, merged, parsed, spelled
from avpea.experiment._unknown import refuse_unknown
from avpea.options import Options, Word, parse, plain
from avpea.sections import (
    AdapterOptions,
    AudioOptions,
    BackboneOptions,
    EncoderOptions,
    HeadOptions,
    ReaderOptions,
    TaskOptions,
    TrainOptions,
)

__all__ = ["Experiment", "parse_overrides", "parse_section"]


@dataclass(frozen=True)
class Experiment:
    """All that makes a run, but for the folder that it is written to.

    Attributes:
        title: What this is, in a line.
        task: What is asked about the videos.
        published: Figures of the paper for this row, by name; empty where there are none.
        data: Data set reader, and where the videos are.
        audio: How sound becomes an image.
        backbone: The frozen image network.
        encoder: How the two streams become tokens.
        adapter: What trains beside the frozen layers; None where the encoder has no place for it, or gets none.
        head: What answers.
        train: Optimisation and selection.
    """

    title: str
    task: TaskOptions
    published: dict[str, float]
    data: ReaderOptions
    audio: AudioOptions
    backbone: BackboneOptions
    encoder: EncoderOptions
    adapter: AdapterOptions | None
    head: HeadOptions
    train: TrainOptions

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "") -> "Experiment":
        """Build from nested plain values, refusing what no extension that they name has, and what does not fit.

        Args:
            values: As in a recipe, without `base`.
            source: Named in errors: the file that the values came from, if any.

        Raises:
            ExperimentError: An unknown key, a wrong type, an impossible value, or extensions that do not fit together.
        """
        try:
            made = cls(**parsed(spelled(values)))
            require_fitting(made)
        except ExperimentError as error:
            raise ExperimentError(f"{source}: {error}" if source else str(error)) from None
        return made

    def to_dict(self) -> Values:
        """Plain nested values, as `from_dict` takes them."""
        values: Values = plain(self)
        return {key: value for key, value in values.items() if value is not None}

    def to_yaml(self) -> str:
        """The experiment as YAML, every option written out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def override(self, changes: Mapping[str, Any]) -> "Experiment":
        """A copy with options changed by their dotted names, for example `{"train.seed": 1}`.

        Naming another extension starts its own options from their defaults; options that both share stay.

        Raises:
            ExperimentError: An unknown name, an impossible value, or extensions that do not fit together.
        """
        nested: Values = {}
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            functools.reduce(lambda node, part: node.setdefault(part, {}), parents, nested)[last] = value
        return Experiment.from_dict(merged(self.to_dict(), nested))

    def rebuilt(self) -> "Experiment":
        """The experiment as a checkpoint is rebuilt by it: without files that only training starts from."""
        rebuilt: Values = {name: options.rebuilt() for name, options in self._sections()}
        return dataclasses.replace(self, **rebuilt)

    def locations(self) -> set[str]:
        """Dotted names of the options that say where something is."""
        return {f"{name}.{one}" for name, options in self._sections() for one in options.locations}

    def harmless(self) -> set[str]:
        """Dotted names of options that may change between the halves of an interrupted run without changing it."""
        more = {f"{name}.{one}" for name, options in self._sections() for one in options.harmless}
        return {"title", "published"} | self.locations() | more

    def _sections(self) -> Iterator[tuple[str, Options]]:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Options):
                yield item.name, value


def parse_section(section: str, **values: Any) -> Any:
    """The options of one section by themselves, for example `parse_section("adapter", name="lora", rank=4)`.

    Raises:
        ExperimentError: As `Experiment.from_dict`.
    """
    cls = class_of(section, values)
    refuse_unknown(section, cls, values, {section: cls})
    return parse(cls, values, section)


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Read `--train.epochs 3 --data.root=DIR` as `{"train.epochs": "3", "data.root": "DIR"}`.

    The values are words as they were typed, which `Experiment.override` reads by the type of the option.

    Raises:
        ExperimentError: A word is no option, or an option has no value.
    """
    changes: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise ExperimentError(f"'{word}' is no option; options of the recipe look like --train.epochs 3.")
        if not equals:
            if not rest or (rest[0].startswith("--") and "." in rest[0]):
                raise ExperimentError(f"--{name} needs a value, for example --{name} VALUE.")
            value = rest.pop(0)
        changes[name] = Word(value)
    return changes
