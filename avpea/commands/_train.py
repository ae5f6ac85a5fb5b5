"""`avpea train`."""

import argparse
import shlex
from pathlib import Path

from avpea.command import (
    Command,
    a_path,
    add_device,
    device_of,
    experiment_of,
)
from avpea.errors import AvpeaError
from avpea.tables import show

__all__ = ["COMMANDS"]

_MORE = "--extend N trains it for N more epochs"


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="recipe name or YAML file")
    parser.add_argument("--run", type=a_path, help="folder of the run (default: runs/<recipe>-seed<seed>)")
    parser.add_argument(
        "--strict", action="store_true", help="refuse to train while any annotated video is missing or broken"
    )
    parser.add_argument(
        "--extend",
        type=int,
        default=0,
        metavar="N",
        help="train a finished run further: N epochs more than the recipe's train.epochs; the learning rate is that of "
        "a run of all these epochs",
    )
    add_device(parser, None, "train.device of the recipe")


def _train(options: argparse.Namespace) -> int | None:
    from avpea import launch, registry
    from avpea import train as training
    from avpea.distributed import World, launched
    from avpea.preconditions import with_all_processes
    from avpea.progress import note
    from avpea.silence import ended_by_silence

    if options.strict:
        options.overrides["data.strict"] = True
    experiment, here = experiment_of(options), launched()
    if experiment.train.devices > 1 and here.alone:
        with_all_processes(experiment, World(0, experiment.train.devices))  # said once, before there are any
        return launch.launch(options.words, experiment.train.devices)
    launch.ends_with_parent()
    name = options.recipe.removesuffix(".yaml").removesuffix(".yml").strip("./").replace("/", "-")
    run = options.run or Path("runs") / f"{name}-seed{experiment.train.seed}"
    device = _training_device(options, experiment.train.device) if here.first else options.device

    def tell(error: AvpeaError) -> None:
        if not launch.reported(error):
            note(str(error))

    with ended_by_silence(here, experiment.train.silence_seconds, tell):
        result = training.train(experiment, run, extend=options.extend, device=device, progress=not options.quiet)
    if not here.first:
        return None
    best, task = result.best, registry.load("task", experiment.task.name)
    reached = task.figure.reached(best[task.figure.metric])
    if result.finished_before:
        more = f"more than --extend {options.extend} trains it further" if options.extend else _MORE
        show([f"{run} is finished already, and nothing was trained; {more}."])
    named = shlex.quote(str(run))
    which = "last" if best.get("kept") == "last" else "best"
    show(
        [
            f"{run}: {which} epoch {best['epoch']} of {len(result.epochs)}, {reached} on {best['selected_on']}.",
            f"Next: avpea evaluate {named} --split test;  {task.use.format(run=named)}",
        ]
    )
    return None


def _training_device(options: argparse.Namespace, of_recipe: str) -> str | None:
    """The device that is given, or what the recipe's `auto` finds, which is said; None leaves it to the recipe."""
    if options.device is None and of_recipe != "auto":
        return None
    options.device = options.device or "auto"
    return device_of(options)


COMMANDS = [
    Command(
        "train", "Train a recipe; after an interruption, the same command resumes.",
        "avpea train mini/avel --data.root DIR --train.seed 1", _train_arguments, _train,
        overrides=True, quiet=True, processes=True,
    ),
]  # fmt: skip
