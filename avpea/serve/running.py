"""Running a server until it is told to end."""

import copy
import errno
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn

from avpea.errors import AvpeaError
from avpea.media import boxed, warm_up
from avpea.progress import say
from avpea.serve.app import make_app
from avpea.serve.protocol import Protocol
from avpea.serve.server import Server
from avpea.serve.settings import Settings
from avpea.stopping import handled

__all__ = ["configured", "serve"]

GRACE_SECONDS = 10  # for answers that have begun
IDLE_SECONDS = 15  # after which a connection without requests is closed


class _Uvicorn(uvicorn.Server):
    """Tells the address as soon as it listens, or why it cannot."""

    async def startup(self, sockets: Any = None) -> None:
        try:
            await super().startup(sockets)
        except OSError as error:  # another server was bound to the same port too, and listens already
            raise _not_there(self.config.host, self.config.port, error) from None
        if self.started and self.servers:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            say(f"Serving at http://{shown}:{port} until Ctrl-C; the API is at http://{shown}:{port}/docs")


def serve(settings: Settings, loading: dict[str, Any]) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        settings: What is offered.
        loading: How runs are loaded, for `avpea.serve.models.Models`.

    Raises:
        AvpeaError: A run or the library cannot be opened, or the port is in use.
    """
    logging.getLogger("avpea.serve").setLevel(logging.ERROR)
    # The port first: that it is in use is known at once, and loading runs takes a while.
    with _bound(settings.host, settings.port) as sockets, boxed(settings.limits, settings.workers):
        warm_up()
        server = Server(settings, **loading)
        running = _Uvicorn(configured(server))
        try:
            # Uvicorn ends in order at a signal, and raises it again afterwards, which is of no use here.
            with handled(lambda number, frame: setattr(running, "should_exit", True)):
                running.run(sockets)
        finally:
            server.close()


@contextmanager
def _bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets at the addresses of a host, which do not listen yet; closed at the end.

    Raises:
        AvpeaError: There is no such host, or the port is in use.
    """
    with ExitStack() as stack:
        sockets, lacking = [], None
        try:
            for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
                try:
                    sockets.append(stack.enter_context(_socket(*found)))
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    lacking = error  # `localhost` is two addresses, of which a machine without IPv6 has one
        except (OSError, UnicodeError) as error:
            raise _not_there(host, port, error) from None
        if lacking is not None and not sockets:
            raise _not_there(host, port, lacking)
        yield sockets


def _socket(family: int, kind: int, protocol: int, _: str, address: Any) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made


def _not_there(host: str, port: int, error: Exception) -> AvpeaError:
    reason = getattr(error, "strerror", None) or "this is no name of a host"
    return AvpeaError(f"The server cannot listen at {host}:{port} ({reason}); choose another --port or --host.")


def configured(server: Server) -> uvicorn.Config:
    """How uvicorn serves a server."""
    settings = server.settings
    return uvicorn.Config(
        make_app(server), settings.host, settings.port, log_config=_log_config(), access_log=False, ws="none",
        http=Protocol, server_header=False, date_header=True, timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=IDLE_SECONDS,
    )  # fmt: skip


def _log_config() -> dict[str, Any]:
    """Uvicorn's log without its lines: what a user has to know, the server says itself."""
    found = copy.deepcopy(uvicorn.config.LOGGING_CONFIG)
    for one in found["loggers"].values():
        one["level"] = "CRITICAL"
    return found
