"""Pictures for people: what was found in a video, where sound and image looked, how a question was answered.

matplotlib is imported when something is drawn, never before, and its global state (pyplot) is left alone.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.errors import AvpeaError
from avpea.plot._event import EventLike

__all__ = ["EventLike", "attention", "check", "grounding", "timeline"]

# What each format is told, so that equal inputs give equal files: no dates.
METADATA: dict[str, dict[str, Any]] = {".png": {}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def timeline(
    path: Path,
    *,
    title: str,
    frames: UInt8[Tensor, "segments height width 3"],
    waveform: Float[Tensor, " samples"],
    events: Sequence[EventLike],
    probabilities: Float[Tensor, "segments categories"],
    class_names: Sequence[str],
    start_seconds: float = 0.0,
    truth: Sequence[EventLike] | None = None,
    frame_aspect: float | None = None,
) -> None:
    """Draw a video along time: its frames, its sound, the events found in it, and how sure the model was.

    Args:
        path: The picture to write: .png, .pdf or .svg.
        title: Shown above, such as the file's name.
        frames: One for each second, RGB.
        waveform: Mono sound at 16 kHz.
        events: What was found, in seconds on the video's clock.
        probabilities: Of each category in each second; the last column is "no event".
        class_names: Names of the columns before the last.
        start_seconds: Where the first second begins on the video's clock.
        truth: What was annotated; drawn as outlines.
        frame_aspect: Width / height of a frame as people should see it, for frames that were squashed for a
            model; None takes the tensor's own.

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or the file cannot be written.
    """
    check(path)
    from avpea.plot._timeline import timeline_figure

    figure = timeline_figure(
        title=title,
        frames=frames,
        waveform=waveform,
        events=events,
        probabilities=probabilities,
        class_names=class_names,
        start_seconds=start_seconds,
        truth=truth,
        frame_aspect=frame_aspect,
    )
    _save(figure, path)


def attention(
    path: Path,
    *,
    title: str,
    frame: UInt8[Tensor, "height width 3"],
    log_mel: Float[Tensor, "rows mel_bins"],
    sound_looked: Float[Tensor, "blocks grid_rows grid_columns"] | None,
    image_listened: Float[Tensor, "blocks_listening audio_rows audio_columns"] | None,
    second: float,
    frame_aspect: float | None = None,
    blocks: Sequence[int] | None = None,
) -> None:
    """Draw the adapters' attention maps Θ (AV-PEA paper, Eq. 7 and 8) over the frame and the log-mel.

    Each map is drawn as the mean over blocks, for the last block, and small for up to twelve of the blocks.
    Sound is shown with time to the right and low pitch at the bottom, maps and log-mel alike.

    Args:
        path: The picture to write: .png, .pdf or .svg.
        title: Shown above, such as the file's name.
        frame: RGB.
        log_mel: One second of sound; rows are time, columns mel bins from low to high.
        sound_looked: Θ_a of each block with an adapter in the audio stream, over the frame's patches; the rest
            of the attention, up to 1, is on the CLS token (and registers). None: that stream has no adapters.
        image_listened: Θ_v of the visual stream likewise, over the patches of the log-mel; rows are time.
        second: Where the second begins in the video.
        frame_aspect: Width / height of the frame as people should see it; None takes the tensor's own.
        blocks: Index of each map's block, counted from 0; None counts through.

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or the file cannot be written.
    """
    check(path)
    from avpea.plot._attention import attention_figure

    figure = attention_figure(
        title=title,
        frame=frame,
        log_mel=log_mel,
        sound_looked=sound_looked,
        image_listened=image_listened,
        second=second,
        frame_aspect=frame_aspect,
        blocks=blocks,
    )
    _save(figure, path)


def grounding(
    path: Path,
    *,
    title: str,
    question: str,
    answers: Sequence[tuple[str, float]],
    frames: UInt8[Tensor, "segments height width 3"],
    frame_seconds: Sequence[float],
    frame_aspect: float,
    waveform: Float[Tensor, " samples"],
    spatial: Float[Tensor, "segments rows columns"] | None,
    seen: Float[Tensor, " segments"] | None,
    heard: Float[Tensor, " segments"] | None,
) -> None:
    """Draw the answer to a question: its probabilities, where sounds were found, and which seconds mattered.

    Args:
        path: The picture to write: .png, .pdf or .svg.
        title: Shown above, such as the file's name.
        question: As it was asked.
        answers: With their probabilities, the most probable first; the first five are shown.
        frames: One for each segment, RGB.
        frame_seconds: Where each segment begins in the video.
        frame_aspect: Width / height of a frame as people should see it.
        waveform: Mono sound at 16 kHz, a second for each segment, one after the other.
        spatial: Shares of a grid of patches in where each segment's sound was found; None for a model without.
        seen: Share of each segment's picture in the answer, likewise.
        heard: Share of each segment's sound in the answer, likewise.

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or the file cannot be written.
    """
    check(path)
    from avpea.plot._grounding import grounding_figure

    figure = grounding_figure(
        title=title,
        question=question,
        answers=answers,
        frames=frames,
        frame_seconds=frame_seconds,
        frame_aspect=frame_aspect,
        waveform=waveform,
        spatial=spatial,
        seen=seen,
        heard=heard,
    )
    _save(figure, path)


def check(path: Path) -> None:
    """Refuse before any work what would fail at its end.

    Args:
        path: The picture to write.

    Raises:
        AvpeaError: matplotlib is not installed, the format is unknown, or the folder does not exist.
    """
    if path.suffix.lower() not in METADATA:
        raise AvpeaError(
            f"The plot {path} ends in {path.suffix!r}; expected {', '.join(METADATA)}. Rename it, "
            f"for example to {path.with_suffix('.png').name}."
        )
    if not path.parent.is_dir():
        raise AvpeaError(f"The plot {path} cannot be written: the folder {path.parent} does not exist; make it first.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise AvpeaError(
            "Drawing plots needs matplotlib, which is not installed; run: pip install 'avpea[plot]'"
        ) from error


def _save(figure: Any, path: Path) -> None:
    import matplotlib

    # Journals ask for TrueType fonts in a PDF (42); a fixed salt makes the ids in an SVG repeatable.
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "avpea"}):
        try:
            figure.savefig(path, dpi=160, metadata=METADATA[path.suffix.lower()])
        except OSError as error:
            raise AvpeaError(
                f"The plot {path} cannot be written ({error.strerror or error}); give a path in a folder that "
                "exists and that you may write to."
            ) from error
