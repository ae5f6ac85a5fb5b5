"""The command line: `avpea COMMAND`. Nothing heavy is imported before a command needs it."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from avpea import __version__, commands
from avpea.errors import AvpeaError
from avpea.experiment import parse_overrides

__all__ = ["main", "make_parser"]

_OVERRIDES = """Any option of the recipe can be changed behind the command, by its dotted name:
  --data.root DIR  --data.missing_audio silence  --train.epochs 3  --train.seed 1  --adapter.streams audio
`avpea recipes NAME` prints every name with its value."""


class _Parser(argparse.ArgumentParser):
    """Refuses abbreviations, and answers a wrong use with one sentence and exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. `{self.prog} --help` explains.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and answer its exit code: 0, 1 for an error of the user's, 2 for wrong use, 130 for Ctrl-C."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if not hasattr(options, "run_command"):
        parser.print_help()
        return 2
    try:
        if rest and not options.takes_overrides:
            options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides = parse_overrides(rest)
        code = options.run_command(options)
    except AvpeaError as error:
        print(f"avpea: {commands.as_options(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "avpea: stopped; what was finished is kept, and the same command goes on from there.",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        return 0
    return int(code or 0)


def make_parser() -> argparse.ArgumentParser:
    """The whole grammar; `docs/cli.md` is generated from it."""
    parser = _Parser(
        prog="avpea",
        description="A frozen image transformer learns to hear: audio-visual adapters (AV-PEA).",
        epilog="Each command has a help of its own: avpea train --help",
    )
    parser.add_argument("--version", action="version", version=f"avpea {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], summary: str, example: str, overrides: bool = False,
        parent: Any = None,
    ) -> argparse.ArgumentParser:  # fmt: skip
        epilog = f"Example:\n  {example}" + (f"\n\n{_OVERRIDES}" if overrides else "")
        made: argparse.ArgumentParser = (parent or subparsers).add_parser(
            name, help=summary, description=summary, epilog=epilog
        )
        made.set_defaults(run_command=run, takes_overrides=overrides, parser=made)
        return made

    c = command(
        "recipes", commands.recipes, "List the recipes, or print one whole.", "avpea recipes paper/avel-vit-b16"
    )
    c.add_argument("name", nargs="?", help="recipe to print; without it, all are listed")
    c.add_argument("--json", action="store_true", help="print JSON")

    c = command(
        "params", commands.params, "Count parameters as the paper's tables do, without loading weights.",
        "avpea params paper/avel-vit-b16 --json", overrides=True,
    )  # fmt: skip
    c.add_argument("recipe", nargs="?", help="recipe name or YAML file; without it, the paper's rows beside ours")
    c.add_argument("--json", action="store_true", help="print JSON")

    _add_data_commands(subparsers, command)

    c = command(
        "train", commands.train, "Train a recipe; the same command goes on after an interruption.",
        "avpea train mini/avel --data.root DIR --train.seed 1", overrides=True,
    )  # fmt: skip
    c.add_argument("recipe", help="recipe name or YAML file")
    c.add_argument("--run", type=Path, help="folder of the run (default: runs/<recipe>-seed<seed>)")
    c.add_argument(
        "--strict", action="store_true", help="refuse to train while any annotated video is missing or broken"
    )
    c.add_argument("--quiet", action="store_true", help="no progress bars")

    c = command("evaluate", commands.evaluate, "Evaluate a run on a split.", "avpea evaluate runs/NAME --split test")
    _add_run(c)
    c.add_argument("--split", default="test", choices=("train", "val", "test"), help="(default: test)")
    c.add_argument("--data.root", dest="root", metavar="DIR", help="data set, if not where it was in training")
    c.add_argument("--confusion", action="store_true", help="print the confusion matrix")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.add_argument("--quiet", action="store_true", help="no progress bars")

    c = command(
        "predict", commands.predict, "Say what happens when in videos of any length.",
        "avpea predict runs/NAME video.mp4 --plot timeline.png",
    )  # fmt: skip
    _add_run(c)
    c.add_argument("video", nargs="+", type=Path, help="video file; several are answered one after the other")
    c.add_argument("--json", action="store_true", help="print JSON, one line a video")
    c.add_argument("--plot", type=Path, metavar="PNG", help="draw the timeline (.png, .pdf, .svg)")
    c.add_argument("--attention", type=Path, metavar="PNG", help="draw where sound and image looked in each other")
    c.add_argument("--second", type=int, metavar="S", help="second for --attention (default: the surest event's)")
    _add_missing(c)

    c = command(
        "ask", commands.ask, "Ask a question about a video.",
        'avpea ask runs/NAME video.mp4 "How many instruments are sounding?" --plot where.png',
    )  # fmt: skip
    _add_run(c)
    c.add_argument("video", type=Path, help="video file of any length")
    c.add_argument("question", help="in your own words; what the model cannot read is said")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.add_argument("--plot", type=Path, metavar="PNG", help="draw where and when it looked and listened")
    _add_missing(c)

    c = command(
        "import-valor", commands.import_valor, "Make a run of an official VALOR checkpoint.",
        "avpea import-valor model_step_N.pt paper/avr-valor-l --run runs/valor-l", overrides=True,
    )  # fmt: skip
    c.add_argument("file", type=Path, help="ckpt/model_step_N.pt of VALOR's public code")
    c.add_argument("recipe", help="recipe of its size and task, or YAML file")
    c.add_argument("--run", type=Path, required=True, help="folder to make")
    c.add_argument("--json", action="store_true", help="print JSON")

    c = command(
        "caption", commands.caption, "Describe videos, a sentence for each window.",
        "avpea caption runs/NAME video.mp4",
    )  # fmt: skip
    _add_run(c)
    c.add_argument("video", nargs="+", type=Path, help="video file of any length; several are described in turn")
    c.add_argument("--beams", type=int, default=0, metavar="N", help="sentences kept in sight (default: the recipe's)")
    c.add_argument("--json", action="store_true", help="print JSON, one line a video")
    _add_missing(c)

    c = command(
        "index", commands.index, "Index the videos of a folder, so that they can be searched.",
        "avpea index runs/NAME FOLDER --library LIBRARY",
    )  # fmt: skip
    _add_run(c)
    c.add_argument("folder", type=Path, help="where the videos are; folders below it count")
    c.add_argument("--library", required=True, metavar="PLACE", help="folder, or URL of an object store (s3://...)")
    c.add_argument("--ray", type=int, default=0, metavar="N", help="read files in N workers of Ray (default: here)")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.add_argument("--quiet", action="store_true", help="no progress bar")

    c = command(
        "search", commands.search, "Find videos by a sentence, or by an example clip.",
        'avpea search LIBRARY "a dog barks while a train passes" --by sound',
    )  # fmt: skip
    c.add_argument("library", help="folder or URL")
    c.add_argument("text", nargs="?", help="what is to be seen and heard")
    c.add_argument("--video", type=Path, metavar="FILE", help="an example clip instead of a sentence")
    c.add_argument("--by", choices=("both", "picture", "sound"), default="both", help="(default: both)")
    c.add_argument("--top", type=int, default=10, metavar="N", help="how many (default: 10)")
    c.add_argument("--run", type=Path, help="the run that made the library, if not where it was")
    c.add_argument("--json", action="store_true", help="print JSON")
    _add_weights(c)

    c = command(
        "compare", commands.compare, "Run or resume a grid of recipes and seeds, and report on it.",
        "avpea compare mini/table4 --data.root DIR", overrides=True,
    )  # fmt: skip
    c.add_argument("sweep", nargs="?", help="sweep name or YAML file; without it, the names are listed")
    c.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    c.add_argument("--out", type=Path, default=Path("comparison"), help="results and report (default: comparison)")
    c.add_argument("--seeds", type=int, nargs="+", metavar="N", help="instead of the sweep's own")
    c.add_argument("--only", action="append", metavar="ROW", help="this row and the reference; may be given again")
    c.add_argument("--report", action="store_true", help="run nothing; report on the stored results")
    c.add_argument("--no-cost", action="store_true", help="do not measure seconds and memory of a step")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _add_missing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--missing-audio", choices=("error", "silence"), default="error", help="(default: error)")
    parser.add_argument("--missing-video", choices=("error", "black"), default="error", help="(default: error)")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run folder or checkpoint file")
    _add_weights(parser)


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backbone.weights",
        dest="weights",
        metavar="FILE",
        help="backbone weights, if not where they were in training",
    )
    parser.add_argument(
        "--encoder.audio_weights",
        dest="audio_weights",
        metavar="FILE",
        help="VGGish's weights, likewise",
    )


