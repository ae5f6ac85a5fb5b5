"""The command line: `avpea COMMAND`. Nothing heavy is imported before a command needs it."""

import argparse
import atexit
import difflib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from avpea import commands, registry
from avpea.command import Command, add_limits, as_options, limits_of
from avpea.errors import AvpeaError, WriteError
from avpea.escapes import for_terminal
from avpea.progress import note
from avpea.shortage import shortage_of, witnessed
from avpea.stopping import Stopped, interruptible, stoppable
from avpea.threads import settle
from avpea.version import __version__

__all__ = ["main", "make_parser"]

_DOTTED = re.compile(r"--[\w-]+(\.[\w-]+)+")
_OVERRIDES = """Options of the recipe can be changed by their dotted names:
  --data.root DIR  --data.missing_audio silence  --train.epochs 3  --train.seed 1  --adapter.streams audio
`avpea recipes NAME` prints every name with its value."""
# What a disk or folder can refuse, in the middle of whatever is written.
_OF_THE_PLACE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
_GROUPS = {"data": "Make, check and measure data sets."}


class _Parser(argparse.ArgumentParser):
    """Refuses abbreviations; on wrong use it prints one sentence and exits with code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
        self._words: list[str] = []

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, and keep the words for the error."""
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        if file is not sys.stdout:
            super()._print_message(message, file)
        elif message:  # unlike argparse's, which is silent where it cannot be written
            file.write(message)
            file.flush()

    def error(self, message: str) -> NoReturn:
        meant = self.meant(self._words)
        hint = f" Did you mean '{meant}'?" if meant else _like_options(self._words)
        self.exit(2, for_terminal(f"{self.prog}: {message}.{hint} `{self.prog} --help` explains.\n", lines=True))

    def meant(self, words: Sequence[str]) -> str:
        """The option that was probably meant by one that is unknown; empty if there is none like it."""
        known = [name for name in self._option_string_actions if name.startswith("--")]
        for word in words:
            name = word.partition("=")[0]
            if word == "--" or (self._subparsers and not word.startswith("-")):  # what follows is a command's own
                break
            if not name.startswith("--") or name in known or _DOTTED.fullmatch(name):
                continue
            if close := difflib.get_close_matches(name, known, n=1, cutoff=0.8):
                return close[0]
        return ""


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of a recipe with their values, and the other words.

    argparse knows none of them, and so would take their values for arguments of the command.
    """
    given: list[str] = []
    others: list[str] = []
    place = 0
    while place < len(words) and words[place] != "--":
        name, equals, _ = words[place].partition("=")
        follows = words[place + 1 : place + 2]
        if not _DOTTED.fullmatch(name):
            others.append(words[place])
        elif equals:
            given.append(words[place])
        elif follows and not re.match(r"-\D", follows[0]):  # -1 is a value
            given += [name, follows[0]]
            place += 1
        else:
            others.append(name)
        place += 1
    return given, [*others, *words[place:]]


def _like_options(words: Sequence[str]) -> str:
    """How to name a file that is called as options are, with a leading space; empty if none of the words is one."""
    file = next((word for word in words if word.startswith("-") and _like_a_file(word)), "")
    return f" To mean the file and no option, write ./{file}." if file else ""


def _like_a_file(word: str) -> bool:
    """Whether there is such a file, or it would be a video or a sound by its ending, and is no option of a recipe."""
    from avpea.labels import MEDIA_SUFFIXES

    return os.path.lexists(word) or (word[1:2] != "-" and word.lower().endswith(MEDIA_SUFFIXES))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0, or 1 for an error, 2 for wrong use, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    try:
        with stoppable():
            return witnessed(lambda: _main(arguments), note)
    except KeyboardInterrupt as stopped:  # the second one, while the first is told
        return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)
    finally:
        _let_go()


def script() -> int:
    """`main` as a process of its own, which ends at once: taking torch's modules apart takes half a second.

    Threads have been waited for by then, and whatever libraries do at the end of a process is done.
    """
    done: list[int] = []
    # What is registered first is called last. If Python's start has registered something, that would not be called.
    if getattr(atexit, "_ncallbacks", lambda: 1)() == 0:
        atexit.register(_leave, done)
    done.append(main())
    if done[0] > 128:  # a signal has ended it; a second one, as a terminal and a launcher send, has nothing left to end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return done[0]


def _leave(done: Sequence[int]) -> None:
    """End the process with the exit code of a command that has come to its end, unless it is traced or profiled."""
    if done and sys.gettrace() is None and sys.getprofile() is None:
        _let_go()
        os._exit(done[0])


def _let_go() -> None:
    """Let streams that cannot be written lead nowhere; else Python tries again at its end, and its exit code is 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _main(arguments: Sequence[str] | None) -> int:
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name need not be UTF-8
    settle()
    parser = make_parser()
    try:
        words = sys.argv[1:] if arguments is None else list(arguments)
        given, others = _apart(words)
        options, rest = parser.parse_known_args(others)
        if given and getattr(options, "takes_overrides", False):
            rest = [*given, *rest]
        elif given:  # options of the command itself
            options, rest = parser.parse_known_args(words)
        if not hasattr(options, "run_command"):
            if rest:
                parser.error(f"unrecognized arguments: {' '.join(rest)}")
            parser.print_help()
            return 2
    except OSError as error:  # of printing the help or the version
        return _not_printed(error)
    try:
        # An option of the command that is mistyped would be said to be none of the recipe's.
        if rest and (not options.takes_overrides or options.parser.meant(rest)):
            options.parser.error(f"unrecognized arguments: {' '.join(rest)}")
        options.words = words
        require_alone(options)
        _require_here()
        options.overrides = {}
        if rest:
            from avpea.experiment import parse_overrides

            try:
                options.overrides = parse_overrides(rest)
            except AvpeaError as error:
                raise AvpeaError(f"{error}{_like_options(rest)}") from None
        with interruptible(), _box(options):
            code = options.run_command(options)
        sys.stdout.flush()  # so that what cannot be written is an error now
    except AvpeaError as error:
        if not _told_by_launcher(error):
            note(as_options(error, options))
        return 1
    except KeyboardInterrupt as stopped:
        kept = "stopped; what was finished is kept, and the same command goes on from there or begins anew."
        if os.environ.get("RANK", "0") == "0":  # of several processes, one says it
            note(str(stopped) or kept)
        return 128 + (stopped.number if isinstance(stopped, Stopped) else signal.SIGINT)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if shortage := shortage_of(error):
            note(shortage)
            return 1
        if not isinstance(error, OSError) or error.errno is None:
            raise
        remedy = "make room or give permission there" if error.errno in _OF_THE_PLACE else "mend that"
        where = f"{error.filename}: " if error.filename else ""
        note(f"{where}{error.strerror}; {remedy}, or choose another place.")
        return 1
    return int(code or 0)


