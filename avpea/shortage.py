"""What this process lacks when memory, threads or open files are used up, and what helps.

Python, torch and the loader of shared libraries each say it in their own way, and few of them with an error class. Some
libraries say nothing and end the process.
"""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import Any

from avpea.stopping import SIGNALS, end_with, from_terminal, handled

__all__ = ["short_of_memory", "shortage_of", "witnessed"]

_MEMORY = re.compile(
    r"out of memory|can't allocate memory|cannot allocate memory|not enough memory|failed to map segment|bad_alloc"
    r"|ALLOC_FAILED",
    re.IGNORECASE,
)
_THREADS = re.compile(r"can't start new thread|unable to start thread|Resource temporarily unavailable", re.IGNORECASE)
_LIMITS = (("RLIMIT_AS", "ulimit -v"), ("RLIMIT_DATA", "ulimit -d"))
# How a library ends the process that gets no memory: an exception of C++ that nothing catches, or a null pointer.
_ENDS = {getattr(signal, name, None) for name in ("SIGABRT", "SIGSEGV", "SIGBUS")}


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is used up: that of this computer, or of a device that torch computes on."""
    of_system = getattr(error, "errno", None) == errno.ENOMEM
    return of_system or isinstance(error, MemoryError) or bool(_MEMORY.search(str(error)))


def shortage_of(error: BaseException) -> str:
    """What was used up, as a sentence with what helps; empty if the error says nothing of the kind."""
    if getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE):
        return (
            f"Too many files are open{_now('RLIMIT_NOFILE', 1)}; raise the limit (`ulimit -n`), or end other programs."
        )
    threads = _THREADS.search(str(error))
    if not (threads or short_of_memory(error)):
        return ""
    if limited := _limited():  # a thread lacks memory for its stack, too
        return limited
    if threads:
        return f"No more threads or processes can be started{_now('RLIMIT_NPROC', 1)}; end others (`ulimit -u`)."
    return "There is too little memory for this command; close other programs that use it."


def witnessed(command: Callable[[], int], tell: Callable[[str], None]) -> int:
    """The exit code of a command, which runs in a child where memory is limited, so that its end can be told.

    Args:
        command: The command; in the child, what it returns is returned here, too.
        tell: Tells a sentence.
    """
    # A process of a launcher has to be its child, and one that has imported torch may have threads, which do not fork.
    if not _limited() or "WORLD_SIZE" in os.environ or "torch" in sys.modules:
        return command()
    parent, child = os.getpid(), os.fork()
    if not child:
        end_with(parent)
        return command()

    def pass_on(number: int, _: Any) -> None:
        if not from_terminal(number):  # which reaches the child, too
            os.kill(child, number)

    with handled(pass_on, SIGNALS):
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if -code in _ENDS:
        tell(_limited())
        return 1
    return 128 - code if code < 0 else code


def _limited() -> str:
    """A sentence with the limit on this process's memory; empty if there is none."""
    for name, command in _LIMITS:
        if allowed := _now(name, 2**20):
            return f"There is too little memory for this command{allowed}; raise the limit (`{command}`)."
    return ""


def _now(name: str, unit: int) -> str:
    """The limit that holds for this process, in brackets; empty if there is none, or no such thing on this system."""
    try:
        import resource

        limit, _ = resource.getrlimit(getattr(resource, name))
    except (ImportError, AttributeError, OSError):
        return ""
    what = " MiB" if unit > 1 else ""
    return "" if limit == resource.RLIM_INFINITY else f" (it may use {limit // unit}{what})"
