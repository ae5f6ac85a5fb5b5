"""The class of a command on the command line, and what several commands share. Nothing heavy is imported here."""

import argparse
import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError, WriteError
from avpea.files import json_line, write_whole
from avpea.media.limits import DEFAULT, Limits
from avpea.progress import note

__all__ = [
    "Command",
    "about_videos",
    "add_device",
    "add_limits",
    "add_missing",
    "add_outputs",
    "add_run",
    "add_runtime",
    "add_tracks",
    "add_videos",
    "add_weights",
    "as_options",
    "device_of",
    "limits_of",
    "loading_of",
    "names_several",
    "predictor_for",
    "print_json",
    "reading_of",
    "weights_of",
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
        processes: Whether the processes of a launcher such as `torchrun` may run it together.
        group: Group that the command is in, such as `data`; empty for none.
        media: Whether the command may decode media; it does so in a box, and has the options of `add_limits`.
    """

    name: str
    summary: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    overrides: bool = False
    json: bool = False
    quiet: bool = False
    processes: bool = False
    group: str = ""
    media: bool = True


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument `run`, and those of `add_weights`."""
    parser.add_argument("run", type=Path, help="run folder or checkpoint file")
    add_weights(parser)


def add_weights(parser: argparse.ArgumentParser, device: bool = True) -> None:
    """Add the options that say how a run is loaded: its frozen weights, whether to trust it, and `--device`."""
    when = "if moved since training"
    parser.add_argument("--backbone.weights", dest="weights", metavar="FILE", help=f"backbone weights, {when}")
    parser.add_argument("--encoder.audio_weights", dest="audio_weights", metavar="FILE", help=f"VGGish weights, {when}")
    trusted = "open and download what the run names, although somebody else made it"
    parser.add_argument("--trust", action="store_true", help=trusted)
    if device:
        add_device(parser, "auto", "auto, which is a GPU if there is one")


def add_device(parser: argparse.ArgumentParser, default: str | None, described: str) -> None:
    """Add the option that says what to compute on."""
    about = f"auto, cpu, cuda, cuda:N or mps (default: {described})"
    parser.add_argument("--device", metavar="DEVICE", default=default, help=about)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the option that says what computes an exported model."""
    about = "what computes an exported model, or the run's own export (default: that of the export, or PyTorch)"
    parser.add_argument("--runtime", choices=("onnx", "openvino"), default="", help=about)


def device_of(options: argparse.Namespace) -> str:
    """The option of `add_device`; what `auto` finds is said, unless it is the CPU.

    Raises:
        ExperimentError: There is no such device here.
    """
    from avpea.device import choose_device, named

    wanted: str = options.device
    if getattr(options, "ray", 0):
        return wanted  # of the workers, which may be on other machines
    device = choose_device(wanted)
    if wanted == "auto" and device.type != "cpu":
        note(f"computing on {named(device)}; --device cpu does without it.")
    return str(device)


def weights_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_weights` but for the device, as arguments of what loads a run."""
    return {"weights": options.weights, "audio_weights": options.audio_weights, "trust": options.trust}


def loading_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_weights`, as arguments of what loads a run."""
    files = weights_of(options)
    if not hasattr(options, "runtime"):
        return {**files, "device": device_of(options)}
    from avpea.exported import is_export

    on_cpu = options.device == "auto" and (options.runtime or is_export(options.run))
    return {**files, "device": "cpu" if on_cpu else device_of(options), "runtime": options.runtime}


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
    add_tracks(parser)


def add_tracks(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose among the tracks of a file."""
    for what, else_ in (("audio", "that with the most channels"), ("video", "the largest picture")):
        parser.add_argument(
            f"--{what}-track",
            type=int,
            metavar="N",
            help=f"{what} track to read, from 0 (default: the file's default track, else {else_})",
        )


def add_limits(parser: argparse.ArgumentParser, limits: Limits = DEFAULT, in_process: bool = True) -> None:
    """Add the options that bound what decoding a file may take.

    Args:
        parser: The parser.
        limits: Their defaults.
        in_process: Whether one may decode without bounds.
    """
    group = parser.add_argument_group("bounds on decoding a file, which is done in a process of its own")
    for name, unit, about in (
        ("memory_mb", "MB", "memory of that process"),
        ("seconds", "S", "CPU time without progress"),
        ("megapixels", "N", "millions of pixels of a picture"),
        ("result_mb", "MB", "memory of the frames and sound of a file"),
    ):
        option, most = f"--media-{name.replace('_', '-')}", getattr(limits, name)
        group.add_argument(option, type=int, default=most, metavar=unit, help=f"{about} (default: {most})")
    if in_process:
        group.add_argument(
            "--in-process",
            action="store_true",
            help="decode in this process, without bounds; a damaged file can then end the command",
        )


def limits_of(options: argparse.Namespace) -> Limits | None:
    """The bounds that the options of `add_limits` give; None to decode in this process.

    Raises:
        AvpeaError: A bound is not positive.
    """
    if getattr(options, "in_process", False):
        return None
    return Limits(**{name: getattr(options, f"media_{name}") for name in vars(DEFAULT)})


def reading_of(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `avpea.media.read` that `add_missing` or `add_tracks` added."""
    names = ("missing_audio", "missing_video", "audio_track", "video_track")
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def add_videos(parser: argparse.ArgumentParser, number: int | str = "+") -> None:
    """Add the argument `video`, for files and folders."""
    about = "video file of any length; or a folder, for the media files in it and below it"
    parser.add_argument("video", nargs=number, type=Path, help=about)


def names_several(videos: Sequence[Path]) -> bool:
    """Whether files and folders name several videos, or may: a folder can have any number."""
    return len(videos) > 1 or os.path.isdir(videos[0])


def add_outputs(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Add the options that say what is written for each video.

    Args:
        parser: The parser.
        formats: Formats of `avpea.formats` that the answers can have.
    """
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a table of all answers, failures included")
    parser.add_argument(
        "--format", action="append", choices=formats,
        help="write a file for each video, beside it or in --out; can be repeated",
    )  # fmt: skip
    about = "folder for the files of --format; or FILE.jsonl, for all answers, where the same command goes on"
    parser.add_argument("--out", type=Path, metavar="DIR", help=about)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    about = "answer in N Ray workers, into --out FILE.jsonl (default: in this process)"
    parser.add_argument("--ray", type=int, default=0, metavar="N", help=about)


def as_options(error: AvpeaError) -> str:
    """The message of an error, with Python arguments rewritten as options of the command line."""
    text = re.sub(r'\bmissing_(audio|video)="(\w+)"', r"--missing-\1 \2", str(error))
    text = re.sub(r'\bdevice="(\w+)"', r"--device \1", text.replace("trust=True", "--trust"))
    text = re.sub(r"\bbatch_size=(\d+)", r"--batch-size \1", text)
    text = re.sub(r"^(device|batch_size) is", lambda found: f"--{found[1].replace('_', '-')} is", text)
    return re.sub(r"\b(audio|video)_track is", r"--\1-track is", text)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, at once; what the terminal's encoding lacks is escaped.

    Numbers that JSON does not have (NaN, infinite) become null.
    """
    text = json_line(value, sys.stdout.encoding or "utf-8")
    _print_whole(f"{text}\n")


def _print_whole(line: str) -> None:
    """Print a line; if a file that it goes to takes only a part of it, none of it stays there.

    Raises:
        WriteError: It cannot be written.
    """
    try:
        sys.stdout.flush()
        descriptor = _regular(sys.stdout)
        if descriptor is None:
            print(line, end="", flush=True)
        else:
            write_whole(descriptor, line.encode(sys.stdout.encoding, sys.stdout.errors or "strict"))
    except BrokenPipeError:
        raise  # who reads it has read enough
    except OSError as error:
        raise WriteError(error.errno or errno.EIO, "The output") from None


def _regular(stream: Any) -> int | None:
    """The descriptor of a stream that goes to a file; None if it goes elsewhere."""
    try:
        return stream.fileno() if stat.S_ISREG(os.fstat(stream.fileno()).st_mode) else None
    except (AttributeError, OSError):  # it is no stream of the system's, as in tests
        return None


def predictor_for(options: argparse.Namespace, verb: str) -> Any:
    """Load the predictor of `options.run`, whose task must have the method `verb`.

    Raises:
        AvpeaError: The run is of another task; the message says what it is for.
    """
    from avpea.media.box import warm_up

    warm_up()  # before torch is imported, which takes longest
    from avpea.predict import load

    predictor = load(options.run, **loading_of(options))
    task = predictor.model.task
    if task.verb != verb:
        name, use = predictor.info.experiment.task.name, task.use.format(run=options.run)
        raise AvpeaError(f"This run's task is '{name}', for which there is no `avpea {verb}`; it is for `{use}`.")
    return predictor


def about_videos(
    options: argparse.Namespace, verb: str, *asked: Any, plot: Path | None = None, **more: Any
) -> Iterator[tuple[Any, Path, Any]]:
    """Answer about each video that `options.video` names, print and write it, and yield predictor, video and answer.

    Of several videos, those that fail are told, and the others are done.

    Args:
        options: Parsed arguments: those of `add_run` and `add_missing`, `video` (a list) and `json`; and where the
            command has them, `quiet` and those of `add_outputs`.
        verb: Method of the predictor.
        asked: Further positional arguments of that method, such as a question.
        plot: Picture to draw the answer to; of several videos, a folder for a picture of each.
        more: Further keyword arguments of that method.

    Raises:
        AvpeaError: The run is of another task; something cannot be written; the only video failed; or, at the end,
            some did.
    """
    from avpea.batch import Batch, find_jobs

    jobs = find_jobs(options.video)
    if _into_one_file(options, plot):
        _answer_in_bulk(options, jobs, verb, asked, more)
        return
    outputs = _outputs(options, plot, several=names_several(options.video))
    predictor = predictor_for(options, verb)

    def answer_of(video: Path) -> Any:
        return predictor.predict(video, *asked, **reading_of(options), **more)

    def succeed(answer: Any) -> None:
        from avpea.tables import show

        print_json(answer.to_dict()) if options.json else show(answer.report())

    def fail(video: Path, error: AvpeaError) -> None:
        if options.json:
            print_json({"video": str(video), "error": as_options(error)})
        if len(jobs) > 1:
            note(as_options(error))

    batch = Batch(predictor, jobs, outputs)
    for video, answer in batch.run(answer_of, succeed, fail, not getattr(options, "quiet", False)):
        yield predictor, video, answer


def _into_one_file(options: argparse.Namespace, plot: Path | None) -> bool:
    """Whether `--out` is a file for all answers, instead of a folder.

    Raises:
        AvpeaError: It is, and more is asked for; or it is not, and only such a file can be written.
    """
    # A command may lack any of these options.
    out, workers = getattr(options, "out", None), getattr(options, "ray", 0)
    written = {name: getattr(options, name, None) for name in ("csv", "format", "attention")} | {"plot": plot}
    given = [f"--{name}" for name, value in written.items() if value]
    if workers < 0:
        raise AvpeaError(f"--ray is {workers}; expected 0 (this process) or more.")
    if out is not None and out.suffix == ".jsonl" and out.is_dir():
        raise AvpeaError(f"--out {out} is a folder; name a file for all answers, or a folder that does not end so.")
    if out is None or out.suffix != ".jsonl":
        if workers:
            raise AvpeaError("--ray writes all answers into one file; name it with --out FILE.jsonl.")
        if out is not None and not written["format"]:
            raise AvpeaError(
                f"--out {out} is a folder for the files of --format, which is not given; for a file of all answers, "
                "let its name end in .jsonl."
            )
        return False
    if given:
        raise AvpeaError(
            f"--out {out} is one file of all answers, and {given[0]} is not written with it; leave it out."
        )
    return True


def _answer_in_bulk(
    options: argparse.Namespace, jobs: Sequence[Any], verb: str, asked: Sequence[Any], more: Mapping[str, Any]
) -> None:
    from avpea.bulk import Request, answer_all
    from avpea.tables import show

    loading = loading_of(options)
    here = {**vars(options), "device": "cpu"} if options.ray else vars(options)  # then it only says what the model is
    predictor = predictor_for(argparse.Namespace(**here), verb)
    request = Request(str(options.run), verb, tuple(asked), reading_of(options), dict(more))
    report = answer_all(
        request,
        jobs,
        options.out,
        predictor,
        workers=options.ray,
        loading=loading,
        overwrite=options.overwrite,
        progress=not options.quiet,
    )
    print_json(report.to_dict()) if options.json else show(as_options(AvpeaError(line)) for line in report.lines())
    if report.failed:
        raise AvpeaError(f"{len(report.failed)} of {len(jobs)} videos failed; the same command tries them again.")


def _outputs(options: argparse.Namespace, plot: Path | None, several: bool) -> Any:
    """What the options say is written; `plot` is a folder if it is one, or if it could be one of several pictures."""
    from avpea.batch import Outputs

    given = {name: value for name in ("csv", "out", "overwrite") if (value := getattr(options, name, None))}
    if chosen := getattr(options, "format", None):
        given["formats"] = tuple(dict.fromkeys(chosen))
    if plot is None:
        return Outputs(**given)
    from avpea import plot as pictures

    folder = plot.is_dir() or (several and not plot.suffix)
    pictures.check(Path("a.png") if folder else plot)
    if several and not folder:
        raise AvpeaError(
            f"--plot {plot} is one picture of several videos; name a folder, as in --plot {plot.with_suffix('')}"
        )
    return Outputs(**given, plots=plot) if folder else Outputs(**given, plot=plot)
