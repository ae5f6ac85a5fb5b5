"""Whose file it is. What the user's own runs name is opened; what somebody else's file names is not, unless asked.

A run says which weights it was trained on, and a library which run made it: paths and names that could be anything if
somebody else wrote them. So what avpea writes for a user is signed with a key that only this user's configuration
folder has. What carries that signature is the user's own. Anything else may name what comes with avpea and what is in
the hub's cache on this machine already; for more, the user's command has to name it, or to say `--trust`.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import platformdirs

from avpea.files import replacing
from avpea.progress import note

__all__ = ["fetching_refused", "is_own", "lies_inside", "nothing_fetched", "sign"]

_BYTES = 32
_REFUSED: ContextVar[str] = ContextVar("avpea_fetching_refused", default="")


def sign(content: str) -> str:
    """A signature of a text that only this user can make; empty if the key can be neither read nor kept."""
    key = _key() or _new_key()
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest() if key else ""


def is_own(content: str, signature: str) -> bool:
    """Whether `sign` made the signature, for this text and this user."""
    key = _key()
    made = hmac.new(key, content.encode(), hashlib.sha256).hexdigest() if key else ""
    return bool(made) and hmac.compare_digest(made.encode(), signature.encode())


def lies_inside(place: str, folder: Path) -> bool:
    """Whether a path, as an option names it, leads into a folder, links followed."""
    return Path(os.path.expanduser(place)).resolve().is_relative_to(folder.resolve())


@contextmanager
def nothing_fetched(reason: str) -> Iterator[None]:
    """Nothing is downloaded in this block: only what is in the hub's cache already is used.

    Args:
        reason: Why, for the error, as in `because RUN is not yours`; empty allows everything.
    """
    before = _REFUSED.set(reason)
    try:
        yield
    finally:
        _REFUSED.reset(before)


def fetching_refused() -> str:
    """Why nothing may be downloaded now; empty if it may."""
    return _REFUSED.get()


def _path() -> Path:
    return platformdirs.user_config_path("avpea") / "key"


def _key() -> bytes:
    try:
        with _path().open("rb") as file:
            found = file.read(_BYTES + 1)
    except OSError:
        return b""
    return found if len(found) == _BYTES else b""


def _new_key() -> bytes:
    """Make the key, unless another process has just done so; only this user may read it."""
    path = _path()
    try:
        # One of another length is damaged, and good for nothing.
        with replacing(path, keep=not path.exists(), mode=0o600) as aside:
            aside.write_bytes(secrets.token_bytes(_BYTES))
    except OSError as error:
        _tell(f"the key that marks your files as yours cannot be kept: {error} Until then they count as a stranger's.")
    return _key()


@cache
def _tell(text: str) -> None:
    note(text)
