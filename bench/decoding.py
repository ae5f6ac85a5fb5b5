"""How fast videos are read, beside decoding every picture, and beside torchcodec where it is installed.

    python -m bench decoding [--quick]
    python bench/decoding.py FILE ...     # CPU seconds of a read of each, by whichever avpea is imported

Clips of ten seconds at 25 frames a second, H.264 (x264's own settings, three B-frames among them) and AAC, made with
ffmpeg, with a key frame every 250 pictures, as is x264's own setting, every 50, as streams have them, and every 25, as
cameras have them; for each second the picture in its middle, resized to 224 x 224, and the sound at 16 kHz. `every` is
avpea without leaving pictures out, and `equal` says whether that gives the same frames. torchcodec gets the same
moments and resizes with torch. All in this process, in turns, with one thread each; CPU seconds of the process.
"""

import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from avpea import measure, media

SIZES = {"360p": "640x360", "720p": "1280x720", "1080p": "1920x1080"}
KEYS = (250, 50, 25)
SECONDS, SIDE = 10, 224
MADE = "-f lavfi -i mandelbrot=size={}:rate=25 -f lavfi -i sine=frequency=440:sample_rate=44100 -t {}"
ENCODED = "-c:v libx264 -pix_fmt yuv420p -c:a aac"


def run(quick: bool) -> dict[str, Any]:
    from avpea.media import sieve
    from bench.long_video import ffmpeg

    torch.set_num_threads(1)
    rows, rounds = [], 1 if quick else 7
    other = torchcodec_reader()
    with tempfile.TemporaryDirectory(prefix="avpea-bench-") as folder, media.boxed(None):
        for (name, size), keys in list(itertools.product(SIZES.items(), KEYS))[: 1 if quick else None]:
            path = Path(folder) / f"{name}-{keys}.mp4"
            ffmpeg(*MADE.format(size, SECONDS).split(), *ENCODED.split(), "-g", str(keys), path)

            def every(path: Path = path) -> Any:
                units, sieve.UNITS = sieve.UNITS, {}
                try:
                    return ours(path)
                finally:
                    sieve.UNITS = units

            ways: dict[str, Callable[[], Any]] = {"avpea": partial(ours, path), "every": every}
            if other is not None:
                ways["torchcodec"] = partial(other, path)
            equal = torch.equal(ways["avpea"]().frames, every().frames)
            spent = measure.interleaved(ways, rounds, time.process_time)
            row: dict[str, Any] = {"size": name, "key_frame_every": keys, "equal": equal}
            row |= {way: round(1 / statistics.median(some), 2) for way, some in spent.items()}
            row |= {f"over_{way}": measure.ratio(spent[way], spent["avpea"]) for way in ways if way != "avpea"}
            rows.append(row)
            print(row, file=sys.stderr, flush=True)
    about = {"what": __doc__, "command": "python -m bench decoding", "machine": measure.machine()}
    return about | {"unit": "videos of ten seconds for a CPU second", "torchcodec": version(), "rows": rows}


def ours(path: Path) -> Any:
    """avpea's clip of a file."""
    return media.read(path, segments=SECONDS, frame_size=(SIDE, SIDE))


def version() -> str:
    """torchcodec's version, empty if it is not installed."""
    return importlib.import_module("torchcodec").__version__ if importlib.util.find_spec("torchcodec") else ""


def torchcodec_reader() -> Callable[[Path], Any] | None:
    """The same by torchcodec, if it is installed."""
    if not version():
        return None
    decoders: Any = importlib.import_module("torchcodec.decoders")
    moments = [second + 0.5 for second in range(SECONDS)]

    def taken(path: Path) -> Any:
        frames = decoders.VideoDecoder(str(path), num_ffmpeg_threads=1).get_frames_played_at(moments).data
        # In floating point: of bytes, bicubic resizing is not offered everywhere.
        small = F.interpolate(frames.float(), (SIDE, SIDE), mode="bicubic", antialias=True)
        sound = decoders.AudioDecoder(str(path), sample_rate=16_000, num_channels=1).get_all_samples().data
        return small.round().clamp(0, 255).byte(), sound

    return taken


def spent_on(path: Path) -> float:
    """CPU seconds of a read. Not by `measure`: an earlier avpea that is imported here has no clock there."""
    began = time.process_time()
    ours(path)
    return time.process_time() - began


if __name__ == "__main__":
    with getattr(media, "boxed", nullcontext)(None):  # versions before it had none
        # Of the first read, in which libraries start, the time is dropped.
        found = {name: [spent_on(Path(name)) for _ in range(4)][1:] for name in sys.argv[1:]}
    print(json.dumps({name: round(statistics.median(some), 4) for name, some in found.items()}))
