"""`avpea label`."""

import argparse
from pathlib import Path

from avpea.command import Command, about_videos, add_missing, add_run

__all__ = ["COMMANDS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("video", nargs="+", type=Path, help="video file")
    parser.add_argument("--json", action="store_true", help="print JSON, one line a video")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw it")
    add_missing(parser)


def _label(options: argparse.Namespace) -> None:
    for _ in about_videos(options, "label", plot=options.plot):
        pass


COMMANDS = [Command("label", "Label videos.", "avpea label runs/NAME video.mp4", _arguments, _label)]
