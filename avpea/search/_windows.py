"""From videos of any length to embedded windows, and from these to rows of a library."""

import hashlib
import io
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avpea.embeddings import Embeddings, joined
from avpea.errors import AvpeaError, MediaError
from avpea.media import Film, probe, read
from avpea.predict import Predictor, windows
from avpea.search._candidates import BEFORE, COMPARED, together
from avpea.search._shown import SHOWN, shown
from avpea.search._tokens import packed_tokens

__all__ = [
    "BY",
    "EmbeddedWindow",
    "FileState",
    "embedded",
    "require_searchable",
    "rows_of",
]

# What a search can compare, and the group of modalities in `head.groups` that it needs.
BY = {"both": "tva", "picture": "tv", "sound": "ta"}
THUMBNAIL = 320  # longer side in pixels


@dataclass(frozen=True)
class FileState:
    """A version of a file, identified by its size and modification time.

    Attributes:
        source: Absolute path.
        size: Size in bytes.
        modified: Modification time in nanoseconds.
    """

    source: str
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The current version of an existing file."""
        about = path.stat()
        return cls(path.absolute().as_posix(), about.st_size, about.st_mtime_ns)


@dataclass(frozen=True)
class EmbeddedWindow:
    """A window of a video with its embeddings.

    Attributes:
        start_seconds: Start in the video.
        end_seconds: End in the video.
        seen: Embeddings of its frames, on the CPU; None if the file has no picture.
        heard: Embeddings of its sound, on the CPU; None if the file has no sound.
    """

    start_seconds: float
    end_seconds: float
    seen: Embeddings | None
    heard: Embeddings | None

    def embeddings(self, by: str) -> Embeddings | None:
        """The embeddings for a search by `both`, `picture` or `sound`; with one track, `both` means that track."""
        if by != "both":
            return self.seen if by == "picture" else self.heard
        if self.seen is None or self.heard is None:
            return self.heard if self.seen is None else self.seen
        return joined(self.seen, self.heard)


def require_searchable(predictor: Predictor) -> Any:
    """The task of a run, if it has `embed_text`, `embed_video` and `searches_by`, as retrieval has.

    Raises:
        AvpeaError: It has not.
    """
    task = predictor.model.task
    if not hasattr(task, "embed_text"):
        use = task.use.format(run="RUN")
        raise AvpeaError(
            f"This run's task is '{predictor.info.experiment.task.name}', which compares no texts with videos; it is "
            f"for `{use}`. Train a run of retrieval, such as mini/avr."
        )
    return task


def embedded(
    predictor: Predictor, video: Path, remarks: list[str] | None = None, **tracks: Any
) -> Iterator[EmbeddedWindow]:
    """Embed the windows of a video, as long as those of training; the last one ends with the video.

    Args:
        predictor: A predictor of retrieval.
        video: The file.
        remarks: Gets, at the end, the sentences about what is mended or lost in reading the file.
        tracks: `audio_track` and `video_track`, if other ones than the default are to be read.

    Raises:
        MediaError: The file is missing, unreadable, or has neither picture nor sound.
    """
    task, experiment = require_searchable(predictor), predictor.info.experiment
    info = probe(video, **tracks)
    size = predictor.model.encoder.backbone.image_size
    film = Film(
        video,
        frame_size=(size, size),
        missing_audio="error" if info.has_audio else "silence",
        missing_video="error" if info.has_video else "black",
        **tracks,
    )
    for clip in film.parts(experiment.data.segments):
        for window in windows(clip, experiment, predictor.model.device):
            with torch.inference_mode(), predictor.enough_memory(video):
                both = task.embed_video(predictor.encode(window))
                seen, heard = (one.to("cpu") for one in both)
            start = clip.starts[window.start]
            end = min(start + window.stop - window.start, max(clip.duration_seconds, start))
            yield EmbeddedWindow(start, end, seen if info.has_video else None, heard if info.has_audio else None)
    if remarks is not None:
        remarks += film.remarks()


def rows_of(predictor: Predictor, video: Path, remarks: list[str] | None = None, **tracks: Any) -> list[dict[str, Any]]:
    """The rows of a video in a library; `remarks` and `tracks` as for `embedded`.

    Raises:
        MediaError: See `embedded`; or the model's vectors are no finite numbers.
    """
    with _thumbnails(predictor, video, tracks) as thumbnail_of:
        return _rows(predictor, video, remarks, tracks, thumbnail_of)


def _rows(
    predictor: Predictor,
    video: Path,
    remarks: list[str] | None,
    tracks: Mapping[str, Any],
    thumbnail_of: Callable[[EmbeddedWindow], bytes],
) -> list[dict[str, Any]]:
    state = FileState.of(video)
    rows = []
    for window in embedded(predictor, video, remarks, **tracks):
        both = window.embeddings("both")
        assert both is not None
        if not (both.tokens.isfinite().all() and both.scores.isfinite().all()):  # no search would read them
            where = f"of the window that begins at {window.start_seconds:g} s"
            raise MediaError(video, f"the run's vectors {where} are no finite numbers; nothing of the file is kept.")
        tokens, scores = packed_tokens(both.tokens[0]), both.scores[0].float().tolist()
        frames = 0 if window.seen is None else window.seen.scores.shape[1]
        thumbnail = thumbnail_of(window) if window.seen is not None else b""
        name = f"{state.source}\0{window.start_seconds:.3f}"
        rows.append(
            {
                "id": hashlib.sha256(name.encode()).hexdigest()[:24],
                "source": state.source,
                "size": state.size,
                "modified": state.modified,
                "start": window.start_seconds,
                "end": window.end_seconds,
                "has_picture": window.seen is not None,
                "has_sound": window.heard is not None,
                **{
                    name: _vector(window.embeddings(by), both.tokens.shape[2])
                    for name, by in (("vector", "both"), ("seen", "picture"), ("heard", "sound"))
                },
                COMPARED: together(tokens, scores, frames),
                # A library takes the columns that it has; those of an earlier version are others.
                **dict(zip(BEFORE, (tokens, scores, frames), strict=True)),
                SHOWN: shown(state.source, window.start_seconds, window.end_seconds, thumbnail),
                "thumbnail": thumbnail,
            }
        )
    return rows


def _vector(some: Embeddings | None, width: int) -> list[float]:
    found: list[float] = [0.0] * width if some is None else some.pooled()[0].float().tolist()
    return found


@contextmanager
def _thumbnails(
    predictor: Predictor, video: Path, tracks: Mapping[str, Any]
) -> Iterator[Callable[[EmbeddedWindow], bytes]]:
    """A function that gives the thumbnail of each window, in their order.

    Of a file in which a part is read from the start they come from a second pass, beside that for the model: reading
    each by itself would take time that grows with the square of the length.
    """
    info, length = probe(video, **tracks), predictor.info.experiment.data.segments
    if info.seekable or not info.has_video or info.duration_seconds <= length:
        yield lambda window: _thumbnail(video, window, tracks)
        return
    share = min(1.0, THUMBNAIL / max(info.width, info.height))
    size = max(1, round(share * info.height)), max(1, round(share * info.width))
    at = length / 2 % 1  # of a second, where the middle of a whole window is
    film = Film(video, frame_size=size, frame_at_seconds=at, missing_audio="silence", **tracks)
    with closing(_seconds(film, length)) as frames:
        reached, frame = next(frames)

        def thumbnail_of(window: EmbeddedWindow) -> bytes:
            nonlocal reached, frame
            second = round((window.start_seconds + window.end_seconds) / 2 - at)
            while reached < second and (following := next(frames, None)) is not None:
                reached, frame = following
            return _jpeg(frame)

        yield thumbnail_of


def _seconds(film: Film, length: int) -> Generator[tuple[int, Any], None, None]:
    """The frames of a film, each with its number."""
    with closing(film.parts(length)) as parts:
        yield from enumerate(frame for part in parts for frame in part.frames)


def _thumbnail(video: Path, window: EmbeddedWindow, tracks: Mapping[str, Any]) -> bytes:
    """The frame in the middle of a window, as JPEG; empty if it cannot be read."""
    middle = (window.start_seconds + window.end_seconds) / 2
    start = max(window.start_seconds, middle - 0.5)
    try:
        clip = read(video, start_seconds=start, segments=1, missing_audio="silence", **tracks)
    except MediaError:
        return b""
    return _jpeg(clip.frames[0])


def _jpeg(frame: Any) -> bytes:
    from PIL import Image

    picture = Image.fromarray(frame.numpy())
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()
