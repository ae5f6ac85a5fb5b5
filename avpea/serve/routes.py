"""The endpoints of the API, version 1."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from avpea import schemas
from avpea.errors import AvpeaError
from avpea.serve import models, review_api, searching, views
from avpea.serve.asking import (
    BODIES,
    MOST_JSON_BYTES,
    AskAbout,
    Search,
    answered,
    begin,
    body_schema,
    parsed,
    received_file,
    server_of,
    settled,
    waited,
)
from avpea.serve.guard import cookie_name
from avpea.serve.problems import PROBLEM_TYPE, Problem, ProblemBody, about_file, problem_of
from avpea.serve.receiving import body_of
from avpea.serve.server import Server
from avpea.serve.videos import Video
from avpea.serve.work import Piece

__all__ = ["router", "task_router"]

ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {"model": ProblemBody, "content": {PROBLEM_TYPE: {}}, "description": "A problem (RFC 9457)."}
}
_ANSWERS: dict[str, Any] = {
    "localize": schemas.Localized,
    "parse": schemas.Lanes,
    "segment": schemas.Masks,
    "ask": schemas.Reply,
    "caption": schemas.Captions,
}
router = APIRouter(prefix="/v1", responses=ERRORS)
Second = Annotated[float, Query(ge=0, le=1e6, allow_inf_nan=False)]


class JobBody(BaseModel):
    """A request that is answered later."""

    model_config = ConfigDict(extra="allow")
    kind: str = Field(max_length=40, description="What to do, such as localize; its options follow.")


class Begun(BaseModel):
    """A job that has begun."""

    job: str = Field(description="Id of the job.")


class TokenBody(BaseModel):
    """The token of a server."""

    model_config = ConfigDict(extra="forbid")
    token: str = Field(max_length=1000)


def described(server: Server, video: Video, run: str | None = None) -> dict[str, Any]:
    """A video as the API has it, with how unsure a run is about it."""
    info = server.videos.known_info(video)
    return {
        "video": video.id,
        "name": video.name,
        "uploaded": video.uploaded,
        "size": video.size,
        "seconds": None if info is None else round(info.duration_seconds, 3),
        "has_video": None if info is None else info.has_video,
        "has_audio": None if info is None else info.has_audio,
        "media_type": video.media_type,
        **review_api.summary(server, video, run),
    }


async def _worked(request: Request, kind: str, function: Callable[[Piece], Any]) -> Any:
    """The result of a piece of work that a request waits for."""
    return await waited(request, server_of(request).work.submit(kind, function))


@router.post("/session", status_code=204, tags=["server"], openapi_extra=body_schema(TokenBody, form=False))
async def open_session(request: Request) -> Response:
    """Show the token once; a cookie stands for it from then on."""
    server = server_of(request)
    asked = parsed(TokenBody, await body_of(request, MOST_JSON_BYTES))
    if not server.settings.token or not server.sessions.is_token(asked.token):
        raise Problem(401, "This is not the server's token.", "no-token", {"WWW-Authenticate": "Bearer"})
    answer = Response(status_code=204)
    secure = request.url.scheme == "https"
    name = cookie_name(request.headers)
    answer.set_cookie(name, server.sessions.open(), httponly=True, samesite="strict", secure=secure)
    return answer


@router.get("/runs", tags=["runs"], response_model=list[schemas.Run])
def list_runs(request: Request) -> Any:
    """The runs, and what each can do."""
    server = server_of(request)
    return [server.described(run) for run in server.models.all()]


@router.post("/runs/{run}/reload", tags=["runs"], response_model=schemas.Run)
def reload_run(request: Request, run: str) -> Any:
    """Load a run's adapters and head again, as after training further; the frozen backbone stays in memory."""
    server = server_of(request)
    return server.described(server.reload(run))