def _add_data_commands(subparsers: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    data = subparsers.add_parser(
        "data", help="Make, check and measure data sets.", description="Make, check and measure data sets."
    )
    data.set_defaults(run_command=lambda _: data.print_help() or 2, takes_overrides=False, parser=data)
    parts = data.add_subparsers(title="commands", metavar="COMMAND")
    c = command(
        "make",
        commands.data_make,
        "Make a small data set on the spot.",
        "avpea data make av-digits digits",
        parent=parts,
    )
    c.add_argument("name", help="data set: av-digits")
    c.add_argument("folder", type=Path, help="where to")
    for split, count in (("train", 160), ("val", 40), ("test", 60)):
        c.add_argument(
            f"--{split}", type=int, default=count, metavar="N", help=f"clips to {split} on (default: {count})"
        )
    c.add_argument("--seed", type=int, default=0, help="another seed, another data set (default: 0)")
    c = command(
        "verify", commands.data_verify, "Say what is there, missing or broken, before a night of training.",
        "avpea data verify ave --data.root AVE_Dataset", overrides=True, parent=parts,
    )  # fmt: skip
    c.add_argument("name", help="data set reader: ave, manifest, music_avqa, valor32k or captions")
    c.add_argument("--decode", action="store_true", help="decode every video instead of reading its headers")
    c.add_argument("--json", action="store_true", help="print JSON")
    c = command(
        "stats", commands.data_stats, "Measure the log-mel's mean and deviation over the training videos.",
        "avpea data stats mini/avel --data.root DIR", overrides=True, parent=parts,
    )  # fmt: skip
    c.add_argument("recipe", help="recipe name or YAML file")
    c.add_argument("--json", action="store_true", help="print JSON")
