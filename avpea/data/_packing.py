"""What is packed where: groups of samples under one key, divided into shards before any of them is written."""

import hashlib
import math
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avpea.data.identity import printable
from avpea.errors import MediaError
from avpea.labels import SPLITS, Annotations, Sample
from avpea.media import require_file

__all__ = ["Group", "Names", "divided", "groups_of"]

_LONGEST = 60  # characters of a key; a tar header has room for 100 with number and ending


@dataclass
class Group:
    """What is packed under one key: a video with its samples, or one decoded sample.

    Attributes:
        key: The key.
        split: The split of its samples.
        samples: Its samples, each with its place in the split.
        size: About how many bytes it takes.
        reason: Why it is left out.
    """

    key: str
    split: str
    samples: list[tuple[int, Sample]] = field(default_factory=list)
    size: int = 0
    reason: str = ""

    @property
    def first(self) -> Sample:
        """A sample with the files of all."""
        return self.samples[0][1]


class Names:
    """Names of media files in an index: relative to the data set where they are below it, and different for each file.

    Args:
        root: Folder of the data set.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, str] = {}
        self._taken: set[str] = set()

    def of(self, path: Path | None) -> str:
        """The name of a file; empty for None."""
        if path is None:
            return ""
        if path not in self._names:
            inside = path.relative_to(self.root) if path.is_relative_to(self.root) else Path(path.name)
            name = printable((Path(path.name) if ".." in inside.parts else inside).as_posix())
            while name in self._taken:
                name = f"{len(self._taken)}/{name}"
            self._taken.add(name)
            self._names[path] = name
        return self._names[path]


def groups_of(annotations: Annotations, decoded_bytes: int) -> list[Group]:
    """The groups of a data set: a video of a split each, or a sample each if it is decoded to `decoded_bytes`.

    Their order is that of a hash of their keys, so that whoever reads shards one after another finds them mixed.
    """
    found: list[Group] = []
    for split in SPLITS:
        groups: dict[object, Group] = {}
        taken: set[str] = set()
        for number, sample in enumerate(annotations.splits.get(split, ())):
            name = sample.key if decoded_bytes else sample.video_id
            same = number if decoded_bytes else (sample.video, sample.sound)
            if same not in groups:
                groups[same] = Group(_key(name, taken), split)
            groups[same].samples.append((number, sample))
        for group in groups.values():
            group.size = decoded_bytes
            if not decoded_bytes:
                _measure(group)
        found += sorted(groups.values(), key=lambda group: hashlib.sha256(group.key.encode()).digest())
    return found


def _key(name: str, taken: set[str]) -> str:
    escaped = urllib.parse.quote(printable(name), safe="").replace(".", "%2E")
    if len(escaped) > _LONGEST:
        escaped = f"{escaped[:_LONGEST]}~{hashlib.sha256(escaped.encode()).hexdigest()[:8]}"
    key, count = escaped, 1
    while key.casefold() in taken:  # also where A and a are one file
        count += 1
        key = f"{escaped}~{count}"
    taken.add(key.casefold())
    return key


def _measure(group: Group) -> None:
    """Set a group's size to that of its files, or say why it cannot be packed."""
    for path in (group.first.video, group.first.sound):
        if path is not None and not group.reason:
            try:
                group.size += require_file(path).st_size
            except MediaError as error:
                group.reason = error.reason if path == group.first.video else f"the file of its sound: {error.reason}"


def divided(groups: Sequence[Group], shard_bytes: int) -> list[tuple[str, list[Group]]]:
    """The groups of each shard, by the shard's name: a shard ends when it has `shard_bytes` or more."""
    shards: list[tuple[str, list[Group]]] = []
    for split in SPLITS:
        number, filled = 0, math.inf
        for group in groups:
            if group.split != split:
                continue
            if filled >= shard_bytes:
                shards.append((f"{split}-{number:06d}.tar", []))
                number, filled = number + 1, 0
            shards[-1][1].append(group)
            filled += group.size if not group.reason else 0
    return shards
