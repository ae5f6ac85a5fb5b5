"""Who may ask: names that the server goes by, pages that may ask it, the token; and headers that browsers obey."""

import hmac
import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avpea.serve.problems import Problem, answer_to, routed
from avpea.serve.settings import WILDCARDS, Settings

__all__ = ["Guard", "Sessions", "cookie_name", "policy"]

OPEN = (
    "/",
    "/docs",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/v1/session",
    "/favicon.ico",
)  # without a token; nothing there is secret
MOST_SESSIONS = 1000


def policy(nonce: str = "") -> str:
    """The content security policy: no script and no style but the server's files, and those styles with the nonce."""
    style = f"style-src 'self' 'nonce-{nonce}'" if nonce else "style-src 'self'"
    return (
        f"default-src 'none'; script-src 'self'; {style}; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def cookie_name(headers: Headers) -> str:
    """What a browser calls the cookie of the server that it asks: with the port, as a cookie is of a whole host."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"avpea_session_{port}" if port.isdecimal() else "avpea_session"


class Sessions:
    """Browsers that have shown the token; they have a cookie, since a video element cannot send a header.

    Args:
        token: The token; empty if none is asked for.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._known: dict[str, None] = {}

    def is_token(self, given: str) -> bool:
        """Whether it is the token; takes as long for any other of the same length."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def open(self) -> str:
        """A new session."""
        key = secrets.token_urlsafe(32)
        self._known[key] = None
        while len(self._known) > MOST_SESSIONS:
            self._known.pop(next(iter(self._known)))
        return key

    def allows(self, headers: Headers) -> bool:
        """Whether a request may be answered."""
        if not self._token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        cookies = (part.strip().partition("=") for part in headers.get("cookie", "").split(";"))
        own = cookie_name(headers)
        keys = [value for name, _, value in cookies if name == own]
        return any(hmac.compare_digest(key.encode(), one.encode()) for one in keys for key in list(self._known))


class Guard:
    """Middleware around the whole application.

    DNS rebinding makes a browser take a stranger's name for this server, so only the server's own names are answered.
    A page of another origin is refused, whatever it asks.

    Args:
        app: The application.
        settings: The server's settings.
        sessions: Browsers that have shown the token.
    """

    def __init__(self, app: ASGIApp, settings: Settings, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions
        named = {settings.host, *settings.allowed_hosts, "127.0.0.1", "localhost", "::1"} - set(WILDCARDS)
        self._hosts = {host.lower().strip("[]") for host in named}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = _with_headers(send)
        try:
            self._require(scope)
        except Problem as problem:
            await answer_to(problem)(scope, receive, sent)
            return
        if scope["method"] != "HEAD":
            await self._app(scope, receive, sent)
            return
        with routed(scope, {**scope, "method": "GET"}) as inner:  # as GET, without the body
            await self._app(inner, receive, _without_body(sent))

    def _require(self, scope: Scope) -> None:
        headers, path = Headers(scope=scope), scope["path"]
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _name(hosts[0]) not in self._hosts:
            raise Problem(
                421, "The server is not called by this name; use its address, or start it with --allow-host NAME.",
                "unknown-host",
            )  # fmt: skip
        origin = headers.get("origin")
        if origin is not None and _place(origin) != hosts[0].lower():
            raise Problem(403, "Pages of other sites may not use this server.", "other-origin")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and not (path in ("/", "/docs") and scope["method"] == "GET"):
            raise Problem(403, "Pages of other sites may not use this server.", "other-origin")
        if not (path in OPEN or path.startswith("/static/")) and not self._sessions.allows(headers):
            raise Problem(
                401, "This server asks for a token; send it as `Authorization: Bearer TOKEN`.", "no-token",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip


def _place(origin: str) -> str:
    """Host and port in an Origin header; empty if it is no such header."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a Host header, without the port; empty if it is no such header."""
    if "@" in host or "/" in host:
        return ""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _without_body(send: Send) -> Send:
    async def sent(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return sent


def _with_headers(send: Send) -> Callable[[Message], Any]:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.setdefault("Content-Security-Policy", policy())
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Frame-Options"] = "DENY"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
        await send(message)

    return sent
