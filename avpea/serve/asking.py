"""What a request asks a run: its body, as JSON or as a form with the video itself, and how it is answered."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Literal, TypeVar

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from avpea.errors import AvpeaError
from avpea.files import json_line
from avpea.parsing import parse_json
from avpea.serve.models import Run
from avpea.serve.problems import FIELD, Problem, about_file, explained
from avpea.serve.receiving import Received, body_of, receive
from avpea.serve.review import unsureness
from avpea.serve.server import Server
from avpea.serve.videos import Video, shown_name
from avpea.serve.work import Cancelled, Piece

__all__ = [
    "BODIES",
    "MOST_JSON_BYTES",
    "Ask",
    "AskAbout",
    "Caption",
    "Localize",
    "Search",
    "answered",
    "begin",
    "body_schema",
    "parsed",
    "read_body",
    "received_file",
    "server_of",
    "settled",
    "waited",
]

Body = TypeVar("Body", bound=BaseModel)
MOST_JSON_BYTES = 65_536
LOOK_SECONDS = 0.5  # how often to look whether the client still waits
Track = Field(default=None, ge=0, le=1000, description="Number of the track, from 0; by default FFmpeg's choice.")


class AskAbout(BaseModel):
    """What every question about a video has.

    Attributes:
        positional: Options that are positional arguments of `Predictor.predict`.
    """

    model_config = ConfigDict(extra="forbid")
    positional: ClassVar[tuple[str, ...]] = ()
    run: str | None = Field(
        default=None, max_length=200, description="Name of the run; may be left out if only one can."
    )
    video: str | None = Field(default=None, max_length=200, description="Id of the video, unless a form has the file.")
    missing_audio: Literal["error", "silence"] = "error"
    missing_video: Literal["error", "black"] = "error"
    audio_track: int | None = Track
    video_track: int | None = Track

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """Positional and other arguments of `Predictor.predict`."""
        values = self.model_dump(exclude={"run", "video"})
        return [values.pop(name) for name in self.positional], values


class Localize(AskAbout):
    """Events in a video, or lanes of them."""

    threshold: float | None = Field(default=None, ge=0, le=1, description="Lowest confidence of a second of an event.")
    min_seconds: float | None = Field(default=None, ge=0, le=86_400, description="Shortest event.")


class Ask(AskAbout):
    """A question about a video."""

    positional = ("question",)
    question: str = Field(max_length=1000)


class Caption(AskAbout):
    """Captions of a video."""

    beams: int = Field(default=0, ge=0, le=100, description="Beams of the search; 0 means the recipe's.")


class Search(BaseModel):
    """A search in the library, by a sentence or by an example."""

    model_config = ConfigDict(extra="forbid")
    text: str | None = Field(default=None, max_length=1000, description="A sentence that says what is seen or heard.")
    video: str | None = Field(default=None, max_length=200, description="Id of an example instead.")
    by: Literal["both", "picture", "sound"] = "both"
    top: int = Field(default=10, ge=1, le=100)


# By what a run can do; any other task's answer takes what every question has.
BODIES: dict[str, type[AskAbout]] = {"localize": Localize, "parse": Localize, "ask": Ask, "caption": Caption}


def server_of(request: Request) -> Server:
    """The server that a request came to."""
    server: Server = request.app.state.server
    return server


@contextlib.asynccontextmanager
async def read_body(request: Request, kind: type[Body]) -> AsyncIterator[tuple[Body, Video | None]]:
    """What a request asks, and the video if it brings one, which is removed after the block.

    Raises:
        Problem: It is no such JSON or form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        yield parsed(kind, await body_of(request, MOST_JSON_BYTES)), None
        return
    async with received_file(request) as form:
        assert form.file is not None
        yield _validated(kind, form.fields), Video("", shown_name(form.name), form.file, True, form.size)


@contextlib.asynccontextmanager
async def received_file(request: Request) -> AsyncIterator[Received]:
    """The form that a request brings with its file, which is removed after the block unless it was moved.

    Raises:
        Problem: It is no such form, has no file, or is too big.
    """
    server = server_of(request)
    most = server.settings.upload_mb * 2**20
    declared = request.headers.get("content-length", "")[:20]
    with server.videos.arriving(min(int(declared), most) if declared.isdecimal() else most) as target:
        form = await receive(request, target, most)
        server.monitor.uploaded(form.size)
        if form.file is None:
            raise Problem(422, "The form has no file; send the video in the field `file`.", "invalid-request")
        yield form


