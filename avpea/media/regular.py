"""Refusing what is no regular file; without the libraries that decode, and without opening it."""

import errno
import os
import stat
from pathlib import Path

from avpea.errors import MediaError, MissingFile

__all__ = ["NOWHERE", "require_file"]

KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}
NOWHERE = {
    errno.ENOENT: "there is no such file; check the path.",
    errno.ENOTDIR: "there is no such file; check the path.",
    errno.ENAMETOOLONG: "there is no such file, as the path is longer than the file system allows; check the path.",
    errno.ELOOP: "there is no such file, as its link leads back to itself; mend or remove the link.",
}


def require_file(path: Path) -> os.stat_result:
    """Refuse what is no regular file, without opening it: opening a named pipe would wait forever.

    Raises:
        MissingFile: There is no such file.
        MediaError: It is a folder, a pipe, a socket or a device, or may not be looked at.
    """
    try:
        about = path.stat()
    except OSError as error:
        if error.errno in NOWHERE:
            raise MissingFile(path, NOWHERE[error.errno]) from None
        raise MediaError(path, f"cannot be opened: {error.strerror}.") from None
    except ValueError:  # a zero byte in the name
        raise MissingFile(path, NOWHERE[errno.ENOENT]) from None
    if not stat.S_ISREG(about.st_mode):
        kind = next((name for test, name in KINDS.items() if test(about.st_mode)), "no regular file")
        raise MediaError(path, f"this is {kind}; expected a file.")
    return about
