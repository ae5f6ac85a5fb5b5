"""The commands that all tasks share. Nothing heavy is imported before one of them runs."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avpea.command import (
    Command,
    add_device,
    add_limits,
    add_run,
    add_tracks,
    add_weights,
    device_of,
    limits_of,
    loading_of,
    print_json,
    reading_of,
    weights_of,
)
from avpea.errors import AvpeaError, ExperimentError
from avpea.progress import note, say
from avpea.tables import Table, clock, show

__all__ = ["COMMANDS"]

Options = argparse.Namespace
Parser = argparse.ArgumentParser


def _experiment(options: Options) -> Any:
    from avpea.experiment import load_recipe

    return load_recipe(options.recipe).override(options.overrides)


def _recipes_arguments(parser: Parser) -> None:
    parser.add_argument("name", nargs="?", help="recipe to print; without it, list all recipes")


def _recipes(options: Options) -> None:
    from avpea.experiment import load_recipe, recipe_titles

    if options.name is None:
        titles = recipe_titles()
        width = max(map(len, titles))
        print_json(titles) if options.json else show(f"{name:{width}}  {title}" for name, title in titles.items())
        return
    recipe = load_recipe(options.name)
    print_json(recipe.to_dict()) if options.json else print(recipe.to_yaml(), end="")


def _params_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", nargs="?", help="recipe name or YAML file; without it, compare with the paper's rows")


def _params(options: Options) -> None:
    from avpea import accounting

    if options.recipe is None:
        if options.overrides:
            raise ExperimentError("The table of the paper's rows takes no options; they need a recipe.")
        rows = accounting.paper_rows()
        print_json([row.to_dict() for row in rows]) if options.json else show(_paper_report(rows))
        return
    counts = accounting.count(_experiment(options))
    print_json(counts.to_dict()) if options.json else show(_parameter_report(options.recipe, counts))


def _parameter_report(name: str, counts: Any) -> Iterator[str | Table]:
    chosen = f" ({counts.num_classes} {counts.outputs})" if counts.outputs else ""
    lines = [
        ("frozen backbone", counts.frozen),
        ("  with its classifier, which nothing uses", counts.frozen_with_classifier),
        ("adapters", counts.adapters),
        (f"head{chosen}, as used", counts.head),
        ("  as its public code registers it", counts.head_registered),
        ("trained: adapters + head, as used", counts.trainable),
        ("  with the head as registered (the paper's total)", counts.trainable_registered),
    ]
    yield Table(["", "parameters", "M"], [(text, f"{n:,}", f"{n / 1e6:.1f}") for text, n in lines], name)
    yield (
        f"Adapters are {100 * counts.adapter_share:.2f} % of what runs, "
        f"{100 * counts.paper_share:.2f} % as the paper counts."
    )
    if counts.head_registered > counts.head:
        yield (
            f"The head's public code registers {counts.head_registered - counts.head:,} parameters that its forward "
            "pass never reads; the paper counts them."
        )


def _paper_report(rows: Any) -> Iterator[str | Table]:
    from avpea.metrics.figures import headline

    def pair(row: Any, key: str) -> str:
        printed = row.published.get(key)
        return f"{'-' if printed is None else printed} / {row.in_paper_form[key]}"

    cells = [
        [
            f"{row.title}\n{row.recipe}",
            *(pair(row, f"{part}_millions") for part in ("adapter", "trainable", "frozen")),
            headline(row.published),
        ]
        for row in rows
    ]
    title = "Paper / avpea, in millions of parameters; the result is the paper's"
    yield Table(["row", "adapters", "trained", "frozen", "result"], cells, title)
    yield (
        "As in the paper, trained counts the head as its code registers it, and frozen counts the backbone's "
        "classifier. Table 2's accuracy is the mean of the three modalities. Why some rows differ is in docs/paper.md."
    )
    yield "`avpea params RECIPE` gives every part, used and registered."


def _make_arguments(parser: Parser) -> None:
    parser.add_argument("name", help="data set: av-digits, avvp-digits (lanes of seen and heard) or avs-digits (masks)")
    parser.add_argument("folder", type=Path, help="folder to write it to")
    for split, count in (("train", 160), ("val", 40), ("test", 60)):
        about = f"number of clips in the split '{split}' (default: {count})"
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=about)
    parser.add_argument("--seed", type=int, default=0, help="random seed; each makes another data set (default: 0)")


def _make(options: Options) -> None:
    from avpea.data import samples

    counts = {split: getattr(options, split) for split in ("train", "val", "test")}
    show([str(samples.make(options.name, options.folder, **counts, seed=options.seed))])


def _verify_arguments(parser: Parser) -> None:
    from avpea import registry

    parser.add_argument("name", help=f"data set reader: {', '.join(registry.names('reader'))}")
    parser.add_argument("--decode", action="store_true", help="decode every video instead of reading its headers")


def _verify(options: Options) -> int:
    from avpea import data
    from avpea.data.verify import verify

    section = _section_data(options)
    report = verify(data.read(section), decode=options.decode, workers=section.workers, config=section)
    print_json(report.to_dict()) if options.json else show(report.lines())
    return 0 if report.ok else 1


def _section_data(options: Options) -> Any:
    """The section `data` of a command that takes a reader and its options."""
    from avpea.experiment import parse_section

    given = {}
    for name, value in options.overrides.items():
        if not name.startswith("data."):
            raise ExperimentError(f"'{name}' is not an option of a data set; those look like --data.root DIR.")
        given[name.removeprefix("data.")] = value
    return parse_section("data", **{"name": options.name, **given})


def _pack_arguments(parser: Parser) -> None:
    from avpea import registry

    parser.add_argument("name", help=f"data set reader: {', '.join(registry.names('reader'))}")
    parser.add_argument("shards", type=Path, help="folder to write, new or empty")
    decoded = "pack decoded samples, as this recipe needs them (name or YAML file), instead of the videos"
    parser.add_argument("--decoded", metavar="RECIPE", help=decoded)
    parser.add_argument(
        "--shard-mb", type=int, default=500, metavar="MB", help="megabytes after which a shard ends (default: 500)"
    )


def _pack(options: Options) -> None:
    from avpea import data
    from avpea.data.pack import pack

    cache = None
    if options.decoded:
        section, cache = _decoding(options)
    else:
        section = _section_data(options)
    report = pack(
        data.read(section),
        section,
        options.shards,
        cache=cache,
        shard_mb=options.shard_mb,
        progress=not options.quiet,
    )
    print_json(report.to_dict()) if options.json else show(report.lines())


def _decoding(options: Options) -> tuple[Any, Any]:
    """The section `data` of a recipe with another reader, and the cache that decodes as the recipe needs."""
    from avpea.data.cache import SampleCache
    from avpea.evaluate import source_of
    from avpea.experiment import load_recipe

    for name in options.overrides:
        if name.partition(".")[0] not in ("data", "audio", "backbone"):
            raise ExperimentError(f"'{name}' does not change how samples are decoded; leave it out.")
    experiment = load_recipe(options.decoded).override({"data.name": options.name, **options.overrides})
    cache = source_of(experiment)
    if not isinstance(cache, SampleCache):
        raise ExperimentError(f"{options.decoded} reads features that others computed, which are not packed.")
    return experiment.data, cache


def _stats_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", help="recipe name or YAML file")


def _stats(options: Options) -> None:
    from avpea import data
    from avpea.evaluate import prepare

    experiment = _experiment(options)
    cache, usable, _ = prepare(experiment, data.read(experiment.data), ["train"])
    mean, std = cache.log_mel_statistics(usable["train"])
    if options.json:
        print_json({"audio.mean": mean, "audio.std": std, "videos": len(usable["train"])})
    else:
        print(f"--audio.mean {mean:.4f} --audio.std {std:.4f}   (over {len(usable['train'])} training videos)")


def _plan_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", help="recipe name or YAML file")
    parser.add_argument(
        "--samples", metavar="N[,N[,N]]", help="samples to train, to select and to test on, without the data set"
    )
    parser.add_argument("--videos", type=int, metavar="N", help="videos that --samples are of (default: one each)")
    parser.add_argument("--devices", type=int, metavar="N", help="processes that train (default: train.devices)")
    parser.add_argument(
        "--no-measure", action="store_true", help="count operations and bytes instead of timing a few steps"
    )
    parser.add_argument("--figures", type=Path, metavar="FILE", help="results of `python -m bench gpu`, for a GPU")
    parser.add_argument("--tflops", type=float, metavar="T", help="peak of the GPU in its precision, in TFLOP/s")
    parser.add_argument("--utilisation", type=float, metavar="S", help="share of the peak that is reached, 0 to 1")
    add_device(parser, None, "train.device of the recipe; it need not be here")


def _plan(options: Options) -> None:
    import dataclasses

    from avpea.plan import ASSUMED, plan

    changes = {} if options.devices is None else {"train.devices": options.devices}
    given = {} if options.utilisation is None else {"utilisation": _within("utilisation", options.utilisation, 1)}
    if options.tflops is not None:
        peak = _within("tflops", options.tflops, 1e6)
        given |= {"gpu_tflops_bf16": peak, "gpu_tflops_fp32": peak}
    found = plan(
        _experiment(options).override(changes),
        device=options.device,
        samples=_numbers_of(options.samples),
        videos=_videos_of(options),
        measure=not options.no_measure,
        figures=options.figures,
        assumed=dataclasses.replace(ASSUMED, **given),
    )
    print_json(found.to_dict()) if options.json else show(found.report())


def _within(name: str, value: float, most: float) -> float:
    if not 0 < value <= most:
        raise ExperimentError(f"--{name} is {value:g}; expected a number above 0, up to {most:,.0f}.")
    return value


def _numbers_of(text: str | None) -> tuple[int, ...]:
    """The numbers of --samples."""
    if text is None:
        return ()
    words = text.split(",")
    if len(words) > 3 or not all(word.strip().isdecimal() and len(word) < 16 for word in words) or not int(words[0]):
        raise ExperimentError(
            f"--samples is '{text:.60}'; expected one to three whole numbers, as in 3339,402,402 (train, val, test)."
        )
    return tuple(map(int, words))


def _videos_of(options: Options) -> int:
    """The number of --videos; 0 if it is not given."""
    videos, samples = options.videos, sum(_numbers_of(options.samples))
    if videos is not None and not 0 < videos <= samples:
        raise ExperimentError(f"--videos is {videos}; expected 1 to {samples}, the number of --samples.")
    return videos or 0


_MORE = "--extend N trains it for N more epochs"


def _train_arguments(parser: Parser) -> None:
    parser.add_argument("recipe", help="recipe name or YAML file")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/<recipe>-seed<seed>)")
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


def _train(options: Options) -> int | None:
    from avpea import launch, registry
    from avpea import train as training
    from avpea.distributed import launched

    if options.strict:
        options.overrides["data.strict"] = True
    experiment, here = _experiment(options), launched()
    if experiment.train.devices > 1 and here.alone:
        return launch.launch(options.words, experiment.train.devices)
    launch.ends_with_parent()
    name = options.recipe.removesuffix(".yaml").removesuffix(".yml").strip("./").replace("/", "-")
    run = options.run or Path("runs") / f"{name}-seed{experiment.train.seed}"
    device = _training_device(options, experiment.train.device) if here.first else options.device
    result = training.train(experiment, run, extend=options.extend, device=device, progress=not options.quiet)
    if not here.first:
        return None
    best, task = result.best, registry.load("task", experiment.task.name)
    reached = task.figure.reached(best[task.figure.metric])
    if result.finished_before:
        more = f"more than --extend {options.extend} trains it further" if options.extend else _MORE
        show([f"{run} is finished already, and nothing was trained; {more}."])
    which = "last" if best.get("kept") == "last" else "best"
    show(
        [
            f"{run}: {which} epoch {best['epoch']} of {len(result.epochs)}, {reached} on {best['selected_on']}.",
            f"Next: avpea evaluate {run} --split test;  {task.use.format(run=run)}",
        ]
    )
    return None


def _training_device(options: Options, of_recipe: str) -> str | None:
    """The device that is given, or what the recipe's `auto` finds, which is said; None leaves it to the recipe."""
    if options.device is None and of_recipe != "auto":
        return None
    options.device = options.device or "auto"
    return device_of(options)


