"""The folder of uploaded files: it goes with the server, however that ends.

It lies beside those of other servers of the same user. A server that is killed cannot remove it, so a small process
waits for the server's end and does; and what even that could not remove, the next server that starts does, which knows
a folder in use by its lock.
"""

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from avpea.errors import WriteError
from avpea.files import writing
from avpea.locks import try_lock

__all__ = ["Scratch"]

_LOCK = ".lock"
# It reads until the other end of the pipe is closed, as the system does when the server ends.
_JANITOR = "import shutil, sys; sys.stdin.buffer.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Scratch:
    """A new folder of this user alone.

    Args:
        above: Folder of all such folders; by default one in the system's folder for temporary files.

    Attributes:
        path: The folder.

    Raises:
        WriteError: It cannot be made.
    """

    def __init__(self, above: Path | None = None) -> None:
        self._above = above or Path(tempfile.gettempdir()) / f"avpea-serve-{_user()}"
        with writing(self._above):
            self._above.mkdir(mode=0o700, parents=True, exist_ok=True)
            about = self._above.lstat()
            if not stat.S_ISDIR(about.st_mode) or (hasattr(os, "getuid") and about.st_uid != os.getuid()):
                raise WriteError(errno.EACCES, str(self._above))  # somebody else made it, or a link, before us
            self._above.chmod(0o700)
            _sweep(self._above)
            self.path = Path(tempfile.mkdtemp(dir=self._above))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try_lock(self._lock)
        self._janitor = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _JANITOR, str(self.path)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)
        if self._janitor.stdin is not None:
            self._janitor.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._janitor.wait(30)
        with contextlib.suppress(OSError):
            self._above.rmdir()  # unless other servers have theirs in it


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _sweep(above: Path) -> None:
    """Remove the folders of servers that are gone."""
    for folder in above.iterdir():
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        except OSError:  # it has just been made or removed
            continue
        try:
            if try_lock(descriptor) == "ours":
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
