"""`avpea predict`, which all tasks share whose answers are events."""

import argparse

from avpea.command import (
    Command,
    a_path,
    about_videos,
    add_missing,
    add_outputs,
    add_run,
    add_runtime,
    add_videos,
    names_several,
)
from avpea.errors import AvpeaError
from avpea.progress import say
from avpea.tables import clock

__all__ = ["COMMANDS"]


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_runtime(parser)
    add_videos(parser)
    add_outputs(parser, ("vtt", "srt", "audacity", "elan", "csv"))
    parser.add_argument(
        "--plot", type=a_path, metavar="PNG", help="draw the timeline (.png, .pdf, .svg); a folder for several videos"
    )
    parser.add_argument("--attention", type=a_path, metavar="PNG", help="draw where each stream attends in the other")
    parser.add_argument(
        "--second", type=int, metavar="S", help="second for --attention (default: that of the surest event)"
    )
    chosen = "(default: the one chosen on the selection split after training; of lanes"
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help=f"confidence from which on a second is an event, 0 to 1 {chosen} 0.5)",
    )
    parser.add_argument("--min-seconds", type=float, metavar="S", help=f"shortest event {chosen} 1)")
    add_missing(parser)


def _predict(options: argparse.Namespace) -> None:
    from avpea.tasks._rule import EventRule

    EventRule.of(None, options.threshold, options.min_seconds)  # refused once, before any video is read
    if options.attention:
        from avpea import plot

        plot.check(options.attention)
        if names_several(options.video):
            raise AvpeaError("--attention draws one video; give a single video, or leave --attention out.")
    for predictor, video, prediction in about_videos(
        options, "predict", plot=options.plot, threshold=options.threshold, min_seconds=options.min_seconds
    ):
        if options.attention:
            second = prediction.surest_second() if options.second is None else options.second
            predictor.attention(prediction.clip, second).plot(options.attention, video.name)
            say(f"Attention at {clock(second)}: {options.attention}")


COMMANDS = [
    Command(
        "predict",
        "Find the events in videos, with start and end.",
        "avpea predict runs/NAME video.mp4 --plot timeline.png\n"
        "  avpea predict runs/NAME FOLDER --csv events.csv --format elan --out annotations",
        _arguments,
        _predict,
        json=True,
        quiet=True,
    )
]
