"""A web server on this machine that serves a folder and answers requests for ranges of bytes, as object stores do."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(SimpleHTTPRequestHandler):
    """Python's own handler knows no ranges.

    Attributes:
        ranges: Whether they are answered.
        failing: Number of requests that are still refused with 503.
    """

    ranges = True
    failing = 0

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if type(self).failing:
            type(self).failing -= 1
            self.send_error(503)
        elif wanted is None or not self.ranges or not path.is_file():
            super().do_GET()
        else:
            content = path.read_bytes()
            part = content[int(wanted[1]) : int(wanted[2]) + 1]
            self.send_response(206 if part else 416)
            self.send_header("Content-Range", f"bytes {wanted[1]}-{wanted[2]}/{len(content)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path, *, ranges: bool = True, failing: int = 0) -> Iterator[str]:
    """The URL of a folder."""
    handler = type("Here", (Handler,), {"ranges": ranges, "failing": failing})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
