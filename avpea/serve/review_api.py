"""Reviews over HTTP: read and stored, exported and imported, and which video is best looked at next."""

import re
from collections.abc import Iterable, Set
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from avpea.errors import DataError
from avpea.formats import Stretch, read
from avpea.serve.asking import body_schema, parsed, server_of
from avpea.serve.exports import Reviewed, exported, save_manifest
from avpea.serve.problems import Problem, problem_of, unreadable
from avpea.serve.receiving import body_of
from avpea.serve.review import Review, Stale, checked
from avpea.serve.server import Server
from avpea.serve.videos import Video, shown_name
from avpea.tables import how_many

__all__ = ["ROUTES", "reviewed", "summary"]

MOST_IMPORT_BYTES = 16 << 20
MOST_REMARKS = 4  # they have to pass in a header
ROUTES = APIRouter(prefix="/v1", tags=["review"])


class Event(BaseModel):
    """Something that happens in a video."""

    model_config = ConfigDict(extra="forbid", strict=True)
    start_seconds: float = Field(ge=0, le=1e6, allow_inf_nan=False)
    end_seconds: float = Field(gt=0, le=1e6, allow_inf_nan=False)
    label: str = Field(min_length=1, max_length=200)


class Edit(BaseModel):
    """All events of a video after an edit."""

    model_config = ConfigDict(extra="forbid", strict=True)
    events: list[Event] = Field(max_length=10_000)
    revision: int = Field(ge=0, lt=2**53, description="The revision that was edited; 0 if there was none.")
    done: bool = Field(default=False, description="Whether this is all that happens, and right.")


class ReviewBody(BaseModel):
    """What a person says happens in a video."""

    video: str = Field(description="Id of the video.")
    name: str
    events: list[Event]
    revision: int = Field(description="Number of edits so far; 0 if nobody has said anything.")
    done: bool
    changed: str = Field(description="When it was stored, in UTC; empty if it never was.")
    remarks: list[str] = Field(default=[], description="What an import has changed, in sentences.")


class NextBody(BaseModel):
    """The video that is best looked at next."""

    video: str | None = Field(description="Its id; null if no other than `after` is left.")
    unsure: float | None = Field(description="How unsure the run is about it, from 0 to 1; null if it has not looked.")
    left: int = Field(description="Videos that are not done.")
    ranked: int = Field(description="Of these, those that the run has looked at.")


class Saved(BaseModel):
    """The manifest that was written into the folder of videos."""

    file: str = Field(description="Its name in that folder.")
    videos: int
    events: int
    remarks: list[str] = Field(default=[], description="Which videos are left out, and why, in sentences.")


@ROUTES.get("/videos/{video}/review")
def get_review(request: Request, video: str) -> ReviewBody:
    """What a person says happens in a video."""
    found = server_of(request).videos.get(video)
    return _body(found, _review(server_of(request), found))


@ROUTES.put("/videos/{video}/review", openapi_extra=body_schema(Edit, form=False))
async def put_review(request: Request, video: str) -> ReviewBody:
    """Store an edit; it is on disk when this answers. 409 if it is of an earlier revision than the stored one."""
    server = server_of(request)
    content = await body_of(request, MOST_IMPORT_BYTES)

    def stored() -> ReviewBody:
        found, edit = server.videos.get(video), parsed(Edit, content)
        events = [Stretch(one.start_seconds, one.end_seconds, one.label) for one in edit.events]
        return _stored(server, found, events, edit.revision, edit.done, [])

    return await run_in_threadpool(stored)


@ROUTES.post("/videos/{video}/review/import")
async def import_review(
    request: Request,
    video: str,
    format: Annotated[Literal["audacity", "srt", "vtt", "elan", "csv", "json"], Query()],  # noqa: A002
    revision: Annotated[int, Query(ge=0, lt=2**53)],
    name: Annotated[str, Query(max_length=200, description="What errors call the file.")] = "The file",
) -> ReviewBody:
    """Replace the events of a video by those of a file, which is the body; a table of another video is refused."""
    server = server_of(request)
    content = await body_of(request, MOST_IMPORT_BYTES)

    def stored() -> ReviewBody:
        found = server.videos.get(video)
        events = read(format, content, shown_name(name), found.name)
        if format in ("csv", "json"):  # which say it beside the label
            return _stored(server, found, events, revision, False, [])
        events, remarks = _certain(events, {name for run in server.models.all() for name in run.classes})
        return _stored(server, found, events, revision, False, remarks)

    return await run_in_threadpool(stored)


