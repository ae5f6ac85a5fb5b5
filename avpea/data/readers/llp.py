"""LLP (Tian et al., ECCV 2020), and any data set in its layout: 10-second clips in which events are seen and heard.

    root/
      AVVP_train.csv AVVP_val_pd.csv AVVP_test_pd.csv   filename, event_labels: the classes of a clip, joined by commas
      AVVP_eval_visual.csv AVVP_eval_audio.csv          filename, onset, offset, event_labels: one event of one stream
      categories.txt                                    class names in index order, one a line; not needed for LLP's own
      video/<first 11 characters of filename>.mp4       or videos/, LLP_dataset/video/, or beside the tables

The tables are separated by tabs, with a header. `filename` is a YouTube id of 11 characters, `_start_end` in seconds.
Onset and offset are whole seconds in the clip, [onset, offset). A clip with a row in either table of events is labelled
second by second; in LLP these are the clips of val and test, and those of training have weak labels only.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avpea.data.readers._base import Reader
from avpea.data.readers._files import by_stem, require_stem, safe
from avpea.errors import DataError
from avpea.formats.text import read_text
from avpea.labels import SPLITS, Annotations, LaneLabels, LaneSample, look_alikes, shortened
from avpea.registry import did_you_mean
from avpea.sections import ReaderOptions
from avpea.tables import how_many

__all__ = ["EXTENSION", "LLP_CLASSES", "LLPReader", "read"]

# In the order of the index in every public code.
LLP_CLASSES: tuple[str, ...] = (
    *("Speech", "Car", "Cheering", "Dog", "Cat", "Frying_(food)", "Basketball_bounce", "Fire_alarm", "Chainsaw"),
    *("Cello", "Banjo", "Singing", "Chicken_rooster", "Violin_fiddle", "Vacuum_cleaner", "Baby_laughter"),
    *("Accordion", "Lawn_mower", "Motorcycle", "Helicopter", "Acoustic_guitar", "Telephone_bell_ringing"),
    *("Baby_cry_infant_cry", "Blender", "Clapping"),
)

_WEAK = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
_STREAMS = {"seen": "AVVP_eval_visual.csv", "heard": "AVVP_eval_audio.csv"}
_COLUMNS = ("filename", "event_labels")
_EVENT_COLUMNS = ("filename", "onset", "offset", "event_labels")
_ID_LENGTH = 11  # of a YouTube id, by which the video files are called
_IN_NO_SPLIT = "is of a clip that is in no split"
_LAYOUT = f"A data set in LLP's layout is a folder with {', '.join(_WEAK.values())}, {' and '.join(_STREAMS.values())}"


@dataclass(frozen=True)
class _Clip:
    """A row of a split: its name, its YouTube id and its weak label."""

    filename: str
    video_id: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Event:
    """A row of a table of events: it lasts [onset, offset)."""

    filename: str
    label: str
    onset: int
    offset: int


def read(options: ReaderOptions) -> Annotations:
    """Read the annotations below `options.root`; the videos need not exist.

    Args:
        options: `root` is the folder; `segments` is the length of a clip (LLP: 10).

    Returns:
        Clips in the order of the split files. Rows that label nothing are in `lost`, each with the reason.

    Raises:
        DataError: A file is missing, or a line is not as expected.
    """
    root = Path(options.root)
    weak, events = _tables(root)
    class_names = _class_names(root, weak, events)
    lost: list[str] = []
    clips = {split: _usable(weak[split], split, lost) for split in SPLITS}
    known = {clip.filename for split in SPLITS for clip in clips[split]}
    lanes = {stream: _lanes(rows, known, stream, options.segments, lost) for stream, rows in events.items()}
    places = {name: place for place, name in enumerate(class_names)}
    videos = by_stem((root / "video", root / "videos", root / "LLP_dataset" / "video", root))
    splits = {
        split: tuple(
            _sample(clip, index, split, places, lanes, videos, root, options.segments)
            for index, clip in enumerate(clips[split])
        )
        for split in SPLITS
    }
    notes = [*look_alikes(class_names), *_notes(splits, events, known, class_names, options.segments)]
    notes += videos.doubts(clip.video_id for split in SPLITS for clip in clips[split])
    name = "LLP" if class_names == LLP_CLASSES else root.resolve().name
    lost.sort(key=lambda one: one.endswith(_IN_NO_SPLIT))  # the rows of clips that are used come first
    return Annotations(name, root, LaneLabels(class_names), splits, tuple(notes), lost=tuple(lost))


def _tables(root: Path) -> tuple[dict[str, list[_Clip]], dict[str, list[_Event]]]:
    """Rows of each split and of each stream; a set without training rows needs only one split."""
    if not root.is_dir():
        raise DataError(f"There is no folder {root} (--data.root). {_LAYOUT}.")
    names = [*_WEAK.values(), *_STREAMS.values()]
    there = [name for name in names if (root / name).is_file()]
    evaluable = {*_STREAMS.values()} <= {*there} and {_WEAK["val"], _WEAK["test"]} & {*there}
    missing = [name for name in names if name not in there]
    if missing and (_WEAK["train"] in there or not evaluable):
        inside = sorted(path.parent for path in root.glob(f"*/{_WEAK['test']}"))
        hint = f" Tables were found in {inside[0]}: point --data.root there." if inside else ""
        raise DataError(f"{root} has no {', '.join(missing)}. {_LAYOUT}.{hint}")
    weak = {split: _clips(root / name) if name in there else [] for split, name in _WEAK.items()}
    return weak, {stream: _events(root / name) for stream, name in _STREAMS.items()}


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The cells of each line below the header, with file and line for errors."""
    lines = read_text(path).split("\n")
    header = tuple(cell.strip() for cell in lines[0].split("\t"))
    if header != tuple(columns):
        raise DataError(
            f"{path}, line 1: found the header '{lines[0]:.80}'; expected {', '.join(columns)}, separated by tabs."
        )
    found = []
    for number, line in enumerate(lines[1:], start=2):
        if line.strip():
            cells = [cell.strip() for cell in line.split("\t")]
            if len(cells) != len(columns):
                raise DataError(
                    f"{path}, line {number}: found {len(cells)} fields in '{line:.80}'; expected {len(columns)}, "
                    f"separated by tabs: {', '.join(columns)}."
                )
            found.append((f"{path}, line {number}", cells))
    return found


