"""`avpea caption`."""

import argparse

from avpea.command import Command, about_videos, add_missing, add_outputs, add_run, add_videos

__all__ = ["COMMANDS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_videos(parser)
    add_outputs(parser, ("vtt", "srt", "audacity", "elan", "csv"))
    parser.add_argument("--beams", type=int, default=0, metavar="N", help="beams of the search (default: the recipe's)")
    add_missing(parser)


def _caption(options: argparse.Namespace) -> None:
    for _ in about_videos(options, "caption", beams=options.beams):
        pass


COMMANDS = [
    Command(
        "caption",
        "Caption videos: a sentence for each stretch of as many seconds as in training.",
        "avpea caption runs/NAME video.mp4",
        _arguments,
        _caption,
        json=True,
        quiet=True,
    )
]
