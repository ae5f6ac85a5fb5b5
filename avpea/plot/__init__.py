"""Pictures for people: what was found in a video, where sound and image looked, how a question was answered.

matplotlib is imported when something is drawn, never before, and its global state (pyplot) is left alone.
"""

import importlib
from pathlib import Path
from typing import Any

from avpea.errors import AvpeaError
from avpea.files import replacing, unwritable
from avpea.plot._event import EventLike

__all__ = [
    "EventLike",
    "attention",
    "check",
    "check_film",
    "check_folder",
    "film",
    "grounding",
    "lanes",
    "overlay",
    "timeline",
]

# Metadata without dates, so that equal inputs give equal files.
METADATA: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def timeline(path: Path, **shown: Any) -> None:
    """Draw a video along time: its frames, its sound, the events found in it, and how sure the model was.

    Args:
        path: The picture to write: .png, .pdf or .svg.
        shown: The arguments of `timeline_figure` (`avpea/plot/_timeline.py`).

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or the file cannot be written.
    """
    _draw(path, "timeline", shown)


def lanes(path: Path, **shown: Any) -> None:
    """Draw a video along time with lanes of what is seen, heard and both: like `timeline`, with `lanes_figure`."""
    _draw(path, "lanes", shown)


def attention(path: Path, **shown: Any) -> None:
    """Draw the adapters' attention maps over frame and log-mel: like `timeline`, with `attention_figure`."""
    _draw(path, "attention", shown)


def grounding(path: Path, **shown: Any) -> None:
    """Draw the answer to a question and the attention behind it: like `timeline`, with `grounding_figure`."""
    _draw(path, "grounding", shown)


def overlay(path: Path, **shown: Any) -> None:
    """Draw the frame of each second with its mask: like `timeline`, with `overlay_figure`."""
    _draw(path, "overlay", shown)


def film(path: Path, **shown: Any) -> None:
    """Write a film of masks over frames, with the sound.

    Args:
        path: The film to write: .mp4.
        shown: The arguments of `write_film` (`avpea/plot/_overlay.py`).

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or the file cannot be written.
    """
    check_film(path)
    from avpea.plot._overlay import write_film

    write_film(path, **shown)


def check_film(path: Path) -> None:
    """Refuse a film that could not be written, before any work is done for it.

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or nothing can be written in the folder.
    """
    if path.suffix.lower() != ".mp4":
        raise AvpeaError(f"The film {path} ends in {path.suffix!r}; expected .mp4: name it {path.stem}.mp4.")
    _require_place("film", path)
    _require_matplotlib()


def _draw(path: Path, what: str, shown: dict[str, Any]) -> None:
    check(path)
    from avpea.plot.style import boxes_for_missing_letters

    with boxes_for_missing_letters():
        _save(getattr(importlib.import_module(f"avpea.plot._{what}"), f"{what}_figure")(**shown), path)


def check(path: Path) -> None:
    """Refuse a path that could not be written, before any work is done for it.

    Args:
        path: The picture to write.

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or nothing can be written in the folder.
    """
    if path.is_dir():
        raise AvpeaError(f"The plot {path} is a folder; name a picture in it, as in {path / 'plot.png'}.")
    if path.suffix.lower() not in METADATA:
        raise AvpeaError(
            f"The plot {path} ends in {path.suffix!r}; expected {', '.join(METADATA)}. Rename it, "
            f"for example to {path.with_suffix('.png').name}."
        )
    _require_place("plot", path)
    _require_matplotlib()


def check_folder(folder: Path) -> None:
    """Refuse a folder in which no picture could be written; it need not exist yet.

    Raises:
        AvpeaError: matplotlib is not installed, or nothing can be written there.
    """
    if obstacle := unwritable(folder):
        raise AvpeaError(f"No plot can be written in {folder} ({obstacle}); choose another place.")
    _require_matplotlib()


def _require_place(what: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise AvpeaError(
            f"The {what} {path} cannot be written: the folder {path.parent} does not exist; make it first."
        )
    if obstacle := unwritable(path.parent):
        raise AvpeaError(f"The {what} {path} cannot be written ({obstacle}); choose another place.")


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise AvpeaError(
            "Drawing plots needs matplotlib, which is not installed; run: pip install 'avpea[plot]'"
        ) from error


def _save(figure: Any, path: Path) -> None:
    import matplotlib

    # Journals ask for TrueType fonts in a PDF (42); a fixed salt makes the ids in an SVG repeatable.
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "avpea"}), replacing(path) as aside:
        figure.savefig(aside, format=path.suffix[1:], dpi=160, metadata=METADATA[path.suffix.lower()])
