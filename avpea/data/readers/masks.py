"""Your own videos with masks: a table in CSV or JSON Lines with one second per row.

    video,second,mask,split
    park/dog.mp4,0,masks/dog_0.png,train
    park/dog.mp4,1,,train

Paths are relative to the table; `second` counts from 0. A mask is a picture of the frame at the middle of its second,
in the size of the frame: what sounds is white (or any colour), and the rest is black. A row without a mask says that
nothing sounds; a second without a row is not annotated, and a row of a second after the end of its video is lost. The
optional column `other` names a mask of what is seen and does not sound, by which the metric `right_object` tells
whether the right one of several objects was found. Each video is cut into windows of `segments` seconds. Without the
column `split` a hash of each path sends 80 % of the videos to train, 10 % to val and 10 % to test. A folder with
`masks.csv` in it can be given instead of that file.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._divide import by_hash
from avpea.data.readers._files import identity, safe
from avpea.data.readers._masks import MaskOptions
from avpea.data.readers._table import read_table, split_of
from avpea.data.readers.manifest import window_starts
from avpea.errors import DataError, MediaError
from avpea.formats.rows import Columns, text_in
from avpea.labels import SPLITS, Annotations, MaskLabels, MaskSample

__all__ = ["EXTENSION", "MaskReader", "read"]

_KNOWN = ("video", "second", "mask", "other", "split")
_COLUMNS = Columns(_KNOWN, ("video", "second", "mask"), ("video", "second"))


@dataclass
class _Video:
    """A video of the table: its name there, its split, and the mask and the other mask of each annotated second."""

    name: str
    path: Path
    split: str
    seconds: dict[int, tuple[str, str]] = field(default_factory=dict)


def read(options: MaskOptions) -> Annotations:
    """Read a table of masks; of the videos only the headers are read.

    Args:
        options: `root` is the file, or a folder with `masks.csv`; `segments` is the length of a window.

    Raises:
        DataError: The file is missing, or a row is malformed; names the line, what was found and what was expected.
    """
    path = Path(options.root)
    path = path / "masks.csv" if path.is_dir() else path
    rows = read_table(path, _COLUMNS)
    has_split = "split" in rows[0][1]
    videos = _videos(path, rows, has_split)
    samples: dict[str, list[MaskSample]] = {split: [] for split in SPLITS}
    lost: list[str] = []
    for number, video in enumerate(videos):
        length = _length(video)
        lost += _without_those_after_the_end(video, length)
        samples[video.split] += _windows(video, number, length, options)
    notes = [] if has_split else ["No column 'split': videos were divided 80/10/10 by a hash of their paths."]
    splits = {split: tuple(samples[split]) for split in SPLITS}
    labels = MaskLabels(side=options.mask_size)
    return Annotations(path.stem, path.parent, labels, splits, tuple(notes), lost=tuple(lost))


def _videos(table: Path, rows: Sequence[tuple[str, Mapping[str, object]]], has_split: bool) -> list[_Video]:
    found: dict[object, _Video] = {}
    for where, values in rows:
        name, mask, other = (text_in(where, values, column) for column in ("video", "mask", "other"))
        if not name.strip():
            raise DataError(f"{where}: the video is empty; expected a path relative to the table.")
        key = identity(table.parent / name)  # ./a.mp4 and a.mp4 are one video
        name = found[key].name if key in found else os.path.normpath(name)
        split = split_of(where, values, has_split) or by_hash(name)
        video = found.setdefault(key, _Video(name, table.parent / name, split))
        if video.split != split:
            raise DataError(f"{where}: '{name}' is in {split}, but an earlier row has it in {video.split}.")
        second = _second(where, values)
        if second in video.seconds:
            raise DataError(
                f"{where}: second {second} of '{name}' has a mask in an earlier row; expected one a second."
            )
        video.seconds[second] = _place(table, mask), _place(table, other)
    return list(found.values())


def _place(table: Path, name: str) -> str:
    return str(table.parent / name) if name else ""


def _second(where: str, values: Mapping[str, object]) -> int:
    text = str(values.get("second", "")).strip()
    if isinstance(values.get("second"), bool) or not re.fullmatch(r"[0-9]{1,6}", text):
        raise DataError(f"{where}: found second = {text!r}; expected a whole number from 0, such as 3.")
    return int(text)


def _without_those_after_the_end(video: _Video, length: float) -> list[str]:
    """Take the seconds that a video does not have out of its annotation.

    Returns:
        A sentence about each.
    """
    from avpea.media import segments_in  # torch: only when a table is read

    after = [second for second in sorted(video.seconds) if length and second >= segments_in(length)]
    for second in after:
        del video.seconds[second]
    return [f"{video.name}: second {second} begins after the end of the video ({length:.1f} s)" for second in after]


def _windows(video: _Video, number: int, length: float, options: MaskOptions) -> Iterator[MaskSample]:
    """The windows with an annotated second; one that two windows have is annotated in the first."""
    from avpea.media import segments_in

    covered, has_others = 0, any(other for _, other in video.seconds.values())
    seconds_in = segments_in(length) if length else max(video.seconds) + 1
    for start in window_starts(seconds_in, options.segments):
        seconds = range(start, start + options.segments)
        own = [video.seconds.get(second) if second >= covered else None for second in seconds]
        covered = seconds.stop
        if any(one is not None for one in own):
            yield MaskSample(
                key=f"{video.split}-{number:04d}-{safe(Path(video.name).stem)}-{start:05d}",
                video_id=video.name,
                video=video.path,
                start_seconds=float(start),
                segments=options.segments,
                split=video.split,
                masks=tuple(None if one is None else one[0] for one in own),
                others=tuple(None if one is None else one[1] for one in own) if has_others else (),
                side=options.mask_size,
            )


def _length(video: _Video) -> float:
    """Length of a video in seconds; 0 if it cannot be opened, which `verify` reports."""
    from avpea.media import probe

    try:
        return probe(video.path).duration_seconds
    except MediaError:
        return 0.0


class MaskReader(Reader):
    """A table of your own masks."""

    labels = MaskLabels
    Options = MaskOptions
    read = staticmethod(read)


EXTENSION = MaskReader
