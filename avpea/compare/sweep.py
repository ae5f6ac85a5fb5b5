"""A sweep: rows to compare, each a recipe with options, over backbones and seeds, in a YAML file.

title: "Which stream's adapters help"
seeds: [0, 1, 2]
reference: AV-PEA                 # the row that differences are taken against
rows:
  no adapter: mini/avel-none      # a recipe, or
  AV-PEA, d = D/4:                # a recipe with options
    recipe: mini/avel
    adapter: {reduction: 4}
    published: {accuracy: 75.65}  # beside it in the report
backbones:                        # optional: every row with each of them, as "AV-PEA, ViT-B/16"; of
  ViT-B/16: {name: vit_base_patch16_224.augreg_in21k}  # several, published names one: {ViT-B/16: {accuracy: 75.65}}
published_where: "the paper's Table 4 (AVE, ViT-B/16)"
quoted:                           # rows that are only quoted
  DPNet: {accuracy: 79.68, why: "no official code"}
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError, ExperimentError
from avpea.experiment import Experiment, load_recipe
from avpea.parsing import read_yaml
from avpea.registry import did_you_mean

__all__ = ["Cell", "Row", "Sweep", "load_sweep", "parse_sweep", "refusal", "sweep_names", "sweep_titles"]

SWEEPS = Path(__file__).parents[1] / "sweeps"
# Names of runs are parts of names of files, which have 255 bytes.
_LONGEST = 215
_SEED = "takes its seeds from `seeds:` or --seeds; leave train.seed out."
_KEYS = ("title", "seeds", "reference", "rows", "backbones", "published_where", "quoted")


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the comparison: an experiment, run with several seeds.

    Attributes:
        label: Label in the report.
        name: Name of its runs and results: the recipe's name and the options, as a file name.
        experiment: The experiment, with the recipe's seed.
        published: The paper's figures for the row, such as `accuracy` in percent; may be empty.
    """

    label: str
    name: str
    experiment: Experiment
    published: Mapping[str, float]


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    row: Row
    seed: int

    @property
    def name(self) -> str:
        """Name of the run, as `avpea train` names one of the same recipe and seed."""
        return f"{self.row.name}-seed{self.seed}"

    @property
    def experiment(self) -> Experiment:
        """The experiment with the seed."""
        return self.row.experiment.override({"train.seed": self.seed})


@dataclass(frozen=True)
class Sweep:
    """A grid of rows and seeds.

    Attributes:
        name: Name of the sweep, or its file.
        title: Title of the report.
        rows: The rows, in the report's order.
        seeds: The seeds of every row.
        reference: Label of the row from which differences are taken.
        published_where: The data that published figures were measured on.
        quoted: Published rows that are not run, by label, each with its figures and the reason `why`.
        part: Labels of the rows if only some were chosen with `only`, else empty.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    reference: str
    published_where: str = ""
    quoted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    part: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder of its report."""
        path = Path(self.name)
        name = path.stem if path.suffix in {".yaml", ".yml"} else self.name.replace("/", "-")
        return f"{name}--{self.part}" if self.part else name

    def cells(self) -> Iterator[Cell]:
        """All runs, seed by seed, so that an unfinished grid can already compare all rows."""
        return (Cell(row, seed) for seed in self.seeds for row in self.rows)

    def only(self, labels: Sequence[str]) -> "Sweep":
        """The sweep with the named rows and the reference row only; `part` and `folder` name them.

        Raises:
            ExperimentError: No such row.
        """
        known = [row.label for row in self.rows]
        for label in labels:
            if label not in known:
                raise ExperimentError(f"{self.name} has no row '{label}'.{did_you_mean(label, known)}")
        rows = tuple(row for row in self.rows if row.label in {*labels, self.reference})
        part = "-".join(file_name(row.label) for row in rows)
        if not part or _ways([file_name(label) for label in known], part) > 1:
            part += f"-{_digest(repr([row.label for row in rows]))}"
        return replace(self, rows=rows, part=_short(part))


def sweep_names() -> list[str]:
    """Names of the sweeps that come with avpea, for example `mini/table4`."""
    return sorted(path.relative_to(SWEEPS).with_suffix("").as_posix() for path in SWEEPS.rglob("*.yaml"))


def sweep_titles() -> dict[str, str]:
    """Titles of the sweeps that come with avpea, by name; no recipe is loaded."""
    return {name: str(_read(name).get("title", name)) for name in sweep_names()}


