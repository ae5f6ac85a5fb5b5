"""`avpea ask`, for every task that answers questions."""

import argparse

from avpea.command import Command, a_path, about_videos, add_missing, add_outputs, add_run, add_videos

__all__ = ["COMMANDS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_videos(parser, 1)
    parser.add_argument("question", help="question in your own words; words that the model does not know are reported")
    add_outputs(parser, ("csv",))
    parser.add_argument("--plot", type=a_path, metavar="PNG", help="draw where and when it looked and listened")
    add_missing(parser)


def _ask(options: argparse.Namespace) -> None:
    for _ in about_videos(options, "ask", options.question, plot=options.plot):
        pass


COMMANDS = [
    Command(
        "ask",
        "Ask a question about a video.",
        'avpea ask runs/NAME video.mp4 "How many instruments are sounding?" --plot where.png',
        _arguments,
        _ask,
        json=True,
        quiet=True,
    )
]
