"""Writing files, each of which is the old one or the complete new one even if the process is killed; and checksums.

A file is written under a temporary name in the same folder, `.NAME.RANDOM.tmp`, and renamed when it is complete. Its
writer holds a lock on it, so what a killed process leaves is known by its lock being free, and the next writer of the
same file removes it. Anything that the system refuses is a `WriteError` that names the file itself.

A file that grows while a command runs, row by row, ends with a whole row (`write_whole`).
"""

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from avpea.errors import WriteError
from avpea.escapes import STEERING
from avpea.locks import try_lock

__all__ = [
    "closed",
    "digest_of_file",
    "finite",
    "folder_aside",
    "json_line",
    "remove_folders_aside",
    "remove_leftovers",
    "replacing",
    "unwritable",
    "write_bytes",
    "write_json",
    "write_text",
    "write_whole",
    "writing",
]


@contextmanager
def replacing(path: Path, *, keep: bool = False, mode: int = 0o666) -> Iterator[Path]:
    """A temporary path in the same folder, which is renamed to `path` when the block ends without an error.

    Several processes may write the same file at once; the last one wins.

    Args:
        path: The file to write; its folder is made if it does not exist.
        keep: Whether a file that another process has written in the meantime stays, instead of the new one.
        mode: Permissions of the file, less the umask.

    Raises:
        WriteError: The system refuses it; what was there before is kept, and nothing else is left.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        aside, descriptor = _aside(path, mode)
        try:
            yield aside
            os.fsync(descriptor)
            if keep:
                _place(aside, path)
            else:
                aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink()
            os.close(descriptor)


def _place(aside: Path, path: Path) -> None:
    """Give a file its name, unless another one has it."""
    try:
        os.link(aside, path)  # unlike a rename it fails if there is a file already
    except FileExistsError:
        pass
    except OSError:  # the file system has no links
        aside.replace(path)


def _aside(path: Path, mode: int) -> tuple[Path, int]:
    """A new temporary file, opened and locked."""
    while True:
        aside = path.with_name(f"{_prefix(path.name)}{secrets.token_hex(4)}.tmp")
        descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        try:
            found = try_lock(descriptor)
            # In between another process may have taken it for a leftover.
            if found == "unknown" or (found == "ours" and aside.exists()):
                return aside, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _prefix(name: str) -> str:
    return f".{name[:60]}."  # at most 240 bytes, so that a name of any length has room for the rest


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove the temporary files that killed processes left in a folder.

    Args:
        folder: The folder.
        name: Only those of this file, and what an earlier version called them; empty means all files that such a name
            could be of, for folders in which nothing else is kept.
    """
    own = re.compile(rf"{re.escape(_prefix(name))}([0-9a-f]{{8}}\.)?tmp" if name else r"\..*\.tmp", re.DOTALL)
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [one.path for one in entries if own.fullmatch(one.name)]:
            with suppress(OSError):  # the folder may be read only; what needs to be written there says so
                _remove_if_free(path)


def folder_aside(folder: Path) -> Path:
    """A name beside a folder, for what becomes that folder when it is complete; nothing is made."""
    return folder.absolute().with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")


def remove_folders_aside(folder: Path) -> None:
    """Remove what killed processes left beside a folder, whose lock the caller holds; not what is another one's."""
    own = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.tmp")
    with suppress(OSError), os.scandir(folder.absolute().parent) as entries:
        for path in [one.path for one in entries if own.fullmatch(one.name)]:
            shutil.rmtree(path, ignore_errors=True)


def _remove_if_free(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if try_lock(descriptor) == "ours":
            os.unlink(path)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Let whatever the system refuses in the block be a `WriteError` that names `path`.

    Raises:
        WriteError: It refused something.
    """
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(error.errno or errno.EIO, str(path)) from None


def unwritable(folder: Path) -> str:
    """Why no file can be written in a folder, which need not exist yet; empty if one can. Nothing is made."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        return os.strerror(errno.ENOTDIR)
    if os.access(there, os.W_OK | os.X_OK):
        return ""
    read_only = hasattr(os, "statvfs") and os.statvfs(there).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def closed(path: Path, listed: bool = False) -> str:
    """Why a path cannot be looked at, as a sentence without its end: a folder on the way to it, or it, is closed.

    Args:
        path: The path.
        listed: Whether names of files in the folder at the path must be found, and not only files with known names.

    Returns:
        Empty if no folder is, whether there is something at the path or not.
    """
    try:
        whole = path.absolute()
    except FileNotFoundError:  # the current folder is gone
        return ""
    for folder in (*reversed(whole.parents), whole):
        if not os.path.isdir(folder):
            return ""
        if not os.access(folder, os.X_OK | (os.R_OK if listed and folder == whole else 0)):
            return f"The folder {folder} may not be read ({os.strerror(errno.EACCES)})"
    return ""


def write_whole(descriptor: int, content: bytes) -> None:
    """Write to an open file: all of the bytes, or none where the system takes only some of them.

    Raises:
        OSError: It did; pipes and terminals keep what they took.
    """
    written = 0
    try:
        while written < len(content):
            written += os.write(descriptor, content[written:])
    except BaseException:
        with suppress(OSError):
            end = os.lseek(descriptor, 0, os.SEEK_CUR)
            if written and end == os.fstat(descriptor).st_size:  # nobody has written after it
                os.ftruncate(descriptor, end - written)
                os.lseek(descriptor, end - written, os.SEEK_SET)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file."""
    with replacing(path) as aside:
        aside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; bytes of file names that are not UTF-8 become escapes, as JSON has them."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, value: Any, *, indent: int = 2) -> None:
    """Write a JSON file that ends with a newline."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def json_line(value: Any, encoding: str = "utf-8") -> str:
    """A value as JSON without line ends; numbers that JSON does not have (NaN, infinite) become null.

    What would steer a terminal, such as characters that turn the direction of writing, what is not seen, and what the
    encoding lacks, such as the bytes of a file name that is not UTF-8, are JSON's own escapes.
    """
    plain = finite(value)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False)
    text = STEERING.sub(lambda found: _escape(found[0]), text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(plain, allow_nan=False)
    return text


def _escape(letter: str) -> str:
    units = letter.encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finite(value: Any) -> Any:
    """The value with None for every number that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
