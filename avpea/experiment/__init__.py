"""An experiment: one typed, frozen configuration of task, data, inputs, backbone, adapter, head and training.

A recipe is an experiment in a YAML file under `avpea/recipes/`; `base:` names a recipe to start from, so that a file
only holds what differs. Each section is parsed by the options class of the extension that its `name` chooses.
"""

from avpea.experiment._experiment import Experiment, parse_overrides, parse_section
from avpea.experiment._recipes import RECIPES, load_recipe, recipe_names, recipe_titles
from avpea.experiment._sections import class_of

__all__ = [
    "RECIPES",
    "Experiment",
    "class_of",
    "load_recipe",
    "parse_overrides",
    "parse_section",
    "recipe_names",
    "recipe_titles",
]