def _add_batch_size(parser: Parser) -> None:
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="videos in a forward pass (default: 8)")


def _add_cache(parser: Parser) -> None:
    about = "folder of the sample cache, if another one than in training"
    parser.add_argument("--data.cache", dest="cache", metavar="DIR", help=about)


def _evaluate_arguments(parser: Parser) -> None:
    add_run(parser)
    splits = ("train", "val", "test")
    parser.add_argument("--split", default="test", choices=splits, help="split to evaluate on (default: test)")
    parser.add_argument(
        "--data.root", dest="root", metavar="DIR", help="the data set, if moved since training, or another one"
    )
    parser.add_argument("--data.name", dest="reader", metavar="READER", help="reader of that data set, if another one")
    _add_cache(parser)
    parser.add_argument("--details", action="store_true", help="print more, such as the confusion matrix of events")
    _add_batch_size(parser)


def _evaluate(options: Options) -> None:
    from avpea import evaluate as evaluation

    files = {"root": options.root, "reader": options.reader, "cache": options.cache, **loading_of(options)}
    sizes = {"batch_size": options.batch_size, "progress": not options.quiet}
    result = evaluation.evaluate(options.run, options.split, **files, **sizes)
    print_json(result.metrics) if options.json else show(_evaluation_report(result, options))