def _clips(path: Path) -> list[_Clip]:
    clips: list[_Clip] = []
    first: dict[str, str] = {}
    for where, (filename, labels) in _rows(path, _COLUMNS):
        video_id = _video_id(where, filename)
        if filename in first:
            raise DataError(f"{where}: '{filename}' is there already, in {first[filename]}; expected one row a clip.")
        first[filename] = where.rpartition(", ")[2]
        names = [name.strip() for name in labels.split(",") if name.strip()]
        clips.append(_Clip(filename, video_id, tuple(dict.fromkeys(names))))
    return clips


def _events(path: Path) -> list[_Event]:
    events = []
    for where, (filename, onset, offset, label) in _rows(path, _EVENT_COLUMNS):
        _video_id(where, filename)
        if not (re.fullmatch(r"[0-9]{1,6}", onset) and re.fullmatch(r"[0-9]{1,6}", offset)):
            raise DataError(
                f"{where}: found '{onset}' to '{offset}'; expected onset and offset in whole seconds of the clip, 0 or "
                "more. For fractions of seconds use a table of your own (data.name lanes)."
            )
        if not label or "," in label:
            raise DataError(f"{where}: found the label '{label}'; expected one class a row.")
        events.append(_Event(filename, label, int(onset), int(offset)))
    return events


def _video_id(where: str, filename: str) -> str:
    parts = re.fullmatch(r"(.+)_([0-9]+(?:\.[0-9]+)?)_([0-9]+(?:\.[0-9]+)?)", filename)
    if parts is None:
        raise DataError(
            f"{where}: found the filename '{filename:.80}'; expected a YouTube id, _start_end in seconds, as in "
            "4YdbENYcIyE_23_33."
        )
    return require_stem(where, f"filename '{filename:.80}'", parts[1])


def _class_names(
    root: Path, weak: Mapping[str, Sequence[_Clip]], events: Mapping[str, Sequence[_Event]]
) -> tuple[str, ...]:
    """Class names in index order: those of categories.txt, else LLP's."""
    path = root / "categories.txt"
    listed = LLP_CLASSES
    if path.is_file():
        listed = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
        twice = sorted(name for name, count in Counter(listed).items() if count > 1)
        if twice or not listed:
            raise DataError(f"{path} lists {shortened(twice) or 'nothing'}; expected each class name once, one a line.")
    used = {name for clips in weak.values() for clip in clips for name in clip.classes}
    used |= {event.label for rows in events.values() for event in rows}
    unknown = sorted(used - set(listed))
    if unknown:
        remedy = "add it there" if path.is_file() else f"list your own classes in {path}, one a line"
        source = path if path.is_file() else "LLP's classes"
        raise DataError(
            f"{root} uses the class '{unknown[0]}', which is none of {source}; {remedy}."
            f"{did_you_mean(unknown[0], listed)}"
        )
    return listed


def _usable(clips: Sequence[_Clip], split: str, lost: list[str]) -> list[_Clip]:
    """The clips whose video file can be told from its name."""
    usable = []
    for clip in clips:
        if len(clip.video_id) == _ID_LENGTH:
            usable.append(clip)
        else:
            found = f"its id has {len(clip.video_id)} characters"
            lost.append(f"{clip.filename} ({split}): {found}; video files are called by {_ID_LENGTH}")
    return usable


def _lanes(
    events: Sequence[_Event], known: Collection[str], stream: str, segments: int, lost: list[str]
) -> dict[str, list[set[str]]]:
    """The classes of one stream in each second of each clip that has any."""
    lanes: dict[str, list[set[str]]] = {}
    for event in events:
        reason = _fault(event, known, segments)
        if reason:
            lost.append(f"{event.filename}: '{event.label}' {stream} {event.onset}-{event.offset} s {reason}")
            continue  # so that of a clip without any other row the seconds are not known
        seconds = lanes.setdefault(event.filename, [set() for _ in range(segments)])
        for second in range(event.onset, min(event.offset, segments)):
            seconds[second].add(event.label)
    return lanes


