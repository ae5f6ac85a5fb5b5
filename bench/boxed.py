"""What decoding in a worker process costs, over decoding in this one.

python -m bench boxed [--quick]

`start_ms` is the time from opening a box to its first answer, and what of it is left if a model is loaded meanwhile
(here a pause of a second). The rest is CPU time of a reading, in turns, that of both processes together: other work on
the machine does not count. The files are made on the spot: a short clip, one as in data sets, and a minute of HD.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from avpea import measure
from avpea.media import boxed, limits_here, probe, read, warm_up
from avpea.media.box import current
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
                probe(path)  # which starts the worker
                times = compared(path, 4 if quick else (100, 30, 5)[number])
            found[name] = {
                "cpu_ms": {how: round(1e3 * sum(each) / len(each), 1) for how, each in times.items()},
                "ratio": round(sum(times["worker"]) / sum(times["here"]), 3),
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


def compared(path: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of CPU time of each reading, in turns; the first round is dropped."""
    times: dict[str, list[float]] = {"worker": [], "here": []}
    for _ in range(rounds + 1):
        for how, limits in (("worker", limits_here()), ("here", None)):
            before = spent()
            if limits is None:
                with boxed(None):
                    read(path, frame_size=(224, 224))
            else:
                read(path, frame_size=(224, 224))
            times[how].append(spent() - before)
    return {how: each[1:] for how, each in times.items()}


def spent() -> float:
    """CPU time of this process and of the worker so far; of the latter in hundredths of a second (Linux)."""
    box = current()
    fields = Path(f"/proc/{box.process_id}/stat").read_text().rpartition(")")[2].split() if box else ["0"] * 13
    if box:
        last["worker"] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + last["worker"]


last = {"worker": 0.0}
