"""Running a server until it is told to end."""

import copy
import logging
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
        except SystemExit as error:  # which uvicorn makes of it
            if not isinstance(error.__context__, OSError):
                raise
            where, reason = f"{self.config.host}:{self.config.port}", str(error.__context__.strerror)
            raise AvpeaError(
                f"The server cannot listen at {where} ({reason.rpartition(': ')[2]}); choose another --port or --host."
            ) from None
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
    with boxed(settings.limits, settings.workers):
        warm_up()
        server = Server(settings, **loading)
        running = _Uvicorn(configured(server))
        try:
            # Uvicorn ends in order at a signal, and raises it again afterwards, which is of no use here.
            with handled(lambda number, frame: setattr(running, "should_exit", True)):
                running.run()
        finally:
            server.close()


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