def load_sweep(
    name_or_path: str | Path, changes: Mapping[str, Any] | None = None, seeds: Sequence[int] | None = None
) -> Sweep:
    """Read a sweep by name or from a YAML file.

    Args:
        name_or_path: A name such as `mini/table4`, or a file.
        changes: Options to change in every row, by dotted name, such as `data.root`.
        seeds: Seeds to use instead of the sweep's.

    Raises:
        ExperimentError: There is no such sweep, or entries are wrong; names all of them.
    """
    sweep, wrong = parse_sweep(name_or_path, changes, seeds)
    if wrong:
        raise refusal(sweep.name, wrong)
    return sweep


def parse_sweep(
    name_or_path: str | Path, changes: Mapping[str, Any] | None = None, seeds: Sequence[int] | None = None
) -> tuple[Sweep, list[str]]:
    """Like `load_sweep`, but returns what could be read, and a sentence for each wrong entry.

    Raises:
        ExperimentError: There is no such sweep, or the file is no sweep.
    """
    name = str(name_or_path)
    values = _read(name)
    wrong = [f"{key!r} is no part of a sweep.{did_you_mean(str(key), _KEYS)}" for key in values if key not in _KEYS]
    given = values.get("seeds", (0, 1, 2)) if seeds is None else _plain(seeds)
    chosen = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else ()
    if not chosen or not all(type(seed) is int for seed in chosen) or len(set(chosen)) < len(chosen):
        wrong.append(f"seeds is {given!r}; expected different whole numbers, such as [0, 1, 2].")
        chosen = (0,)  # so that the rows are checked nevertheless
    changed = dict(changes or {})
    if changed.pop("train.seed", None) is not None:
        wrong.append(f"a sweep {_SEED}")
    rows = list(_rows(values, changed, wrong))
    wrong += [f"rows '{one}' and '{other}' are the same experiment; leave one out." for one, other in _alike(rows)]
    labels = [row.label for row in rows]
    reference = str(values.get("reference", next(iter(labels), "")))
    if reference not in labels and not any(f"'{reference}'" in line for line in wrong):
        wrong.append(f"reference is '{reference}', which is no row.{did_you_mean(reference, labels)}")
    quoted = values.get("quoted") or {}
    if not isinstance(quoted, Mapping) or not all(isinstance(figures, Mapping) for figures in quoted.values()):
        wrong.append(f"quoted is {quoted!r}; expected labels, each with names and values.")
        quoted = {}
    title, where = str(values.get("title", name)), str(values.get("published_where", ""))
    return Sweep(name, title, tuple(rows), chosen, reference, where, quoted), wrong


def _plain(seeds: Any) -> Any:
    """Seeds with Python's own numbers in place of NumPy's and torch's, of which an array makes a list."""
    if hasattr(seeds, "tolist"):
        return seeds.tolist()
    return [_plain(one) for one in seeds] if isinstance(seeds, list | tuple) else seeds


def refusal(name: str, wrong: Sequence[str]) -> ExperimentError:
    """The error for all wrong entries of a sweep, given as sentences."""
    what = "an entry that cannot" if len(wrong) == 1 else f"{len(wrong)} entries that cannot"
    return ExperimentError(f"{name} has {what} run; nothing was started:\n" + "\n".join(f"  {line}" for line in wrong))


def _read(name: str) -> dict[str, Any]:
    known = sweep_names()
    path = SWEEPS / f"{name}.yaml" if name in known else Path(name)
    if name not in known and path.suffix not in {".yaml", ".yml"}:
        raise ExperimentError(f"No sweep is called '{name}'.{did_you_mean(name, known)}")
    try:
        values = read_yaml(path)
    except OSError:
        raise ExperimentError(f"There is no sweep file '{name}'.{did_you_mean(name, known)}") from None
    if not isinstance(values, dict) or not isinstance(values.get("rows"), dict) or not values["rows"]:
        raise ExperimentError(f"{path}: expected a sweep with `rows:`, each a label with a recipe.")
    return values


