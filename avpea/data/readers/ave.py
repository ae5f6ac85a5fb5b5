"""AVE (Tian et al., ECCV 2018), and any data set in its layout: 10-second videos with one event each.

    root/
      Annotations.txt                       Category&VideoID&Quality&StartTime&EndTime; that header or none
      trainSet.txt valSet.txt testSet.txt   the same columns
      categories.txt                        optional: class names in index order, one a line
      AVE/<VideoID>.mp4                     or videos/<VideoID>.mp4, or <VideoID>.mp4 beside the annotations

A set to evaluate on, without training rows, needs only the file of a split, such as testSet.txt.
`&` is the only separator, as names contain commas, spaces and parentheses. A row is a sample; a video with two
categories has two rows, so its id does not identify a sample.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avpea.data.readers._base import Reader
from avpea.data.readers._files import by_stem, require_stem, safe
from avpea.errors import DataError
from avpea.formats.text import read_text
from avpea.labels import SPLITS, Annotations, EventLabels, EventSample, look_alikes, refuse_reserved, shortened
from avpea.sections import ReaderOptions
from avpea.tables import how_many

__all__ = ["AVE_CLASSES", "EXTENSION", "AVEReader", "Row", "parse", "read"]

# In the order of the published label files (mil_labels.h5), which is the order of appearance in Annotations.txt.
AVE_CLASSES = (
    *("Church bell", "Male speech, man speaking", "Bark", "Fixed-wing aircraft, airplane"),
    *("Race car, auto racing", "Female speech, woman speaking", "Helicopter", "Violin, fiddle"),
    *("Flute", "Ukulele", "Frying (food)", "Truck", "Shofar", "Motorcycle", "Acoustic guitar"),
    *("Train horn", "Clock", "Banjo", "Goat", "Baby cry, infant cry", "Bus", "Chainsaw", "Cat"),
    *("Horse", "Toilet flush", "Rodents, rats, mice", "Accordion", "Mandolin"),
)

_COLUMNS = "Category&VideoID&Quality&StartTime&EndTime"
_LAYOUT = (
    "A data set in AVE's layout is a folder with Annotations.txt, trainSet.txt, valSet.txt, testSet.txt "
    "and the videos in AVE/<VideoID>.mp4"
)


@dataclass(frozen=True)
class Row:
    """One line of an annotation file: the event lasts [start_seconds, end_seconds)."""

    category: str
    video_id: str
    start_seconds: int
    end_seconds: int


@dataclass(frozen=True)
class AVEOptions(ReaderOptions):
    """Options of AVE.

    Attributes:
        seconds: `consecutive`: each second's sound, and the frame in its middle. `lavish`: as in LAVISH's public code,
            sounds of 1 s that start evenly from 0 to 8.9 s (0, 0.99, ...), and the frame at each second's start.
    """

    seconds: Literal["consecutive", "lavish"] = "consecutive"


def read(options: AVEOptions) -> Annotations:
    """Read the annotations below `options.root`; the videos need not exist.

    Args:
        options: `root` is the folder; `segments` is the length of a sample (AVE: 10).

    Returns:
        Samples in the order of the split files. Second s of a sample is its category when
        StartTime <= s < EndTime, else background.

    Raises:
        DataError: A file is missing, or a line is not as expected.
    """
    root = Path(options.root)
    _require_folder(root)
    annotated, rows = _read_files(root)
    class_names = _class_names(root, [*annotated, *(row for split in SPLITS for row in rows[split])])
    videos = by_stem((root / "AVE", root / "videos", root))
    splits = {
        split: tuple(
            replace(_sample(row, index, split, class_names, videos, root, options.segments), seconds=options.seconds)
            for index, row in enumerate(rows[split])
        )
        for split in SPLITS
    }
    is_ave = class_names == AVE_CLASSES
    bare = Annotations("AVE" if is_ave else root.resolve().name, root, EventLabels(class_names), splits)
    notes = [f"There are no {split} rows." for split in SPLITS if not rows[split]]
    notes += [*look_alikes(class_names), *_notes(bare, annotated, rows, options.segments)]
    notes += videos.doubts(row.video_id for split in SPLITS for row in rows[split])
    return replace(bare, notes=tuple(notes), lost=_lost(rows, options.segments))


def _read_files(root: Path) -> tuple[list[Row], dict[str, list[Row]]]:
    """Rows of Annotations.txt, and of each split.

    A set without training rows is there to be evaluated on: it needs one split, and no Annotations.txt.
    """
    names = ("Annotations.txt", *(f"{split}Set.txt" for split in SPLITS))
    found = {name: _rows(root / name) for name in names if (root / name).is_file()}
    listed = [split for split in SPLITS if found.get(f"{split}Set.txt")]
    if "train" in listed or not listed:
        missing = [name for name in names if name not in found]
        if missing:
            inside = sorted(path.parent for path in root.glob("*/Annotations.txt"))
            hint = f" Annotations were found in {inside[0]}: point --data.root there." if inside else ""
            raise DataError(f"{root} has no {', '.join(missing)}. {_LAYOUT}.{hint}")
        for name in names:
            _require_rows(root / name, found[name])
    return found.get("Annotations.txt", []), {split: found.get(f"{split}Set.txt", []) for split in SPLITS}


def parse(path: Path) -> list[Row]:
    """Read one annotation file, with or without the header line.

    Raises:
        DataError: The file is empty or not text, or a line is malformed; names its number, what was found and what was
            expected.
    """
    rows = _rows(path)
    _require_rows(path, rows)
    return rows


def _rows(path: Path) -> list[Row]:
    lines = read_text(path).split("\n")
    return [
        _row(path, number, line)
        for number, line in enumerate(lines, start=1)
        if line.strip() and not (number == 1 and _is_header(line))
    ]


def _require_rows(path: Path, rows: list[Row]) -> None:
    if not rows:
        raise DataError(f"{path} holds no rows; expected lines of {_COLUMNS}.")


def _is_header(line: str) -> bool:
    fields = [field.strip().lower() for field in line.split("&")]
    return fields[0] == "category" and not fields[-1].isdigit()


def _row(path: Path, number: int, line: str) -> Row:
    where = f"{path}, line {number}"
    fields = [field.strip() for field in line.split("&")]
    if len(fields) != 5:
        raise DataError(f"{where}: found {len(fields)} fields in '{line}'; expected 5, separated by '&': {_COLUMNS}.")
    category, video_id, _, start, end = fields
    refuse_reserved({category: where})
    if not category or not video_id:
        raise DataError(f"{where}: found an empty category or video id in '{line}'; expected {_COLUMNS}.")
    require_stem(where, f"video id '{video_id}'", video_id)
    if not (re.fullmatch(r"[0-9]{1,6}", start) and re.fullmatch(r"[0-9]{1,6}", end)):
        raise DataError(
            f"{where}: found '{start}' to '{end}'; expected start and end in whole seconds, 0 or more. "
            "For fractions of seconds, or times as in 1:02:03, use a manifest (data.name manifest)."
        )
    if int(start) > int(end):
        raise DataError(f"{where}: the event starts at {start} and ends at {end}; expected start <= end.")
    return Row(category, video_id, int(start), int(end))


def _require_folder(root: Path) -> None:
    if not root.is_dir():
        raise DataError(f"There is no folder {root} (--data.root). {_LAYOUT}.")


def _class_names(root: Path, rows: list[Row]) -> tuple[str, ...]:
    """Class names in index order: AVE's for AVE, else that of categories.txt, else the order of appearance."""
    seen = tuple(dict.fromkeys(row.category for row in rows))
    if set(seen) == set(AVE_CLASSES):
        return AVE_CLASSES
    path = root / "categories.txt"
    if not path.is_file():
        return seen
    listed = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if len(set(listed)) != len(listed):
        twice = sorted({name for name in listed if listed.count(name) > 1})
        raise DataError(f"{path} lists {shortened(twice)} twice; expected each class name once.")
    unknown = sorted(set(seen) - set(listed))
    if unknown:
        raise DataError(f"{path} does not list {shortened(unknown)}, which the annotations use; add the name there.")
    return listed


