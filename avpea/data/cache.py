"""The sample cache: each window of a video is decoded once, resized, and kept as frames and log-mel.

    <cache>/<hash of settings>/settings.json
    <cache>/<hash of settings>/<2 hex>/<hash of video and window>.safetensors

The name of an entry is a hash of the window and of the video's path, size and modification time, so an edited video
gets a new entry. Files are written atomically, so several processes may fill one cache, and a killed run resumes.
"""

import hashlib
import importlib.metadata
import itertools
import json
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avpea.data._batch import Batch, collate
from avpea.data._reading import as_options, read_sample, tracks
from avpea.data._work import run
from avpea.errors import AvpeaError, DataError, MediaError
from avpea.files import replacing
from avpea.labels import Sample
from avpea.media import Clip, log_mel, read_sound, require_file, segments_in, vggish_log_mel
from avpea.progress import note
from avpea.sections import AudioOptions, ContinuousOptions, LogMelOptions, ReaderOptions, VGGishOptions
from avpea.tensors import Shape, TensorFile, Unreadable, read_tensors, write_tensors

__all__ = ["Batch", "FillReport", "SampleCache", "collate", "features", "sample_from_clip"]

# Increase this when decoding, resizing or the log-mel changes, so that no old entry is used.
_FORMAT = 2
_STALE_SECONDS = 3600.0
AT_ONCE_SECONDS = 600


def sample_from_clip(
    clip: Clip, audio: AudioOptions, sound: Path | None = None
) -> tuple[UInt8[Tensor, "segments height width 3"], Float[Tensor, "sounds rows mel_bins"]]:
    """Turn a clip into the input of a model, for training (through the cache) and for prediction.

    Args:
        clip: The clip.
        audio: Section `audio` of the experiment.
        sound: File to take the whole sound from, for the layout `continuous`; None means the clip's own.

    Returns:
        The clip's frames, and the log-mel of each second or slice. Before Kaldi's log-mel the mean of the waveform is
        removed, as in LAVISH; for VGGish's it is not. The model itself normalises the log-mel and resizes it.
    """
    if audio.features == "precomputed":
        raise MediaError(
            clip.path,
            "is a video, but this model reads features that others computed; make a run that computes them: "
            "`avpea import` with a recipe for videos.",
        )
    if isinstance(audio, ContinuousOptions):
        return clip.frames, _continuous(clip, audio, sound or clip.path)
    waveform = clip.waveform if audio.features == "vggish" else clip.waveform - clip.waveform.mean()
    return clip.frames, features(waveform.reshape(clip.frames.shape[0], -1), audio)


def _continuous(clip: Clip, audio: ContinuousOptions, path: Path) -> Float[Tensor, "slices rows mel_bins"]:
    """Slices of the log-mel of a clip's sound: of the whole file, if the clip's seconds are spread over it.

    A file without sound gives what is 0 after normalisation, as in VALOR's public code.
    """
    whole = bool(clip.segment_starts)
    start, seconds = (0.0, None) if whole else (clip.start_seconds, len(clip.frames))
    rate = audio.sample_rate_hz
    waveform = read_sound(
        path, rate, start_seconds=start, seconds=seconds, missing_audio="silence", audio_track=clip.audio_track
    )
    if len(waveform) < rate // 40:  # less than one window of 25 ms
        return torch.full((audio.slices, audio.rows, audio.mel_bins), audio.mean)
    waveform = waveform - waveform.mean()
    rows = log_mel(waveform, mel_bins=audio.mel_bins, frame_shift_ms=audio.frame_shift_ms, rate_hz=rate)
    every: Tensor = F.pad(rows, (0, 0, 0, audio.rows - len(rows) % audio.rows)).view(-1, audio.rows, rows.shape[1])
    return every[middles(len(every), audio.slices)]


