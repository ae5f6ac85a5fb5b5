"""Shards of any data set that `avpea data pack` wrote, in a folder or behind a URL.

The samples, their order, labels and keys are those of the data set that was packed, so training draws the same batches,
and ends with the same weights. Only the index is read here; samples are read from the shards when they are needed.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.data._places import below, is_url
from avpea.data._shard_index import INDEX_FILE, Entry, Index, Listed, read_index, read_list, sample_of
from avpea.data.packed import require_size
from avpea.data.readers._base import Reader
from avpea.errors import DataError
from avpea.labels import SPLITS, Annotations, Labels, Packed, Sample, Shard, shortened
from avpea.options import require
from avpea.sections import SpreadOptions

__all__ = ["EXTENSION", "ShardsOptions", "ShardsReader", "read"]

_AT_ONCE = 16  # lists that are read over the network at a time
_ANEW = "get it anew, or pack the data set again"


@dataclass(frozen=True)
class ShardsOptions(SpreadOptions):
    """Options of shards, which must be what they were packed with.

    Attributes:
        sound_seconds: Length of a segment's sound, if `seconds` is `lavish` (1.95 for MUSIC-AVQA).
    """

    sound_seconds: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        seconds = self.sound_seconds
        require(0 < seconds <= 60, f"data.sound_seconds is {seconds}; expected a number above 0, up to 60.")


def read(options: ShardsOptions) -> Annotations:
    """Read the index of shards; the shards themselves are not opened, but must be there if they are in a folder.

    Raises:
        DataError: The index is missing or damaged, or does not fit the shards or the options.
    """
    root = options.root
    index = read_index(root)
    if not is_url(root):
        _require_files(Path(root), index)
    kind = index.labels_class()
    try:
        labels = kind.from_dict(index.labels)
    except ValueError as error:
        raise DataError(f"{below(root, INDEX_FILE)}: its labels are damaged ({error}); {_ANEW}.") from None
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        lists = list(pool.map(lambda shard: read_list(root, shard), index.shards))
    splits = {split: _samples(split, index, lists, labels, root) for split in SPLITS}
    for split in SPLITS:
        _require_options(splits[split], options)
    return Annotations(index.name, Path(root), labels, splits, index.notes, index.sources, index.lost)


def _require_files(root: Path, index: Index) -> None:
    """Refuse a folder that holds other shards than the index says."""
    named = {shard.name for shard in index.shards}
    foreign = sorted(path.name for path in root.glob("*.tar") if path.name not in named)
    if foreign:
        raise DataError(
            f"{root} holds {shortened(foreign, 3)}, which its {INDEX_FILE} does not name; move them elsewhere, or get "
            "the index that belongs to them."
        )
    for shard in index.shards:
        require_size(Shard(str(root / shard.name), shard.bytes, shard.sha256))


def _samples(split: str, index: Index, lists: list[list[Entry]], labels: Labels, root: str) -> tuple[Sample, ...]:
    """The samples of a split, in the order that they had in the data set."""
    numbered: dict[int, Sample] = {}
    for listed, entries in zip(index.shards, lists, strict=True):
        if listed.split != split:
            continue
        for number, sample in _of_list(listed, entries, index, labels, root):
            if number in numbered or sample.split != split:
                raise DataError(
                    f"{below(root, listed.list_name)}: {sample.key} stands twice, or in two splits; {_ANEW}."
                )
            numbered[number] = sample
    # The number is a stranger's: nothing of that size is made.
    if len(numbered) != index.splits[split] or numbered.keys() != set(range(len(numbered))):
        raise DataError(
            f"The lists in {root} have {len(numbered)} samples of the split {split}, and {INDEX_FILE} says "
            f"{index.splits[split]}; {_ANEW}."
        )
    ordered = tuple(numbered[number] for number in range(len(numbered)))
    if len({sample.key for sample in ordered}) < len(ordered):
        raise DataError(f"The lists in {root} have two samples of one key in the split {split}; {_ANEW}.")
    return ordered


def _of_list(
    listed: Listed, entries: list[Entry], index: Index, labels: Labels, root: str
) -> Iterator[tuple[int, Sample]]:
    shard = Shard(below(root, listed.name), listed.bytes, listed.sha256, index.settings_text)
    for number, entry in enumerate(entries, start=2):
        where = f"{below(root, listed.list_name)}, line {number}"
        packed = Packed(shard, entry.members, entry.file, entry.reason, entry.duration_seconds, entry.remarks)
        wanted = 2 if index.settings or entry.sound else 1
        if entry.members and len(entry.members) != wanted:
            raise DataError(f"{where}: {len(entry.members)} members, expected {wanted}; {_ANEW}.")
        video, sound = (Path(root) / name if name else None for name in (entry.video, entry.sound))
        for values in entry.samples:
            yield _sample(where, labels, values, packed, video, sound)


def _sample(
    where: str, labels: Labels, values: dict[str, Any], packed: Packed, video: Path | None, sound: Path | None
) -> tuple[int, Sample]:
    number = values.get("number")
    rest = {name: value for name, value in values.items() if name != "number"}
    try:
        if type(number) is not int or video is None:
            raise ValueError("no number, or no video")
        sample = sample_of(type(labels).samples, rest, packed, video, sound)
        wrong = labels.fault(sample)
    except ValueError as error:
        raise DataError(f"{where}: a sample is damaged ({error}); {_ANEW}.") from None
    if wrong or sample.segments < 1 or not 0 <= sample.start_seconds < 1e9:
        raise DataError(f"{where}: a sample {wrong or 'has no window'}; {_ANEW}.")
    return number, sample


def _require_options(samples: tuple[Sample, ...], options: ShardsOptions) -> None:
    """Refuse options that the samples were not packed with: a model would be asked about other seconds than it saw."""
    for sample in samples:
        for name in ("segments", "seconds", *(["sound_seconds"] if sample.seconds == "lavish" else [])):
            there, here = getattr(sample, name), getattr(options, name)
            if there != here:
                raise DataError(
                    f"{options.root} was packed with data.{name} {there}, and the recipe has {here}; set --data.{name} "
                    f"{there}, or pack the data set again."
                )


class ShardsReader(Reader):
    """Shards of any data set, written by `avpea data pack`. Their kind of labels is known when they are read."""

    labels = Labels
    Options = ShardsOptions
    read = staticmethod(read)


EXTENSION = ShardsReader