@router.post(
    "/videos", status_code=201, tags=["videos"], response_model=schemas.Video,
    openapi_extra=body_schema(type("Upload", (BaseModel,), {})),
)  # fmt: skip
async def upload_video(request: Request) -> Any:
    """Upload a video in the field `file` of a form; it is looked at at once, and goes with the server."""
    server = server_of(request)
    async with received_file(request) as form:
        target, name = form.file, form.name
        assert target is not None
        piece = server.work.submit("look", lambda piece: _added(server, name, target, piece))
        try:
            return described(server, await waited(request, piece))
        finally:
            await settled(piece)


def _added(server: Server, name: str, target: Path, piece: Piece) -> Video:
    with piece.decoding(0):
        info = server.videos.look(target, name)
    piece.require_wanted()  # nobody would know of the video, which takes room until the server ends
    return server.videos.add(target, name, info)


@router.get("/videos", tags=["videos"], response_model=list[schemas.Video])
def list_videos(request: Request, run: Annotated[str | None, Query(max_length=200)] = None) -> Any:
    """The uploads, the newest first, and the videos of the server's folder."""
    server = server_of(request)
    found = []
    for video in server.videos:
        with suppress(OSError):  # it has just gone, or may not be read
            found.append(described(server, video, run))
    return found


@router.get("/videos/{video}", tags=["videos"], response_model=schemas.Video)
async def get_video(request: Request, video: str) -> Any:
    """A video, with its length."""
    server = server_of(request)
    found = server.videos.get(video)
    return described(server, await _worked(request, "look", lambda piece: views.within(server, found, piece, 0)))


@router.delete("/videos/{video}", status_code=204, tags=["videos"])
def delete_video(request: Request, video: str) -> Response:
    """Delete an upload; videos of the server's folder cannot be deleted."""
    server_of(request).videos.remove(video)
    return Response(status_code=204)


@router.get("/videos/{video}/media", tags=["videos"], response_class=FileResponse)
def get_media(request: Request, video: str) -> FileResponse:
    """The file itself, or ranges of it."""
    found = server_of(request).videos.get(video)
    with about_file(found.path, found.name), found.path.open("rb"):
        pass  # what cannot be opened is said before an answer begins
    return FileResponse(found.path, media_type=found.media_type, headers={"Content-Disposition": "inline"})


@router.get("/videos/{video}/waveform", tags=["videos"])
async def get_waveform(
    request: Request, video: str, bins: Annotated[int, Query(ge=1, le=100_000)] = 2000
) -> dict[str, Any]:
    """The loudest sample of each part of the sound, in [0, 1]."""
    server = server_of(request)
    found = server.videos.get(video)
    result: dict[str, Any] = await _worked(
        request, "waveform", lambda piece: views.waveform(server, found, bins, piece)
    )
    return result


@router.get("/videos/{video}/spectrogram", tags=["videos"], response_class=Response)
async def get_spectrogram(
    request: Request, video: str, columns: Annotated[int, Query(ge=1, le=8000)] = 2000
) -> Response:
    """The log-mel of the sound as PNG: time from left to right, low notes at the bottom."""
    server = server_of(request)
    found = server.videos.get(video)
    drawn = await _worked(request, "spectrogram", lambda piece: views.spectrogram(server, found, columns, piece))
    return Response(drawn, media_type="image/png")


@router.get("/videos/{video}/frame", tags=["videos"], response_class=Response)
async def get_frame(request: Request, video: str, second: Second = 0.0) -> Response:
    """The frame that is displayed at a second, as JPEG."""
    return await _frame(request, video, second, small=False)


@router.get("/videos/{video}/thumbnail", tags=["videos"], response_class=Response)
async def get_thumbnail(request: Request, video: str, second: Second = 0.0) -> Response:
    """A small frame, as JPEG."""
    return await _frame(request, video, second, small=True)


async def _frame(request: Request, video: str, second: float, small: bool) -> Response:
    server = server_of(request)
    found = server.videos.get(video)
    drawn = await _worked(request, "frame", lambda piece: views.frame(server, found, second, small, piece))
    return Response(drawn, media_type="image/jpeg")


