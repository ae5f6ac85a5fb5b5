"""JSON and errors as a command prints them."""

import argparse
import errno
import os
import re
import stat
import sys
from typing import Any

from avpea.errors import AvpeaError, WriteError, with_option
from avpea.files import json_line, write_whole

__all__ = ["as_options", "print_json"]


def as_options(error: AvpeaError | str, options: argparse.Namespace) -> str:
    """The message of an error, with Python arguments rewritten as options of the command."""
    of_recipe = "--data.missing_{} {}" if options.takes_overrides else ""
    text = with_option(str(error), "--missing-{} {}" if hasattr(options, "missing_audio") else of_recipe)
    # Not within the name of a file, such as that of a run in a sweep.
    text = re.sub(r'(?<![\w./-])device="(\w+)"', r"--device \1", re.sub(r"(?<![\w./-])trust=True", "--trust", text))
    text = re.sub(r"(?<![\w./-])batch_size=(\d+)", r"--batch-size \1", text)
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
