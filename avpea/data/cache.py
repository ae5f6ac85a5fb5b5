"""The sample cache: each window of a video is decoded once, resized, and kept as frames and log-mel.

    <cache>/<hash of settings>/settings.json
    <cache>/<hash of settings>/<2 hex>/<hash of video and window>.safetensors

The name of an entry is a hash of the window and of the video's path, size and modification time, so an edited video
gets a new entry. Files are written atomically, so several processes may fill one cache, and a killed run resumes. A
cache that can be written at first and then cannot (a full disk) ends no work: what it lacks is decoded each time.
"""

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import platformdirs
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avpea.data._batch import Batch, collate
from avpea.data._masks import read_masks
from avpea.data._others import of_others
from avpea.data._reading import read_sample, tracks
from avpea.data._report import FillReport, padding, strict_error
from avpea.data._work import run
from avpea.data.inputs import sample_from_clip
from avpea.data.packed import packed_frame, packed_tensors, require_settings, require_shards, unpacked
from avpea.errors import DataError, MediaError, WriteError
from avpea.files import remove_leftovers, replacing, unwritable
from avpea.labels import MaskSample, Packed, Sample
from avpea.media import require_file
from avpea.progress import note
from avpea.sections import AudioOptions, ContinuousOptions, LogMelOptions, ReaderOptions, VGGishOptions
from avpea.tensors import Shape, TensorFile, Unreadable, all_finite, kind_of, read_tensors, write_tensors

__all__ = ["Batch", "FillReport", "SampleCache", "collate", "read_sample"]

# Increase this when decoding, resizing or the log-mel changes, so that no old entry is used.
_FORMAT = 2
# In the key of masks, which were once read with 8 bits a value, however many they had, and whose files once stood there
# without their seconds, so that a table that was corrected could have the masks of before.
_MASKS_READ = "in their own depth, second by second"


@dataclass(frozen=True)
class _Made:
    """What became of a window: what its entry says about the file, or why it cannot be read; and why it is not kept."""

    about: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    unkept: str = ""


