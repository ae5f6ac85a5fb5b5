"""What a data set is: its rows, labels and names as they are now, to be compared with what they were.

A row is a sample. It is known by its video and window, not by its place in a file, and its labels count by name. Where
the data set lies does not matter. Of a video file its size and a hash of its first 64 KiB are kept, so that another
file under the same name is seen without reading it whole. Of features the file of the sound and the row of a table are
kept beside that, as `sound:…` and `row:…`. Earlier versions did not, so each is compared where both have it.
"""

import hashlib
import json
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from avpea.errors import DataError
from avpea.files import write_text
from avpea.labels import SPLITS, Annotations, Labels, Precomputed, Sample, shortened
from avpea.parsing import read_json
from avpea.sections import ReaderOptions
from avpea.tables import how_many

__all__ = [
    "DATA_FILE",
    "DataIdentity",
    "Row",
    "appeared",
    "changes",
    "copies",
    "files_of",
    "identify",
    "names_changed",
    "printable",
    "read_identity",
    "reordered",
    "vanished",
]

DATA_FILE = "data.json"
_REMEDY = "copy the run anew, or remove this file, which is made anew if the data are still the same"
_FORMAT = "avpea-data-1"
_HEAD_BYTES = 2**16
_TEXT = 100  # labels of more characters are kept as a hash


@dataclass(frozen=True)
class Row:
    """A sample as it is compared.

    Attributes:
        labels: Its labels by name, or a hash of them if that is shorter.
        file: Size and hash of its media files; empty if they are missing, or were not looked at.
    """

    labels: str
    file: str


@dataclass(frozen=True)
class DataIdentity:
    """A data set at one time.

    Attributes:
        reader: Name of the reader.
        root: Name of the folder or manifest, without the place where it lies.
        outputs: What `names` are called, such as `classes`; empty if there are none.
        names: Names of the labels in the order of their indices.
        rows: Rows by split and name, in the order of the annotations.
    """

    reader: str
    root: str
    outputs: str
    names: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Row]]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of rows and labels, whatever the order of rows and names, and whatever the files hold."""
        rows = sorted((split, name, row.labels) for split, some in self.rows.items() for name, row in some.items())
        return _hashed(json.dumps(rows))

    def seen(self, other: "DataIdentity", split: str) -> int:
        """Number of samples of a split of `other` whose video files are training videos here, under any name.

        Samples of one table are the same if their rows are, which must be known of both.
        """
        trained = {row.file for row in self.rows.get("train", {}).values()} - {""}
        return sum(not trained.isdisjoint(_alike(row.file)) for row in other.rows.get(split, {}).values())

    def summary(self) -> dict[str, Any]:
        """What a record says about the data that it belongs to, as plain values."""
        return {
            "reader": self.reader,
            "root": self.root,
            "fingerprint": self.fingerprint,
            "rows": {split: len(some) for split, some in self.rows.items()},
            **({self.outputs: list(self.names)} if self.outputs else {}),
        }

    def write(self, folder: Path) -> None:
        """Write `DATA_FILE` into a folder, a row in each line."""
        splits = ",\n".join(
            f"{json.dumps(split)}: {{\n" + ",\n".join(_line(*row) for row in some.items()) + "\n}"
            for split, some in self.rows.items()
        )
        about = json.dumps({"format": _FORMAT, **self.summary(), "outputs": self.outputs, "names": list(self.names)})
        write_text(folder / DATA_FILE, f'{about[:-1]}, "splits": {{\n{splits}\n}}}}\n')


def identify(options: ReaderOptions, annotations: Annotations, files: Sequence[str] = SPLITS) -> DataIdentity:
    """The identity of a data set as it is now.

    Args:
        options: Section `data`, by which the annotations were read.
        annotations: The annotations.
        files: Splits whose media files are looked at.
    """
    labels = annotations.labels
    known: dict[Path, str] = {}
    return DataIdentity(
        options.name,
        printable(os.path.basename(os.path.abspath(options.root))),
        labels.outputs,
        labels.names,
        {
            split: _rows(annotations.splits.get(split, ()), labels, known if split in files else None)
            for split in SPLITS
        },
    )


def read_identity(folder: Path) -> DataIdentity | None:
    """What `DataIdentity.write` wrote; None if there is no such file.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / DATA_FILE
    if not path.is_file():
        return None
    found = read_json(path, DataError, remedy=_REMEDY)
    try:
        if found["format"] != _FORMAT:
            raise DataError(f"{path} has format {found['format']!r:.40}, expected {_FORMAT}; it is of a later version.")
        rows = {split: {name: _row(row) for name, row in some.items()} for split, some in found["splits"].items()}
        reader, root, outputs = _texts([found["reader"], found["root"], found["outputs"]], 3)
        return DataIdentity(reader, root, outputs, tuple(_texts(found["names"])), rows)
    except (KeyError, TypeError, AttributeError):
        raise DataError(f"{path} is damaged: it does not list the samples of a run; {_REMEDY}.") from None


