"""Your own videos with captions: a table in CSV or JSON Lines with one caption per row.

    video,caption,split
    park/dog.mp4,"A dog barks while a train passes.",train
    park/dog.mp4,A dog at the railway.,train

Paths are relative to the table. A video may have several captions. Without the column `split` a hash of each path
sends 80 % of the videos to train, 10 % to val and 10 % to test.
"""

import os
import string
from collections.abc import Mapping
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._divide import by_hash
from avpea.data.readers._files import identity, safe
from avpea.data.readers._table import each, read_table, split_of
from avpea.errors import DataError
from avpea.formats.rows import Columns, text_in
from avpea.labels import SPLITS, Annotations, CaptionLabels, CaptionSample, shortened
from avpea.sections import SpreadOptions
from avpea.tables import how_many

__all__ = ["EXTENSION", "CaptionReader", "read"]

_NO_WORDS = set(string.punctuation + string.whitespace)  # what texts are read without
_COLUMNS = Columns(("video", "caption", "split"), ("video", "caption"), ("video", "caption"))


def read(options: SpreadOptions) -> Annotations:
    """Read a table of captions; no video is opened.

    Args:
        options: `root` is the file; `segments` and `seconds` choose the seconds of a video that are used.

    Raises:
        DataError: The file is missing, or a row is malformed; names the line, what was found and what was expected.
    """
    path = Path(options.root)
    rows = read_table(path, _COLUMNS)
    has_split = "split" in rows[0][1]

    def of_row(where: str, values: Mapping[str, object]) -> tuple[str, str, str]:
        return *_caption(where, values), split_of(where, values, has_split)

    captions: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    names: dict[object, str] = {}  # the first path to each file
    twice: list[str] = []
    for (where, _), (video, caption, split) in zip(rows, each(rows, of_row), strict=True):
        name = os.path.normpath(video)  # ./a.mp4 and a.mp4 are one video
        name = names.setdefault(identity(path.parent / name), name)
        split = split or by_hash(name)
        if splits.setdefault(name, split) != split:
            raise DataError(f"{where}: '{video}' is in {split}, but an earlier row has it in {splits[name]}.")
        caption = " ".join(caption.split())
        if caption in captions.setdefault(name, []):
            twice.append(where)
        captions[name].append(caption)
    samples = [
        _sample(path, number, name, splits[name], captions[name], options) for number, name in enumerate(captions)
    ]
    by_split = {split: tuple(sample for sample in samples if sample.split == split) for split in SPLITS}
    notes = [] if has_split else ["No column 'split': videos were divided 80/10/10 by a hash of their paths."]
    if twice:
        many = how_many(len(twice), "caption is", "captions are")
        notes.append(f"{many} there twice for the same video; both times count: {shortened(twice)}.")
    return Annotations(path.stem, path.parent, CaptionLabels(), by_split, tuple(notes))


def _caption(where: str, values: Mapping[str, object]) -> tuple[str, str]:
    """The video and the caption in a row."""
    video, caption = (text_in(where, values, name) for name in ("video", "caption"))
    if not video.strip() or not caption:
        raise DataError(f"{where}: found video '{video}' and caption '{caption}'; expected both.")
    if not set(caption) - _NO_WORDS:
        raise DataError(f"{where}: the caption '{caption}' has no words.")
    return video, caption


def _sample(
    path: Path, number: int, name: str, split: str, captions: list[str], options: SpreadOptions
) -> CaptionSample:
    return CaptionSample(
        key=f"{split}-{number:05d}-{safe(Path(name).stem)}",
        video_id=name,
        video=path.parent / name,
        start_seconds=0.0,
        segments=options.segments,
        split=split,
        seconds=options.seconds,
        captions=tuple(captions),
    )


class CaptionReader(Reader):
    """A table of your own captions."""

    labels = CaptionLabels
    Options = SpreadOptions
    read = staticmethod(read)


EXTENSION = CaptionReader
