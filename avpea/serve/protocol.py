"""HTTP on a connection, where uvicorn leaves something open: half a header, no HTTP at all, too many connections.

They are answered with problems as all others are, and no connection waits for ever for the rest of a header, or for a
client to read.
"""

import asyncio
import contextlib
import socket
import sys
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from avpea.serve.problems import Problem, answer_to

__all__ = ["Protocol"]

MOST_HEADER_BYTES = 16 << 10
HEADER_SECONDS = 15.0  # for the header of a request, and for what a client still sends after the answer
STALLED_SECONDS = 120.0  # in which a client has to take something of its answer
UNSENT_BYTES = 8 << 10  # that the system keeps of a connection beside what is under way: seconds of a slow one
MOST_CONNECTIONS = 512


class _Connection(h11.Connection):
    """Refuses a header that is too big also if it comes in one piece; h11 bounds only what it still waits for."""

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        event = super().next_event()
        if isinstance(event, h11.Request):
            size = len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
            if size > MOST_HEADER_BYTES:
                raise h11.RemoteProtocolError("header too big", error_status_hint=431)
        return event


class Protocol(H11Protocol):
    """A connection on which each header has to be whole in time, and answers have to be read.

    The body of a request has bounds of its own.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = _Connection(h11.SERVER, MOST_HEADER_BYTES)
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begin to wait for the first header."""
        super().connection_made(transport)
        # `pause_writing` then tells of every byte that the system does not take: also of the end of an answer, whose
        # connection is closed only when the client has read it.
        transport.set_write_buffer_limits(high=0)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Otherwise the system takes megabytes at a time, and a slow client seems to read nothing between two takes.
            with contextlib.suppress(OSError):  # the client has gone already
                about = transport.get_extra_info("socket")
                about.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        if len(self.connections) > MOST_CONNECTIONS:
            self.app = _too_many
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._wait_no_more()
        self._read_on()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The client has read all that was written."""
        super().resume_writing()
        self._read_on()

    def _watch(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self._look, left)

    def _look(self, before: int) -> None:
        """Close a connection whose client has read nothing since; to close it in order would wait for it again."""
        if self.transport.get_write_buffer_size() < before:
            self._watch()
        else:
            self._stalled = None
            self.transport.abort()

    def _read_on(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; uvicorn calls this while it handles h11's error."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        if status == 431:
            most = f"{MOST_HEADER_BYTES >> 10} KiB"
            self._refuse(Problem(431, f"The header of the request is bigger than {most}; send a shorter one."))
            return
        reason = str(error).partition(":")[0]  # and not the bytes that h11 shows after it
        self._refuse(Problem(400, f"This is no request of HTTP/1.1 ({reason}); send one as clients do."))

    def _wait(self) -> None:
        """Go on waiting for a header, which a request that is being answered has sent."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _wait_no_more(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        begun, _ = self.conn.trailing_data
        if begun and self.conn.our_state is h11.IDLE:
            self._refuse(Problem(408, f"The header was not whole after {HEADER_SECONDS:g} s; send the request again."))
        else:
            self.timeout_keep_alive_handler()  # closes the connection

    def _refuse(self, problem: Problem) -> None:
        """Answer with a problem, unless an answer has begun, and close the connection."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = answer_to(problem)
            headers = [*self.server_state.default_headers, *answer.raw_headers, (b"connection", b"close")]
            events = (
                h11.Response(status_code=problem.status, headers=headers, reason=problem.title.encode()),
                h11.Data(data=bytes(answer.body)),
                h11.EndOfMessage(),
            )
            with contextlib.suppress(h11.LocalProtocolError):  # the answer to HEAD has no body
                self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()


async def _too_many(scope: Scope, receive: Receive, send: Send) -> None:
    headers = {"Retry-After": "5", "Connection": "close"}
    problem = Problem(503, f"More than {MOST_CONNECTIONS} connections are open; try again in 5 s.", "busy", headers)
    await answer_to(problem)(scope, receive, send)
