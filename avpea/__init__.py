"""avpea: a frozen image transformer learns to hear.

    import avpea
    from avpea.train import train

    if __name__ == "__main__":  # as the processes that decode videos import a script, too
        train(avpea.load_recipe("mini/avel").override({"data.root": "DIR"}), "runs/first")
        avpea.load("runs/first").predict("video.mp4").events

Importing avpea imports no torch; the names below are looked up when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from avpea.version import __version__ as __version__

if TYPE_CHECKING:
    from avpea.client import Client
    from avpea.errors import AvpeaError
    from avpea.experiment import Experiment, load_recipe, recipe_names
    from avpea.predict import Predictor, load
    from avpea.sharing import push_to_hub, save_pretrained

_HOMES = {
    "AvpeaError": "errors",
    "Client": "client",
    "Experiment": "experiment",
    "Predictor": "predict",
    "load": "predict",
    "load_recipe": "experiment",
    "push_to_hub": "sharing",
    "recipe_names": "experiment",
    "save_pretrained": "sharing",
}

__all__ = [
    "AvpeaError",
    "Client",
    "Experiment",
    "Predictor",
    "load",
    "load_recipe",
    "push_to_hub",
    "recipe_names",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'avpea' has no attribute '{name}'")
    return getattr(importlib.import_module(f"avpea.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
