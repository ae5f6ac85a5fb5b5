"""The files beside shards: what is in them, where, and with which checksums.

    index.json            what the shards are of, their labels, and size, checksum and list of each shard
    train-000000.tar      a shard
    train-000000.jsonl    its list: a line about the shard, and one for each of its videos or decoded samples
    sizes.json            number of samples in each shard, as open_clip and others read it
    packing.json          only while they are written: what is packed

All of it is taken for a stranger's: numbers, names and hashes are checked before anything is read by them.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import Any

from avpea import registry
from avpea.data._places import Unreachable, below, read_whole, size_of
from avpea.data.identity import printable
from avpea.errors import DataError
from avpea.labels import SPLITS, Labels, Member, Packed, Sample, Shard, read_plain
from avpea.parsing import parse_json

__all__ = [
    "FORMAT",
    "INDEX_FILE",
    "PACKING_FILE",
    "SIZES_FILE",
    "Entry",
    "Index",
    "Listed",
    "list_of",
    "list_text",
    "listed_in",
    "plain_sample",
    "read_index",
    "read_list",
    "sample_of",
]

FORMAT = "avpea-shards-1"
INDEX_FILE, PACKING_FILE, SIZES_FILE = "index.json", "packing.json", "sizes.json"
_INDEX_BYTES, _LIST_BYTES = 64 << 20, 256 << 20
_NAME = re.compile(r"(train|val|test)-[0-9]{6}\.tar")
_KEY = re.compile(r"[A-Za-z0-9_%~-]{1,90}")
_HASH = re.compile(r"[0-9a-f]{64}")
# Fields of a sample that say where it is.
_PLACES = {"video", "sound", "features", "packed"}
_ANEW = "get it anew, or pack the data set again"


@dataclass(frozen=True)
class Listed:
    """A shard as the index lists it.

    Attributes:
        name: File name.
        bytes: Number of its bytes.
        sha256: Their hash.
        samples: Number of videos or decoded samples in it.
        list_sha256: Hash of its list.
    """

    name: str
    bytes: int
    sha256: str
    samples: int
    list_sha256: str

    @property
    def list_name(self) -> str:
        """File name of its list."""
        return list_of(self.name)

    @property
    def split(self) -> str:
        """The split of its samples."""
        return self.name.partition("-")[0]


@dataclass(frozen=True)
class Index:
    """What `index.json` holds.

    Attributes:
        format: Version of the format.
        reader: Reader of the data set that was packed.
        name: Name of the data set.
        packing: Hash of what was packed, and how.
        settings: How samples were decoded; empty if the shards hold videos.
        labels: Plain values of the labels.
        splits: Number of samples in each split, those that were left out included.
        left_out: Number of samples that were left out.
        shards: The shards.
        notes: Remarks of the reader.
        sources: Annotation file and version of each split.
        lost: Annotations that label nothing.
    """

    format: str
    reader: str
    name: str
    packing: str
    settings: dict[str, Any]
    labels: dict[str, Any]
    splits: dict[str, int]
    left_out: int
    shards: tuple[Listed, ...]
    notes: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()

    @property
    def settings_text(self) -> str:
        """The settings as `Shard` has them."""
        return json.dumps(self.settings, sort_keys=True) if self.settings else ""

    def labels_class(self) -> type[Labels]:
        """The class of its labels, which its reader names.

        Raises:
            ExperimentError: There is no such reader here.
        """
        found: type[Labels] = registry.load("reader", self.reader).labels
        return found


@dataclass(frozen=True)
class Entry:
    """A line of a list: what lies in a shard together.

    Attributes:
        key: Name of the members, up to their first dot.
        video: Name of the video.
        sound: Name of the file of its sound; empty if that is the video.
        file: What `avpea.data.identity` knows of the files.
        members: Its members in the shard, without the labels; none if it was left out.
        samples: Plain values of its samples; `number` is the place of each in its split.
        reason: Why it was left out.
        duration_seconds: Length of the video, if it was decoded.
        remarks: What was mended when it was decoded.
    """

    key: str
    video: str
    sound: str
    file: str
    members: tuple[Member, ...]
    samples: tuple[dict[str, Any], ...]
    reason: str = ""
    duration_seconds: float = 0.0
    remarks: str = ""


def plain_sample(sample: Sample, number: int) -> dict[str, Any]:
    """A sample's plain values, without where it is, and its place in its split."""
    values = {item.name: getattr(sample, item.name) for item in dataclasses.fields(sample)}
    shared = {name: value for name, value in values.items() if name not in _PLACES}
    plain: dict[str, Any] = json.loads(json.dumps({"number": number, **shared}, default=dataclasses.asdict))
    return {**plain, "video_id": printable(sample.video_id)}  # the name of a file, which need not be text