def _evaluation_report(result: Any, options: Options) -> Iterator[str | Table]:
    """The task's metric, reference scores, and the metric by class or type."""
    from avpea import calibrate as calibration
    from avpea.metrics.figures import epoch_kept

    metrics, task = result.metrics, result.task
    reached = task.figure.reached
    where = metrics["split"] if metrics["data"]["own"] else f"{metrics['split']} of {metrics['data']['root']}"
    yield f"{options.run} on {where}: {reached(metrics[metrics['metric']])} ({metrics['videos']} videos)"
    yield from _about_data(result)
    if metrics["source"]:
        yield f"Annotations: {metrics['source']}."
    yield f"{epoch_kept(metrics)}."
    if metrics["skipped"]:
        yield f"{len(metrics['skipped'])} videos were skipped:"
        yield from (f"  {key}: {reason}" for key, reason in list(metrics["skipped"].items())[:10])
    for reference, share in metrics["references"].items():
        yield f"For comparison, {reference}: {reached(share)}."
    yield from calibration.report(metrics, str(options.run), options.details)
    yield from task.report(metrics, details=options.details)


def _about_data(result: Any) -> Iterator[str]:
    """Whose data an evaluation is about, unless it is the run's."""
    about = result.metrics["data"]
    if about["own"] is None:
        yield (
            f"This run was imported, or trained by an earlier version, and does not know its data; whether "
            f"{about['root']} is the same is not known. Written to {result.folder}."
        )
    elif not about["own"]:
        differ = f": {'; '.join(about['changes'][:4])}" if about["changes"] else ""
        yield f"{about['root']} is other data than this run was trained with{differ}. Written to {result.folder}."
    if about["trained_on"] and result.metrics["split"] != "train":
        rows = about["rows"][result.metrics["split"]]
        yield f"Of its {rows} samples, {about['trained_on']} are of videos that the run was trained on."


