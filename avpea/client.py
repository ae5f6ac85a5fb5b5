"""A client of `avpea serve`: what the command line's `--json` has, over HTTP.

    client = avpea.Client("http://127.0.0.1:8000")
    client.localize(Path("video.mp4"))["events"]

It imports nothing heavy.
"""

import contextlib
import http.client
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, cast
from urllib.parse import SplitResult, quote, urlsplit

from avpea.errors import AvpeaError, ServerError
from avpea.schemas import Captions, Found, JobState, Lanes, Localized, Masks, Reply, Run, Video
from avpea.version import __version__

__all__ = ["Client", "Job"]

PIECE_BYTES = 1 << 18
LOOK_SECONDS = 0.3


class Client:
    """A server that `avpea serve` runs.

    A video is an id, as `upload` and `videos` give it, or a `Path` of a file here, which is sent along and not kept.

    Args:
        address: Its address.
        token: Its token, if it asks for one.
        timeout_seconds: How long to wait for the next piece of an answer.
        patience_seconds: For how long a request is tried again while the server is busy.

    Raises:
        AvpeaError: It is no address, or the token is none.
    """

    def __init__(
        self,
        address: str = "http://127.0.0.1:8000",
        *,
        token: str = "",
        timeout_seconds: float = 600.0,
        patience_seconds: float = 60.0,
    ) -> None:
        parts = _parsed(address)
        self.address = address.rstrip("/")
        self._parts, self._timeout_seconds, self._patience_seconds = parts, timeout_seconds, patience_seconds
        self._headers = {"User-Agent": f"avpea/{__version__}", "Accept": "application/json"}
        token = token.strip()  # as of a file that ends with a line break
        if not (token.isascii() and token.isprintable()):
            raise AvpeaError("The token has characters that no token has; expected printable ASCII.")  # without it
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def ready(self) -> bool:
        """Whether the server answers requests about videos."""
        try:
            self._json("GET", "/readyz")
        except AvpeaError:
            return False
        return True

    def runs(self) -> list[Run]:
        """Its runs, and what each can do."""
        return cast("list[Run]", self._json("GET", "/v1/runs"))

    def reload(self, run: str) -> Run:
        """Let the server load a run's adapters and head again, as after training further."""
        return cast("Run", self._json("POST", f"/v1/runs/{quote(run, safe='')}/reload"))

    def videos(self) -> list[Video]:
        """The videos that it knows."""
        return cast("list[Video]", self._json("GET", "/v1/videos"))

    def upload(self, file: str | Path, name: str = "") -> Video:
        """Send a file, which the server keeps until it ends, or until `delete`.

        Args:
            file: The file.
            name: What to call it, if not by its own name.
        """
        return cast("Video", self._form("/v1/videos", Path(file), {}, name))

    def delete(self, video: str) -> None:
        """Delete an upload."""
        self._json("DELETE", f"/v1/videos/{quote(video, safe='')}")

    def localize(
        self, video: str | Path, *, run: str | None = None, threshold: float | None = None,
        min_seconds: float | None = None, **reading: Any,
    ) -> Localized:  # fmt: skip
        """The events in a video.

        Args:
            video: Id, or a `Path` of a file here.
            run: Name of the run; may be left out if only one can do it.
            threshold: Lowest confidence of a second of an event; None means the one chosen after training.
            min_seconds: Shortest event; None means the one chosen after training.
            reading: `missing_audio`, `missing_video`, `audio_track` and `video_track`, as for `Predictor.predict`.
        """
        options = {"threshold": threshold, "min_seconds": min_seconds, **reading}
        return cast("Localized", self.about("localize", video, run, **options))

    def ask(self, video: str | Path, question: str, *, run: str | None = None, **reading: Any) -> Reply:
        """The answer to a question about a video; see `localize`."""
        return cast("Reply", self.about("ask", video, run, question=question, **reading))

    def caption(self, video: str | Path, *, run: str | None = None, beams: int = 0, **reading: Any) -> Captions:
        """Captions of a video; see `localize`."""
        return cast("Captions", self.about("caption", video, run, beams=beams, **reading))

    def parse(
        self, video: str | Path, *, run: str | None = None, threshold: float | None = None,
        min_seconds: float | None = None, **reading: Any,
    ) -> Lanes:  # fmt: skip
        """What is seen and what is heard in a video; see `localize`."""
        options = {"threshold": threshold, "min_seconds": min_seconds, **reading}
        return cast("Lanes", self.about("parse", video, run, **options))

    def segment(self, video: str | Path, *, run: str | None = None, **reading: Any) -> Masks:
        """What sounds in each second of a video, and where in the picture; see `localize`."""
        return cast("Masks", self.about("segment", video, run, **reading))

    def search(
        self, text: str | None = None, *, video: str | None = None,
        by: Literal["both", "picture", "sound"] = "both", top: int = 10,
    ) -> list[Found]:  # fmt: skip
        """The windows of the server's library that match a sentence, or an example by its id, best."""
        return cast("list[Found]", self._json("POST", "/v1/search", _given(text=text, video=video, by=by, top=top)))

    def about(self, kind: str, video: str | Path, run: str | None = None, **options: Any) -> Any:
        """What a run says about a video, for any kind of question in its `can`."""
        given = _given(run=run, **options)
        if isinstance(video, Path):
            return self._form(f"/v1/{kind}", video, given)
        return self._json("POST", f"/v1/{kind}", {**given, "video": video})

    def begin(self, kind: str, video: str, run: str | None = None, **options: Any) -> "Job":
        """Begin what takes long, such as `localize` of an hour; see `about`."""
        given = _given(kind=kind, video=video, run=run, **options)
        return Job(self, self._json("POST", "/v1/jobs", given)["job"])

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        headers = {} if body is None else {"Content-Type": "application/json"}
        sent = None if body is None else json.dumps(body, default=_plain).encode()
        return self._patiently(method, path, headers, lambda: sent)

    def _form(self, path: str, file: Path, fields: Mapping[str, Any], name: str = "") -> Any:
        boundary = secrets.token_hex(16)
        before, after = _around(boundary, fields, name or file.name)
        with contextlib.ExitStack() as stack:
            with _reading(file):  # before anything is sent
                opened = stack.enter_context(file.open("rb"))
                size = os.fstat(opened.fileno()).st_size
                opened.read(1)
            headers = {
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Content-Length": str(len(before) + size + len(after)),
            }
            return self._patiently("POST", path, headers, lambda: _pieces(before, file, opened, after))

    def _patiently(self, method: str, path: str, headers: dict[str, str], body: Callable[[], Any]) -> Any:
        """The answer to a request, which is tried again while the server is busy."""
        until = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._once(method, path, headers, body())
            except ServerError as error:
                wait = error.retry_seconds
                if wait is None or time.monotonic() + wait > until:
                    raise
                time.sleep(wait)

    def _once(self, method: str, path: str, headers: dict[str, str], body: Any) -> Any:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(self._parts.netloc.rpartition("@")[2], timeout=self._timeout_seconds)
        try:
            # A server that refuses a body answers before it has read all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, self._parts.path.rstrip("/") + path, body, {**self._headers, **headers})
            answer = connection.getresponse()
            found = answer.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AvpeaError(
                f"The server at {self.address} does not answer ({why}); `avpea serve RUN` starts one."
            ) from None
        finally:
            connection.close()
        if answer.status >= 400:
            raise _problem(answer, found)
        if not found:
            return None
        try:
            return json.loads(found)
        except ValueError:
            raise AvpeaError(
                f"{self.address} is no server of avpea: it answers with something else than JSON."
            ) from None