def _not_printed(error: OSError) -> int:
    """Say why the output cannot be written; the exit code. A reader that has read enough is no fault."""
    if isinstance(error, BrokenPipeError):
        return 0
    note(str(WriteError(error.errno or errno.EIO, "The output")))
    return 1


def _open_streams() -> None:
    """Let standard streams that whoever started the command has closed (`>&-`) lead nowhere.

    Else the next file that is opened takes the place of one, and what a library prints ends in it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:  # something else is open in the place of an earlier one
                os.dup2(opened, number)
                os.close(opened)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _require_here() -> None:
    """Refuse a folder that has been removed.

    Raises:
        AvpeaError: It has; no relative path leads anywhere, and Intel's library for matrices ends the process.
    """
    try:
        os.getcwd()
    except FileNotFoundError:
        raise AvpeaError("The folder in which the command runs has been removed; run it in another one.") from None


def _box(options: argparse.Namespace) -> AbstractContextManager[None]:
    """The box that the command decodes media in, if it does."""
    if not options.decodes:
        return nullcontext()
    from avpea.media.box import boxed

    return boxed(limits_of(options))


def require_alone(options: argparse.Namespace) -> None:
    """Refuse several processes of a launcher, unless the command is made for them.

    Raises:
        AvpeaError: They would all do the same.
    """
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1" and "RANK" in os.environ and not options.processes:
        raise AvpeaError(
            f"{count} processes were started (WORLD_SIZE), which only `avpea train` shares work among; start one."
        )


def _told_by_launcher(error: AvpeaError) -> bool:
    if "WORLD_SIZE" not in os.environ:
        return False
    from avpea.launch import reported  # imports torch

    return reported(error)


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands, those of tasks included; docs/cli.md is generated from it."""
    parser = _Parser(
        prog="avpea",
        description="A frozen image transformer learns to hear: audio-visual adapters (AV-PEA).",
        epilog="Each command has its own help, such as: avpea train --help",
    )
    parser.add_argument("--version", action="version", version=f"avpea {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    groups: dict[str, Any] = {"": subparsers}
    brought = [command for module in registry.command_modules() for command in module.COMMANDS]
    taken: set[tuple[str, str]] = set()
    for command in [*commands.COMMANDS, *brought]:
        if (command.group, command.name) in taken:
            note(f"two packages have the command '{command.name}'; one is left out.")
            continue
        taken.add((command.group, command.name))
        if command.group not in groups:
            groups[command.group] = _add_group(subparsers, command.group)
        _add(groups[command.group], command)
    return parser


def _add_group(subparsers: Any, name: str) -> Any:
    about = _GROUPS.get(name, f"Commands of {name}.")
    group = subparsers.add_parser(name, help=about, description=about)
    group.set_defaults(run_command=lambda _: group.print_help() or 2, takes_overrides=False, parser=group)
    group.set_defaults(decodes=False, processes=True)
    return group.add_subparsers(title="commands", metavar="COMMAND")


def _add(subparsers: Any, command: Command) -> None:
    epilog = f"Example:\n  {command.example}" + (f"\n\n{_OVERRIDES}" if command.overrides else "")
    made: argparse.ArgumentParser = subparsers.add_parser(
        command.name, help=command.summary, description=command.summary, epilog=epilog
    )
    command.arguments(made)
    if command.json:
        made.add_argument("--json", action="store_true", help="print JSON, one line per result")
    if command.quiet:
        made.add_argument("--quiet", action="store_true", help="no progress bars")
    if command.media:
        add_limits(made)
    made.set_defaults(run_command=command.run, takes_overrides=command.overrides, parser=made)
    made.set_defaults(decodes=command.media, processes=command.processes)
