"""`avpea serve` under load on loopback: clients that each wait for their answer before they ask again.

python -m bench serve [--quick]

`localize`: the answer about an uploaded clip of 10 s at 640 x 360, for 1, 2, 4 and 8 clients: requests a second,
seconds to the answer at p50 and p99, and how many failed. `beside_hostile`: the same with 8 clients while 4 others
upload garbage. `page`: what costs no computing (`GET /v1/runs`). `batches`: windows that went through the encoder
together. `busy`: 64 clients at once against a queue of 8: how many got 503, and that none got anything else.
`sharing`: memory of the server for one, two and four runs over one backbone, what a run adds, and how long loading it
takes: with the backbone, over a backbone that is there, and again (`reload`). The run is untrained, of the starter
backbone's size (ViT-S/14 at 84 x 84 pixels); decoding and computing share the machine's cores with the clients.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avpea import measure
from avpea.client import Client
from avpea.errors import AvpeaError, ServerError
from tests.media_factory import make_video
from tests.serve.serving import Process
from tests.tiny import tiny_options, write_tiny

CLIENTS = (1, 2, 4, 8)
BACKBONE = {"name": "vit_small_patch14_dinov2", "weights": "random", "image_size": 84}


def run(quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"what": __doc__, "command": "python -m bench serve", "machine": measure.machine()}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        runs = [made(place, seed, quick) for seed in range(2 if quick else 4)]
        clip = make_video(place / "clip.mp4", seconds=2 if quick else 10, size=(640, 360), fps=25)
        words = "--device", "cpu", "--waiting", "64"
        server = Process(str(runs[0]), *words, temporary=place)
        try:
            found |= loaded(server, clip, 4 if quick else 12)
        finally:
            server.end()
        server = Process(str(runs[0]), "--device", "cpu", "--waiting", "8", "--at-once", "1", temporary=place)
        try:
            found["busy"] = busy(server, clip, 16 if quick else 64)
        finally:
            server.end()
        found["sharing"] = sharing(place, runs)
    return found


def made(place: Path, seed: int, quick: bool) -> Path:
    """A run with adapters of a seed of its own."""
    from avpea.experiment import Experiment
    from avpea.train import train

    data = place / "data"
    values = tiny_options(data if data.exists() else write_tiny(data), place / "cache")
    experiment = Experiment.from_dict(values if quick else {**values, "backbone": BACKBONE})
    return train(experiment.override({"train.epochs": 1, "train.seed": seed}), place / f"run{seed}", progress=False).run


def loaded(server: Process, clip: Path, each: int) -> dict[str, Any]:
    client = Client(server.address)
    video = client.upload(clip)["video"]
    expected = client.localize(video)

    def ask() -> bool:
        return client.localize(video) == expected

    found: dict[str, Any] = {"localize": {str(n): driven(ask, n, each) for n in CLIENTS}}
    over = threading.Event()
    hostile = [threading.Thread(target=attack, args=(client, clip.parent, over)) for _ in range(4)]
    for one in hostile:
        one.start()
    found["beside_hostile"] = driven(ask, 8, each)
    over.set()
    for one in hostile:
        one.join()
    found["page"] = driven(lambda: bool(client.runs()), 8, each)
    text = urllib.request.urlopen(f"{server.address}/metrics").read().decode()
    lines = [line.split() for line in text.splitlines() if line.startswith("avpea_batch_windows_")]
    found["batches"] = {name: float(value) for name, value in lines if "created" not in name}
    return found


def driven(ask: Callable[[], bool], clients: int, each: int) -> dict[str, Any]:
    """So many clients, each with its number of requests."""
    times, errors, lock = list[float](), list[str](), threading.Lock()

    def drive() -> None:
        for _ in range(each):
            begun, wrong = time.perf_counter(), ""
            try:
                wrong = "" if ask() else "another answer"
            except AvpeaError as error:
                wrong = str(error)
            with lock:
                times.append(time.perf_counter() - begun)
                errors.extend([wrong] * bool(wrong))

    threads = [threading.Thread(target=drive) for _ in range(clients)]
    begun = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    seconds, ordered = time.perf_counter() - begun, sorted(times)
    return {
        "requests": len(times),
        "per_second": round(len(times) / seconds, 2),
        "p50_s": round(ordered[len(ordered) // 2], 3),
        "p99_s": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 3),
        "errors": len(errors),
    }


def attack(client: Client, place: Path, over: threading.Event) -> None:
    """Upload garbage until it is over."""
    garbage = place / f"garbage{threading.get_ident()}.mp4"
    garbage.write_bytes(os.urandom(200_000))
    while not over.is_set():
        try:
            client.upload(garbage)
        except AvpeaError:
            time.sleep(0.05)


def busy(server: Process, clip: Path, clients: int) -> dict[str, Any]:
    """How many of many requests at once are refused, and how."""
    client = Client(server.address, patience_seconds=0)
    video = client.upload(clip)["video"]
    statuses: list[int] = []

    def ask() -> None:
        try:
            client.localize(video)
            statuses.append(200)
        except ServerError as error:
            statuses.append(error.status if error.retry_seconds else 0)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    counted = {str(status): statuses.count(status) for status in sorted(set(statuses))}
    return {"requests": clients, "statuses": counted, "other": sum(one not in (200, 503) for one in statuses)}


SHARING = """
import gc, json, sys, time
from pathlib import Path
from avpea.serve.models import Models
def resident_mb():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) / 1024
models, found, before = Models("cpu"), [], resident_mb()
for source in sys.argv[1:]:
    begun = time.perf_counter()
    run = models.load(source)
    seconds = time.perf_counter() - begun
    gc.collect()
    found.append({"memory_mb": round(resident_mb() - before, 1), "seconds": round(seconds, 3),
                  "adapter_mb": round(run.trained_bytes / 2**20, 2)})
begun = time.perf_counter()
models.reload(run.name)
print(json.dumps({"runs": found, "reload_s": round(time.perf_counter() - begun, 3), "backbones": models.backbones}))
"""


def sharing(place: Path, runs: list[Path]) -> dict[str, Any]:
    """Memory and time of each further run in one process, and of each in a process of its own."""

    def loaded_in_one(*some: Path) -> Any:
        words = [sys.executable, "-c", SHARING, *map(str, some)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    alone = [loaded_in_one(one)["runs"][0]["memory_mb"] for one in runs]
    return {"in_one_process": loaded_in_one(*runs), "each_alone_mb": alone}
