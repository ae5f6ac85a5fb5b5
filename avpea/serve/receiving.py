"""Receiving a form with a file: straight to the disk, bounded, and nothing of it stays if it breaks off."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from avpea.serve.problems import Problem

__all__ = ["Received", "body_of", "receive"]

MOST_FIELD_BYTES = 16_384
MOST_PARTS = 16
MOST_HEADER_BYTES = 8192
PATIENCE_SECONDS = 30.0  # for the next piece of a body


@dataclass
class Received:
    """A form that was received.

    Attributes:
        file: Where its file was written; None if it had none.
        name: What the client calls that file.
        size: Its size in bytes.
        fields: The other fields.
    """

    file: Path | None = None
    name: str = ""
    size: int = 0
    fields: dict[str, str] = field(default_factory=dict)


async def receive(request: Request, target: Path, most_bytes: int) -> Received:
    """Receive the form of a request, with at most one file, in the field `file`.

    Args:
        request: The request.
        target: Where the file is written; nothing is left there if it does not arrive whole.
        most_bytes: Size of the file.

    Raises:
        Problem: It is no such form, too big, too slow, or breaks off.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem(415, "Expected a form (multipart/form-data) with the video in the field `file`.")
    _require_length(request, most_bytes + MOST_PARTS * MOST_FIELD_BYTES)
    form = _Form(target, most_bytes)
    done = False
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        async for piece in _pieces(request):
            parser.write(piece)
        parser.finalize()
        if not form.ended:
            raise Problem(400, "The form breaks off before its end; send it again.")
        done = True
    except FormParserError as error:
        raise Problem(400, f"This is no form that can be read ({error}); send it as multipart/form-data.") from None
    finally:
        form.close(keep=done)
    return form.received


async def body_of(request: Request, most_bytes: int) -> bytes:
    """The body of a request.

    Raises:
        Problem: It is bigger, too slow, or breaks off.
    """
    _require_length(request, most_bytes)
    found = bytearray()
    async for piece in _pieces(request):
        found += piece
        if len(found) > most_bytes:
            raise _too_big(most_bytes)
    return bytes(found)


async def _pieces(request: Request) -> Any:
    stream = request.stream().__aiter__()
    while True:
        try:
            piece = await asyncio.wait_for(anext(stream), PATIENCE_SECONDS)
        except StopAsyncIteration:
            return
        except ClientDisconnect:
            raise Problem(400, "The request broke off before its end.") from None
        except TimeoutError:
            raise Problem(408, f"Nothing came for {PATIENCE_SECONDS:g} s; send the request again.") from None
        yield piece


def _require_length(request: Request, most_bytes: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > most_bytes:
        raise _too_big(most_bytes)


def _too_big(most_bytes: int) -> Problem:
    size = f"{most_bytes / 2**20:.0f} MiB" if most_bytes >= 2**20 else f"{most_bytes} bytes"
    return Problem(413, f"The request is bigger than this server takes ({size}); send a smaller one.", "too-big")


class _Form:
    """Takes the parts of a form as they come."""

    def __init__(self, target: Path, most_bytes: int) -> None:
        self.received, self.ended = Received(), False
        self._target, self._most = target, most_bytes
        self._file: BinaryIO | None = None
        self._parts = 0
        self._begin()

    def callbacks(self) -> Any:
        found: dict[str, Callable[..., None]] = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }
        return found

    def close(self, keep: bool) -> None:
        """Close the file, and remove it unless it is kept, in which case its end has closed it already."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # it writes once more what the disk has refused
                self._file.close()
        if not keep:
            with contextlib.suppress(OSError):
                self._target.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._headers: dict[str, bytes] = {}
        self._header = (b"", b"")
        self._name, self._is_file, self._value = "", False, b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0] + data[start:end], self._header[1])
        self._require_short()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header = (self._header[0], self._header[1] + data[start:end])
        self._require_short()

    def _require_short(self) -> None:
        if len(self._header[0]) + len(self._header[1]) > MOST_HEADER_BYTES or len(self._headers) > MOST_PARTS:
            raise Problem(400, "The form has longer headers than any browser sends; send the file as a browser does.")

    def _header_end(self) -> None:
        self._headers[self._header[0].decode("latin-1").lower()] = self._header[1]
        self._header = (b"", b"")

    def _headers_finished(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Problem(400, f"The form has more than {MOST_PARTS} parts; send one file and its options.")
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options or self._name == "file"
        if not self._is_file:
            return
        if self._name == "file" and self.received.file is not None:
            raise Problem(422, "The form has two files in the field `file`; send one of them.")
        if self._name != "file":
            raise Problem(422, f"The form has a file in the field '{self._name[:40]}'; expected one, in `file`.")
        self.received.file = self._target
        sent = options.get(b"filename", b"").decode("utf-8", "replace")
        self.received.name = re.split(r"[/\\]", sent)[-1]  # some clients send the path as their system writes it
        try:
            self._file = self._target.open("xb")
        except OSError as error:
            raise _no_room(error) from None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._value += data[start:end]
            if len(self._value) > MOST_FIELD_BYTES:
                raise Problem(413, f"The field '{self._name[:40]}' is longer than {MOST_FIELD_BYTES} bytes.", "too-big")
            return
        self.received.size += end - start
        if self.received.size > self._most:
            raise _too_big(self._most)
        assert self._file is not None
        try:
            self._file.write(data[start:end])
        except OSError as error:
            raise _no_room(error) from None

    def _part_end(self) -> None:
        if not self._is_file:
            if self._name in self.received.fields:
                raise Problem(422, f"The form has the field '{self._name[:40]}' twice; send it once.")
            self.received.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.ended = True
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise _no_room(error) from None


def _no_room(error: OSError) -> Problem:
    return Problem(507, f"The server cannot keep the file ({error.strerror}); try again later.", "no-room")
