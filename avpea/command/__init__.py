"""The class of a command on the command line, and what several commands share. Nothing heavy is imported here."""

from avpea.command._answers import about_videos, predictor_for
from avpea.command._arguments import (
    a_path,
    add_device,
    add_limits,
    add_missing,
    add_outputs,
    add_run,
    add_runtime,
    add_tracks,
    add_videos,
    add_weights,
    names_several,
)
from avpea.command._command import Command
from avpea.command._options import device_of, experiment_of, limits_of, loading_of, reading_of, weights_of
from avpea.command._printing import as_options, print_json

__all__ = [
    "Command",
    "a_path",
    "about_videos",
    "add_device",
    "add_limits",
    "add_missing",
    "add_outputs",
    "add_run",
    "add_runtime",
    "add_tracks",
    "add_videos",
    "add_weights",
    "as_options",
    "device_of",
    "experiment_of",
    "limits_of",
    "loading_of",
    "names_several",
    "predictor_for",
    "print_json",
    "reading_of",
    "weights_of",
]
