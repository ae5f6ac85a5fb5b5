"""An hour of video: memory and time of an answer, beside those of a minute, and of decoding and model in turn.

python -m bench long_video [--quick]

H.264 with 640 x 360 pixels at 25 frames a second and AAC, made with ffmpeg from a test source: an hour, and with
--quick five minutes. `overlapped` is `Predictor.predict` as it is, which decodes beside the model. `in turn` decodes
all of the video into memory and then runs the model, as avpea did before. Each in a process of its own with the
starter backbone and AV-PEA, not trained; memory is the peak of this process and of the one that decodes. The model is
loaded before the clock starts. `differing_seconds` counts the seconds whose answer is another one.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from avpea import measure
from avpea.checkpoint import MODEL_FILE, save_model
from avpea.errors import AvpeaError
from avpea.experiment import load_recipe
from avpea.labels import EventLabels
from avpea.media import boxed
from avpea.media.box import current
from avpea.model import build
from avpea.predict import Predictor, VideoView, load

MINUTE = "-f lavfi -i testsrc2=size=640x360:rate=25 -f lavfi -i sine=frequency=440:sample_rate=44100 -t 60"
ENCODED = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 250 -c:a aac"


class InTurn(VideoView):
    """Decodes everything before the first window."""

    def whole(self) -> Any:
        return self.decoded()


class InTurnPredictor(Predictor):
    def view(self, video: Path, reading: Any) -> VideoView:
        return InTurn(video, self.model, self.info.experiment, reading)


def run(quick: bool) -> dict[str, Any]:
    minutes = 5 if quick else 60
    with tempfile.TemporaryDirectory(prefix="avpea-bench-") as name:
        folder = Path(name)
        made = {"minute": make(folder, 1), "long": make(folder, minutes)}
        run_folder(folder / "run")
        cases = {
            "a minute": ("overlapped", made["minute"]),
            f"{minutes} minutes": ("overlapped", made["long"]),
            f"{minutes} minutes in turn": ("in turn", made["long"]),
        }
        found = {case: answered(folder / "run", *options) for case, options in cases.items()}
    short, long, turn = found.values()
    categories = zip(long.pop("categories"), turn.pop("categories"), strict=True)
    del short["categories"]
    return {
        "what": __doc__,
        "command": "python -m bench long_video",
        "machine": measure.machine(),
        "answers": found,
        "memory_over_a_minute": round(long["memory_mb"] / short["memory_mb"], 3),
        "memory_over_in_turn": round(long["memory_mb"] / turn["memory_mb"], 3),
        "times_real_time": round(60 * minutes / long["seconds"], 1),
        "seconds_over_in_turn": round(long["seconds"] / turn["seconds"], 3),
        "differing_seconds": sum(one != other for one, other in categories),
    }


def make(folder: Path, minutes: int) -> Path:
    """Write a video of some minutes, each the same."""
    minute, path = folder / "1.mp4", folder / f"{minutes}.mp4"
    if not minute.exists():
        ffmpeg(*MINUTE.split(), *ENCODED.split(), minute)
    if minutes > 1:
        (folder / "list.txt").write_text(f"file {minute.name}\n" * minutes)
        ffmpeg("-f", "concat", "-i", folder / "list.txt", "-c", "copy", path)
    return path


def ffmpeg(*words: str | Path) -> None:
    """Run ffmpeg.

    Raises:
        AvpeaError: It is not installed.
    """
    if shutil.which("ffmpeg") is None:
        raise AvpeaError("The program ffmpeg, which makes the videos, is not installed; install it, and try again.")
    subprocess.run(["ffmpeg", "-loglevel", "error", "-y", *words], check=True)


def run_folder(folder: Path) -> None:
    """Write a run that is not trained."""
    folder.mkdir()
    recipe, labels = load_recipe("mini/avel"), EventLabels(tuple("abcdefghij"))
    torch.manual_seed(0)
    save_model(folder / MODEL_FILE, build(recipe, labels), recipe, labels, {"epoch": 0, "selected_on": None})


def answered(run: Path, how: str, video: Path) -> dict[str, Any]:
    """The figures of one answer, from a process of its own."""
    words = [sys.executable, "-m", "bench.long_video", str(run), how, str(video)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def answer(run: str, how: str, video: str) -> dict[str, Any]:
    """Answer about a video here, and measure it."""
    with boxed():
        predictor = load(run)
        if how == "in turn":
            predictor = InTurnPredictor(predictor.model, predictor.info)
        began = time.perf_counter()
        found = predictor.predict(video)
        seconds = time.perf_counter() - began
        box = current()
        worker = Path(f"/proc/{box.process_id}/status").read_text() if box is not None and box.process_id else ""
        decoding = float(worker.partition("VmHWM:")[2].split()[0]) / 1024 if worker else 0.0
    return {
        "seconds": round(seconds, 1),
        "memory_mb": round(measure.resident_peak_mb() + decoding),
        "decoding_mb": round(decoding),
        "categories": found.decisions.tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(answer(*sys.argv[1:])))
