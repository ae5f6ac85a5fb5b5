"""What a command of the command line is, and what several of them share. Nothing heavy is imported here."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError

__all__ = [
    "Command",
    "about_videos",
    "add_missing",
    "add_run",
    "add_weights",
    "as_options",
    "predictor_for",
    "print_json",
]


@dataclass(frozen=True)
class Command:
    """A command, `avpea NAME`. A task's are listed as `COMMANDS` in its `command.py`.

    Attributes:
        name: As it is typed.
        summary: What it does, in a sentence.
        example: How it is used.
        arguments: Adds its arguments to its parser.
        run: Does it; what heavy modules it needs, it imports. Answers the exit code, None for 0.
        overrides: Whether options of the recipe may follow.
        group: The command that it is a part of, such as `data`; empty for one of its own.
    """

    name: str
    summary: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    overrides: bool = False
    group: str = ""


def add_run(parser: argparse.ArgumentParser) -> None:
    """The argument `run`, and where its weights are."""
    parser.add_argument("run", type=Path, help="run folder or checkpoint file")
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Where frozen weights are, if not where they were in training."""
    parser.add_argument(
        "--backbone.weights",
        dest="weights",
        metavar="FILE",
        help="backbone weights, if not where they were in training",
    )
    parser.add_argument(
        "--encoder.audio_weights", dest="audio_weights", metavar="FILE", help="VGGish's weights, likewise"
    )


def add_missing(parser: argparse.ArgumentParser) -> None:
    """What a file without sound or picture means."""
    parser.add_argument("--missing-audio", choices=("error", "silence"), default="error", help="(default: error)")
    parser.add_argument("--missing-video", choices=("error", "black"), default="error", help="(default: error)")


def as_options(error: AvpeaError) -> str:
    """The sentence, with Python arguments that help written as the options that they are on the command line."""
    return re.sub(r'\bmissing_(audio|video)="(\w+)"', r"--missing-\1 \2", str(error))


def print_json(value: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps(value, ensure_ascii=False))


def predictor_for(options: argparse.Namespace, verb: str) -> Any:
    """The predictor of `options.run`, whose task must answer by the method `verb`.

    Raises:
        AvpeaError: It is a run of another task; says what it is for.
    """
    from avpea.predict import load

    predictor = load(options.run, weights=options.weights, audio_weights=options.audio_weights)
    task = predictor.model.task
    if task.verb != verb:
        name, use = predictor.info.experiment.task.name, task.use.format(run=options.run)
        raise AvpeaError(f"This run's task is '{name}', for which there is no `avpea {verb}`; it is for `{use}`.")
    return predictor


def about_videos(
    options: argparse.Namespace, verb: str, *asked: Any, plot: Path | None = None, **more: Any
) -> Iterator[tuple[Any, Path, Any]]:
    """Answer about each of `options.video`, print the answers, and yield predictor, video and answer.

    Of several videos, those that cannot be read are named and passed over.

    Raises:
        AvpeaError: The run is of another task; the only video cannot be read; or, after all others, some could not.
    """
    if plot is not None:
        from avpea import plot as pictures

        pictures.check(plot)
        if len(options.video) > 1:
            raise AvpeaError("--plot draws one video; give it one, or leave it out.")
    from avpea.tables import show

    predictor, failed = predictor_for(options, verb), 0
    for video in options.video:
        missing = {"missing_audio": options.missing_audio, "missing_video": options.missing_video}
        try:
            answer = predictor.predict(video, *asked, **missing, **more)
        except AvpeaError as error:
            if len(options.video) == 1:
                raise
            failed += 1
            print(f"avpea: {as_options(error)}", file=sys.stderr)
            continue
        print_json(answer.to_dict()) if options.json else show(answer.report())
        if plot is not None:
            answer.plot(plot)
            print(f"Picture: {plot}", file=sys.stderr)
        yield predictor, video, answer
    if failed:
        raise AvpeaError(f"{failed} of {len(options.video)} videos could not be read.")