@router.get("/videos/{video}/attention", tags=["videos"])
async def get_attention(
    request: Request, video: str, second: Annotated[int, Query(ge=0, le=1_000_000)], run: str | None = None
) -> dict[str, Any]:
    """Where each stream attends in the other during a second: the mean over blocks, on the grid of patches."""
    server = server_of(request)
    found, chosen = server.videos.get(video), server.models.get(run)
    result: dict[str, Any] = await _worked(
        request, "attention", lambda piece: views.attention(server, chosen, found, second, piece)
    )
    return result


@router.post(
    "/search",
    tags=["answers"],
    responses={200: {"model": list[schemas.Found]}},
    openapi_extra=body_schema(Search, form=False),
)
async def search(request: Request) -> Response:
    """The windows of the library that match a sentence or an example best; as `avpea search --json`."""
    server = server_of(request)
    server.require_library()
    asked = parsed(Search, await body_of(request, MOST_JSON_BYTES))
    found = await _worked(request, "search", lambda piece: searching.search(server, asked, piece))
    return Response(found, media_type="application/json")


@router.post(
    "/jobs", status_code=202, tags=["jobs"], response_model=Begun, openapi_extra=body_schema(JobBody, form=False)
)
async def begin_job(request: Request) -> Any:
    """Begin what takes long; options are those of the endpoint of the same kind."""
    server = server_of(request)
    given = parsed(JobBody, await body_of(request, MOST_JSON_BYTES))
    if given.kind not in server.kinds:
        if given.kind in models.kinds():
            raise server.models.none_can(given.kind)
        raise Problem(
            404, f"There is no job '{given.kind}'; expected one of: {', '.join(server.kinds)}.", "no-such-kind"
        )
    asked = parsed(BODIES.get(given.kind, AskAbout), given.model_extra or {})
    return {"job": begin(server, given.kind, asked, None, keep=True).id}


@router.get("/jobs/{job}", tags=["jobs"], response_model=schemas.JobState)
def get_job(request: Request, job: str) -> Any:
    """How a job stands, and its result."""
    piece = server_of(request).work.get(job)
    return state_of(piece)


@router.delete("/jobs/{job}", tags=["jobs"], response_model=schemas.JobState)
def cancel_job(request: Request, job: str) -> Any:
    """Cancel a job; one that is done stays done."""
    piece = server_of(request).work.get(job)
    piece.cancel()
    return state_of(piece)


def state_of(piece: Piece) -> Any:
    """A job as the API has it."""
    found: dict[str, Any] = {"job": piece.id, "kind": piece.kind, "state": piece.state}
    found |= {"progress": None, "result": None, "problem": None}
    if piece.progress is not None:
        found["progress"] = dict(zip(("stage", "done", "of"), piece.progress, strict=True))
    if piece.state == "done":
        found["result"] = piece.result()
    elif piece.state == "failed":
        found["problem"] = problem_of(piece.future.exception() or AvpeaError()).body()
    return found


def task_router(kinds: list[str]) -> APIRouter:
    """An endpoint for each kind of question that some run answers; others say that none does."""
    made = APIRouter(prefix="/v1", responses=ERRORS, tags=["answers"])

    def endpoint(kind: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            return await answered(request, kind)

        answer.__doc__ = f"What a run finds in a video, as the command line's `--json` has it ({kind})."
        return answer

    def refusal(kind: str) -> Callable[[Request], Any]:
        def refuse(request: Request) -> Response:
            raise server_of(request).models.none_can(kind)

        return refuse

    for kind in set(models.kinds()) - set(kinds):
        made.add_api_route(f"/{kind}", refusal(kind), methods=["POST"], include_in_schema=False)
    for kind in kinds:
        body = BODIES.get(kind, AskAbout)
        made.add_api_route(
            f"/{kind}", endpoint(kind), methods=["POST"], name=kind, response_class=Response,
            openapi_extra=body_schema(body), responses={200: {"model": _ANSWERS.get(kind, dict[str, Any])}},
        )  # fmt: skip
    return made
