"""Recipes: experiments in YAML files, each of which may start from another."""

import copy
import functools
from pathlib import Path
from typing import Any

from avpea.errors import ExperimentError
from avpea.experiment._experiment import Experiment
from avpea.experiment._sections import Values, merged
from avpea.parsing import read_yaml
from avpea.registry import did_you_mean

__all__ = ["RECIPES", "load_recipe", "recipe_names", "recipe_titles"]

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    """Names of avpea's own recipes, for example `paper/avel-vit-b16`."""
    paths = (path for path in RECIPES.rglob("*.yaml") if not path.name.startswith("_"))
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in paths)


def recipe_titles() -> dict[str, str]:
    """Title of each recipe; reads the files but loads no extension."""
    return {name: str(_resolved(name, titles_only=True).get("title", "")) for name in recipe_names()}


def load_recipe(name_or_path: str | Path) -> Experiment:
    """Read a recipe by name (`mini/avel`) or from a YAML file.

    Raises:
        ExperimentError: There is no such recipe, or its contents are wrong.
    """
    return Experiment.from_dict(_resolved(str(name_or_path)), str(name_or_path))


def _recipe_path(name: str) -> Path:
    built_in = RECIPES / f"{name}.yaml"
    if not Path(name).is_absolute() and ".." not in name and built_in.is_file():
        return built_in
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ExperimentError(
                f"There is no recipe file '{name}'. `avpea recipes` lists the names that come with avpea."
            )
        return path
    if (own := path / "experiment.yaml").is_file():
        raise ExperimentError(f"'{name}' is a run; its recipe is {own}.")
    raise ExperimentError(f"No recipe is called '{name}'.{did_you_mean(name, recipe_names())}")


@functools.cache  # a sweep asks for one base again and again
def _own(path: Path) -> Any:
    return read_yaml(path)


def _base_of(path: Path, base: str) -> str:
    """A recipe's base; a file is looked for beside the recipe first, then from the folder in which the command runs."""
    beside = path.parent / base
    return str(beside) if beside.suffix in {".yaml", ".yml"} and beside.is_file() else base


def _resolved(name: str, trail: tuple[str, ...] = (), titles_only: bool = False) -> Values:
    if name in trail:
        raise ExperimentError(f"Recipe '{name}' is its own base: {' -> '.join((*trail, name))}.")
    path = _recipe_path(name)
    try:
        values = copy.deepcopy(_own(path)) if path.is_relative_to(RECIPES) else read_yaml(path)
    except OSError as error:
        raise ExperimentError(f"{path} cannot be read ({error.strerror}).") from None
    if not isinstance(values, dict):
        raise ExperimentError(f"{path}: expected names and values, got {type(values).__name__}.")
    wrong = [key for key in values if not isinstance(key, str)]
    if wrong:
        raise ExperimentError(f"{path}: {wrong[0]!r} is not the name of a section or an option.")
    base = values.pop("base", None)
    if base is None or (titles_only and "title" in values):
        return values
    below = _resolved(_base_of(path, str(base)), (*trail, name), titles_only)
    try:
        return merged(below, values)
    except ExperimentError as error:
        raise ExperimentError(f"{name}: {error}") from None