def _report_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument(
        "--split", default="test", choices=("train", "val", "test"), help="split to report on (default: test)"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="page to write (default: report.html in the run)")
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="the data set, if moved since training")
    _add_cache(parser)


def _report(options: Options) -> None:
    from avpea.report import report

    page = report(
        options.run,
        options.split,
        out=options.out,
        root=options.root,
        cache=options.cache,
        **loading_of(options),
        progress=not options.quiet,
    )
    show([str(page)])


def _calibrate_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("--data.root", dest="root", metavar="DIR", help="the data set, if moved since training")
    _add_cache(parser)
    _add_batch_size(parser)


def _calibrate(options: Options) -> None:
    from avpea.calibrate import calibrate

    files = {"root": options.root, "cache": options.cache, **loading_of(options)}
    fitted = calibrate(options.run, **files, batch_size=options.batch_size, progress=not options.quiet)
    print_json(fitted.to_dict()) if options.json else show([f"{options.run}: {fitted.line()}"])


def _import_arguments(parser: Parser) -> None:
    from avpea import registry

    parser.add_argument("kind", choices=registry.names("official"), help="whose public code wrote the checkpoint")
    parser.add_argument("file", type=Path, help="the checkpoint, such as avst.pt or model_step_N.pt")
    parser.add_argument("recipe", nargs="?", default="", help="recipe name or YAML file (default: the kind's own)")
    parser.add_argument("--run", type=Path, required=True, help="run folder to write")


