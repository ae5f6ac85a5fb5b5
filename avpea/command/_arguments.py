"""Arguments that several commands share, and how they are added to a parser."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from avpea.media.limits import DEFAULT, Limits

__all__ = [
    "a_path",
    "add_device",
    "add_limits",
    "add_missing",
    "add_outputs",
    "add_run",
    "add_runtime",
    "add_tracks",
    "add_videos",
    "add_weights",
    "names_several",
]


def a_path(word: str) -> Path:
    """A file or folder that a word of the command names; a shell leaves the ~ of `--run=~/mine` as it is."""
    return Path(os.path.expanduser(word))


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument `run`, and those of `add_weights`."""
    parser.add_argument("run", type=a_path, help="run folder or checkpoint file")
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


def add_videos(parser: argparse.ArgumentParser, number: int | str = "+") -> None:
    """Add the argument `video`, for files and folders."""
    about = "video file of any length; or a folder, for the media files in it and below it"
    parser.add_argument("video", nargs=number, type=a_path, help=about)


def names_several(videos: Sequence[Path]) -> bool:
    """Whether files and folders name several videos, or may: a folder can have any number."""
    return len(videos) > 1 or os.path.isdir(videos[0])


def add_outputs(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    """Add the options that say what is written for each video.

    Args:
        parser: The parser.
        formats: Formats of `avpea.formats` that the answers can have.
    """
    parser.add_argument("--csv", type=a_path, metavar="FILE", help="write a table of all answers, failures included")
    parser.add_argument(
        "--format", action="append", choices=formats,
        help="write a file for each video, beside it or in --out; can be repeated",
    )  # fmt: skip
    about = "folder for the files of --format; or FILE.jsonl, for all answers, where the same command goes on"
    parser.add_argument("--out", type=a_path, metavar="DIR", help=about)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    about = "answer in N Ray workers, into --out FILE.jsonl (default: in this process)"
    parser.add_argument("--ray", type=int, default=0, metavar="N", help=about)