def middles(count: int, parts: int) -> list[int]:
    """The middle of each of some almost equal parts of `count` slices; the last one is repeated if there are fewer.

    >>> middles(12, 8), middles(1, 2)
    ([0, 2, 4, 6, 8, 9, 10, 11], [0, 0])
    """
    if count < parts:
        return [min(index, count - 1) for index in range(parts)]
    size, longer = divmod(count, parts)
    bounds = [index * size + min(index, longer) for index in range(parts + 1)]
    return [first + (last - first + 1) // 2 - 1 for first, last in itertools.pairwise(bounds)]


def features(
    seconds: Float[Tensor, "segments samples"], audio: AudioOptions
) -> Float[Tensor, "segments rows mel_bins"]:
    """The log-mel of each second of a waveform at 16 kHz, with the settings of an experiment."""
    # In parts, as the analysis windows of a second take 20 times the memory of its sound.
    return torch.cat([_features(part, audio) for part in torch.split(seconds, AT_ONCE_SECONDS)])


def _features(
    seconds: Float[Tensor, "segments samples"], audio: AudioOptions
) -> Float[Tensor, "segments rows mel_bins"]:
    if not isinstance(audio, LogMelOptions):
        return vggish_log_mel(seconds)
    return log_mel(seconds, mel_bins=audio.mel_bins, frame_shift_ms=audio.frame_shift_ms)


@dataclass(frozen=True)
class FillReport:
    """The result of filling the cache.

    Attributes:
        ready: Samples that can be read, in the given order.
        broken: Reason by sample key, for samples that cannot be read.
        padded: Description by sample key, for samples in `ready` whose file ends before they do, and which are padded
            with the last frame and silence.
        repaired: Description by sample key, for samples in `ready` whose file was not read as it is: time stamps that
            jump, sound that is NaN, an end that does not decode.
        decoded: Number of samples that were decoded now, and not before.
        seconds: Time taken.
    """

    ready: tuple[Sample, ...]
    broken: dict[str, str]
    padded: dict[str, str]
    repaired: dict[str, str]
    decoded: int
    seconds: float

    def told(self) -> list[str]:
        """How many samples are left out or mended, in sentences with an example each."""
        kinds = ((self.broken, "are left out"), (self.repaired, "are read with repairs"))
        found = [(what, some) for some, what in kinds if some]
        return [as_options(f"{len(some)} samples {what}, such as {next(iter(some.values()))}") for what, some in found]


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
            "decoder": "av " + importlib.metadata.version("av").partition(".")[0],
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

    def path(self, sample: Sample) -> Path:
        """Path of the sample's entry, which may not exist yet.

        Raises:
            MediaError: The video does not exist.
        """
        status = require_file(sample.video)
        window: list[Any] = [sample.start_seconds, sample.segments]
        if sample.seconds != "consecutive":
            window.append(sample.seconds)
        if sample.seconds == "lavish":
            window.append(sample.sound_seconds)
        if sample.sound is not None:
            window.append([str(sample.sound.resolve()), require_file(sample.sound).st_mtime_ns])
        name = _hashed([str(sample.video.resolve()), status.st_size, status.st_mtime_ns, *window])
        return self.folder / name[:2] / f"{name}.safetensors"

    def fill(self, samples: Sequence[Sample], progress: bool = True) -> FillReport:
        """Decode the samples that are not in the cache yet.

        Args:
            samples: Samples that will be read.
            progress: Whether to show a progress bar on stderr.

        Raises:
            DataError: The cache cannot be written; or `config.strict` and a video is missing or broken.
        """
        began = time.monotonic()
        self._prepare()
        missing, broken = self._missing(samples)
        # In random order, so that several processes that fill one cache share the work instead of racing.
        jobs = list(missing)
        random.Random(os.getpid()).shuffle(jobs)
        results = run(
            self._make_by_path,
            [(path, missing[path][0]) for path in jobs],
            workers=self.config.workers,
            crashed=lambda job: f"{job[1].video}: the decoder crashed on it",
            title="Decoding videos",
            progress=progress,
        )
        decoded = 0
        for (path, _), reason in results:
            decoded += not reason
            if reason:
                broken |= {sample.key: reason for sample in missing[path]}
        if broken and self.config.strict:
            raise _strict_error(broken, len(samples))
        ready = tuple(sample for sample in samples if sample.key not in broken)
        in_order = {sample.key: broken[sample.key] for sample in samples if sample.key in broken}
        about = {sample.key: self._about(sample) for sample in ready}
        padded = {sample.key: reason for sample in ready if (reason := _padding(sample, about[sample.key]))}
        mended = [(sample, remarks) for sample in ready if (remarks := about[sample.key].get("remarks"))]
        repaired = {sample.key: f"{sample.video}: {remarks}" for sample, remarks in mended}
        return FillReport(ready, in_order, padded, repaired, decoded, time.monotonic() - began)

    def read(self, sample: Sample) -> dict[str, Tensor]:
        """`frames` (uint8: segments, height, width, 3) and `log_mel` (float32: segments, rows, mel bins).

        An entry that is missing or damaged is decoded again; that it was damaged is said on stderr.

        Raises:
            MediaError: The video is missing or broken.
        """
        path = self.path(sample)
        try:
            entry = read_tensors(path)
            if self._fits(entry, sample):
                return entry.tensors
        except Unreadable as error:
            _tell(path, error)
        self._make(path, sample)
        return read_tensors(path).tensors

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """Read the samples and stack them."""
        whole = isinstance(self.audio, ContinuousOptions)
        return collate(samples, [self.read(sample) for sample in samples], whole_sound=whole)

    def frames_of_others(
        self, samples: Sequence[Sample], pool: Sequence[Sample]
    ) -> UInt8[Tensor, "batch segments height width 3"]:
        """For each segment of each sample, a random frame of a random other video, with torch's generator.

        Args:
            samples: Samples whose videos are excluded, each for its own segments.
            pool: Samples of at least two videos to draw from.

        Raises:
            DataError: All samples of the pool are from one video.
        """
        if len({sample.video for sample in pool}) < 2:
            raise DataError("Frames of other videos were asked for, but there is only one video.")
        return torch.stack(
            [torch.stack([self._other(sample, pool) for _ in range(sample.segments)]) for sample in samples]
        )

    def _other(self, sample: Sample, pool: Sequence[Sample]) -> UInt8[Tensor, "height width 3"]:
        other = sample
        while other.video == sample.video:
            other = pool[int(torch.randint(len(pool), ()))]
        path = self.path(other)
        if not self._is_whole(path, other):
            self._make(path, other)
        with safe_open(path, framework="pt") as entry:
            index = int(torch.randint(other.segments, ()))
            frame: Tensor = entry.get_slice("frames")[index]
        return frame

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
        """Make the folder, write its settings into it, and remove incomplete files of killed processes."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            note = self.folder / "settings.json"
            if not note.exists():
                with replacing(note, several_writers=True) as aside:
                    aside.write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")
            self._remove_leftovers()
        except OSError as error:
            raise self._write_error(error) from None

    def _remove_leftovers(self) -> None:
        try:
            for path in self.folder.rglob(".*.tmp"):
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink(missing_ok=True)
        except FileNotFoundError:
            pass  # another process has just removed or renamed its file

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
        side, empty, sounds = self.frame_size, Shape("", ()), getattr(self.audio, "slices", sample.segments)
        frames, mel = entry.shapes.get("frames", empty), entry.shapes.get("log_mel", empty)
        return (
            entry.checked
            and frames == Shape("U8", (sample.segments, side, side, 3))
            and mel.kind == "F32"
            and mel.sizes[::2] == (sounds, self.audio.mel_bins)
        )

    def _about(self, sample: Sample) -> dict[str, str]:
        """What an entry says about its file: `duration_seconds` and `remarks`."""
        return read_tensors(self.path(sample), values=False).metadata

    def _make_by_path(self, job: tuple[Path, Sample]) -> str:
        """Decode one entry in a worker; returns the reason if that fails, else an empty text."""
        path, sample = job
        if self._is_whole(path, sample):  # another process was faster
            return ""
        try:
            self._make(path, sample)
        except MediaError as error:
            return str(error)
        return ""

    def _make(self, path: Path, sample: Sample) -> None:
        clip = read_sample(sample, self.config, (self.frame_size, self.frame_size))
        frames, mel = sample_from_clip(clip, self.audio, sample.sound)
        if not mel.isfinite().all():
            raise MediaError(sample.video, "its log-mel is NaN or infinite; mend its sound, or leave the video out.")
        tensors = {"frames": frames.contiguous(), "log_mel": mel.float().contiguous()}
        try:
            about = {"duration_seconds": str(clip.duration_seconds), "remarks": " ".join(clip.remarks())}
            write_tensors(path, tensors, about, several_writers=True)
        except (OSError, SafetensorError) as error:
            raise self._write_error(error) from None

    def _write_error(self, error: Exception) -> AvpeaError:
        return DataError(
            f"The sample cache at {self.folder} cannot be written ({error}); "
            "make room there, or choose another folder with --data.cache."
        )


def _padding(sample: Sample, about: dict[str, str]) -> str:
    """How much of an entry is padding, in a sentence; empty if nothing is."""
    duration_seconds = float(about["duration_seconds"])
    available = segments_in(duration_seconds - sample.start_seconds)
    if available >= sample.segments:
        return ""
    return (
        f"{sample.video} ends at {duration_seconds:.1f} s; "
        f"{sample.segments - available} of {sample.segments} segments are padding"
    )


def _tell(path: Path, error: Unreadable) -> None:
    """Say that an entry is damaged; nothing has to be said of one that does not exist yet."""
    if path.exists():
        note(f"the cache entry {path} {error}; it is made anew.")


def _hashed(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _strict_error(broken: dict[str, str], asked: int) -> DataError:
    first = "\n".join(f"  {key}: {reason}" for key, reason in list(broken.items())[:5])
    more = f"\n  and {len(broken) - 5} more" if len(broken) > 5 else ""
    return DataError(
        f"{len(broken)} of {asked} samples cannot be used, and data.strict is set; "
        f"mend or remove them, or set data.strict to false to skip them:\n{first}{more}"
    )
