"""Locks of the operating system: who may write in a place now.

A lock ends with the process that holds it, however that ends, so one that was killed is no obstacle; neither a file's
existence nor a clock decides anything. On NFS (Linux 2.6.12 or newer) and SMB a lock holds on all machines, on file
systems mounted without locks only on one machine or not at all: where a lock cannot be had, that is said once.
"""

import errno
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Literal

from avpea.errors import InUseError
from avpea.progress import note

__all__ = ["LOCK_FILE", "locked", "try_lock"]

LOCK_FILE = ".lock"
# Locks of this process by file, process and thread: what holds a folder may call what locks it again.
_HELD: set[tuple[str, int, int]] = set()
_ATTEMPTS = 1000  # to make a file in a folder that others remove meanwhile


def try_lock(descriptor: int) -> Literal["ours", "theirs", "unknown"]:
    """Lock an open file, without waiting, until it is closed; `unknown` where the file system has no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return "unknown"
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "theirs"
    except OSError:
        return "unknown"
    return "ours"


@contextmanager
def locked(folder: Path, what: str, name: str = LOCK_FILE) -> Iterator[None]:
    """Hold the lock of a folder during the block; the same thread may lock it again inside.

    Where the lock's file cannot be made, as in a folder that is read only, the block runs without it: nobody else can
    write there either.

    Args:
        folder: The folder, which is made for this; it is removed if it is empty at the end.
        what: What is done with the folder, for the error of others, such as `is being trained`.
        name: Name of the lock's file, which exists only as long as it is held, or as a killed process left it.

    Raises:
        InUseError: Another process or thread holds it; says who. Or something else has the name of the lock's file.
    """
    key = os.path.realpath(folder / name), os.getpid(), threading.get_ident()
    if key in _HELD:
        yield
        return
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    descriptor = -1
    with suppress(OSError):
        descriptor = _opened(folder, name)
    if descriptor < 0:
        yield
        return
    _HELD.add(key)
    try:
        _sign(descriptor, what)
        yield
    finally:
        _HELD.discard(key)
        with suppress(OSError):
            (folder / name).unlink()  # while it is held, so that it is nobody else's
        os.close(descriptor)
        with suppress(OSError):
            for one in missing:
                one.rmdir()


def _opened(folder: Path, name: str) -> int:
    """The lock's file, opened and locked.

    Raises:
        InUseError: It is held; or something else has its name, as a stranger's folder may have, and is left as it is.
        OSError: It cannot be made.
    """
    path = folder / name
    no_file = InUseError(
        f"{folder} cannot be locked, since {path} is no file of avpea's, but a link or no regular file; remove it."
    )
    vanished = 0
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # another process has just removed the empty folder, or it is one such as /proc/1
            vanished += 1
            if vanished == _ATTEMPTS:
                raise
            continue
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a folder, a socket
                raise no_file from None
            raise
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:  # another file would be overwritten
                raise no_file
            found = try_lock(descriptor)
            if found == "theirs":
                raise InUseError(f"{folder} {_holder(path)}; wait until that is done, or end that process.")
            if found == "unknown":
                _tell(str(folder))
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed the file since


def _sign(descriptor: int, what: str) -> None:
    """Write into the lock's file who holds it; for people, as the lock itself does not depend on it."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    about = {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": since}
    with suppress(OSError):  # on a full disk nobody is told who holds it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)


def _holder(path: Path) -> str:
    try:
        about = json.loads(path.read_text("utf-8"))
        what, pid, host, since = (str(about[key])[:80] for key in ("what", "pid", "host", "since"))
    except (OSError, ValueError, LookupError, TypeError):
        return "is in use by another process"
    return f"{what} by process {pid} on {host} since {since}"


@cache
def _tell(folder: str) -> None:
    note(f"the file system of {folder} has no locks; see to it that no other process writes there.")
