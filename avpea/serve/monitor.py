"""Counts and times for Prometheus (`/metrics`)."""

import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from avpea.version import __version__

__all__ = ["Monitor", "Timed"]

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Monitor:
    """What a server counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "avpea_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "avpea_request_seconds", "Time to the end of an answer.", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._batches = Histogram(
            "avpea_batch_windows",
            "Windows that were encoded together.",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self._uploaded = Counter("avpea_uploaded_bytes", "Bytes of files received.", registry=self.registry)
        Gauge("avpea_info", "Version.", ["version"], registry=self.registry).labels(__version__).set(1)

    def watch(self, work: Any) -> None:
        """Show how much work waits, is done now, and was refused."""
        for name in ("waiting", "running", "refused"):
            about = f"Pieces of work {name}."
            gauge = Gauge(f"avpea_work_{name}", about, registry=self.registry)
            gauge.set_function(lambda name=name: float(getattr(work, name)))  # type: ignore[misc]

    def batched(self, windows: int) -> None:
        """A batch of so many windows was encoded."""
        self._batches.observe(windows)

    def uploaded(self, size: int) -> None:
        """A file of so many bytes was received."""
        self._uploaded.inc(size)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self.registry)


class Timed:
    """Middleware that counts and times requests by their route, never by what strangers make up.

    Args:
        app: The application.
        monitor: Where it is counted.
    """

    def __init__(self, app: ASGIApp, monitor: Monitor) -> None:
        self._app, self._monitor = app, monitor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE") else "other"
            self._monitor.answered(method, route, status, time.monotonic() - begun)
