"""Errors as RFC 9457 problems (`application/problem+json`), each with a sentence for a person."""

import asyncio
import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avpea.errors import AvpeaError, DeviceMemoryError, InUseError, MediaError, MissingFile, WriteError, with_option
from avpea.escapes import for_terminal

__all__ = [
    "FIELD",
    "PROBLEM_TYPE",
    "OnlyProblems",
    "Problem",
    "ProblemBody",
    "about_file",
    "add_handlers",
    "answer_to",
    "problem_of",
    "routed",
    "unreadable",
]

PROBLEM_TYPE = "application/problem+json"
FIELD = '"missing_{}": "{}"'  # how requests about a video say what a track that is missing may be replaced by
_log = logging.getLogger("avpea.serve")


class ProblemBody(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str = Field(description="Kind of the problem, as a URN.")
    title: str = Field(description="Kind of the problem, in words.")
    status: int = Field(description="Status code of HTTP.")
    detail: str = Field(description="What happened and what to do, in a sentence.")


class Problem(Exception):
    """A request that cannot be answered.

    Args:
        status: Status code of HTTP.
        detail: A sentence with the value that was found, what was expected, and the remedy.
        kind: Last part of the problem's type; by default that of the status.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, detail: str, kind: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, for_terminal(detail), headers or {}
        self.title = HTTPStatus(status).phrase if status != 499 else "Client Closed Request"
        self.kind = kind or self.title.lower().replace(" ", "-")

    def body(self) -> dict[str, Any]:
        """The problem as plain values."""
        return {"type": f"urn:avpea:{self.kind}", "title": self.title, "status": self.status, "detail": self.detail}


def problem_of(error: BaseException) -> Problem:
    """The problem that an exception is; one about a file becomes a problem where the file has a name, `about_file`."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, MediaError):
        return Problem(422, f"{error.path.name}: {error.reason}", "unreadable-media")
    if isinstance(error, DeviceMemoryError):
        return Problem(507, str(error), "out-of-memory")
    if isinstance(error, InUseError):
        return Problem(409, str(error), "in-use")
    if isinstance(error, WriteError):
        return _unwritten(error)
    if isinstance(error, AvpeaError):
        return Problem(422, str(error), "refused")
    _log.error("a request failed", exc_info=error)
    return Problem(500, f"The server failed ({type(error).__name__}), by no fault of yours; its log says where.")


def _unwritten(error: WriteError) -> Problem:
    """The problem of a file that cannot be written; where it lies is told to the log alone."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Problem(507, f"The server cannot store this ({error.strerror}); make room on its disk.", "no-room")
    _log.error("%s", error)
    return Problem(500, f"The server cannot store this ({error.strerror}), by no fault of yours; its log says where.")


def unreadable(name: str) -> Problem:
    """The problem of a video that was listed, and is gone or may not be read."""
    return Problem(404, f"{name} cannot be read any more; list the videos anew.", "no-such-video")


@contextmanager
def about_file(path: Path, name: str, option: str = "") -> Iterator[None]:
    """Let every error in the block be a problem that calls the file by its name, and never tells where it lies.

    Args:
        path: The file that is worked on.
        name: What it is called for the user.
        option: `FIELD`, if the request may say what a missing track is replaced by.

    Raises:
        Problem: There was an error that a user can cause, or the file is gone.
    """
    try:
        yield
    except (MissingFile, FileNotFoundError, PermissionError) as error:
        raise unreadable(name) from error
    except WriteError as error:
        raise problem_of(error) from error
    except AvpeaError as error:
        found, told = problem_of(error), f"{name}: {error.reason}" if isinstance(error, MediaError) else str(error)
        raise Problem(found.status, with_option(told, option).replace(str(path), name), found.kind) from error


def answer_to(problem: Problem) -> JSONResponse:
    """The problem as an answer of HTTP."""
    return JSONResponse(problem.body(), problem.status, problem.headers, PROBLEM_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application be a problem."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        return answer_to(problem_of(error))

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path, headers = request.scope["path"][:200], dict(error.headers or {})
        if error.status_code == 404:
            detail = f"There is no {path} here; /docs lists what there is."
        elif error.status_code == 405:
            headers["Allow"] = _allowed(request)
            detail = f"{path} has no {request.method[:20]}, but {headers['Allow']}; /docs lists what there is."
        else:
            detail = f"{error.detail}."
        return answer_to(Problem(error.status_code, detail, headers=headers))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer_to(Problem(422, explained(error.errors()), "invalid-request"))

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(AvpeaError, known)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, known)


def _allowed(request: Request) -> str:
    """All methods of a path, as RFC 9110 wants them in `Allow`; each is a route of its own."""
    scope = {**request.scope, "root_path": request.scope.get("app_root_path", request.scope.get("root_path", ""))}
    found = {
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        for route in request.app.routes
        if route.matches({**scope, "method": method})[0] is Match.FULL
        and (method == "GET" or not isinstance(route, Mount))  # a folder of files matches whatever the method is
    }
    return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))  # HEAD is served as GET


@contextmanager
def routed(scope: Scope, inner: Scope) -> Iterator[Scope]:
    """A request that is changed for the block; the original gets the route that is found there, to be counted by it."""
    try:
        yield inner
    finally:
        if "route" in inner:
            scope["route"] = inner["route"]


class OnlyProblems:
    """Middleware that lets errors be problems which the libraries below answer as plain text, such as those of ranges.

    A range of another unit than bytes is no error: it is ignored, as RFC 9110, 14.2, wants.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with routed(scope, _without_other_units(scope)) as inner:
            await self._answer(inner, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = replaced = False

        async def sent(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                started, headers = True, Headers(raw=message["headers"])
                if message["status"] >= 400 and headers.get("content-type") != PROBLEM_TYPE:
                    replaced = True
                    await answer_to(_plain(message["status"], headers, Headers(scope=scope)))(scope, receive, send)
            if not replaced:
                await send(message)

        try:
            await self._app(scope, receive, sent)
        except asyncio.CancelledError:  # a request that took longer than the server waits for at its end
            if started:
                raise
            await answer_to(Problem(503, "The server is ending.", "not-ready", {"Retry-After": "5"}))(
                scope, receive, send
            )
        except Exception as error:
            if started:  # nothing else can be said of it: the connection is closed before the answer is whole
                _log.error("%s %s broke off (%s: %s)", scope["method"], scope["path"], type(error).__name__, error)
            raise


def _without_other_units(scope: Scope) -> Scope:
    """A request without a range of another unit, such as `Range: seconds=1-2`; one without a unit is an error."""
    kept = [
        (name, value)
        for name, value in scope["headers"]
        if name != b"range" or not (unit := value.partition(b"=")[0].strip()) or unit.lower() == b"bytes"
    ]
    return {**scope, "headers": kept}


def _plain(status: int, answer: Headers, request: Headers) -> Problem:
    """The problem of an answer that has only a status."""
    asked = request.get("range", "")[:100]
    if status == 416:
        size = answer.get("content-range", "").rpartition("/")[2]
        detail = f"The range '{asked}' is outside the file, which has {size} bytes; ask for some of these."
        return Problem(status, detail, headers={"Content-Range": f"bytes */{size}"})
    if status == 400 and asked:
        return Problem(status, f"The range '{asked}' is none; expected bytes from 0, such as bytes=0-1023.")
    return Problem(status, f"{HTTPStatus(status).phrase}; /docs says what is expected.")


def explained(errors: Any) -> str:
    """Errors of pydantic in a sentence."""
    parts = []
    for one in list(errors)[:4]:
        place = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path")) or "The request"
        given = one.get("input")
        shown = f" (given: {str(given)[:60]!r})" if isinstance(given, str | int | float | bool) else ""
        parts.append(f"{place}: {one['msg'][:1].lower()}{one['msg'][1:]}{shown}")
    return f"{'; '.join(parts)}; /docs says what is expected."