class Job:
    """Work that a server does meanwhile.

    Args:
        client: The client.
        job: Its id.
    """

    def __init__(self, client: Client, job: str) -> None:
        self._client, self.id = client, job

    def state(self) -> JobState:
        """How it stands."""
        return cast("JobState", self._client._json("GET", self._path))

    def cancel(self) -> None:
        """Cancel it."""
        self._client._json("DELETE", self._path)

    def wait(self, told: Callable[[JobState], None] = lambda state: None) -> Any:
        """Its result.

        Args:
            told: Called now and then with how it stands.

        Raises:
            ServerError: It failed or was cancelled.
        """
        while True:
            state = self.state()
            told(state)
            if state["state"] == "done":
                return state["result"]
            if state["state"] in ("failed", "cancelled"):
                problem = state["problem"] or {"status": 409, "detail": "The job was cancelled."}
                raise ServerError(int(problem["status"]), str(problem["detail"]), str(problem.get("type", "")))
            time.sleep(LOOK_SECONDS)

    @property
    def _path(self) -> str:
        return f"/v1/jobs/{quote(self.id, safe='')}"


def _parsed(address: str) -> SplitResult:
    """The parts of an address.

    Raises:
        AvpeaError: It is none: its port is no number, or a host or path has characters that cannot be sent.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        _ = parts.port  # looked up, since it is read only then
        host.encode("idna")
        plain = parts.netloc.isprintable() and parts.path.isascii() and parts.path.isprintable()
    except ValueError:  # UnicodeError is one
        plain, parts, host = False, SplitResult("", "", "", "", ""), ""
    if parts.scheme not in ("http", "https") or not host or not plain or " " in parts.netloc + parts.path:
        raise AvpeaError(f"The address is '{address}'; expected one such as http://127.0.0.1:8000.")
    return parts


def _plain(value: Any) -> Any:
    """What JSON has for a number of NumPy's or torch's, or a path."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not hasattr(value, "item"):
        raise TypeError(f"{value!r} cannot be sent as JSON; give text or a number.")
    return value.item()


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _around(boundary: str, fields: Mapping[str, Any], name: str) -> tuple[bytes, bytes]:
    """What stands before and after the file in a form; names are escaped as browsers do."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    shown = name.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{shown}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode("utf-8", "surrogateescape"), f"\r\n--{boundary}--\r\n".encode()


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Name the file in errors of the system, which would seem to be the server's.

    Raises:
        AvpeaError: The file cannot be read.
    """
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        raise AvpeaError(f"{file} cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def _pieces(before: bytes, file: Path, opened: IO[bytes], after: bytes) -> Iterator[bytes]:
    yield before
    with _reading(file):
        opened.seek(0)
    while True:
        with _reading(file):
            piece = opened.read(PIECE_BYTES)
        if not piece:
            break
        yield piece
    yield after


def _problem(answer: http.client.HTTPResponse, body: bytes) -> ServerError:
    """The error that an answer is."""
    try:
        found = json.loads(body)
        detail, kind = str(found["detail"]), str(found.get("type", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        detail, kind = f"The server answers with {answer.status} {answer.reason}.", ""
    retry = answer.headers.get("Retry-After", "")
    return ServerError(answer.status, detail, kind, float(retry) if retry.isdecimal() else None)