def _import(options: Options) -> None:
    from avpea import official

    report = official.import_checkpoint(options.kind, options.file, options.run, options.recipe, options.overrides)
    print_json(report.to_dict()) if options.json else show(_import_report(report, options.file))


def _import_report(report: Any, file: Path) -> Iterator[str]:
    """What was taken and what was not, and how the inputs differ."""
    frozen = f", {len(report.frozen)} of the frozen network" if report.frozen else ""
    yield f"{report.run}: {report.title}. {len(report.taken)} trained tensors are from {file}{frozen}."
    parts = {"Set so that the model computes the same": report.made, "Second copies with equal values": report.shared}
    parts |= {f"Left out: {reason}": names for reason, names in report.left_out.items()}
    parts |= {"Not in the file, so they start untrained": report.missing, "Unknown here": report.unknown}
    yield from (f"{what} ({len(names)}: {_few(names)})." for what, names in parts.items() if names)
    yield from ("How inputs differ from those of the public code:", *(f"  {one}" for one in report.differences))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (" and so on" if len(names) > 2 else "")


def _export_arguments(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="run folder or checkpoint file")
    about = "what is to compute it: ONNX Runtime, OpenVINO, or other programs with torch.export"
    parser.add_argument("--to", required=True, choices=("onnx", "openvino", "torch"), help=about)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: RUN/onnx and so on)")
    parser.add_argument("--overwrite", action="store_true", help="replace an export that is there")
    add_weights(parser, device=False)


def _export(options: Options) -> None:
    from avpea.export import export

    report = export(options.run, options.to, options.out, overwrite=options.overwrite, **weights_of(options))
    print_json(report.to_dict()) if options.json else show(report.lines())


def _index_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("folder", type=Path, help="folder of videos; its subfolders are searched too")
    parser.add_argument(
        "--library", required=True, metavar="PLACE", help="folder, or URL of an object store (s3://...)"
    )
    parser.add_argument(
        "--ray", type=int, default=0, metavar="N", help="read files in N Ray workers (default: in this process)"
    )
    add_tracks(parser)


def _index(options: Options) -> int:
    from avpea import search as searching

    report = searching.index(
        options.run,
        options.folder,
        options.library,
        **loading_of(options),
        **reading_of(options),
        workers=options.ray,
        progress=not options.quiet,
    )
    print_json(report.to_dict()) if options.json else show(report.lines())
    return 1 if report.broken else 0


def _search_arguments(parser: Parser) -> None:
    parser.add_argument("library", help="folder or URL of the library")
    parser.add_argument("text", nargs="?", help="a sentence that says what is seen or heard")
    parser.add_argument("--video", type=Path, metavar="FILE", help="an example clip instead of a sentence")
    streams = ("both", "picture", "sound")
    parser.add_argument("--by", choices=streams, default="both", help="what to compare with (default: both)")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="number of results (default: 10)")
    parser.add_argument("--run", type=Path, help="the run that made the library, if moved since")
    add_weights(parser)


