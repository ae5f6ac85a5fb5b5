"""`avpea data`: data sets made, checked, packed and measured."""

import argparse
from typing import Any

from avpea.command import (
    Command,
    a_path,
    experiment_of,
    print_json,
)
from avpea.errors import ExperimentError
from avpea.tables import show

__all__ = ["COMMANDS"]


def _make_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="data set: av-digits, avvp-digits (lanes of seen and heard) or avs-digits (masks)")
    parser.add_argument("folder", type=a_path, help="folder to write it to")
    for split, count in (("train", 160), ("val", 40), ("test", 60)):
        about = f"number of clips in the split '{split}' (default: {count})"
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=about)
    parser.add_argument("--seed", type=int, default=0, help="random seed; each makes another data set (default: 0)")


def _make(options: argparse.Namespace) -> None:
    from avpea.data import samples

    counts = {split: getattr(options, split) for split in ("train", "val", "test")}
    show([str(samples.make(options.name, options.folder, **counts, seed=options.seed))])


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    from avpea import registry

    parser.add_argument("name", help=f"data set reader: {', '.join(registry.names('reader'))}")
    parser.add_argument("--decode", action="store_true", help="decode every video instead of reading its headers")


def _verify(options: argparse.Namespace) -> int:
    from avpea import data
    from avpea.data.verify import verify

    section = _section_data(options)
    report = verify(data.read(section), decode=options.decode, workers=section.workers, config=section)
    print_json(report.to_dict()) if options.json else show(report.lines())
    return 0 if report.ok else 1


def _section_data(options: argparse.Namespace) -> Any:
    """The section `data` of a command that takes a reader and its options."""
    from avpea.experiment import parse_section

    given = {}
    for name, value in options.overrides.items():
        if not name.startswith("data."):
            raise ExperimentError(f"'{name}' is not an option of a data set; those look like --data.root DIR.")
        given[name.removeprefix("data.")] = value
    return parse_section("data", **{"name": options.name, **given})


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    from avpea import registry

    parser.add_argument("name", help=f"data set reader: {', '.join(registry.names('reader'))}")
    parser.add_argument("shards", type=a_path, help="folder to write, new or empty")
    decoded = "pack decoded samples, as this recipe needs them (name or YAML file), instead of the videos"
    parser.add_argument("--decoded", metavar="RECIPE", help=decoded)
    parser.add_argument(
        "--shard-mb", type=int, default=500, metavar="MB", help="megabytes after which a shard ends (default: 500)"
    )


def _pack(options: argparse.Namespace) -> None:
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


def _decoding(options: argparse.Namespace) -> tuple[Any, Any]:
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


def _stats_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="recipe name or YAML file")


def _stats(options: argparse.Namespace) -> None:
    from avpea import data
    from avpea.evaluate import prepare

    experiment = experiment_of(options)
    cache, usable, _ = prepare(experiment, data.read(experiment.data), ["train"])
    mean, std = cache.log_mel_statistics(usable["train"])
    if options.json:
        print_json({"audio.mean": mean, "audio.std": std, "videos": len(usable["train"])})
    else:
        print(f"--audio.mean {mean:.4f} --audio.std {std:.4f}   (over {len(usable['train'])} training videos)")


COMMANDS = [
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
]  # fmt: skip