def _row(values: Any) -> Row:
    return Row(*_texts(values, 2))


def _texts(values: Any, count: int | None = None) -> list[str]:
    right = isinstance(values, list) and (count is None or len(values) == count)
    if not right or not all(isinstance(value, str) for value in values):
        raise TypeError(f"found {values!r:.60}, expected {count or 'a list of'} texts")
    texts: list[str] = values
    return texts


def changes(then: DataIdentity, now: DataIdentity) -> list[str]:
    """What has changed in a data set, in phrases for the end of a sentence; empty if nothing has.

    A file counts as changed if it was looked at both times and is another one. Order does not count, nor do names that
    no sample has: `reordered` and `names_changed` tell them.
    """
    was, are = ({name: split for split, some in one.rows.items() for name in some} for one in (then, now))
    moved = {name for name in was.keys() & are.keys() if was[name] != are[name] and not _twice(name, then, now)}
    found: list[str] = []
    for source, target in ((a, b) for a in then.rows for b in now.rows if a != b):
        names = [name for name in moved if (was[name], are[name]) == (source, target)]
        found += _phrase(sorted(names), f"moved from {source} to {target}")
    for split, old, new in _splits(then, now):
        found += _phrase([name for name in new if name not in old and name not in moved], f"added to {split}")
        found += _phrase([name for name in old if name not in new and name not in moved], f"gone from {split}")
        both = [name for name in new if name in old]
        other = [f"{name}: {_other(old[name], new[name])}" for name in both if old[name].labels != new[name].labels]
        found += _phrase(other, f"of {split} with other labels")
        files = [name for name in both if _other_files(old[name].file, new[name].file)]
        found += _phrase(files, f"of {split} with another video file than before")
    return found


def names_changed(outputs: str, then: Sequence[str], now: Sequence[str]) -> list[str]:
    """What has changed in the names of labels, such as `the classes were a, b and are b, c (new: c; gone: a)`."""
    if tuple(then) == tuple(now):
        return []
    new, gone = [name for name in now if name not in then], [name for name in then if name not in now]
    parts = [f"{word}: {shortened(some)}" for word, some in (("new", new), ("gone", gone)) if some]
    return [
        f"the {outputs} were {shortened(list(then), 12)} and are {shortened(list(now), 12)} "
        f"({'; '.join(parts) or 'the same in another order'})"
    ]


def appeared(then: DataIdentity, now: DataIdentity, splits: Collection[str]) -> list[str]:
    """Samples of some splits whose video was missing then and is there now, in a phrase as `changes` has them."""
    return _files_compared(then, now, splits, lambda old, new: new and not old, "whose video was missing before")


def vanished(then: DataIdentity, now: DataIdentity, splits: Collection[str]) -> list[str]:
    """Samples of some splits whose video was there then and is missing now, in a phrase as `changes` has them."""
    return _files_compared(then, now, splits, lambda old, new: old and not new, "whose video is missing now")


def reordered(then: DataIdentity, now: DataIdentity, split: str) -> list[str]:
    """Whether the same samples of a split are in another order, in a phrase as `changes` has them."""
    old, new = list(then.rows[split]), list(now.rows[split])
    return [f"the samples of {split} are in another order"] if old != new and set(old) == set(new) else []


def _files_compared(
    then: DataIdentity, now: DataIdentity, splits: Collection[str], differ: Callable[[str, str], Any], what: str
) -> list[str]:
    found = []
    for split, old, new in _splits(then, now):
        names = [name for name in new if name in old and differ(old[name].file, new[name].file)]
        found += _phrase(names if split in splits else (), f"of {split} {what}")
    return found


def _splits(then: DataIdentity, now: DataIdentity) -> Iterator[tuple[str, Mapping[str, Row], Mapping[str, Row]]]:
    for split in SPLITS:
        yield split, then.rows.get(split, {}), now.rows.get(split, {})


def _twice(name: str, *sets: DataIdentity) -> bool:
    """Whether a sample is in several splits at once, so that it cannot be said to have moved."""
    return any(sum(name in some for some in one.rows.values()) > 1 for one in sets)