def _search(options: Options) -> None:
    from avpea import search as searching

    files = {"run": options.run, **loading_of(options)}
    found = searching.search(
        options.library, options.text or "", example=options.video, by=options.by, top=options.top, **files
    )
    if options.json:
        print_json([one.to_dict() for one in found])
    elif not found:
        print("Nothing found: the library has no window to compare.")
    else:
        rows = [
            (
                one.file,
                f"{clock(one.start_seconds)} - {clock(one.end_seconds)}",
                f"{one.score:.3f}",
                one.thumbnail or "-",
            )
            for one in found
        ]
        show([Table(["file", "time", "score", "thumbnail"], rows)])


def _serve_arguments(parser: Parser) -> None:
    from avpea.serve.settings import SERVED, Settings

    default = Settings(())
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, checkpoint file or hub repository")
    parser.add_argument("--library", metavar="LIB", help="library of indexed videos to search")
    parser.add_argument("--folder", type=Path, metavar="VIDEOS", help="folder of videos to offer beside uploads")
    parser.add_argument("--host", default=default.host, help=f"address to listen at (default: {default.host})")
    parser.add_argument("--port", type=int, default=default.port, help=f"port, 0 for any (default: {default.port})")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file with a token that requests must bring")
    about = "name that requests may call the server by, beside those of this machine; can be repeated"
    parser.add_argument("--allow-host", dest="allowed_hosts", action="append", default=[], metavar="NAME", help=about)
    for name, unit, about in (
        ("upload_mb", "MB", "size of an uploaded file"),
        ("kept_mb", "MB", "size of all uploaded files"),
        ("video_seconds", "S", "length of a video"),
        ("workers", "N", "processes that decode"),
        ("at_once", "N", "requests that are worked on together"),
        ("waiting", "N", "requests that may wait; one more is answered with 503"),
        ("deadline_seconds", "S", "time after which a request is given up"),
    ):
        most = getattr(default, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=int, default=most, metavar=unit, help=f"{about} (default: {most})")
    add_weights(parser)
    add_limits(parser, SERVED, in_process=False)


def _serve(options: Options) -> None:
    from avpea.serve.settings import Settings, read_token, require_extra

    require_extra()
    names = ("library", "folder", "host", "port", "upload_mb", "kept_mb", "video_seconds", "workers", "at_once")
    settings = Settings(
        runs=tuple(options.runs),
        token=read_token(options.token_file),
        allowed_hosts=tuple(options.allowed_hosts),
        limits=limits_of(options),
        **{name: getattr(options, name) for name in (*names, "waiting", "deadline_seconds")},
    )
    from avpea.serve.running import serve

    serve(settings, loading_of(options))


def _compare_arguments(parser: Parser) -> None:
    parser.add_argument("sweep", nargs="?", help="sweep name or YAML file; without it, list all sweeps")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument(
        "--out", type=Path, default=Path("comparison"), help="folder of the results (default: comparison)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds to run instead of the sweep's")
    parser.add_argument(
        "--only", action="append", metavar="ROW", help="run this row and the reference; can be repeated"
    )
    parser.add_argument("--report", action="store_true", help="run nothing and report on the stored results")
    parser.add_argument("--no-cost", action="store_true", help="do not measure time and memory of a training step")
    add_device(parser, None, "train.device of each recipe")


def _compare(options: Options) -> int:
    from avpea.compare import sweep_titles

    if options.sweep is None:
        show(f"{name:14}  {title}" for name, title in sweep_titles().items())
        return 0
    from avpea.compare import compare

    done = compare(
        options.sweep,
        options.overrides,
        runs=options.runs,
        out=options.out,
        seeds=options.seeds,
        only=options.only or (),
        device=None if options.device is None else device_of(options),
        run=not options.report,
        cost=not options.no_cost,
        progress=not options.quiet,
        say=say,
    )
    if done.summary is None:
        raise AvpeaError(f"{options.out} holds no result of {options.sweep} yet, so there is nothing to report.")
    if options.json:
        print_json(done.summary.to_dict())
    else:
        show([*done.summary.report(), f"Report: {done.page}"])
    for name, reason in done.failed.items():
        note(f"{name} failed: {reason}")
    return 1 if done.failed else 0


