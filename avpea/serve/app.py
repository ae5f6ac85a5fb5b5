"""The application: endpoints, page, documentation, and what stands around them."""

import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from avpea.serve import problems, review_api, routes
from avpea.serve.guard import Guard, policy
from avpea.serve.monitor import Timed
from avpea.serve.problems import OnlyProblems, Problem, answer_to
from avpea.serve.server import Server
from avpea.version import __version__

__all__ = ["make_app"]

_log = logging.getLogger("avpea.serve")
_STATIC = files("avpea.serve") / "static"
_NONCE = "{{nonce}}"
_ABOUT = """Events, answers and captions of videos, by trained adapters.

Errors are problems as in RFC 9457 (`application/problem+json`), with a sentence in `detail`.
"""


def make_app(server: Server) -> FastAPI:
    """The application of a server; it closes the server when it ends."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            try:
                server.close()
            except Exception:  # uvicorn would tell it in lines that are not shown
                _log.exception("the server did not end in order")
                raise

    app = FastAPI(
        title="avpea", version=__version__, description=_ABOUT, docs_url=None, redoc_url=None, lifespan=life,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.server = server
    problems.add_handlers(app)
    app.include_router(routes.router)
    app.include_router(review_api.ROUTES, responses=routes.ERRORS)
    app.include_router(routes.task_router(server.kinds))
    _add_health(app, server)
    _add_pages(app)
    app.mount("/static", _Static(directory=str(_STATIC)), name="static")
    app.add_middleware(OnlyProblems)
    app.add_middleware(Guard, settings=server.settings, sessions=server.sessions)
    app.add_middleware(Timed, monitor=server.monitor)
    return app


def _add_health(app: FastAPI, server: Server) -> None:
    @app.get("/healthz", tags=["server"])
    def healthz() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["server"])
    def readyz() -> Response:
        """Whether requests about videos are answered: all runs are loaded, and computing goes on."""
        if not server.ready or not server.engine.alive:
            return answer_to(Problem(503, "The server is ending.", "not-ready", {"Retry-After": "5"}))
        return JSONResponse({"status": "ready", "runs": len(server.models.all())})

    @app.get("/metrics", tags=["server"], response_class=Response)
    def metrics() -> Response:
        """Counts and times for Prometheus."""
        return Response(server.monitor.text(), media_type="text/plain; version=0.0.4")


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return _page("index.html")

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> Response:
        return _page("docs.html")


class _Static(StaticFiles):
    """The page's files. A path that no file can have is not found; earlier versions of Starlette fail on it."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        return ("", None) if "\0" in path else super().lookup_path(path)


def _page(name: str) -> Response:
    """A page; `{{nonce}}` in it is what its styles may have as their nonce."""
    nonce = secrets.token_urlsafe(16)
    text = (_STATIC / name).read_text("utf-8").replace(_NONCE, nonce)
    return HTMLResponse(text, headers={"Content-Security-Policy": policy(nonce)})
