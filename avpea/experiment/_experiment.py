"""The class `Experiment`, and parsing of single sections and of options on the command line."""

import dataclasses
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
    """Complete configuration of a run, except the folder that it is written to.

    Attributes:
        title: Description of the experiment in one line.
        task: What the model predicts about a video.
        published: Results that the paper reports for this experiment, by name; may be empty.
        data: Data set reader, and where the videos are.
        audio: How sound becomes an image.
        backbone: The frozen image network.
        encoder: How the two streams become tokens.
        adapter: Trained layers beside the frozen ones; None if there are none, or if the encoder takes none.
        head: The trained module after the encoder.
        train: Optimisation and model selection.
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
        """Build an experiment from nested plain values.

        Args:
            values: Sections and their options as in a recipe, without `base`.
            source: File that the values came from, if any; named in error messages.

        Raises:
            ExperimentError: An unknown option, a wrong type, an invalid value, or extensions that do not fit together.
        """
        try:
            made = cls(**parsed(spelled(values)))
            require_fitting(made)
        except ExperimentError as error:
            raise ExperimentError(f"{source}: {error}" if source else str(error)) from None
        return made

    def to_dict(self) -> Values:
        """Nested plain values for `from_dict`."""
        values: Values = plain(self)
        return {key: value for key, value in values.items() if value is not None}

    def to_yaml(self) -> str:
        """The experiment as YAML, every option written out."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def override(self, changes: Mapping[str, Any]) -> "Experiment":
        """A copy with options changed by their dotted names, for example `{"train.seed": 1}`.

        If another extension is named, options that both share keep their values, and the others get their defaults.

        Raises:
            ExperimentError: An unknown option, an invalid value, or extensions that do not fit together.
        """
        nested: Values = {}
        for dotted, value in changes.items():
            _put(nested, dotted.split("."), value, dotted)
        return Experiment.from_dict(merged(self.to_dict(), nested))

    def rebuilt(self) -> "Experiment":
        """The experiment for rebuilding a trained model, without files that only training starts from."""
        rebuilt: Values = {name: options.rebuilt() for name, options in self._sections()}
        return dataclasses.replace(self, **rebuilt)

    def locations(self) -> set[str]:
        """Dotted names of the options that say where something is."""
        return {f"{name}.{one}" for name, options in self._sections() for one in options.locations}

    def outside(self) -> dict[str, str]:
        """The files, folders and hub names that loading a trained model would open, by the option that names each."""
        return {
            f"{name}.{one}": place for name, options in self._sections() for one, place in options.outside().items()
        }

    def harmless(self) -> set[str]:
        """Dotted names of options that may change when an interrupted run is resumed."""
        more = {f"{name}.{one}" for name, options in self._sections() for one in options.harmless}
        return {"title", "published"} | self.locations() | more

    def _sections(self) -> Iterator[tuple[str, Options]]:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Options):
                yield item.name, value


def _put(below: Values, path: Sequence[str], value: Any, dotted: str) -> None:
    """Put an option into nested values, beside what is there of its section; a section's values are copied.

    Raises:
        ExperimentError: It is there already, or what is there is no section.
    """
    name, *rest = path
    if isinstance(value, Mapping) and not rest and value:
        below.setdefault(name, {})
        for key, one in value.items():
            _put_into(below, name, [str(key)], one, f"{dotted}.{key}")
    elif rest:
        _put_into(below, name, rest, value, dotted)
    elif name in below:
        raise ExperimentError(f"'{dotted}' is given twice; leave one out.")
    else:
        below[name] = value


def _put_into(below: Values, name: str, path: Sequence[str], value: Any, dotted: str) -> None:
    inside = below.setdefault(name, {})
    if not isinstance(inside, dict):
        raise ExperimentError(f"'{dotted}' is given beside '{name}', which is {inside!r:.60}; leave one out.")
    _put(inside, path, value, dotted)


def parse_section(section: str, **values: Any) -> Any:
    """Parse the options of a single section, for example `parse_section("adapter", name="lora", rank=4)`.

    Raises:
        ExperimentError: As `Experiment.from_dict`.
    """
    cls = class_of(section, values)
    refuse_unknown(section, cls, values, {section: cls})
    return parse(cls, values, section)


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """Parse `--train.epochs 3 --data.root=DIR` as `{"train.epochs": "3", "data.root": "DIR"}`.

    The values are `Word`s, which `Experiment.override` converts to the type of the option.

    Raises:
        ExperimentError: A word is not an option, or an option has no value.
    """
    changes: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            raise ExperimentError(f"'{word}' is not an option; options of the recipe look like --train.epochs 3.")
        if not equals:
            if not rest or (rest[0].startswith("--") and "." in rest[0]):
                raise ExperimentError(f"--{name} needs a value, for example --{name} VALUE.")
            value = rest.pop(0)
        changes[name] = Word(value)
    return changes
