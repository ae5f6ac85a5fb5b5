"""`avpea plan`."""

import argparse

from avpea.command import (
    Command,
    a_path,
    add_device,
    experiment_of,
    print_json,
)
from avpea.errors import ExperimentError
from avpea.tables import show

__all__ = ["COMMANDS"]


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="recipe name or YAML file")
    parser.add_argument(
        "--samples", metavar="N[,N[,N]]", help="samples to train, to select and to test on, without the data set"
    )
    parser.add_argument("--videos", type=int, metavar="N", help="videos that --samples are of (default: one each)")
    parser.add_argument("--devices", type=int, metavar="N", help="processes that train (default: train.devices)")
    parser.add_argument(
        "--no-measure", action="store_true", help="count operations and bytes instead of timing a few steps"
    )
    parser.add_argument("--figures", type=a_path, metavar="FILE", help="results of `python -m bench gpu`, for a GPU")
    parser.add_argument("--tflops", type=float, metavar="T", help="peak of the GPU in its precision, in TFLOP/s")
    parser.add_argument("--utilisation", type=float, metavar="S", help="share of the peak that is reached, 0 to 1")
    add_device(parser, None, "train.device of the recipe; it need not be here")


def _plan(options: argparse.Namespace) -> None:
    import dataclasses

    from avpea.plan import ASSUMED, plan

    experiment = experiment_of(options)
    changes = {} if options.devices is None else {"train.devices": options.devices}
    given = {} if options.utilisation is None else {"utilisation": _within("utilisation", options.utilisation, 1)}
    if options.tflops is not None:
        peak = _within("tflops", options.tflops, 1e6)
        given |= {"gpu_tflops_bf16": peak, "gpu_tflops_tf32": peak, "gpu_tflops_fp32": peak}
    _require_used(options, experiment.train.device)
    found = plan(
        experiment.override(changes),
        device=options.device,
        samples=_numbers_of(options.samples),
        videos=_videos_of(options),
        measure=not options.no_measure,
        figures=options.figures,
        assumed=dataclasses.replace(ASSUMED, **given),
    )
    print_json(found.to_dict()) if options.json else show(found.report())


def _require_used(options: argparse.Namespace, device: str) -> None:
    """Refuse options about speed that the plan would not use."""
    from avpea.plan import place_of

    place, here = place_of(options.device or device)
    given = [name for name in ("figures", "tflops", "utilisation") if getattr(options, name) is not None]
    if place.type == "cpu" and given and given[0] != "utilisation":
        raise ExperimentError(f"--{given[0]} is about a GPU, and the plan is for the CPU; add --device cuda.")
    if given and here and not options.no_measure:
        raise ExperimentError(f"--{given[0]} is not used where steps are timed; add --no-measure.")
    if given and given[0] == "figures" and len(given) > 1:
        raise ExperimentError(f"--figures says what a card reached, so --{given[1]} is not used; give one of them.")


def _within(name: str, value: float, most: float) -> float:
    if not 0 < value <= most:
        raise ExperimentError(f"--{name} is {value:g}; expected a number above 0, up to {most:,.0f}.")
    return value


def _numbers_of(text: str | None) -> tuple[int, ...]:
    """The numbers of --samples."""
    if text is None:
        return ()
    words = text.split(",")
    if len(words) > 3 or not all(word.strip().isdecimal() and len(word) < 16 for word in words):
        raise ExperimentError(
            f"--samples is '{text:.60}'; expected one to three whole numbers, as in 3339,402,402 (train, val, test)."
        )
    if not int(words[0]):
        raise ExperimentError(
            f"--samples is '{text:.60}', which has no sample to train on; expected 1 or more as the first number."
        )
    return tuple(map(int, words))


def _videos_of(options: argparse.Namespace) -> int:
    """The number of --videos; 0 if it is not given."""
    videos, samples = options.videos, sum(_numbers_of(options.samples))
    if videos is not None and not 0 < videos <= samples:
        raise ExperimentError(f"--videos is {videos}; expected 1 to {samples}, the number of --samples.")
    return videos or 0


COMMANDS = [
    Command(
        "plan", "Tell what training a recipe takes before it begins: time, memory and disk.",
        "avpea plan mini/avel --data.root DIR", _plan_arguments, _plan, overrides=True, json=True, media=False,
    ),
]  # fmt: skip