@ROUTES.get("/review/export", response_class=Response)
def export_reviews(
    request: Request,
    format: Annotated[Literal["audacity", "srt", "vtt", "elan", "csv", "json", "manifest"], Query()],  # noqa: A002
    video: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """The events of a video, or of all that have any review, as a file; the manifest is of those that are done.

    Videos whose review cannot be read are left out; the header `Avpea-Remarks`, quoted as in a URL, names them.
    """
    server, remarks = server_of(request), list[str]()
    if video is not None:
        found = server.videos.get(video)
        review = _review(server, found)
        some = [(found, review)] if review.revision else []
    else:
        some, remarks = reviewed(server, [*server.videos, *server.videos.others()])
    if format == "manifest":
        some = [(one, review) for one, review in some if review.done]
    if not some:
        what = "is done" if format == "manifest" else "has been reviewed"
        raise _none(404, f"No video {what} yet; correct one in the page, and store it.", remarks)
    file = exported(format, [Reviewed(_path(server, one), review.events) for one, review in some], video is not None)
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", file.name)
    named = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{_quoted(file.name)}"
    headers = {"Content-Disposition": named} | ({"Avpea-Remarks": _quoted(" ".join(remarks))} if remarks else {})
    return Response(file.content, media_type=file.media_type, headers=headers)


@ROUTES.post("/review/save")
def save_reviews(request: Request) -> Saved:
    """Write the manifest of the videos that are done into their folder, for `avpea train own --data.root FILE`."""
    server = server_of(request)
    if server.settings.folder is None:
        raise Problem(
            409, "The server has no folder of videos; start it with --folder, or export the manifest.", "no-folder"
        )
    found, remarks = reviewed(server, server.videos)  # others are not in the folder, where the manifest is
    some = [(video, review) for video, review in found if review.done and not video.uploaded]
    if not some:
        raise _none(409, "No video of the folder is done yet; correct one, and say that it is done.", remarks)
    path = save_manifest(server.settings.folder, [Reviewed(_path(server, one), review.events) for one, review in some])
    events = sum(len(review.events) for _, review in some)
    return Saved(file=path.name, videos=len(some), events=events, remarks=remarks)


@ROUTES.get("/review/next")
def next_review(
    request: Request,
    run: Annotated[str | None, Query(max_length=200)] = None,
    after: Annotated[str | None, Query(max_length=200, description="A video that is not meant.")] = None,
) -> NextBody:
    """The video about which a run is most unsure, of those that are not done; one it has not looked at comes last.

    A video that cannot be read, or whose review cannot, is none of them.
    """
    server = server_of(request)
    key = server.models.get(run, "localize").key
    left, unsure = list[Video](), dict[str, float | None]()
    for video in server.videos:
        with suppress(Problem, DataError):
            if not _review(server, video).done:
                unsure[video.id] = server.reviews.unsure(_key(server, video), key)
                left.append(video)
    order = sorted(left, key=lambda video: -1.0 if unsure[video.id] is None else -2.0 - (unsure[video.id] or 0.0))
    chosen = next((video for video in order if video.id != after), None)
    return NextBody(
        video=chosen.id if chosen else None,
        unsure=unsure[chosen.id] if chosen else None,
        left=len(left),
        ranked=sum(value is not None for value in unsure.values()),
    )


def reviewed(server: Server, videos: Iterable[Video]) -> tuple[list[tuple[Video, Review]], list[str]]:
    """The videos with a stored review, and those; and which videos are left out, and why, in sentences."""
    found, left_out = [], []
    for video in videos:
        try:
            review = _review(server, video)
        except (Problem, DataError) as error:
            left_out.append(f"Left out: {problem_of(error).detail}")
            continue
        if review.revision:
            found.append((video, review))
    more = len(left_out) - MOST_REMARKS
    rest = [f"Left out too: {how_many(more, 'video')}."] * (more > 0)
    return found, [*left_out[:MOST_REMARKS], *rest]


def summary(server: Server, video: Video, run: str | None) -> dict[str, Any]:
    """What a list of videos says of a review, or why that cannot be read; and of how unsure a run is."""
    key, remarks = server.reviews.key(video.path), list[str]()
    try:
        review = server.reviews.get(key, video.name)
    except DataError as error:
        review, remarks = Review(video.name), [problem_of(error).detail]
    return {
        "revision": review.revision,
        "done": review.done,
        "remarks": remarks,
        "unsure": None if run is None else server.reviews.unsure(key, server.models.get(run).key),
    }


def _stored(
    server: Server, video: Video, events: list[Stretch], revision: int, done: bool, remarks: list[str]
) -> ReviewBody:
    info = server.videos.looked_at(video).info
    assert info is not None
    try:
        kept = checked(events, info.duration_seconds, video.name)
        return _body(video, server.reviews.put(_key(server, video), video.name, kept, revision, done), remarks)
    except Stale as stale:
        raise Problem(409, str(stale), "stale") from None


def _body(video: Video, review: Review, remarks: list[str] | None = None) -> ReviewBody:
    return ReviewBody(**{**review.to_dict(), "video": video.id, "name": video.name, "remarks": remarks or []})


def _certain(events: list[Stretch], classes: Set[str]) -> tuple[list[Stretch], list[str]]:
    """Events without the question mark that avpea puts after a doubtful label (classes keep theirs); what is odd."""
    kept = [
        one if one.text in classes else replace(one, text=one.text.removesuffix(" ?") or one.text) for one in events
    ]
    number = sum(one != other for one, other in zip(kept, events, strict=True))
    many = how_many(number, "label ends", "labels end")
    remarks = [f"{many} in ' ?', as avpea marks doubtful events; it was taken off."] * bool(number)
    lanes = sum(one.text not in classes and one.text.endswith((" (seen)", " (heard)", " (both)")) for one in kept)
    many = how_many(lanes, "label ends", "labels end")
    return kept, remarks + [f"{many} in a lane, such as ' (seen)', which was kept as part of the class."] * bool(lanes)


def _path(server: Server, video: Video) -> str:
    """A video's path in the folder, or its name if it was uploaded, or is of the library and lies elsewhere."""
    folder = server.settings.folder
    if folder is None or video.uploaded or not video.path.is_relative_to(folder):
        return video.name
    return video.path.relative_to(folder).as_posix()


def _review(server: Server, video: Video) -> Review:
    return server.reviews.get(_key(server, video), video.name)


def _key(server: Server, video: Video) -> str:
    try:
        return server.reviews.key(video.path)
    except OSError as error:
        raise unreadable(video.name) from error


def _none(status: int, sentence: str, remarks: list[str]) -> Problem:
    return Problem(status, " ".join([sentence, *remarks]), "no-review")


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="replace")