def _rows(values: Mapping[str, Any], changes: dict[str, Any], wrong: list[str]) -> Iterator[Row]:
    backbones = values.get("backbones") or {"": {}}
    if not isinstance(backbones, Mapping):
        wrong.append(f"'backbones' takes labels with options of the backbone, got {backbones!r}.")
        return
    rows, failed = [], len(wrong)
    for label, entry in values["rows"].items():
        for backbone, options in backbones.items():
            title = f"{label}, {backbone}" if backbone else str(label)
            try:
                rows.append(_row(title, entry, options, backbone, list(backbones)))
            except AvpeaError as error:
                wrong.append(f"row '{title}': {error}")
    # `changes` holds the locations of files for all rows; a row without such an option does not get it.
    locations = {name for row in rows for name in row.experiment.locations()} if len(wrong) == failed else set()
    for row in _told_apart(rows):  # by their own settings, since `changes` say where the data is on this machine
        elsewhere = locations - row.experiment.locations()
        own = {name: value for name, value in changes.items() if name not in elsewhere}
        try:
            yield replace(row, experiment=row.experiment.override(own))
        except AvpeaError as error:
            wrong.append(f"row '{row.label}': {error}")


def _row(label: str, entry: Any, backbone: Any, called: str, backbones: Sequence[str]) -> Row:
    given = dict(entry) if isinstance(entry, Mapping) else {"recipe": entry}
    recipe, published = given.pop("recipe", None), given.pop("published", None)
    if not isinstance(recipe, str):
        raise ExperimentError(f"expected the name of a recipe, or `recipe:` with options, got {entry!r}.")
    if not isinstance(backbone, Mapping):
        raise ExperimentError(f"a backbone takes names and values, got {backbone!r}.")
    options = dict(_dotted(given)) | {f"backbone.{key}": value for key, value in backbone.items()}
    if "train.seed" in options:
        raise ExperimentError(f"a row {_SEED}")
    base = load_recipe(recipe)
    experiment = base.override(options)
    own = experiment.published if experiment.backbone == base.backbone else {}
    figures = _published(own, published, called, backbones)
    name = "--".join([recipe, *(f"{key}={value}" for key, value in options.items())])
    return Row(label, _short(file_name(name.removesuffix(".yaml"))), experiment, figures)


def _published(recipes: Mapping[str, float], given: Any, called: str, backbones: Sequence[str]) -> Mapping[str, float]:
    """What was published for a row with a backbone: of a recipe with its own, else what says with which of several."""
    if given is None:
        return recipes
    by_backbone = isinstance(given, Mapping) and any(isinstance(figures, Mapping) for figures in given.values())
    for name in given if by_backbone else ():
        if name not in backbones:
            raise ExperimentError(f"published has '{name}', which is no backbone.{did_you_mean(str(name), backbones)}")
    figures = given.get(called, {}) if by_backbone else given
    if not isinstance(figures, Mapping) or not all(type(value) in (int, float) for value in figures.values()):
        raise ExperimentError(f"published is {figures!r}; expected names and numbers, such as accuracy: 75.65.")
    if len(backbones) > 1 and figures and not by_backbone:
        first = backbones[0]
        raise ExperimentError(f"published is {given!r}; expected of which backbone, as in {{{first}: {given!r}}}.")
    return figures


def _ways(names: Sequence[str], joined: str) -> int:
    """How many choices of names, in their order, give a text when joined by dashes."""
    ways = Counter({"": 1})
    for name in names:
        for begun, number in list(ways.items()):
            if f"{joined}-".startswith(longer := f"{begun}{name}-"):
                ways[longer] += number
    return ways[f"{joined}-"]


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """The rows, of which those that a file name cannot tell apart have their settings' digest in it."""
    often = Counter(row.name for row in rows)
    return [row if often[row.name] == 1 else replace(row, name=f"{row.name}-{_digest(_settings(row))}") for row in rows]


def _short(name: str) -> str:
    """A name of at most 215 bytes: a longer one is cut, with a digest of all of it."""
    if len(name.encode()) <= _LONGEST:
        return name
    return f"{name.encode()[: _LONGEST - 10].decode(errors='ignore')}--{_digest(name)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _settings(row: Row) -> str:
    """All that decides what a row is, but not its title nor the recipe's seed, which the sweep replaces."""
    return repr({**row.experiment.override({"train.seed": 0}).to_dict(), "title": "", "published": {}})


def file_name(text: str) -> str:
    """Text that can be part of a file name."""
    return re.sub(r"[^\w.=+-]+", "-", text).strip("-.")


def _dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _alike(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for row in rows:
        settings = _settings(row)
        if settings in seen:
            yield seen[settings], row.label
        seen.setdefault(settings, row.label)
