"""Packing a data set into shards: tar files in WebDataset's form, with an index by which every sample is found.

    KEY.mp4 KEY.json                          a video (and KEY.sound.wav, if its sound is another file)
    KEY.frames.npy KEY.log_mel.npy KEY.json   or a sample, decoded

A key is the video's id, or the sample's key, with all but letters, digits, `_`, `-` and `~` escaped as in URLs, dots
included, since WebDataset ends keys at the first dot. Members have no time and no owner, so a data set makes the same
bytes on every machine. A shard gets its name only when it is complete.
"""

import hashlib
import io
import json
import os
import shutil
import tarfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from avpea.data._made import Made, made_decoded, made_of_files
from avpea.data._members import Hashing, add_file, add_member
from avpea.data._packing import Group, Names, divided, groups_of
from avpea.data._shard_index import (
    FORMAT,
    INDEX_FILE,
    PACKING_FILE,
    SIZES_FILE,
    Entry,
    Index,
    Listed,
    list_of,
    list_text,
    listed_in,
    plain_sample,
    read_index,
)
from avpea.data._work import run
from avpea.data.cache import SampleCache
from avpea.data.identity import files_of, identify
from avpea.errors import DataError, MediaError
from avpea.files import remove_leftovers, replacing, write_json, write_text
from avpea.labels import SPLITS, Annotations, Sample, Shard
from avpea.locks import LOCK_FILE, locked
from avpea.options import require
from avpea.parsing import parse_json
from avpea.progress import progress_bar
from avpea.sections import ReaderOptions
from avpea.tables import how_many

__all__ = ["PackReport", "pack"]

_MEGABYTE = 1_000_000
_SPOOL = ".decoded"  # folder of decoded samples until their shard is written