def list_text(shard: Shard, entries: Sequence[Entry]) -> str:
    """The list of a shard."""
    head = {"bytes": shard.size, "sha256": shard.sha256, "samples": sum(bool(entry.members) for entry in entries)}
    lines = [head, *map(dataclasses.asdict, entries)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_index(root: str) -> Index:
    """The index of the shards in a folder or behind a URL.

    Raises:
        DataError: There is none, it is damaged, of a later version, or of shards that are not all written yet.
    """
    place = below(root, INDEX_FILE)
    try:
        text = read_whole(place, _INDEX_BYTES)
    except Unreachable as error:
        raise DataError(_no_index(root, place, error)) from None
    values = parse_json(_decoded(text, place), place, DataError, remedy=_ANEW)
    if isinstance(values, Mapping) and values.get("format", FORMAT) != FORMAT:
        raise DataError(f"{place} has format {values['format']!r:.40}, expected {FORMAT}; it is of another version.")
    index: Index = _plain(Index, values, place)
    _require_index(index, place)
    return index


def _no_index(root: str, place: str, error: Unreachable) -> str:
    folder = Path(root)
    if folder.is_file():
        return f"{root} (--data.root) is a file; give the folder or URL of the shards, in which {INDEX_FILE} lies."
    if (folder / PACKING_FILE).is_file():
        return f"{root} is not packed whole yet; the same `avpea data pack` command goes on where it was."
    if folder.is_dir() and any(folder.glob("*.tar")):
        return f"{root} has tar files but no {INDEX_FILE}, so they are none of avpea's; pack with `avpea data pack`."
    return f"{place} cannot be read ({error}); --data.root is the folder or URL that `avpea data pack` wrote."


def _require_index(index: Index, place: str) -> None:
    names = [shard.name for shard in index.shards]
    wrong = next((name for name in names if not _NAME.fullmatch(name)), None)
    if wrong is not None:
        raise DataError(f"{place} names the shard {wrong!r:.80}; expected such as train-000000.tar.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{place} names the shard {twice} twice; {_ANEW}.")
    for shard in index.shards:
        if not (_HASH.fullmatch(shard.sha256) and _HASH.fullmatch(shard.list_sha256) and shard.bytes >= 0):
            raise DataError(f"{place} has no size and checksums of {shard.name}; {_ANEW}.")
    if set(index.splits) != set(SPLITS):
        raise DataError(f"{place} has the splits {', '.join(index.splits)[:80]}; expected {', '.join(SPLITS)}.")


def read_list(root: str, shard: Listed) -> list[Entry]:
    """The list of a shard.

    Raises:
        DataError: It is missing, damaged, or another one.
    """
    place = below(root, shard.list_name)
    try:
        found = read_whole(place, _LIST_BYTES)
    except Unreachable as error:
        raise DataError(f"{place} cannot be read ({error}); {_ANEW}.") from None
    if hashlib.sha256(found).hexdigest() != shard.list_sha256:
        raise DataError(
            f"{place} does not have the checksum of the index, so it is damaged or of another packing; {_ANEW}."
        )
    return list(_entries(place, found, shard.bytes))


def list_of(name: str) -> str:
    """File name of the list of a shard."""
    return str(Path(name).with_suffix(".jsonl"))


def listed_in(folder: Path, name: str) -> tuple[Listed, list[Entry]] | None:
    """A shard that is completely written, and its list, which is written after it; None if it is not.

    Raises:
        DataError: The list is damaged.
    """
    path = folder / list_of(name)
    try:
        found, size = read_whole(str(path), _LIST_BYTES), size_of(str(folder / name))
    except Unreachable:
        return None
    head = parse_json(_decoded(found.partition(b"\n")[0], str(path)), str(path), DataError, line=1, remedy="remove it")
    shard = _plain(Listed, {"name": name, "list_sha256": hashlib.sha256(found).hexdigest(), **head}, f"{path}, line 1")
    return (shard, list(_entries(str(path), found, size))) if shard.bytes == size else None


def _entries(place: str, found: bytes, size: int) -> Iterator[Entry]:
    for number, line in enumerate(_decoded(found, place).removesuffix("\n").split("\n")[1:], start=2):
        values = parse_json(line, place, DataError, line=number, remedy=_ANEW)
        entry = _plain(Entry, values, f"{place}, line {number}")
        if not (_KEY.fullmatch(entry.key) and all(_is_inside(member, size) for member in entry.members)):
            raise DataError(f"{place}, line {number}: members that lie in no shard; {_ANEW}.")
        if any(name.startswith("/") or ".." in name.split("/") for name in (entry.video, entry.sound)):
            raise DataError(f"{place}, line {number}: {entry.video!r:.80} is no name of a video below the data set.")
        if bool(entry.members) == bool(entry.reason):
            raise DataError(f"{place}, line {number}: neither members nor why there are none; {_ANEW}.")
        yield entry


def _is_inside(member: Member, size: int) -> bool:
    after_header = BLOCKSIZE <= member.offset <= size - member.size
    return after_header and member.size >= 0 and bool(_HASH.fullmatch(member.sha256))


def _decoded(found: bytes, place: str) -> str:
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 text ({error.reason} at byte {error.start:,}); {_ANEW}.") from None


def _plain(cls: Any, values: Any, where: str) -> Any:
    names = {item.name for item in dataclasses.fields(cls)}
    if not isinstance(values, Mapping) or (unknown := sorted(values.keys() - names)):
        raise DataError(f"{where}: found {unknown[:3] if isinstance(values, Mapping) else 'no object'}; {_ANEW}.")
    try:
        return read_plain(cls, values)
    except ValueError as error:
        raise DataError(f"{where}: {error}; {_ANEW}.") from None


def sample_of(cls: type[Sample], values: Mapping[str, Any], packed: Packed, video: Path, sound: Path | None) -> Sample:
    """A sample from its plain values.

    Raises:
        ValueError: A value is missing, unknown or of another type.
    """
    names = {item.name for item in dataclasses.fields(cls)} - _PLACES
    if values.keys() != names:
        raise ValueError(f"found the fields {', '.join(sorted(values.keys() ^ names))[:80]} or not")
    made = read_plain(cls, {**values, "video": "video"})
    return dataclasses.replace(made, video=video, sound=sound, packed=packed)