def _fault(event: _Event, known: Collection[str], segments: int) -> str:
    """Why a row labels nothing; empty if it does."""
    if event.filename not in known:
        return _IN_NO_SPLIT
    if event.onset > event.offset:
        return "ends before it begins"
    if event.onset == event.offset:
        return "has no length"
    return f"begins after the {segments} s of a clip" if event.onset >= segments else ""


def _sample(
    clip: _Clip,
    index: int,
    split: str,
    places: Mapping[str, int],
    lanes: Mapping[str, Mapping[str, Sequence[set[str]]]],
    videos: Mapping[str, Path],
    root: Path,
    segments: int,
) -> LaneSample:
    # Clips of val and test without any row have no event, as the official evaluation takes them; so has one of training
    # whose weak label is empty. Of the others in training the seconds are not known.
    timed = split != "train" or not clip.classes or any(clip.filename in lane for lane in lanes.values())
    nothing: list[set[str]] = [set() for _ in range(segments)]
    seen, heard = (
        tuple(tuple(sorted(places[name] for name in names)) for names in lanes[stream].get(clip.filename, nothing))
        for stream in ("seen", "heard")
    )
    return LaneSample(
        key=f"{split}-{index:05d}-{safe(clip.filename)}",
        video_id=clip.video_id,
        # The path in the official archive, so that reports on missing files name it.
        video=videos.get(clip.video_id, root / "video" / f"{clip.video_id}.mp4"),
        start_seconds=0.0,
        segments=segments,
        split=split,
        classes=tuple(sorted(places[name] for name in clip.classes)),
        seen=seen if timed else None,
        heard=heard if timed else None,
    )


def _notes(
    splits: Mapping[str, Sequence[LaneSample]],
    events: Mapping[str, Sequence[_Event]],
    known: Collection[str],
    class_names: Sequence[str],
    segments: int,
) -> list[str]:
    notes = [f"There are no {split} rows." for split in SPLITS if not splits[split]]
    shared = defaultdict(list)
    for split in SPLITS:
        for sample in splits[split]:
            shared[sample.video_id].append(sample)
    same = sorted(name for name, some in shared.items() if len(some) > 1)
    if same:
        many = how_many(len(same), "YouTube id has", "YouTube ids have")
        notes.append(f"{many} several clips, which all read the same file: {shortened(same)}.")
    for stream, rows in events.items():
        strange = sorted({event.filename for event in rows} - set(known))
        if strange:
            clips = how_many(len(strange), "clip that is", "clips that are")
            notes.append(f"{_STREAMS[stream]} has {clips} in no split: {shortened(strange)}.")
        doubled = sum(Counter(rows).values()) - len(set(rows))
        if doubled:
            notes.append(f"{_STREAMS[stream]} says {how_many(doubled, 'row')} twice.")
        late = sorted({event.filename for event in rows if event.offset > segments and event.onset < event.offset})
        if late:
            clips = how_many(len(late), "clip has", "clips have")
            notes.append(f"{clips} events beyond the {segments} seconds: {shortened(late)}.")
    for split in SPLITS:
        notes += _doubts(split, [sample for sample in splits[split] if sample.seen is not None], class_names)
    return notes


def _doubts(split: str, timed: Sequence[LaneSample], class_names: Sequence[str]) -> list[str]:
    """Where the weak label of a clip and its seconds disagree, and clips in which nothing happens in a stream."""
    notes = []
    weak = {sample.key: set(sample.classes) for sample in timed}
    dense = {sample.key: {label for lane in (sample.seen, sample.heard) for s in lane or () for label in s}
             for sample in timed}  # fmt: skip
    silent = {what: [s.video_id for s in timed if not any(getattr(s, what) or ())] for what in ("seen", "heard")}
    for what, ids in silent.items():
        if ids and split != "train":  # where finding nothing is right, and scores 1
            clips = how_many(len(ids), f"{split} clip has", f"{split} clips have")
            notes.append(f"{clips} no event that is {what}: {shortened(ids)}.")
    missed = [s.video_id for s in timed if dense[s.key] - weak[s.key]]
    if missed:
        clips = how_many(len(missed), f"{split} clip has", f"{split} clips have")
        notes.append(f"{clips} an event that their weak label lacks: {shortened(missed)}.")
    unseen = [s.video_id for s in timed if weak[s.key] - dense[s.key]]
    if unseen:
        clips = how_many(len(unseen), f"{split} clip has", f"{split} clips have")
        notes.append(f"{clips} a class in their weak label that no second has: {shortened(unseen)}.")
    return notes


class LLPReader(Reader):
    """LLP, and data sets in its layout."""

    labels = LaneLabels
    read = staticmethod(read)


EXTENSION = LLPReader
