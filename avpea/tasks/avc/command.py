"""`avpea caption`."""

import argparse
from pathlib import Path

from avpea.command import Command, about_videos, add_missing, add_run

__all__ = ["COMMANDS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("video", nargs="+", type=Path, help="video file of any length; several are described in turn")
    parser.add_argument(
        "--beams", type=int, default=0, metavar="N", help="sentences kept in sight (default: the recipe's)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one line a video")
    add_missing(parser)


def _caption(options: argparse.Namespace) -> None:
    for _ in about_videos(options, "caption", beams=options.beams):
        pass


COMMANDS = [
    Command(
        "caption",
        "Describe videos, a sentence for each stretch of as many seconds as the model was trained on.",
        "avpea caption runs/NAME video.mp4",
        _arguments,
        _caption,
    )
]
