"""`avpea tag RUN VIDEO`. What is imported here is imported by every command, so nothing heavy."""

import argparse

from avpea.command import Command, about_videos, add_missing, add_outputs, add_run, add_videos


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_videos(parser)  # files and folders
    add_outputs(parser, ["csv"])
    add_missing(parser)


def _tag(options: argparse.Namespace) -> None:
    for _ in about_videos(options, "tag"):
        pass


COMMANDS = [
    Command(
        "tag",
        "Say which events occur in a video.",
        "avpea tag runs/NAME video.mp4",
        _arguments,
        _tag,
        json=True,
        quiet=True,
    ),
]