@dataclass(frozen=True)
class PackReport:
    """The result of packing.

    Attributes:
        folder: Folder of the shards.
        samples: Number of samples in the shards, by split.
        left_out: Reason by key, for samples that were left out.
        shards: Number of shards.
        bytes: Number of bytes of all shards.
        written: Number of shards that were written now, and not before.
        seconds: Time taken.
    """

    folder: str
    samples: dict[str, int]
    left_out: dict[str, str]
    shards: int
    bytes: int
    written: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Sentences for the terminal: what was left out, and the counts."""
        lines = [f"Left out: {reason}" for reason in list(self.left_out.values())[:10]]
        if len(self.left_out) > len(lines):
            more = how_many(len(self.left_out) - len(lines), "more sample")
            lines.append(f"Left out: {more}; --json names all of them.")
        counts = ", ".join(f"{count} {split}" for split, count in self.samples.items())
        before = f", {self.shards - self.written} of them before" if self.written < self.shards else ""
        size = f"{how_many(self.shards, 'shard')}, {self.bytes / 1e6:,.1f} MB ({self.seconds:.0f} s{before})"
        return [*lines, f"{self.folder}: {counts} samples in {size}."]


def pack(
    annotations: Annotations,
    options: ReaderOptions,
    folder: str | Path,
    *,
    cache: SampleCache | None = None,
    shard_mb: int = 500,
    progress: bool = True,
) -> PackReport:
    """Write a data set into shards; after an interruption, the same call goes on with what is missing.

    Args:
        annotations: The data set.
        options: Section `data` by which it was read.
        folder: Folder to write, which must be new, empty, or of the same packing.
        cache: How samples are decoded; its entries are used, and none is written. None packs the videos.
        shard_mb: Megabytes after which a shard ends.
        progress: Whether to show a progress bar on stderr.

    Raises:
        DataError: The folder holds something else, the data set has nothing that can be packed, or has changed since
            an interruption; or `options.strict` and a video is missing or broken.
        InUseError: Another process packs into the folder.
        WriteError: The folder cannot be written.
    """
    require(1 <= shard_mb <= 1_000_000, f"shard_mb is {shard_mb}; expected 1 to 1000000.")
    _require_packable(annotations)
    began, packing = (
        time.monotonic(),
        _Packing(annotations, options, Path(os.path.expanduser(folder)), cache, shard_mb * _MEGABYTE),
    )
    with locked(packing.folder, "is being packed"):
        if not packing.prepared():
            packing.write(progress)
        return packing.report(time.monotonic() - began)


def _require_packable(annotations: Annotations) -> None:
    kind = type(annotations.labels)
    for sample in annotations.samples:
        if sample.features is not None:
            raise DataError(f"{annotations.name} holds features instead of videos, which are not packed into shards.")
        if sample.annotation_files() or sample.picture_files():
            raise DataError(
                f"{annotations.name} has pictures of its own, masks or frames ({_picture(sample).name}), and only "
                "videos and their sound are packed into shards; train from the folder itself, --data.root "
                f"{annotations.root}."
            )
        if sample.packed is not None:
            raise DataError(f"{annotations.root} holds shards already; pack the data set that they were made of.")
        if type(sample) is not kind.samples:
            raise DataError(
                f"Samples of {annotations.name} are of the class {type(sample).__name__}, which its labels do not name "
                f"({kind.__name__}.samples is {kind.samples.__name__}), so they cannot be packed."
            )


def _picture(sample: Sample) -> Path:
    return (*sample.annotation_files(), *sample.picture_files())[0]


class _Packing:
    def __init__(
        self,
        annotations: Annotations,
        options: ReaderOptions,
        folder: Path,
        cache: SampleCache | None,
        shard_bytes: int,
    ) -> None:
        self.annotations, self.options, self.folder, self.cache = annotations, options, folder, cache
        self.names, self.known, self.written = Names(annotations.root), dict[Path, str](), 0
        groups = groups_of(annotations, 0 if cache is None else cache.bytes_of_sample())
        if all(group.reason for group in groups):
            raise DataError(f"{annotations.name} in {annotations.root} has no video that could be packed.")
        for group in groups:
            self._require_wanted(group.first, group.reason)
        self.shards = divided(groups, shard_bytes)
        self.packing = self._hash()

    def _hash(self) -> str:
        """What is packed, and how: the same in every session of one packing."""
        rows = identify(self.options, self.annotations).rows
        plan = {
            "format": FORMAT,
            "reader": self.options.name,
            "settings": {} if self.cache is None else self.cache.settings,
            "labels": self.annotations.labels.to_dict(),
            "rows": {split: [[name, row.labels, row.file] for name, row in rows[split].items()] for split in SPLITS},
            "shards": [[name, [[one.key, one.reason] for one in groups]] for name, groups in self.shards],
        }
        return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()

    def _require_wanted(self, sample: Sample, reason: str) -> None:
        if reason and self.options.strict:
            raise DataError(
                f"{sample.video}: {reason} data.strict is set; mend or remove the video, or set data.strict to false "
                "to leave it out."
            )

    def prepared(self) -> bool:
        """Whether the folder is packed already; if not, it is made ready.

        Raises:
            DataError: It holds something else.
        """
        marker = self.folder / PACKING_FILE
        remove_leftovers(self.folder, PACKING_FILE)  # of one that was killed before it had written anything else
        if (self.folder / INDEX_FILE).is_file():
            self._require_same(read_index(str(self.folder)).packing)
            return True
        if marker.is_file():
            text = marker.read_text("utf-8", "replace")
            about = parse_json(text, str(marker), DataError, remedy="remove the folder to pack anew")
            self._require_same(about.get("packing") if isinstance(about, dict) else None)
        elif others := sorted(path.name for path in self.folder.iterdir() if path.name != LOCK_FILE):
            raise DataError(f"{self.folder} is not empty ({others[0]:.80}); choose a new folder for the shards.")
        write_json(marker, {"packing": self.packing})
        remove_leftovers(self.folder)
        shutil.rmtree(self.folder / _SPOOL, ignore_errors=True)
        return False

    def _require_same(self, packing: object) -> None:
        if packing != self.packing or not self._has_same_samples():
            raise DataError(
                f"{self.folder} holds shards of other data or with other options than this command packs, or of videos "
                "that have changed since; choose a new folder, or remove that one to pack anew."
            )

    def _has_same_samples(self) -> bool:
        """Whether the shards that are there hold the windows that would be packed now.

        The hash of a packing does not say of which seconds they are. Fields that only one version knows do not count.
        """
        for name, groups in self.shards:
            listed = listed_in(self.folder, name)
            if listed is None:
                continue
            there = [values for entry in listed[1] for values in entry.samples]
            here = [plain_sample(sample, number) for group in groups for number, sample in group.samples]
            if len(there) != len(here):
                return False
            for one, other in zip(there, here, strict=True):
                if any(one[field] != other[field] for field in one.keys() & other.keys()):
                    return False
        return True

    def write(self, progress: bool) -> None:
        """Write the shards that are missing, and then the index."""
        missing = [(name, groups) for name, groups in self.shards if listed_in(self.folder, name) is None]
        every = sum(len(groups) for _, groups in self.shards)
        if self.cache is None:
            done = every - sum(len(groups) for _, groups in missing)
            with progress_bar("Packing", every, shown=progress, done=done) as advance:
                for name, groups in missing:
                    self._write_shard(name, groups, [made_of_files(group) for group in groups])
                    advance(len(groups))
        else:
            for name, groups, made in self._decoded(missing, progress):
                self._write_shard(name, groups, made)
                for one in made:
                    for _, path in one.files:
                        path.unlink()
            shutil.rmtree(self.folder / _SPOOL, ignore_errors=True)
        self._write_index()
        (self.folder / PACKING_FILE).unlink()

    def _decoded(
        self, shards: Sequence[tuple[str, list[Group]]], progress: bool
    ) -> Iterator[tuple[str, list[Group], list[Made]]]:
        """Decode the samples of shards, and yield each shard when all of its samples are decoded."""
        assert self.cache is not None
        spool = self.folder / _SPOOL
        spool.mkdir(exist_ok=True)
        waiting = {name: {group.key for group in groups} for name, groups in shards}
        found: dict[str, dict[str, Made]] = defaultdict(dict)
        by_name = dict(shards)
        jobs = [(name, group.key, group.first) for name, groups in shards for group in groups]
        function = partial(made_decoded, cache=self.cache, spool=spool)
        crashed = Made(reason="the decoder crashed on it.")
        for (name, key, sample), made in run(
            function, jobs, workers=self.options.workers, crashed=lambda _: crashed, title="Decoding videos",
            progress=progress,
        ):  # fmt: skip
            self._require_wanted(sample, made.reason)
            found[name][key] = made
            waiting[name].discard(key)
            if not waiting[name]:
                some = found.pop(name)
                yield name, by_name[name], [some[group.key] for group in by_name[name]]

    def _write_shard(self, name: str, groups: Sequence[Group], made: Sequence[Made]) -> None:
        with replacing(self.folder / name) as aside, aside.open("wb") as raw:
            out = Hashing(raw)
            with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
                entries = [self._add(tar, group, one) for group, one in zip(groups, made, strict=True)]
            size = raw.tell()
        shard = Shard(name, size, out.digest.hexdigest())
        write_text(self.folder / list_of(name), list_text(shard, entries))
        self.written += 1

    def _add(self, tar: tarfile.TarFile, group: Group, made: Made) -> Entry:
        """Add the members of a group to a shard; returns its line in the list."""
        members = [add_file(tar, f"{group.key}{ending}", path) for ending, path in made.files]
        samples = tuple(plain_sample(sample, number) for number, sample in group.samples)
        if members:
            labels = self.annotations.labels
            told = [{**values, "told": labels.told(s)} for values, (_, s) in zip(samples, group.samples, strict=True)]
            about = {"video_id": samples[0]["video_id"], "split": group.split, "samples": told}
            text = json.dumps(about, ensure_ascii=False).encode("utf-8", "backslashreplace")
            add_member(tar, f"{group.key}.json", io.BytesIO(text), len(text))
        video, sound = (self.names.of(path) for path in (group.first.video, group.first.sound))
        return Entry(
            key=group.key,
            video=video,
            sound=sound,
            file=files_of(group.first, self.known),
            members=tuple(members),
            samples=samples,
            reason=made.reason,
            duration_seconds=made.duration_seconds,
            remarks=made.remarks,
        )

    def _lists(self) -> Iterator[tuple[Listed, list[Entry]]]:
        for name, _ in self.shards:
            found = listed_in(self.folder, name)
            if found is None:
                raise DataError(f"{self.folder / name} is missing or cut short; remove {self.folder} to pack anew.")
            yield found

    def _write_index(self) -> None:
        lists = list(self._lists())
        if not any(shard.samples for shard, _ in lists):
            raise DataError(f"{self.annotations.name} in {self.annotations.root} has no video that could be decoded.")
        index = Index(
            format=FORMAT,
            reader=self.options.name,
            name=self.annotations.name,
            packing=self.packing,
            settings={} if self.cache is None else self.cache.settings,
            labels=self.annotations.labels.to_dict(),
            splits={split: len(self.annotations.splits.get(split, ())) for split in SPLITS},
            left_out=sum(len(entry.samples) for _, entries in lists for entry in entries if entry.reason),
            shards=tuple(shard for shard, _ in lists),
            notes=self.annotations.notes,
            sources=dict(self.annotations.sources),
            lost=self.annotations.lost,
        )
        write_json(self.folder / SIZES_FILE, {shard.name: shard.samples for shard, _ in lists})
        write_json(self.folder / INDEX_FILE, asdict(index))

    def report(self, seconds: float) -> PackReport:
        """What is packed now."""
        samples, left_out, size = dict.fromkeys(SPLITS, 0), dict[str, str](), 0
        for shard, entries in self._lists():
            size += shard.bytes
            for entry in entries:
                if entry.reason:
                    told = str(MediaError(entry.video, entry.reason))
                    left_out |= {sample["key"]: told for sample in entry.samples}
                else:
                    samples[shard.split] += len(entry.samples)
        return PackReport(str(self.folder), samples, left_out, len(self.shards), size, self.written, seconds)