class SampleCache:
    """Decoded samples on disk.

    Args:
        config: Section `data` of the experiment.
        audio: Section `audio` of the experiment.
        frame_size: Side of the square frames, in pixels.
    """

    def __init__(self, config: ReaderOptions, audio: AudioOptions, frame_size: int) -> None:
        assert isinstance(audio, LogMelOptions | VGGishOptions)
        self.config = config
        self.audio = audio
        self.frame_size = frame_size
        self.settings: dict[str, Any] = {
            "format": _FORMAT,
            "decoder": _decoder(),
            "frame_size": frame_size,
            "mel_bins": audio.mel_bins,
            "frame_shift_ms": float(audio.frame_shift_ms),
            "missing_audio": config.missing_audio,
            "missing_video": config.missing_video,
        }
        if chosen := tracks(config):
            self.settings["tracks"] = chosen
        if audio.features != "kaldi":  # not for Kaldi's, whose entries keep their names from before there was a choice
            self.settings["features"] = audio.features
        if isinstance(audio, ContinuousOptions):
            names = ("layout", "rows", "sample_rate_hz", "slices")
            self.settings |= {name: getattr(audio, name) for name in names}
        base = Path(config.cache) if config.cache else platformdirs.user_cache_path("avpea") / "samples"
        self.folder = base.expanduser() / _hashed(self.settings)[:16]
        self._unkept: dict[Path, Mapping[str, str]] = {}  # what is known of windows whose entries cannot be written
        self._whole: set[Path] = set()  # entries that have been compared with their checksums

    def path(self, sample: Sample) -> Path:
        """Path of the sample's entry, which may not exist yet.

        Raises:
            MediaError: The video does not exist.
        """
        if sample.packed is not None:
            return self._path_of_packed(sample, sample.packed)
        status = require_file(sample.video)
        window: list[Any] = [sample.start_seconds, sample.segments]
        if sample.seconds != "consecutive":
            window.append(sample.seconds)
        if sample.seconds == "lavish":
            window.append(sample.sound_seconds)
        if sample.sound is not None:
            window.append(_version(sample.sound))
        if beside := sample.picture_files():
            window.append([_version(path) for path in beside])
        if isinstance(sample, MaskSample):
            # Each second has its place, also one without a file, so that a mask of another second is another key.
            of_seconds = (sample.masks, sample.others)
            masks, others = ([path and _version(Path(path)) for path in files] for files in of_seconds)
            window.append([sample.side, sample.colours, masks, others, _MASKS_READ])
        name = _hashed([str(sample.video.resolve()), status.st_size, status.st_mtime_ns, *window])
        return self.folder / name[:2] / f"{name}.safetensors"

    def _path_of_packed(self, sample: Sample, packed: Packed) -> Path:
        if packed.reason:
            raise MediaError(sample.video, packed.reason)
        window = [sample.start_seconds, sample.segments, sample.seconds, sample.sound_seconds]
        name = _hashed([[member.sha256 for member in packed.members], *window])
        return self.folder / name[:2] / f"{name}.safetensors"

    def fill(self, samples: Sequence[Sample], progress: bool = True) -> FillReport:
        """Decode the samples that are not in the cache yet; those that were packed decoded are left where they are.

        Args:
            samples: Samples that will be read.
            progress: Whether to show a progress bar on stderr.

        Raises:
            DataError: The cache cannot be written at all; a shard is missing or damaged, or was decoded otherwise; or
                `config.strict` and a video is missing or broken.
        """
        began = time.monotonic()
        packed = [sample.packed for sample in samples if sample.packed is not None]
        require_shards(packed)
        if packed and packed[0].decoded:
            return self._fill_decoded(samples, began)
        self._prepare()
        missing, broken = self._missing(samples)
        if missing and (obstacle := unwritable(self.folder)):
            raise self._refusal(obstacle)
        # In random order, so that several processes that fill one cache share the work instead of racing.
        jobs = list(missing)
        random.Random(os.getpid()).shuffle(jobs)
        results = run(
            self._make_by_path,
            [(path, missing[path][0]) for path in jobs],
            workers=self.config.workers,
            crashed=lambda job: _Made(reason=f"{job[1].video}: the decoder crashed on it"),
            title="Decoding videos",
            progress=progress,
        )
        decoded = 0
        for (path, _), made in results:
            decoded += not made.reason
            if made.reason:
                broken |= {sample.key: made.reason for sample in missing[path]}
            elif made.unkept:
                self._do_without(path, made)
        return self._report(samples, broken, decoded, began)

    def _fill_decoded(self, samples: Sequence[Sample], began: float) -> FillReport:
        """Check that samples that were packed decoded are what this cache would decode."""
        broken: dict[str, str] = {}
        for sample in samples:
            assert sample.packed is not None
            require_settings(sample.packed.shard, self.settings)
            if sample.packed.reason:
                broken[sample.key] = str(MediaError(sample.video, sample.packed.reason))
        return self._report(samples, broken, 0, began)

    def _report(self, samples: Sequence[Sample], broken: Mapping[str, str], decoded: int, began: float) -> FillReport:
        if broken and self.config.strict:
            raise strict_error(broken, len(samples))
        ready = tuple(sample for sample in samples if sample.key not in broken)
        in_order = {sample.key: broken[sample.key] for sample in samples if sample.key in broken}
        about = {sample.key: self._about(sample) for sample in ready}
        padded = {sample.key: reason for sample in ready if (reason := padding(sample, about[sample.key]))}
        mended = [(sample, remarks) for sample in ready if (remarks := about[sample.key].get("remarks"))]
        repaired = {sample.key: f"{sample.video}: {remarks}" for sample, remarks in mended}
        return FillReport(ready, in_order, padded, repaired, decoded, time.monotonic() - began)

    def read(self, sample: Sample) -> dict[str, Tensor]:
        """`frames` (uint8: segments, height, width, 3) and `log_mel` (float32: segments, rows, mel bins).

        An entry that is missing or damaged is decoded again; that it was damaged is said on stderr.

        Raises:
            DataError: A shard is missing or damaged.
            MediaError: The video is missing or broken.
        """
        path = self.path(sample)
        if sample.packed is not None and sample.packed.decoded:
            return self._packed(path, sample, sample.packed)
        try:
            entry = read_tensors(path)
            if self._fits(entry, sample):
                self._whole.add(path)
                return entry.tensors
        except Unreadable as error:
            _tell(path, error)
        return self._make(path, sample)[0]

    def _packed(self, path: Path, sample: Sample, packed: Packed) -> dict[str, Tensor]:
        tensors = packed_tensors(packed)
        shapes = {name: Shape(kind_of(one), tuple(one.shape)) for name, one in tensors.items()}
        if not self._has_shapes(shapes, sample) or not all_finite(tensors["log_mel"]):
            raise DataError(f"{packed.shard.place}: {sample.key} is no sample of {sample.segments} s; pack it anew.")
        self._whole.add(path)
        return tensors

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Read the samples and stack them; they are in the batch with what the cache holds of their labels."""
        whole = isinstance(self.audio, ContinuousOptions)
        entries = [self.read(sample) for sample in samples]
        loaded = [sample.loaded(entry) for sample, entry in zip(samples, entries, strict=True)]
        return collate(loaded, entries, whole_sound=whole)

    def loaded(self, samples: Sequence[Sample]) -> list[Sample]:
        """The samples with what the cache holds of their labels."""
        return [sample.loaded(self.read(sample)) if isinstance(sample, MaskSample) else sample for sample in samples]

    def frames_of_others(
        self, samples: Sequence[Sample], pool: Sequence[Sample]
    ) -> UInt8[Tensor, "batch segments height width 3"]:
        """For each segment of each sample, a random frame of a random other video; see `of_others`."""
        return of_others(samples, pool, lambda sample: sample.video, self._drawn_frame)

    def _drawn_frame(self, sample: Sample, drawn: torch.Generator) -> UInt8[Tensor, "height width 3"]:
        path, index = self.path(sample), int(torch.randint(sample.segments, (), generator=drawn))
        if path in self._whole and sample.packed is not None and sample.packed.decoded:
            return packed_frame(sample.packed, index, sample.segments)
        if path in self._whole:
            try:
                with safe_open(path, framework="pt") as entry:
                    frame: Tensor = entry.get_slice("frames")[index]
                return frame
            except (OSError, SafetensorError):  # it has been removed or cut short since
                self._whole.discard(path)
        return self.read(sample)["frames"][index]

    def log_mel_statistics(self, samples: Sequence[Sample]) -> tuple[float, float]:
        """Mean and standard deviation of all log-mel values of the samples, for `audio.mean` and `audio.std`.

        Raises:
            DataError: There are no samples.
        """
        count, mean, squares = 0, 0.0, 0.0
        for sample in samples:
            values = self.read(sample)["log_mel"].double()
            # Update of Chan, Golub and LeVeque: numerically stable, with one sample in memory.
            step = values.mean().item() - mean
            total = count + values.numel()
            mean += step * values.numel() / total
            squares += (values - values.mean()).square().sum().item() + step**2 * count * values.numel() / total
            count = total
        if count == 0:
            raise DataError("There are no samples to take the log-mel's mean and standard deviation from.")
        return mean, (squares / count) ** 0.5

    def _prepare(self) -> None:
        """Make the folder, write its settings into it, and remove what killed processes left."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            settings = self.folder / "settings.json"
            if not settings.exists():
                with replacing(settings, keep=True) as aside:
                    aside.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
            for folder in (self.folder, *(path for path in self.folder.iterdir() if path.is_dir())):
                remove_leftovers(folder)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from None

    def _missing(self, samples: Sequence[Sample]) -> tuple[dict[Path, list[Sample]], dict[str, str]]:
        """Missing entries with their samples, and the reason by sample key where the video does not exist."""
        entries: dict[Path, list[Sample]] = {}
        broken: dict[str, str] = {}
        for sample in samples:
            try:
                entries.setdefault(self.path(sample), []).append(sample)
            except MediaError as error:
                broken[sample.key] = str(error)
        return {path: group for path, group in entries.items() if not self._is_whole(path, group[0], tell=True)}, broken

    def _is_whole(self, path: Path, sample: Sample, *, tell: bool = False) -> bool:
        """Whether an entry exists and is not cut short; only `read` compares all of it with its checksum."""
        try:
            return self._fits(read_tensors(path, values=False), sample)
        except Unreadable as error:
            if tell:
                _tell(path, error)
            return False

    def _fits(self, entry: TensorFile, sample: Sample) -> bool:
        """Whether an entry is of these settings; one without checksums, of version 0.1.0, could be damaged."""
        return entry.checked and self._has_shapes(entry.shapes, sample)

    def _has_shapes(self, shapes: Mapping[str, Shape], sample: Sample) -> bool:
        side, empty, sounds = self.frame_size, Shape("", ()), getattr(self.audio, "slices", sample.segments)
        frames, mel = shapes.get("frames", empty), shapes.get("log_mel", empty)
        return (
            frames == Shape("U8", (sample.segments, side, side, 3))
            and shapes.get("masks") == _masks_of(sample)
            and mel.kind == "F32"
            and mel.sizes[::2] == (sounds, self.audio.mel_bins)
        )

    def _about(self, sample: Sample) -> Mapping[str, str]:
        """What an entry says about its file: `duration_seconds` and `remarks`."""
        if sample.packed is not None and sample.packed.decoded:
            return {"duration_seconds": str(sample.packed.duration_seconds), "remarks": sample.packed.remarks}
        path = self.path(sample)
        try:
            return read_tensors(path, values=False).metadata
        except Unreadable:  # it could not be kept, or has been removed since
            return self._unkept.get(path) or self._make(path, sample)[1].about

    def _make_by_path(self, job: tuple[Path, Sample]) -> _Made:
        """Decode one entry in a worker."""
        path, sample = job
        if self._is_whole(path, sample):  # another process was faster
            return _Made()
        try:
            return self._make(path, sample)[1]
        except MediaError as error:
            return _Made(reason=str(error))

    def kept(self, sample: Sample) -> tuple[dict[str, Tensor], Mapping[str, str]] | None:
        """What `decode` returns, from the sample's entry; None if it has none that is whole.

        Raises:
            MediaError: The video is missing.
        """
        try:
            entry = read_tensors(self.path(sample))
        except Unreadable:
            return None
        return (entry.tensors, entry.metadata) if self._fits(entry, sample) else None

    def bytes_of_sample(self) -> int:
        """About how many bytes a decoded sample takes."""
        windows = round(1000 / self.audio.frame_shift_ms)
        return self.config.segments * (3 * self.frame_size**2 + 4 * windows * self.audio.mel_bins)

    def decode(self, sample: Sample) -> tuple[dict[str, Tensor], Mapping[str, str]]:
        """What `read` returns, and what an entry says about its file, from the video itself.

        Raises:
            MediaError: The video is missing or broken.
        """
        with unpacked(sample) as here:
            clip = read_sample(here, self.config, (self.frame_size, self.frame_size))
            frames, mel = sample_from_clip(clip, self.audio, here.sound)
            masks, remarks = read_masks(here) if isinstance(here, MaskSample) else (None, ())
        if not all_finite(mel):
            raise MediaError(sample.video, "its log-mel is NaN or infinite; mend its sound, or leave the video out.")
        remarks = (*clip.remarks(), *remarks)
        about = {"duration_seconds": str(clip.duration_seconds), "remarks": " ".join(remarks)}
        own = {} if masks is None else {"masks": masks}
        return {"frames": frames.contiguous(), "log_mel": mel.float().contiguous(), **own}, about

    def _make(self, path: Path, sample: Sample) -> tuple[dict[str, Tensor], _Made]:
        tensors, about = self.decode(sample)
        made = _Made(about)
        try:
            write_tensors(path, tensors, about)
        except WriteError as error:
            made = _Made(about, unkept=str(error))
            self._do_without(path, made)
        return tensors, made

    def _do_without(self, path: Path, made: _Made) -> None:
        """Go on although an entry cannot be kept; that is said once, by the process that was called."""
        if not self._unkept and multiprocessing.parent_process() is None:
            note(
                f"{made.unkept} Meanwhile, what the sample cache lacks is decoded each time it is needed, which takes "
                "longer; --data.cache names another place."
            )
        self._unkept[path] = made.about

    def _refusal(self, reason: str) -> DataError:
        return DataError(
            f"The sample cache at {self.folder} cannot be written ({reason}); make room or give permission there, or "
            "choose another folder with --data.cache."
        )


def _version(path: Path) -> list[Any]:
    """What tells a version of a file beside a video: where it is, its size, and when it was changed."""
    about = require_file(path)
    return [str(path.resolve()), about.st_size, about.st_mtime_ns]


def _masks_of(sample: Sample) -> Shape | None:
    return Shape("U8", (sample.segments, sample.side, sample.side)) if isinstance(sample, MaskSample) else None


def _tell(path: Path, error: Unreadable) -> None:
    """Say that an entry is damaged; nothing has to be said of one that does not exist yet."""
    if path.exists():
        note(f"the cache entry {path} {error}; it is made anew.")


def _decoder() -> str:
    """The library that decodes; without one, entries that are there already can be read."""
    try:
        return "av " + importlib.metadata.version("av").partition(".")[0]
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _hashed(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