def _sample(
    row: Row,
    index: int,
    split: str,
    class_names: tuple[str, ...],
    videos: dict[str, Path],
    root: Path,
    segments: int,
) -> EventSample:
    label, background = class_names.index(row.category), len(class_names)
    return EventSample(
        key=f"{split}-{index:04d}-{safe(row.video_id)}",
        video_id=row.video_id,
        # The path in the official archive, so that reports on missing files name it.
        video=videos.get(row.video_id, root / "AVE" / f"{row.video_id}.mp4"),
        start_seconds=0.0,
        segments=segments,
        labels=tuple(label if row.start_seconds <= s < row.end_seconds else background for s in range(segments)),
        split=split,
    )


def _lost(rows: dict[str, list[Row]], segments: int) -> tuple[str, ...]:
    """Events that label no second: without length, or after the end of a sample."""
    return tuple(
        f"{row.video_id}: '{row.category}' {row.start_seconds}-{row.end_seconds} s "
        + ("has no length" if row.start_seconds == row.end_seconds else f"begins after the {segments} s of a sample")
        for split in SPLITS
        for row in rows[split]
        if row.start_seconds == row.end_seconds or row.start_seconds >= segments
    )


def _notes(data: Annotations, annotated: list[Row], rows: dict[str, list[Row]], segments: int) -> tuple[str, ...]:
    notes = [
        f"Videos in both {pair.replace('/', ' and ')}: {len(ids)} ({shortened(ids)})."
        for pair, ids in data.videos_in_two_splits().items()
    ]
    listed = [row for split in SPLITS for row in rows[split]]
    empty = [f"{row.category} {row.video_id}" for row in listed if row.start_seconds == row.end_seconds]
    if empty:
        notes.append(f"Rows without length, read as background throughout: {shortened(empty)}.")
    same = len(listed) - len(set(listed))
    if same:
        notes.append(f"{same} rows of the split files say the same as another row.")
    repeated = data.repeated_ids()
    if repeated:
        many = how_many(len(repeated), "video id has", "video ids have")
        notes.append(f"{many} more than one row, all kept: {shortened(repeated)}.")
    late = [row.video_id for row in listed if row.end_seconds > segments]
    if late:
        many = how_many(len(late), "event reaches", "events reach")
        notes.append(f"{many} beyond the {segments} seconds of a sample: {shortened(late)}.")
    strange = sorted({row.video_id for row in set(listed) - set(annotated)})
    if annotated and strange:
        notes.append(f"Rows of the split files that Annotations.txt does not have: {shortened(strange)}.")
    unused = sorted({row.video_id for row in set(annotated) - set(listed)})
    if unused:
        many = how_many(len(unused), "row of Annotations.txt is", "rows of Annotations.txt are")
        notes.append(f"{many} in no split: {shortened(unused)}.")
    return tuple(notes)


class AVEReader(Reader):
    """AVE, and data sets in its layout."""

    labels = EventLabels
    Options = AVEOptions
    read = staticmethod(read)


EXTENSION = AVEReader