def _phrase(names: Iterable[str], what: str) -> list[str]:
    some = list(names)
    return [f"{how_many(len(some), 'sample')} {what} ({shortened(some, 3)})"] if some else []


def _other(old: Row, new: Row) -> str:
    if any(row.labels.startswith("sha256 ") for row in (old, new)):
        return "other words"
    return f"{old.labels or 'no label'} became {new.labels or 'no label'}"


def _other_files(old: str, new: str) -> bool:
    """Whether what is known of a sample's files both times is not the same."""
    was, now = _parts(old), _parts(new)
    return bool(old and new) and any(was[name] != now[name] for name in was.keys() & now.keys())


def _parts(file: str) -> dict[str, str]:
    """What is known of a sample's files: of the media files under an empty name, and `sound` and `row` of features."""
    plain = " ".join(part for part in file.split() if ":" not in part)
    return {"": plain, **dict(part.split(":", 1) for part in file.split() if ":" in part)}


def _alike(file: str) -> set[str]:
    """How a training sample with the same files is known, by this version or an earlier one."""
    parts = _parts(file)
    return {file} if "row" in parts else {file, parts[""]}


def printable(text: str) -> str:
    """Text that can be written as UTF-8, which a file's name need not be."""
    return text.encode("utf-8", "backslashreplace").decode()


def files_of(sample: Sample, known: dict[Path, str]) -> str:
    """Size and hash of the start of a sample's media files, where `known` keeps them; empty if one is missing.

    Of features there is more; see `_of_features`.
    """
    if sample.packed is not None:
        return sample.packed.file
    found = []
    for path in (sample.video, sample.sound, *sample.picture_files()):
        if path is not None:
            if path not in known:
                known[path] = size_and_start(path)
            found.append(known[path])
    return " ".join((*found, *_of_features(sample.features, known))) if all(found) else ""


def _of_features(features: Precomputed | None, known: dict[Path, str]) -> Iterator[str]:
    """What is known of features beside the file of the pictures: the file of the sound, if it is there, and the row."""
    if features is None:
        return
    if features.audio not in known:
        known[features.audio] = size_and_start(features.audio)
    if known[features.audio]:
        yield f"sound:{known[features.audio]}"
    if features.row is not None:
        yield f"row:{features.row}"


def copies(samples: Iterable[Sample]) -> tuple[str, ...]:
    """Videos that are there under several names, as `a.mp4 (train) and b.mp4 (val)`.

    Two are the same if their sizes and their first 64 KiB are; only videos of one size are read.
    """
    names = {one.video: f"{one.video_id} ({one.split})" for one in samples if one.packed is None and not one.features}
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in names:
        with suppress(OSError, ValueError):
            by_size[path.stat().st_size].append(path)
    alike: dict[str, list[str]] = defaultdict(list)
    for path in (path for paths in by_size.values() if len(paths) > 1 for path in paths):
        alike[size_and_start(path) or str(path)].append(printable(names[path]))
    return tuple(" and ".join(sorted(some)) for some in alike.values() if len(some) > 1)


def _rows(samples: Sequence[Sample], labels: Labels, known: dict[Path, str] | None) -> dict[str, Row]:
    """Rows by name. Several samples of one window are numbered in the order of their labels."""
    alike: dict[str, list[Row]] = defaultdict(list)
    for sample in samples:
        text = labels.told(sample)
        shown = text if len(text) <= _TEXT else f"sha256 {_hashed(text)}"
        alike[_name(sample)].append(Row(printable(shown), "" if known is None else files_of(sample, known)))
    return dict(_numbered(alike))


def _numbered(alike: Mapping[str, list[Row]]) -> Iterator[tuple[str, Row]]:
    for name, rows in alike.items():
        for number, row in enumerate(sorted(rows, key=lambda row: row.labels), start=1):
            yield f"{name} ({number})" if number > 1 else name, row


def _name(sample: Sample) -> str:
    """A sample's name by video and window."""
    name = sample.video_id
    if sample.start_seconds:
        name += f" from {sample.start_seconds:g} s"
    if sample.sound is not None:
        name += f" with the sound of {sample.sound.stem}"
    return printable(name)


def size_and_start(path: Path) -> str:
    """Size of a file and hash of its start, by which files are told from each other; empty if it cannot be read."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return ""
        with path.open("rb") as file:
            return f"{status.st_size}-{hashlib.sha256(file.read(_HEAD_BYTES)).hexdigest()[:16]}"
    except (OSError, ValueError):
        return ""


def _line(name: str, row: Row) -> str:
    return f"{json.dumps(name)}: {json.dumps([row.labels, row.file])}"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
