"""What a server offers, to whom, and what one request may take."""

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from avpea.errors import AvpeaError
from avpea.files import closed
from avpea.media.limits import Limits

__all__ = ["SERVED", "TOKEN_VARIABLE", "WILDCARDS", "Settings", "read_token", "require_extra"]

# Bounds on a stranger's file: 8K pictures pass; a longer video is refused before it is decoded.
SERVED = Limits(memory_mb=960, seconds=8, megapixels=36, result_mb=2048)

WILDCARDS = ("0.0.0.0", "::")  # all addresses of the machine; no name to call it by
TOKEN_VARIABLE = "AVPEA_TOKEN"  # an argument could be read by every user of the machine


@dataclass(frozen=True)
class Settings:
    """What a server offers, to whom, and what one request may take.

    Attributes:
        runs: Run folders, checkpoints or hub repositories.
        library: Folder or URL of a library of indexed videos; None for none.
        folder: Folder of videos that are listed beside the uploads; None for none.
        host: Address to listen at.
        port: Port to listen at; 0 takes a free one.
        token: What requests must bring as `Authorization: Bearer TOKEN`; empty asks for nothing.
        allowed_hosts: Names that a request may call the server by, beside those of this machine and `host`.
        upload_mb: Size of an uploaded file, in MiB.
        kept_mb: Size of all uploaded files together, in MiB.
        video_seconds: Length of a video.
        limits: What decoding a file may take.
        workers: Processes that decode.
        at_once: Requests that are worked on at the same time.
        waiting: Requests and jobs that may wait; one more is answered with 503.
        deadline_seconds: Time after which a request or job is given up, from when it begins.

    Raises:
        AvpeaError: A value is out of its range, or strangers could use the server without a token.
    """

    runs: tuple[str, ...]
    library: str | None = None
    folder: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    allowed_hosts: tuple[str, ...] = ()
    upload_mb: int = 512
    kept_mb: int = 4096
    video_seconds: int = 1800
    limits: Limits | None = field(default=SERVED)
    workers: int = 2
    at_once: int = 4
    waiting: int = 32
    deadline_seconds: int = 900

    def __post_init__(self) -> None:
        for name in ("upload_mb", "kept_mb", "video_seconds", "workers", "at_once", "waiting", "deadline_seconds"):
            if getattr(self, name) < 1:
                raise AvpeaError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected 1 or more.")
        if not 0 <= self.port < 65536:
            raise AvpeaError(f"--port is {self.port}; expected 0 (any that is free) to 65535.")
        if self.folder is not None and (reason := closed(self.folder, listed=True)):
            raise AvpeaError(f"{reason}; get permission for it, or serve another folder.")
        if self.folder is not None and not self.folder.is_dir():
            raise AvpeaError(f"There is no folder {self.folder}; expected one with videos in it.")
        if self.token and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise AvpeaError(
                "The token has spaces or other characters that a header cannot hold; use letters and digits."
            )
        if not self.local and not self.token:
            raise AvpeaError(
                f"--host {self.host} lets other machines use the server, and there is no token; write one into a file "
                "and name it with --token-file FILE, or leave --host out."
            )

        if self.host in WILDCARDS and not self.allowed_hosts:
            raise AvpeaError(
                f"--host {self.host} listens to all addresses, and requests must call it by a name that it knows; "
                "give it with --allow-host NAME."
            )

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def read_token(file: Path | None) -> str:
    """The token in a file, or in the environment's `AVPEA_TOKEN`; empty without either.

    Raises:
        AvpeaError: The file cannot be read, or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        token = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise AvpeaError(f"--token-file {file} cannot be read ({reason}); write the token into a file.") from None
    if not token:
        raise AvpeaError(f"--token-file {file} is empty; write a token into it, such as `openssl rand -hex 32` makes.")
    return token


def require_extra() -> None:
    """Refuse if the libraries of the extra `serve` are missing.

    Raises:
        AvpeaError: They are.
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise AvpeaError(f"A server needs FastAPI ({error.name} is missing): pip install 'avpea[serve]'") from None
