"""Bytes of files that lie in a folder or behind a URL: `https://`, `http://`, `s3://` or `gs://`.

Over HTTP the server must answer requests for ranges of bytes, as object stores and most servers do; the others are read
by pyarrow, which takes credentials from the environment. What fails in a way that passes is tried again.
"""

import http.client
import os
import re
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from avpea.parsing import irregular

__all__ = ["Unreachable", "below", "is_url", "read_bytes", "read_whole", "size_of"]

_URL = re.compile(r"(https?|s3|gs)://.")
_WAITS = (1.0, 2.0, 4.0, 8.0, 0.0)  # seconds after a request that failed
_PATIENCE_SECONDS = 60.0
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class Unreachable(Exception):
    """A file cannot be read; the text is the reason, for the middle of a sentence."""


def is_url(root: str) -> bool:
    """Whether a root is a URL of a kind that is read, and no folder."""
    return bool(_URL.match(root))


def _is_http(place: str) -> bool:
    """Whether a place is behind a URL of the web, and no folder whose name begins like one."""
    return place.startswith(("http://", "https://"))


def below(root: str, name: str) -> str:
    """The place of a file directly below a root."""
    return f"{root.rstrip('/')}/{name}" if is_url(root) else str(Path(root) / name)


def size_of(place: str) -> int:
    """Number of bytes of a file.

    Raises:
        Unreachable: There is no such file, or it cannot be reached.
    """
    if _is_http(place):
        return _asked(place, 0, 1)[1]
    if is_url(place):
        with _opened(place) as file:
            return int(file.size())
    try:
        about = os.stat(place)
    except (OSError, ValueError) as error:
        raise Unreachable(_reason(error)) from None
    if what := irregular(about.st_mode):  # a pipe would be waited for
        raise Unreachable(f"it is {what}")
    return about.st_size


def read_bytes(place: str, first: int, count: int) -> bytes:
    """Some bytes of a file; fewer if it ends before.

    Raises:
        Unreachable: There is no such file, or it cannot be reached.
    """
    if _is_http(place):
        return _asked(place, first, count)[0]
    try:
        if is_url(place):
            with _opened(place) as file:  # which refuses to read past its end
                return bytes(file.read_at(max(0, min(count, file.size() - first)), min(first, file.size())))
        with open(place, "rb") as file:
            file.seek(first)
            return file.read(count)
    except (OSError, ValueError) as error:
        raise Unreachable(_reason(error)) from None


def read_whole(place: str, most: int) -> bytes:
    """All bytes of a file of at most `most`.

    Raises:
        Unreachable: It is bigger, or as `read_bytes`.
    """
    size = size_of(place)
    if size > most:
        raise Unreachable(f"bigger than {most >> 20} MiB, which no such file is")
    return read_bytes(place, 0, size) if size else b""


def _asked(url: str, first: int, count: int) -> tuple[bytes, int]:
    """Bytes of a file, and how many it has in all."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={first}-{first + count - 1}"})
    reason = ""
    for wait in _WAITS:
        try:
            return _answered(request, count)
        except urllib.error.HTTPError as error:
            reason = f"the server says {error.code} {error.reason}"
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return b"", _total(error.headers.get("Content-Range", ""))
            if error.code not in _PASSING:
                break
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        time.sleep(wait)
    raise Unreachable(reason)


def _answered(request: urllib.request.Request, count: int) -> tuple[bytes, int]:
    with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            raise Unreachable("the server does not answer requests for ranges of bytes; serve it by one that does")
        found, total = answer.read(count), _total(answer.headers.get("Content-Range", ""))
    if len(found) < count and answer.length:  # the connection ended before the answer did
        raise http.client.IncompleteRead(found, count - len(found))
    return found, total


def _total(content_range: str) -> int:
    """The size of a file in a header such as `bytes 0-0/1234`."""
    known = re.fullmatch(r"bytes [^/]*/(\d{1,18})", content_range)
    if known is None:
        raise Unreachable("the server does not say how big the file is; serve it by one that does")
    return int(known[1])


def _opened(url: str) -> Any:
    try:
        system, path = _system(url)
        return system.open_input_file(path)
    except (OSError, ValueError) as error:
        raise Unreachable(_reason(error)) from None


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, which keeps its connections, and the path there."""
    scheme, _, rest = url.partition("://")
    return _file_system(f"{scheme}://{rest.partition('/')[0]}"), rest


@cache
def _file_system(bucket: str) -> Any:
    try:
        from pyarrow.fs import FileSystem
    except ImportError:
        raise Unreachable("reading it needs pyarrow: pip install 'avpea[search]'") from None
    return FileSystem.from_uri(bucket)[0]


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        error = error.reason if isinstance(error.reason, Exception) else error
    text = (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()
    return " ".join(text.split())[:200].rstrip(".")
