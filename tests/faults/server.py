"""Hostile uploads to a server, while others use it: mutants of media, garbage, wrong forms, and bodies that break off.

hostile     uploads that were sent, by kind in `kinds`
statuses    how they were answered; `broken off` for those whose client hangs up
failures    of them, those answered with 500: an error of the server's own
good        requests of others meanwhile
effects     of these, those that were not answered as before: each must be 0
slowest_s   the longest that one of them took, and `alone_s` what it took before
left        files that a refused upload left behind
restarted   whether the server had ended meanwhile
"""

import http.client
import random
import socket
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from avpea.client import Client
from avpea.errors import AvpeaError
from tests.faults.mutate import SMALL, mutant, sources
from tests.media_factory import make_video
from tests.serve.serving import Process, until
from tests.tiny import tiny_options, write_tiny

SEED = 18
HOSTILE_CLIENTS, GOOD_CLIENTS = 4, 2


def run(long: bool) -> dict[str, Any]:
    """Figures of 200 uploads, or 2,000."""
    from avpea.experiment import Experiment
    from avpea.train import train

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        values = tiny_options(write_tiny(place / "data"), place / "cache")
        train(Experiment.from_dict(values), place / "run", progress=False)
        (place / "tmp").mkdir()
        words = str(place / "run"), "--device", "cpu", "--upload-mb", "8"
        server = Process(*words, temporary=place / "tmp")
        try:
            return attacked(server, place, 2000 if long else 200)
        finally:
            server.end()


def attacked(server: Process, place: Path, count: int) -> dict[str, Any]:
    """Figures of so many hostile uploads."""
    files, good = sources(place), make_video(place / "good.mp4", **SMALL)
    client = Client(server.address, patience_seconds=0)
    known, begun = client.upload(good), time.monotonic()
    expected = client.localize(good)
    tally: dict[str, Any] = {"alone_s": round(time.monotonic() - begun, 2)}
    kinds, statuses, times, effects = Counter[str](), Counter[str](), list[float](), list[str]()
    over, turns, lock = threading.Event(), iter(range(count)), threading.Lock()

    def attack() -> None:
        while (number := _next(turns, lock)) is not None:
            kind, status = hostile(server.address, files, random.Random(f"{SEED}-{number}"))
            with lock:
                kinds[kind] += 1
                statuses[status] += 1

    def use() -> None:
        while not over.is_set():
            started = time.monotonic()
            try:
                wrong = "" if client.localize(good) == expected else "another answer"
                wrong = wrong or (
                    "" if known["video"] in {one["video"] for one in client.videos()} else "a lost upload"
                )
            except AvpeaError as error:
                wrong = str(error)
            with lock:
                times.append(time.monotonic() - started)
                effects.extend([wrong] * bool(wrong))

    users = [threading.Thread(target=use) for _ in range(GOOD_CLIENTS)]
    attackers = [threading.Thread(target=attack) for _ in range(HOSTILE_CLIENTS)]
    for one in (*users, *attackers):
        one.start()
    for one in attackers:
        one.join()
    over.set()
    for one in users:
        one.join()
    # What a hostile file makes of the server is one upload that it took for media; these are kept on purpose.
    kept = {one["video"] for one in client.videos()}
    for video in kept - {known["video"]}:
        client.delete(video)

    def left() -> list[Path]:
        return [path for path in (place / "tmp").glob("avpea-serve-*/*/*") if path.name != ".lock"]

    until(lambda: len(left()) == 1, 60)
    return tally | {
        "hostile": count,
        "kinds": dict(kinds),
        "statuses": dict(statuses),
        "failures": statuses["500"],
        "good": len(times),
        "effects": len(effects),
        "first_effect": effects[0] if effects else None,
        "slowest_s": round(max(times), 2),
        "left": len(left()) - 1,
        "restarted": server.process.poll() is not None,
    }


def _next(turns: Any, lock: threading.Lock) -> int | None:
    with lock:
        return next(turns, None)


def hostile(address: str, files: list[bytes], draw: random.Random) -> tuple[str, str]:
    """Send one, and say of which kind it is and how it was answered."""
    kind = draw.choice(["mutant", "mutant", "mutant", "garbage", "form", "broken off", "too big", "name"])
    body, head = b"", b'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    if kind in ("mutant", "broken off"):
        body = mutant(files, draw)[0]
    elif kind == "garbage":
        body = draw.randbytes(draw.randrange(0, 100_000))
    elif kind == "too big":
        body = bytes(9 << 20)
    elif kind == "form":
        head = draw.choice(
            [b"", b"x", b"\xff\xfe\r\n\r\n", b"a: " + b"b" * 20_000 + b"\r\n\r\n", b"Content-Disposition: x\r\n\r\n"]
        )
    elif kind == "name":
        name = draw.choice(["../../../../etc/passwd", "a\0b.mp4", "x" * 4000, "\u202e.mp4", "%2e%2e/.mp4", "con.m3u8"])
        head = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        body = b"#EXTM3U\nhttp://127.0.0.1:1/x\n"
    form = b"--b\r\n" + head + body + b"\r\n--b--\r\n"
    path = draw.choice(["/v1/videos", "/v1/localize"])
    if kind == "broken off":
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), 60) as one:
            start = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(form)}\r\n"
            one.sendall(f"{start}Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode())
            one.sendall(form[: draw.randrange(len(form))])
        return kind, kind
    return kind, answered(address, path, form)


def answered(address: str, path: str, form: bytes) -> str:
    """The status of an answer; a server that hangs up early has refused the body."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
    try:
        connection.request("POST", path, form, {"Content-Type": "multipart/form-data; boundary=b"})
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException):
        return "refused early"
    finally:
        connection.close()