COMMANDS = [
    Command(
        "recipes", "List the recipes, or print one whole.", "avpea recipes paper/avel-vit-b16",
        _recipes_arguments, _recipes, json=True, media=False,
    ),
    Command(
        "params", "Count parameters as in the paper's tables, without loading weights.",
        "avpea params paper/avel-vit-b16 --json", _params_arguments, _params, overrides=True, json=True, media=False,
    ),
    Command(
        "make", "Make a small data set offline, from installed packages.",
        "avpea data make av-digits digits", _make_arguments, _make, group="data", media=False,
    ),
    Command(
        "verify", "Check a data set before training: which videos are available, missing or broken.",
        "avpea data verify ave --data.root AVE_Dataset", _verify_arguments, _verify,
        overrides=True, json=True, group="data",
    ),
    Command(
        "pack", "Pack a data set into tar shards of videos or decoded samples; the same command resumes.",
        "avpea data pack ave SHARDS --data.root AVE_Dataset", _pack_arguments, _pack,
        overrides=True, json=True, quiet=True, group="data",
    ),
    Command(
        "stats", "Measure the log-mel's mean and standard deviation over the training videos.",
        "avpea data stats mini/avel --data.root DIR", _stats_arguments, _stats,
        overrides=True, json=True, group="data",
    ),
    Command(
        "plan", "Tell what training a recipe takes before it begins: time, memory and disk.",
        "avpea plan mini/avel --data.root DIR", _plan_arguments, _plan, overrides=True, json=True, media=False,
    ),
    Command(
        "train", "Train a recipe; after an interruption, the same command resumes.",
        "avpea train mini/avel --data.root DIR --train.seed 1", _train_arguments, _train,
        overrides=True, quiet=True, processes=True,
    ),
    Command(
        "evaluate", "Evaluate a run on a split.", "avpea evaluate runs/NAME --split test",
        _evaluate_arguments, _evaluate, json=True, quiet=True,
    ),
    Command(
        "report",
        "Write one HTML page about a run: how it learned, its figures, and where it was surely wrong.",
        "avpea report runs/NAME", _report_arguments, _report, quiet=True,
    ),
    Command(
        "calibrate", "Calibrate a run's confidence, as training does at its end; for runs of version 0.1.0.",
        "avpea calibrate runs/NAME", _calibrate_arguments, _calibrate, json=True, quiet=True,
    ),
    Command(
        "import", "Turn an official checkpoint of AVST, CMBS, LAVISH or VALOR into a run.",
        "avpea import valor model_step_N.pt paper/avr-valor-l --run runs/valor-l",
        _import_arguments, _import, overrides=True, json=True, media=False,
    ),
    Command(
        "export", "Export a run to ONNX, OpenVINO or torch.export, checked against PyTorch.",
        "avpea export runs/NAME --to onnx\n  avpea predict runs/NAME/onnx video.mp4",
        _export_arguments, _export, json=True, media=False,
    ),
    Command(
        "index", "Index the videos of a folder, so that they can be searched.",
        "avpea index runs/NAME FOLDER --library LIBRARY", _index_arguments, _index, json=True, quiet=True,
    ),
    Command(
        "search", "Search a library by a sentence or an example clip.",
        'avpea search LIBRARY "a dog barks while a train passes" --by sound',
        _search_arguments, _search, json=True,
    ),
    Command(
        "serve", "Serve runs over HTTP: a page that shows and corrects what they find, and an API.",
        "avpea serve runs/NAME --folder VIDEOS", _serve_arguments, _serve, media=False,
    ),
    Command(
        "compare", "Run or resume a grid of recipes and seeds, and report the results.",
        "avpea compare mini/table4 --data.root DIR", _compare_arguments, _compare,
        overrides=True, json=True, quiet=True,
    ),
]  # fmt: skip
