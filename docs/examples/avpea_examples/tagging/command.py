"""`avpea tag RUN VIDEO`. What is imported here is imported by every command, so nothing heavy."""

import argparse
from pathlib import Path

from avpea.command import Command, about_videos, add_missing, add_run


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("video", nargs="+", type=Path, help="video files")
    parser.add_argument("--json", action="store_true", help="print JSON, one line a video")
    add_missing(parser)


def _tag(options: argparse.Namespace) -> None:
    for _ in about_videos(options, "tag"):
        pass


COMMANDS = [
    Command("tag", "Say which events occur in a video.", "avpea tag runs/NAME video.mp4", _arguments, _tag),
]
