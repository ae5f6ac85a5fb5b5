"""`av-digits`: 10-second clips in AVE's layout in which a handwritten digit is seen and a digit is spoken.

A second belongs to the event if the digit that is seen is also spoken. In other seconds the digit is only seen or only
heard, another digit is seen or heard, or both differ; marks and other words serve as distractors. So neither picture
nor sound alone shows where the event is. All parts come with `pip install "avpea[samples]"`: digits from scikit-learn's
load_digits, speech from espeak-ng, two photographs, and noise. Nothing is downloaded.
"""

import importlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int16

from avpea.data.samples._layout import write_layout
from avpea.data.samples._plan import ClipPlan, clip_plans
from avpea.errors import DataError
from avpea.files import remove_leftovers, replacing
from avpea.labels import SPLITS
from avpea.progress import progress_bar

__all__ = ["Summary", "make"]

MARKER = "av-digits.json"
_RECIPE = 1  # increased when the same options make different clips


@dataclass(frozen=True)
class Summary:
    """The result of `make`: clips in each split, how many were made now or already existed, and the time it took."""

    folder: Path
    clips: dict[str, int]
    made: int
    kept: int
    seconds: float

    def __str__(self) -> str:
        """One line for the terminal."""
        splits = ", ".join(f"{count} {split}" for split, count in self.clips.items())
        return f"{self.folder}: {splits} clips; {self.made} made, {self.kept} kept, {self.seconds:.0f} s"


def make(
    folder: Path, *, train: int = 160, val: int = 40, test: int = 60, seed: int = 0, progress: bool = True
) -> Summary:
    """Make the data set in `folder`; after an interruption, the same call resumes.

    Args:
        folder: A new or empty folder, or that of an earlier call with the same options.
        train: Number of training clips.
        val: Number of validation clips.
        test: Number of test clips.
        seed: Random seed; with the same versions of the libraries, the same seed gives the same clips.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: A package is missing, `folder` holds something else or cannot be written, or a count is below 1.
    """
    began = time.monotonic()
    folder = Path(folder)
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    for split, count in counts.items():
        if count < 1:
            raise DataError(f"{split} is {count}; expected 1 clip or more in every split.")
    datasets = _require("sklearn.datasets", "scikit-learn")
    _require("espeakng_loader", "espeakng-loader")
    with _writing(folder):
        _claim(folder, {"sample": "av-digits", "recipe": _RECIPE, **counts, "seed": seed})
        plans = _plans(counts, seed, datasets)
        missing = [plan for plan in plans if not _file(folder, plan).is_file()]
        if missing:
            _make_clips(folder, plans, missing, datasets, progress)
        write_layout(folder, plans)
    return Summary(folder, counts, len(missing), len(plans) - len(missing), time.monotonic() - began)


def _require(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(
            f'The package {package} is not installed, and av-digits is made from it; run: pip install "avpea[samples]"'
        ) from None


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"av-digits cannot be written to {folder} ({error.strerror or error}); choose a folder that you may write "
            "to, on a disk with room. The same command resumes."
        ) from error


def _claim(folder: Path, options: dict[str, Any]) -> None:
    """Write the marker with these options into the folder; refuse a folder with other content."""
    marker = folder / MARKER
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    if not marker.exists():
        inside = sorted(path.name for path in folder.iterdir())
        if inside:
            raise DataError(
                f"{folder} already holds {inside[0]}, and is no av-digits folder; choose a new or an empty folder."
            )
        with replacing(marker, keep=True) as aside:
            aside.write_text(json.dumps(options), encoding="utf-8")
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != options:
        raise DataError(
            f"{folder} holds av-digits made with {_listed(found)}, and {_listed(options)} is asked for; "
            "choose another folder, or delete this one to make it anew."
        )
    (folder / "AVE").mkdir(exist_ok=True)
    remove_leftovers(folder / "AVE")


def _listed(options: Any) -> str:
    if not isinstance(options, dict):
        return "unreadable options"
    return " ".join(f"{key}={value}" for key, value in options.items() if key != "sample")


def _plans(counts: dict[str, int], seed: int, datasets: Any) -> list[ClipPlan]:
    from avpea.data.samples._pictures import MARKS

    targets = datasets.load_digits().target.tolist()
    return [plan for split, count in counts.items() for plan in clip_plans(split, count, seed, targets, len(MARKS))]


def _file(folder: Path, plan: ClipPlan) -> Path:
    return folder / "AVE" / f"{plan.video_id}.mp4"


def _make_clips(folder: Path, plans: list[ClipPlan], missing: list[ClipPlan], datasets: Any, progress: bool) -> None:
    from avpea.data.samples._speech import speak

    digits = (datasets.load_digits().images / 16).astype(np.float32)
    # The words of all clips, even if some exist: how a word sounds depends on the words before it.
    spoken = iter(speak([word for plan in plans for word in plan.words if word]))
    words = {plan.video_id: [next(spoken) if word else None for word in plan.words] for plan in plans}
    # One after the other: threads are slower (the encoders hold Python's lock), and processes would force callers to
    # guard their start, all for 15 seconds of work.
    with progress_bar("av-digits", len(plans), shown=progress, done=len(plans) - len(missing)) as advance:
        for plan in missing:
            _make_clip(_file(folder, plan), plan, words[plan.video_id], digits)
            advance()


def _make_clip(
    path: Path,
    plan: ClipPlan,
    words: Sequence[Int16[np.ndarray, " _samples"] | None],
    digits: Float32[np.ndarray, "images 8 8"],
) -> None:
    from avpea.data.samples._encode import write_clip
    from avpea.data.samples._pictures import FPS, choose_background, frames
    from avpea.data.samples._sound import SOUND_RATE_HZ, choose_noise, compose

    chance = plan.generator("picture")
    film = frames(plan, choose_background(plan.split, chance), digits, chance)
    chance = plan.generator("sound")
    waveform = compose(words, choose_noise(chance), chance)
    write_clip(path, film, FPS, waveform, SOUND_RATE_HZ)
