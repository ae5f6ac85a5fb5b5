"""`avpea compare`."""

import argparse
from pathlib import Path

from avpea.command import (
    Command,
    a_path,
    add_device,
    device_of,
    print_json,
)
from avpea.errors import AvpeaError
from avpea.progress import note, say
from avpea.tables import show

__all__ = ["COMMANDS"]


def _compare_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sweep", nargs="?", help="sweep name or YAML file; without it, list all sweeps")
    parser.add_argument("--runs", type=a_path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument(
        "--out", type=a_path, default=Path("comparison"), help="folder of the results (default: comparison)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds to run instead of the sweep's")
    parser.add_argument(
        "--only", action="append", metavar="ROW", help="run this row and the reference; can be repeated"
    )
    parser.add_argument("--report", action="store_true", help="run nothing and report on the stored results")
    parser.add_argument("--no-cost", action="store_true", help="do not measure time and memory of a training step")
    add_device(parser, None, "train.device of each recipe")


def _compare(options: argparse.Namespace) -> int:
    from avpea.compare import sweep_titles

    if options.sweep is None:
        if options.overrides or options.report or options.only or options.seeds:
            raise AvpeaError("Name the sweep first; `avpea compare` alone lists those that come with avpea.")
        if options.json:
            print_json(sweep_titles())
            return 0
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
        "compare", "Run or resume a grid of recipes and seeds, and report the results.",
        "avpea compare mini/table4 --data.root DIR", _compare_arguments, _compare,
        overrides=True, json=True, quiet=True,
    ),
]  # fmt: skip
