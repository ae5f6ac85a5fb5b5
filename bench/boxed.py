"""What decoding in a worker process costs, over decoding in this one.

python -m bench boxed [--quick]

`start_ms` is the time from opening a box to its first answer, and what of it is left if a model is loaded meanwhile
(here a pause of a second). The files are made on the spot: a short clip, one as in data sets, and a minute of HD.
"""

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from avpea import measure
from avpea.media import boxed, probe, read, warm_up
from tests.media_factory import make_video

FILES: dict[str, dict[str, Any]] = {
    "2 s, 96 x 64": {"seconds": 2},
    "10 s, 640 x 360": {"seconds": 10, "size": (640, 360), "fps": 25},
    "60 s, 1280 x 720": {"seconds": 60, "size": (1280, 720), "fps": 25},
}


def run(quick: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"what": __doc__, "command": "python -m bench boxed", "machine": measure.machine()}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(list(FILES.items())[: 1 if quick else None]):
            path = make_video(Path(folder) / f"{number}.mp4", **options)
            if not number:
                found["start_ms"] = {"first answer": started(path, 0.0), "after a second": started(path, 1.0)}
            with boxed():
                rounds = 2 if quick else (30, 20, 5)[number]
                times = measure.interleaved({"worker": partial(worked, path), "here": partial(here, path)}, rounds)
            found[name] = {
                "ms": {how: round(1e3 * min(each), 1) for how, each in times.items()},
                "ratio": measure.ratio(times["worker"], times["here"]),
            }
    return found


def started(path: Path, pause: float) -> float:
    """Milliseconds to the first answer of a box; `pause` seconds after its worker was started."""
    begun = []
    for _ in range(3):
        with boxed():
            if pause:
                warm_up()
                time.sleep(pause)
            before = time.perf_counter()
            probe(path)
            begun.append(time.perf_counter() - before)
    return round(1e3 * min(begun), 1)


def worked(path: Path) -> None:
    read(path, frame_size=(224, 224))


def here(path: Path) -> None:
    with boxed(None):
        read(path, frame_size=(224, 224))
