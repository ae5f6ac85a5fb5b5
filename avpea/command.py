"""The class of a command on the command line, and what several commands share. Nothing heavy is imported here."""

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
    """A command, `avpea NAME`. A task lists its commands as `COMMANDS` in its `command.py`.

    Attributes:
        name: Name to type.
        summary: What the command does, in one sentence.
        example: An example of its use.
        arguments: Function that adds the arguments to a parser.
        run: Function that runs the command and returns the exit code, None for 0; it imports heavy modules itself.
        overrides: Whether options of the recipe may follow.
        json: Whether the command has the option `--json`.
        quiet: Whether the command has the option `--quiet`.
        group: Group that the command is in, such as `data`; empty for none.
    """

    name: str
    summary: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    overrides: bool = False
    json: bool = False
    quiet: bool = False
    group: str = ""


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument `run`, and those of `add_weights`."""
    parser.add_argument("run", type=Path, help="run folder or checkpoint file")
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where the frozen weights are."""
    when = "if moved since training"
    parser.add_argument("--backbone.weights", dest="weights", metavar="FILE", help=f"backbone weights, {when}")
    parser.add_argument("--encoder.audio_weights", dest="audio_weights", metavar="FILE", help=f"VGGish weights, {when}")


def add_missing(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to do with a file without sound or picture."""
    parser.add_argument(
        "--missing-audio",
        choices=("error", "silence"),
        default="error",
        help="what to do with a file without sound (default: error)",
    )
    parser.add_argument(
        "--missing-video",
        choices=("error", "black"),
        default="error",
        help="what to do with a file without a picture (default: error)",
    )


def as_options(error: AvpeaError) -> str:
    """The message of an error, with Python arguments rewritten as options of the command line."""
    return re.sub(r'\bmissing_(audio|video)="(\w+)"', r"--missing-\1 \2", str(error))


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value, ensure_ascii=False))


def predictor_for(options: argparse.Namespace, verb: str) -> Any:
    """Load the predictor of `options.run`, whose task must have the method `verb`.

    Raises:
        AvpeaError: The run is of another task; the message says what it is for.
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
    """Predict for each of `options.video`, print the answer, and yield predictor, video and answer.

    With several videos, those that cannot be read are reported and skipped.

    Args:
        options: Parsed arguments: those of `add_run` and `add_missing`, `video` (a list) and `json`.
        verb: Method of the predictor.
        asked: Further positional arguments of that method, such as a question.
        plot: File to draw the answer to; for a single video only.
        more: Further keyword arguments of that method.

    Raises:
        AvpeaError: The run is of another task; the only video cannot be read; or, at the end, some could not.
    """
    if plot is not None:
        from avpea import plot as pictures

        pictures.check(plot)
        if len(options.video) > 1:
            raise AvpeaError("--plot draws one video; give a single video, or leave --plot out.")
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
