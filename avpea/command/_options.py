"""What the options mean that several commands share."""

import argparse
from typing import Any

from avpea.media.limits import DEFAULT, Limits
from avpea.progress import note

__all__ = ["device_of", "experiment_of", "limits_of", "loading_of", "reading_of", "weights_of"]


def experiment_of(options: argparse.Namespace) -> Any:
    """The experiment of the argument `recipe`, with the options that follow it.

    Raises:
        ExperimentError: There is no such recipe, or an option does not fit it, or says what an adapter is to be like
            where there is none.
    """
    from avpea.errors import ExperimentError
    from avpea.experiment import load_recipe

    experiment = load_recipe(options.recipe).override(options.overrides)
    nowhere = experiment.adapter is not None and experiment.adapter.streams == "none"
    for name, value in options.overrides.items():
        if nowhere and name.startswith("adapter.") and name != "adapter.streams":
            raise ExperimentError(
                f"--{name} {value} is for an adapter, and {options.recipe} has none (adapter.streams is none); add "
                "--adapter.streams both."
            )
    return experiment


def device_of(options: argparse.Namespace) -> str:
    """The option of `add_device`; what `auto` finds is said, unless it is the CPU.

    Raises:
        ExperimentError: There is no such device here.
    """
    from avpea.device import choose_device, named

    wanted: str = options.device
    if getattr(options, "ray", 0):
        return wanted  # of the workers, which may be on other machines
    device = choose_device(wanted)
    if wanted == "auto" and device.type != "cpu":
        note(f"computing on {named(device)}; --device cpu does without it.")
    return str(device)


def weights_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_weights` but for the device, as arguments of what loads a run."""
    return {"weights": options.weights, "audio_weights": options.audio_weights, "trust": options.trust}


def loading_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_weights`, as arguments of what loads a run."""
    files = weights_of(options)
    if not hasattr(options, "runtime"):
        return {**files, "device": device_of(options)}
    from avpea.exported import is_export

    on_cpu = options.device == "auto" and (options.runtime or is_export(options.run))
    return {**files, "device": "cpu" if on_cpu else device_of(options), "runtime": options.runtime}


def limits_of(options: argparse.Namespace) -> Limits | None:
    """The bounds that the options of `add_limits` give; None to decode in this process.

    Raises:
        AvpeaError: A bound is not positive.
    """
    if getattr(options, "in_process", False):
        return None
    return Limits(**{name: getattr(options, f"media_{name}") for name in vars(DEFAULT)})


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `avpea.media.read` that `add_missing` or `add_tracks` added."""
    names = ("missing_audio", "missing_video", "audio_track", "video_track")
    return {name: getattr(options, name) for name in names if hasattr(options, name)}
