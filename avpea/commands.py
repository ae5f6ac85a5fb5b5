"""What each command of the command line does. Nothing heavy is imported before a command needs it."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError, ExperimentError
from avpea.experiment import Experiment, load_recipe, recipe_names

__all__ = [
    "as_options",
    "ask",
    "caption",
    "compare",
    "data_make",
    "data_stats",
    "data_verify",
    "evaluate",
    "import_valor",
    "index",
    "params",
    "predict",
    "recipes",
    "search",
    "train",
]


def as_options(error: AvpeaError) -> str:
    """The sentence, with Python arguments that help written as the options that they are here."""
    return re.sub(r'\bmissing_(audio|video)="(\w+)"', r"--missing-\1 \2", str(error))


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False))


def _experiment(options: argparse.Namespace) -> Experiment:
    return load_recipe(options.recipe).override(options.overrides)


def recipes(options: argparse.Namespace) -> None:
    """`avpea recipes`."""
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


def params(options: argparse.Namespace) -> None:
    """`avpea params`."""
    from avpea import accounting, tables

    if options.recipe is None:
        if options.overrides:
            raise ExperimentError("The table of the paper's rows takes no options; name a recipe to change it.")
        rows = accounting.paper_rows()
        _print_json([row.to_dict() for row in rows]) if options.json else tables.paper(rows)
        return
    counts = accounting.count(_experiment(options))
    _print_json(counts.to_dict()) if options.json else tables.parameters(options.recipe, counts)


def data_make(options: argparse.Namespace) -> None:
    """`avpea data make`."""
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


def data_verify(options: argparse.Namespace) -> int:
    """`avpea data verify`."""
    from avpea import data
    from avpea.data.verify import verify

    experiment = Experiment().override({"data.name": options.name, **options.overrides})
    report = verify(data.read(experiment.data), decode=options.decode, workers=experiment.data.workers)
    if options.json:
        _print_json(report.to_dict())
    else:
        print("\n".join(report.lines()))
    return 0 if report.ok else 1


def data_stats(options: argparse.Namespace) -> None:
    """`avpea data stats`."""
    from avpea import data
    from avpea.evaluate import prepare

    experiment = _experiment(options)
    cache, usable, _ = prepare(experiment, data.read(experiment.data), ["train"])
    mean, std = cache.log_mel_statistics(usable["train"])
    if options.json:
        _print_json({"audio.mean": mean, "audio.std": std, "videos": len(usable["train"])})
    else:
        print(f"--audio.mean {mean:.4f} --audio.std {std:.4f}   (over {len(usable['train'])} training videos)")


def train(options: argparse.Namespace) -> None:
    """`avpea train`."""
    from avpea import registry
    from avpea import train as training
    from avpea.metrics.figures import figure_of

    if options.strict:
        options.overrides["data.strict"] = True
    experiment = _experiment(options)
    name = options.recipe.removesuffix(".yaml").removesuffix(".yml").strip("./").replace("/", "-")
    run = options.run or Path("runs") / f"{name}-seed{experiment.train.seed}"
    result = training.train(experiment, run, progress=not options.quiet)
    best = result.best
    task = registry.load("task", experiment.task)
    reached = figure_of(task.metric).reached(best[task.metric])
    print(
        f"{run}: best epoch {best['epoch']} of {len(result.epochs)}, {reached} on {best['selected_on']}.\n"
        f"Next: avpea evaluate {run} --split test;  {task.use.format(run=run)}"
    )


def evaluate(options: argparse.Namespace) -> None:
    """`avpea evaluate`."""
    from avpea import evaluate as evaluation
    from avpea import tables

    result = evaluation.evaluate(
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


def predict(options: argparse.Namespace) -> None:
    """`avpea predict`."""
    from avpea import plot, tables
    from avpea.predict import load

    if len(options.video) > 1 and (options.plot or options.attention):
        raise ExperimentError("--plot and --attention draw one video; give them one, or leave them out.")
    for picture in filter(None, (options.plot, options.attention)):
        plot.check(picture)
    predictor = load(options.run, weights=options.weights, audio_weights=options.audio_weights)
    for video, prediction in _in_turn(predictor.predict, options):
        _print_json(prediction.to_dict()) if options.json else tables.prediction(prediction)
        if options.plot:
            prediction.plot(options.plot)
            print(f"Timeline: {options.plot}", file=sys.stderr)
        if options.attention:
            second = prediction.surest_second() if options.second is None else options.second
            predictor.attention(prediction.clip, second).plot(options.attention, video.name)
            print(f"Attention in second {second}: {options.attention}", file=sys.stderr)


def _in_turn(look: Callable[..., Any], options: argparse.Namespace, **more: Any) -> Iterator[tuple[Path, Any]]:
    """What is found in each video; of several, those that cannot be read are said and passed over.

    Raises:
        AvpeaError: The only one cannot be read; or, after all others, some could not.
    """
    failed = 0
    for video in options.video:
        try:
            found = look(video, missing_audio=options.missing_audio, missing_video=options.missing_video, **more)
        except AvpeaError as error:
            if len(options.video) == 1:
                raise
            failed += 1
            print(f"avpea: {as_options(error)}", file=sys.stderr)
        else:
            yield video, found
    if failed:
        raise AvpeaError(f"{failed} of {len(options.video)} videos could not be read.")


def ask(options: argparse.Namespace) -> None:
    """`avpea ask`."""
    from avpea import plot, tables
    from avpea.predict import load

    if options.plot:
        plot.check(options.plot)
    predictor = load(options.run, weights=options.weights, audio_weights=options.audio_weights)
    reply = predictor.ask(
        options.video,
        options.question,
        missing_audio=options.missing_audio,
        missing_video=options.missing_video,
    )
    _print_json(reply.to_dict()) if options.json else tables.reply(reply)
    if options.plot:
        reply.plot(options.plot)
        print(f"Where and when: {options.plot}", file=sys.stderr)


def import_valor(options: argparse.Namespace) -> None:
    """`avpea import-valor`."""
    from avpea import data, official

    experiment = _experiment(options)
    questions = data.read(experiment.data).questions if experiment.data.root else None
    report = official.import_valor(options.file, experiment, options.run, questions)
    if options.json:
        _print_json(report.to_dict())
        return
    print(f"{report.run}: {len(report.taken)} tensors taken from {options.file}.")
    for what, names in (("Start anew, as the file has nothing for them", report.missing),
                        ("Of no use, as nothing here has them", report.unknown)):  # fmt: skip
        if names:
            print(f"{what} ({len(names)}):")
            print("\n".join(f"  {name}" for name in names))


def caption(options: argparse.Namespace) -> None:
    """`avpea caption`."""
    from avpea import tables
    from avpea.predict import load

    predictor = load(options.run, weights=options.weights, audio_weights=options.audio_weights)
    for _, described in _in_turn(predictor.caption, options, beams=options.beams):
        _print_json(described.to_dict()) if options.json else tables.captions(described)


def index(options: argparse.Namespace) -> int:
    """`avpea index`."""
    from avpea import search as searching
    from avpea import tables

    report = searching.index(
        options.run,
        options.folder,
        options.library,
        weights=options.weights,
        audio_weights=options.audio_weights,
        workers=options.ray,
        progress=not options.quiet,
    )
    _print_json(report.to_dict()) if options.json else tables.indexed(report)
    return 1 if report.broken else 0


def search(options: argparse.Namespace) -> None:
    """`avpea search`."""
    from avpea import search as searching
    from avpea import tables

    found = searching.search(
        options.library,
        options.text or "",
        example=options.video,
        by=options.by,
        top=options.top,
        run=options.run,
        weights=options.weights,
        audio_weights=options.audio_weights,
    )
    _print_json([one.to_dict() for one in found]) if options.json else tables.found(found)


def compare(options: argparse.Namespace) -> int:
    """`avpea compare`."""
    from avpea import tables
    from avpea.compare import compare, load_sweep, sweep_names

    if options.sweep is None:
        for name in sweep_names():
            print(f"{name:14}  {load_sweep(name).title}")
        return 0

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    done = compare(
        options.sweep,
        options.overrides,
        runs=options.runs,
        out=options.out,
        seeds=options.seeds,
        only=options.only or (),
        run=not options.report,
        cost=not options.no_cost,
        progress=not options.quiet,
        say=say,
    )
    if done.summary is None:
        raise AvpeaError(f"{options.out} holds no result of {options.sweep} yet, so there is nothing to report.")
    if options.json:
        _print_json(done.summary.to_dict())
    else:
        tables.sweep(done.summary)
        print(f"Report: {done.page}")
    for name, reason in done.failed.items():
        print(f"avpea: {name} failed: {reason}", file=sys.stderr)
    return 1 if done.failed else 0
