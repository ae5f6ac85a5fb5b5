"""How a data set of clips with digits is made: its folder claimed, its clips rendered, resumed, or refused."""

import importlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int16

from avpea.data.samples._plan import Utterance
from avpea.errors import DataError
from avpea.files import remove_leftovers, replacing
from avpea.progress import progress_bar

__all__ = ["Kind", "Plan", "Summary", "make"]

MOST_CLIPS = 10_000  # the words of all clips are in memory while they are made, about 80 kB a clip


@runtime_checkable
class Plan(Protocol):
    """What is asked of the plan of a clip."""

    @property
    def video_id(self) -> str:
        """Name of its file."""

    @property
    def split(self) -> str:
        """`train`, `val` or `test`."""

    @property
    def words(self) -> tuple[Utterance | None, ...]:
        """Word spoken in each second, or None."""

    def generator(self, stream: Literal["picture", "sound"]) -> np.random.Generator:
        """A random generator for rendering one stream, in the same state at every call."""


@dataclass(frozen=True)
class Kind:
    """A kind of data set.

    Attributes:
        name: Its name, such as `av-digits`.
        recipe: A number that is increased when the same options make different clips.
        clips: Name of the folder of the clips.
        plans: The plans of a split, from its name, its number of clips, the seed, the label of each image of
            load_digits, and the number of marks.
        shown: What a clip shows in each second, from its plan and the images of load_digits.
        write_layout: Writes all text files; the last one marks the data set as complete.
        write_masks: Writes where the glyphs of a clip are, from the folder, its plan and what `frames` returns.
    """

    name: str
    recipe: int
    clips: str
    plans: Callable[[str, int, int, Sequence[int], int], Sequence[Any]]
    shown: Callable[[Any, Float32[np.ndarray, "images 8 8"]], Sequence[Sequence[Any]]]
    write_layout: Callable[[Path, Sequence[Any]], None]
    write_masks: Callable[[Path, Any, Sequence[Sequence[Any]]], None] | None = None

    @property
    def marker(self) -> str:
        """Name of the file that says how a folder was made."""
        return f"{self.name}.json"

    def file(self, folder: Path, plan: Plan) -> Path:
        """A clip's file."""
        return folder / self.clips / f"{plan.video_id}.mp4"


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
    kind: Kind, folder: Path, *, train: int = 160, val: int = 40, test: int = 60, seed: int = 0, progress: bool = True
) -> Summary:
    """Make a data set in `folder`; after an interruption, the same call resumes.

    Args:
        kind: What to make.
        folder: A new or empty folder, or that of an earlier call with the same options.
        train: Number of training clips.
        val: Number of validation clips.
        test: Number of test clips.
        seed: Random seed; with the same versions of the libraries, the same seed gives the same clips.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: A package is missing, `folder` holds something else or cannot be written, a count is below 1, the
            clips are too many, or the seed is below 0.
    """
    began, counts = time.monotonic(), {"train": train, "val": val, "test": test}
    for split, count in counts.items():
        if count < 1:
            raise DataError(f"{split} is {count}; expected 1 clip or more in every split.")
    if (total := sum(counts.values())) > MOST_CLIPS:
        raise DataError(
            f"{total:,} clips are asked for; expected at most {MOST_CLIPS:,} in one folder (each takes about 80 kB "
            "and a third of a second). For more, make several folders, each with another seed."
        )
    if seed < 0:
        raise DataError(f"seed is {seed}; expected 0 or more.")
    datasets = _require("sklearn.datasets", "scikit-learn", kind)
    _require("espeakng_loader", "espeakng-loader", kind)
    with _writing(folder, kind):
        _claim(folder, kind, {"sample": kind.name, "recipe": kind.recipe, **counts, "seed": seed})
        plans = _plans(kind, counts, seed, datasets)
        missing = [plan for plan in plans if not kind.file(folder, plan).is_file()]
        if missing:
            _make_clips(folder, kind, plans, missing, datasets, progress)
        kind.write_layout(folder, plans)
    return Summary(folder, counts, len(missing), len(plans) - len(missing), time.monotonic() - began)


def _require(module: str, package: str, kind: Kind) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise DataError(
            f"The package {package} is not installed, and {kind.name} is made from it; "
            'run: pip install "avpea[samples]"'
        ) from None


@contextmanager
def _writing(folder: Path, kind: Kind) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{kind.name} cannot be written to {folder} ({error.strerror or error}); choose a folder that you may "
            "write to, on a disk with room. The same command resumes."
        ) from error


def _claim(folder: Path, kind: Kind, options: dict[str, Any]) -> None:
    """Write the marker with these options into the folder; refuse a folder with other content."""
    marker = folder / kind.marker
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, kind.marker)  # nothing else, since the folder may be another one's
    if not marker.exists():
        inside = sorted(path.name for path in folder.iterdir())
        if inside:
            raise DataError(
                f"{folder} already holds {inside[0]}, and is no {kind.name} folder; choose a new or an empty folder."
            )
        with replacing(marker, keep=True) as aside:
            aside.write_text(json.dumps(options), encoding="utf-8")
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if found != options:
        raise DataError(
            f"{folder} holds {kind.name} made with {_listed(found)}, and {_listed(options)} is asked for; "
            "choose another folder, or delete this one to make it anew."
        )
    (folder / kind.clips).mkdir(exist_ok=True)
    for own in (folder, folder / kind.clips):
        remove_leftovers(own)


def _listed(options: Any) -> str:
    if not isinstance(options, dict):
        return "unreadable options"
    return " ".join(f"{key}={value}" for key, value in options.items() if key != "sample")


def _plans(kind: Kind, counts: Mapping[str, int], seed: int, datasets: Any) -> list[Any]:
    from avpea.data.samples._pictures import MARKS

    targets = datasets.load_digits().target.tolist()
    return [plan for split, count in counts.items() for plan in kind.plans(split, count, seed, targets, len(MARKS))]


def _make_clips(
    folder: Path, kind: Kind, plans: Sequence[Plan], missing: Sequence[Plan], datasets: Any, progress: bool
) -> None:
    from avpea.data.samples._speech import speak

    digits = (datasets.load_digits().images / 16).astype(np.float32)
    # The words of all clips, even if some exist: how a word sounds depends on the words before it.
    spoken = iter(speak([word for plan in plans for word in plan.words if word]))
    words = {plan.video_id: [next(spoken) if word else None for word in plan.words] for plan in plans}
    # One after the other: threads are slower (the encoders hold Python's lock), and processes would force callers to
    # guard their start, all for 15 seconds of work.
    with progress_bar(kind.name, len(plans), shown=progress, done=len(plans) - len(missing)) as advance:
        for plan in missing:
            _make_clip(folder, kind, plan, kind.shown(plan, digits), words[plan.video_id])
            advance()


def _make_clip(
    folder: Path,
    kind: Kind,
    plan: Plan,
    shown: Sequence[Sequence[Any]],
    words: Sequence[Int16[np.ndarray, " _samples"] | None],
) -> None:
    """Write a clip, by which it counts as made, after its masks."""
    from avpea.data.samples._encode import write_clip
    from avpea.data.samples._pictures import FPS, choose_background, frames
    from avpea.data.samples._sound import SOUND_RATE_HZ, choose_noise, compose

    chance = plan.generator("picture")
    film, masks = frames(shown, choose_background(plan.split, chance), chance)
    if kind.write_masks is not None:
        kind.write_masks(folder, plan, masks)
    chance = plan.generator("sound")
    waveform = compose(words, choose_noise(chance), chance)
    write_clip(kind.file(folder, plan), film, FPS, waveform, SOUND_RATE_HZ)