def body_schema(kind: type[BaseModel], form: bool = True) -> dict[str, Any]:
    """The description of a body that is read by hand: JSON, or a form with the file."""
    schema = kind.model_json_schema()
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if form:
        file = {"type": "string", "format": "binary", "description": "The video."}
        properties = {name: one for name, one in schema["properties"].items() if name != "video"}
        content["multipart/form-data"] = {
            "schema": {
                "type": "object", "properties": {"file": file, **properties},
                "required": ["file", *schema.get("required", [])],
            }
        }  # fmt: skip
    return {"requestBody": {"required": True, "content": content}}


def parsed(kind: type[Body], body: bytes | dict[str, Any]) -> Body:
    """What a body asks: JSON, or values as JSON has them.

    Raises:
        Problem: It is no JSON, or asks something else.
    """
    values: Any = body
    if isinstance(body, bytes):
        try:
            values = parse_json(body.decode(), "The body", AvpeaError)
        except (UnicodeDecodeError, AvpeaError) as error:
            reason = str(error) if isinstance(error, AvpeaError) else "The body is not UTF-8; send JSON."
            raise Problem(400, reason, "invalid-request") from None
    if not isinstance(values, dict):
        raise Problem(422, "The body is no JSON object; /docs says what is expected.", "invalid-request")
    return _validated(kind, values)


def _validated(kind: type[Body], values: dict[str, Any]) -> Body:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise Problem(422, explained(error.errors()), "invalid-request") from None


def about(server: Server, run: Run, asked: AskAbout, video: Video, piece: Piece) -> bytes:
    """What a run answers about a video, as JSON: that of the command line, in which the file has its name."""
    with about_file(video.path, video.name, FIELD):
        with piece.decoding(0):
            looked = server.videos.looked_at(video)
        words, options = asked.arguments()
        answer = server.predictor(run, piece, looked).predict(looked.path, *words, **options).to_dict()
        if video.id and (unsure := unsureness(answer)) is not None:
            server.reviews.note_unsure(server.reviews.key(video.path), run.key, unsure)
        return json_line({**answer, "video": video.name}).encode()


def begin(server: Server, can: str, asked: AskAbout, video: Video | None, keep: bool = False) -> Piece:
    """Begin to answer about a video.

    Raises:
        Problem: There is no such run or video, or too much waits already.
    """
    run = server.models.get(asked.run, can)
    if video is None:
        if asked.video is None:
            raise Problem(
                422, "Name the video with `video`, or send it as a form in the field `file`.", "invalid-request"
            )
        video = server.videos.get(asked.video)
    elif asked.video is not None:
        raise Problem(422, "The form has a file and names a video too; send one of them.", "invalid-request")
    chosen = video
    return server.work.submit(can, lambda piece: about(server, run, asked, chosen, piece), keep)


async def waited(request: Request, piece: Piece) -> Any:
    """The result of a piece of work, which is cancelled when the client goes away.

    Raises:
        Problem: It failed.
    """
    future = asyncio.wrap_future(piece.future)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())  # also when nobody waits any more
    try:
        while not future.done():
            await asyncio.wait([future], timeout=LOOK_SECONDS)
            if not future.done() and await request.is_disconnected():
                raise Problem(499, "The client went away.")
        return future.result()
    except Cancelled:
        raise Problem(409, "It was cancelled.", "cancelled") from None
    finally:
        piece.cancel()


async def answered(request: Request, can: str) -> Response:
    """The answer to a request about a video."""
    async with read_body(request, BODIES.get(can, AskAbout)) as (asked, video):
        piece = begin(server_of(request), can, asked, video)
        try:
            return Response(await waited(request, piece), media_type="application/json")
        finally:
            await settled(piece)


async def settled(piece: Piece) -> None:
    """Wait until a piece of work has let go of its files."""
    while piece.state in ("queued", "running"):
        await asyncio.sleep(0.05)
