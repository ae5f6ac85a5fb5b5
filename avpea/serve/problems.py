"""Errors as RFC 9457 problems (`application/problem+json`), each with a sentence for a person."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from avpea.errors import AvpeaError, DeviceMemoryError, InUseError, MediaError, MissingFile

__all__ = ["PROBLEM_TYPE", "Problem", "ProblemBody", "add_handlers", "answer_to", "problem_of", "sentence_of"]

PROBLEM_TYPE = "application/problem+json"
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
        self.status, self.detail, self.headers = status, detail, headers or {}
        self.title = HTTPStatus(status).phrase if status != 499 else "Client Closed Request"
        self.kind = kind or self.title.lower().replace(" ", "-")

    def body(self) -> dict[str, Any]:
        """The problem as plain values."""
        return {"type": f"urn:avpea:{self.kind}", "title": self.title, "status": self.status, "detail": self.detail}


def problem_of(error: BaseException, path: str = "", name: str = "") -> Problem:
    """The problem that an exception is.

    Args:
        error: The exception.
        path: The file that was worked on; problems never tell where files of the server lie.
        name: What that file is called for the user.
    """
    if isinstance(error, Problem):
        return error
    if isinstance(error, MissingFile):
        return Problem(404, f"{name or 'The video'} is not there any more; list the videos anew.", "no-such-video")
    if isinstance(error, MediaError):
        return Problem(422, f"{name or 'The file'}: {error.reason}".replace(path or "\0", name), "unreadable-media")
    if isinstance(error, DeviceMemoryError):
        return Problem(507, sentence_of(error, path, name), "out-of-memory")
    if isinstance(error, InUseError):
        return Problem(409, sentence_of(error, path, name), "in-use")
    if isinstance(error, AvpeaError):
        return Problem(422, sentence_of(error, path, name), "refused")
    _log.error("a request failed", exc_info=error)
    return Problem(500, f"The server failed ({type(error).__name__}), by no fault of yours; its log says where.")


def sentence_of(error: BaseException, path: str = "", name: str = "") -> str:
    """An exception's message, in which a file's path is its name."""
    return str(error).replace(path, name) if path else str(error)


def answer_to(problem: Problem) -> JSONResponse:
    """The problem as an answer of HTTP."""
    return JSONResponse(problem.body(), problem.status, problem.headers, PROBLEM_TYPE)


def add_handlers(app: FastAPI) -> None:
    """Let every error of an application be a problem."""

    async def known(request: Request, error: Exception) -> JSONResponse:
        return answer_to(problem_of(error))

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            detail = f"There is no {request.url.path} here; /docs lists what there is."
        elif error.status_code == 405:
            detail = f"{request.url.path} has no {request.method}; /docs lists what there is."
        else:
            detail = f"{error.detail}."
        return answer_to(Problem(error.status_code, detail, headers=dict(error.headers or {})))

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return answer_to(Problem(422, explained(error.errors()), "invalid-request"))

    app.add_exception_handler(Problem, known)
    app.add_exception_handler(AvpeaError, known)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, known)


def explained(errors: Any) -> str:
    """Errors of pydantic in a sentence."""
    parts = []
    for one in list(errors)[:4]:
        place = ".".join(str(part) for part in one["loc"] if part not in ("body", "query", "path")) or "The request"
        given = one.get("input")
        shown = f" (given: {str(given)[:60]!r})" if isinstance(given, str | int | float | bool) else ""
        parts.append(f"{place}: {one['msg'][:1].lower()}{one['msg'][1:]}{shown}")
    return f"{'; '.join(parts)}; /docs says what is expected."
