"""The command line: `avpea COMMAND`. Nothing heavy is imported before a command needs it."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from avpea import __version__
from avpea.errors import AvpeaError, ExperimentError
from avpea.experiment import Experiment, load_recipe, parse_overrides, recipe_names

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
        print(f"avpea: {_as_options(error)}", file=sys.stderr)
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
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int | None], summary: str, example: str, overrides: bool = False,
        parent: Any = None,
    ) -> argparse.ArgumentParser:  # fmt: skip
        epilog = f"Example:\n  {example}" + (f"\n\n{_OVERRIDES}" if overrides else "")
        made: argparse.ArgumentParser = (parent or commands).add_parser(
            name, help=summary, description=summary, epilog=epilog
        )
        made.set_defaults(run_command=run, takes_overrides=overrides, parser=made)
        return made

    c = command("recipes", _recipes, "List the recipes, or print one whole.", "avpea recipes paper/avel-vit-b16")
    c.add_argument("name", nargs="?", help="recipe to print; without it, all are listed")
    c.add_argument("--json", action="store_true", help="print JSON")

    c = command(
        "params", _params, "Count parameters as the paper's tables do, without loading weights.",
        "avpea params paper/avel-vit-b16 --json", overrides=True,
    )  # fmt: skip
    c.add_argument("recipe", nargs="?", help="recipe name or YAML file; without it, the paper's rows beside ours")
    c.add_argument("--json", action="store_true", help="print JSON")

    _add_data_commands(commands, command)

    c = command(
        "train", _train, "Train a recipe; the same command goes on after an interruption.",
        "avpea train mini/avel --data.root DIR --train.seed 1", overrides=True,
    )  # fmt: skip
    c.add_argument("recipe", help="recipe name or YAML file")
    c.add_argument("--run", type=Path, help="folder of the run (default: runs/<recipe>-seed<seed>)")
    c.add_argument(
        "--strict", action="store_true", help="refuse to train while any annotated video is missing or broken"
    )
    c.add_argument("--quiet", action="store_true", help="no progress bars")

    c = command("evaluate", _evaluate, "Evaluate a run on a split.", "avpea evaluate runs/NAME --split test")
    _add_run(c)
    c.add_argument("--split", default="test", choices=("train", "val", "test"), help="(default: test)")
    c.add_argument("--data.root", dest="root", metavar="DIR", help="data set, if not where it was in training")
    c.add_argument("--confusion", action="store_true", help="print the confusion matrix")
    c.add_argument("--json", action="store_true", help="print JSON")
    c.add_argument("--quiet", action="store_true", help="no progress bars")

    c = command(
        "predict", _predict, "Say what happens when in videos of any length.",
        "avpea predict runs/NAME video.mp4 --plot timeline.png",
    )  # fmt: skip
    _add_run(c)
    c.add_argument("video", nargs="+", type=Path, help="video file; several are answered one after the other")
    c.add_argument("--json", action="store_true", help="print JSON, one line a video")
    c.add_argument("--plot", type=Path, metavar="PNG", help="draw the timeline (.png, .pdf, .svg)")
    c.add_argument("--attention", type=Path, metavar="PNG", help="draw where sound and image looked in each other")
    c.add_argument("--second", type=int, metavar="S", help="second for --attention (default: the surest event's)")
    c.add_argument("--missing-audio", choices=("error", "silence"), default="error", help="(default: error)")
    c.add_argument("--missing-video", choices=("error", "black"), default="error", help="(default: error)")
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="run folder or checkpoint file")
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


def _add_data_commands(commands: Any, command: Callable[..., argparse.ArgumentParser]) -> None:
    data = commands.add_parser(
        "data", help="Make, check and measure data sets.", description="Make, check and measure data sets."
    )
    data.set_defaults(run_command=lambda _: data.print_help() or 2, takes_overrides=False, parser=data)
    parts = data.add_subparsers(title="commands", metavar="COMMAND")
    c = command(
        "make",
        _data_make,
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
        "verify", _data_verify, "Say what is there, missing or broken, before a night of training.",
        "avpea data verify ave --data.root AVE_Dataset", overrides=True, parent=parts,
    )  # fmt: skip
    c.add_argument("name", help="data set reader: ave or manifest")
    c.add_argument("--decode", action="store_true", help="decode every video instead of reading its headers")
    c.add_argument("--json", action="store_true", help="print JSON")
    c = command(
        "stats", _data_stats, "Measure the log-mel's mean and deviation over the training videos.",
        "avpea data stats mini/avel --data.root DIR", overrides=True, parent=parts,
    )  # fmt: skip
    c.add_argument("recipe", help="recipe name or YAML file")
    c.add_argument("--json", action="store_true", help="print JSON")


def _as_options(error: AvpeaError) -> str:
    """The sentence, with Python arguments that help written as the options that they are here."""
    return re.sub(r'\bmissing_(audio|video)="(\w+)"', r"--missing-\1 \2", str(error))


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _experiment(options: argparse.Namespace) -> Experiment:
    return load_recipe(options.recipe).override(options.overrides)


def _recipes(options: argparse.Namespace) -> None:
    if options.name is None:
        rows = {name: load_recipe(name) for name in recipe_names()}
        if options.json:
            _print_json({name: recipe.title for name, recipe in rows.items()})
        else:
            width = max(map(len, rows))
            print("\n".join(f"{name:{width}}  {recipe.title}" for name, recipe in rows.items()))
        return
    recipe = load_recipe(options.name)
    if options.json:
        _print_json(recipe.to_dict())
    else:
        print(recipe.to_yaml(), end="")


def _params(options: argparse.Namespace) -> None:
    from avpea import accounting, tables

    if options.recipe is None:
        if options.overrides:
            raise ExperimentError("The table of the paper's rows takes no options; name a recipe to change it.")
        rows = accounting.paper_rows()
        _print_json([row.to_dict() for row in rows]) if options.json else tables.paper(rows)
        return
    counts = accounting.count(_experiment(options))
    _print_json(counts.to_dict()) if options.json else tables.parameters(options.recipe, counts)


def _data_make(options: argparse.Namespace) -> None:
    from avpea.data import samples

    summary = samples.make(
        options.name,
        options.folder,
        train=options.train,
        val=options.val,
        test=options.test,
        seed=options.seed,
    )
    print(summary)


def _data_verify(options: argparse.Namespace) -> int:
    from avpea import data
    from avpea.data.verify import verify

    experiment = Experiment().override({"data.name": options.name, **options.overrides})
    report = verify(data.read(experiment.data), decode=options.decode, workers=experiment.data.workers)
    if options.json:
        _print_json(report.to_dict())
    else:
        print("\n".join(report.lines()))
    return 0 if report.ok else 1


def _data_stats(options: argparse.Namespace) -> None:
    from avpea import data
    from avpea.evaluate import prepare

    experiment = _experiment(options)
    cache, usable, _ = prepare(experiment, data.read(experiment.data), ["train"])
    mean, std = cache.log_mel_statistics(usable["train"])
    if options.json:
        _print_json({"audio.mean": mean, "audio.std": std, "videos": len(usable["train"])})
    else:
        print(f"--audio.mean {mean:.4f} --audio.std {std:.4f}   (over {len(usable['train'])} training videos)")


def _train(options: argparse.Namespace) -> None:
    from avpea.train import train

    if options.strict:
        options.overrides["data.strict"] = True
    experiment = _experiment(options)
    name = options.recipe.removesuffix(".yaml").removesuffix(".yml").strip("./").replace("/", "-")
    run = options.run or Path("runs") / f"{name}-seed{experiment.train.seed}"
    result = train(experiment, run, progress=not options.quiet)
    best = result.best
    print(
        f"{run}: best epoch {best['epoch']} of {len(result.epochs)}, segment accuracy "
        f"{100 * best['segment_accuracy']:.2f} % on {best['selected_on']}.\n"
        f"Next: avpea evaluate {run} --split test;  avpea predict {run} VIDEO"
    )


def _evaluate(options: argparse.Namespace) -> None:
    from avpea import tables
    from avpea.evaluate import evaluate

    result = evaluate(
        options.run,
        options.split,
        root=options.root,
        weights=options.weights,
        audio_weights=options.audio_weights,
        progress=not options.quiet,
    )
    if options.json:
        _print_json(result.metrics)
    else:
        tables.evaluation(result, options.run, confusion=options.confusion)


def _predict(options: argparse.Namespace) -> None:
    from avpea import plot, tables
    from avpea.predict import load

    if len(options.video) > 1 and (options.plot or options.attention):
        raise ExperimentError("--plot and --attention draw one video; give them one, or leave them out.")
    for picture in filter(None, (options.plot, options.attention)):
        plot.check(picture)
    predictor = load(options.run, weights=options.weights, audio_weights=options.audio_weights)
    choices = {"missing_audio": options.missing_audio, "missing_video": options.missing_video}
    failed: list[AvpeaError] = []
    for video in options.video:
        try:
            prediction = predictor.predict(video, **choices)
        except AvpeaError as error:
            if len(options.video) == 1:
                raise
            failed.append(error)
            print(f"avpea: {_as_options(error)}", file=sys.stderr)
            continue
        if options.json:
            _print_json(prediction.to_dict())
        else:
            tables.prediction(prediction)
        if options.plot:
            prediction.plot(options.plot)
            print(f"Timeline: {options.plot}", file=sys.stderr)
        if options.attention:
            second = prediction.surest_second() if options.second is None else options.second
            predictor.attention(prediction.clip, second).plot(options.attention, video.name)
            print(f"Attention in second {second}: {options.attention}", file=sys.stderr)
    if failed:
        raise AvpeaError(f"{len(failed)} of {len(options.video)} videos could not be read.")
