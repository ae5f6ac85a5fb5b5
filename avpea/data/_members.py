"""Members of a tar file, of whose bytes a hash is taken while they are read and written."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import BinaryIO

from avpea.data.packed import BLOCK
from avpea.errors import DataError
from avpea.labels import Member

__all__ = ["Hashing", "add_file", "add_member"]


def add_file(tar: tarfile.TarFile, name: str, path: Path) -> Member:
    """Add a file to a tar file.

    Raises:
        DataError: It cannot be read to its end.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            return add_member(tar, name, file, size)
    except _Unread as error:
        raise DataError(f"{path} cannot be read to its end ({error}); mend it, and pack again.") from None


def add_member(tar: tarfile.TarFile, name: str, file: BinaryIO | io.BytesIO, size: int) -> Member:
    """Add so many bytes to a tar file, without a time and an owner."""
    about = tarfile.TarInfo(name)
    about.size = size
    read, first = _Reading(file), tar.offset + BLOCK
    tar.addfile(about, read)
    return Member(name, first, size, read.digest.hexdigest())


class _Unread(Exception):
    """A file cannot be read, or has become shorter."""


class _Reading:
    """A file of whose bytes a hash is taken while they are read."""

    def __init__(self, file: BinaryIO | io.BytesIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        try:
            found = self.file.read(count)
        except OSError as error:
            raise _Unread(error.strerror) from None
        if len(found) < count:
            raise _Unread("it has become shorter")
        self.digest.update(found)
        return found


class Hashing:
    """A file of whose bytes a hash is taken while they are written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)

    def tell(self) -> int:
        return self.file.tell()
