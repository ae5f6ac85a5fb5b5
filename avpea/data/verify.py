"""Checking a data set before training: what is missing, broken, or not as annotated."""

import functools
from pathlib import Path

from avpea.data._examined import FEW_PROBES, TINY, Examined, Pictures, examine, extra_videos, is_missing, lengths
from avpea.data._reading import read_sample
from avpea.data._verified import VerifyReport
from avpea.data._work import run
from avpea.data.features import FeatureStore
from avpea.data.identity import copies
from avpea.data.packed import require_whole, unpacked
from avpea.errors import DataError, MediaError
from avpea.labels import SPLITS, Annotations, Counts, Sample, Shard
from avpea.sections import ReaderOptions

__all__ = ["VerifyReport", "verify"]

_FEW_DECODES = 8  # a process is started for more


def verify(
    annotations: Annotations,
    decode: bool = False,
    workers: int = 2,
    progress: bool = True,
    config: ReaderOptions | None = None,
) -> VerifyReport:
    """Check every annotated video.

    Args:
        annotations: The data set.
        decode: Whether to decode each file to its end, and to read each sample as in training, which finds damage
            inside; else only headers, and packets where headers do not give the length.
        workers: Number of processes; 0 means this one.
        progress: Whether to show a progress bar on stderr.
        config: How training would read the videos: which tracks, and what may be missing; None for the defaults.

    Raises:
        DataError: The processes cannot be started.
    """
    config = config or ReaderOptions()
    if any(sample.features is not None for sample in annotations.samples):
        return _of_features(annotations, decode, progress)
    if any(sample.packed is not None for sample in annotations.samples):
        return _of_shards(annotations, decode, workers, progress, config)
    by_video: dict[Path, list[Sample]] = {}
    for sample in annotations.samples:
        for file in (sample.video, sample.sound):
            if file is not None:
                by_video.setdefault(file, []).append(sample)
    pictures = Pictures.of(annotations, workers, progress)
    missing = [video for video in by_video if is_missing(video)]
    results = run(
        functools.partial(examine, decode=decode, config=config),
        [(video, tuple(by_video[video])) for video in by_video if video not in set(missing)],
        workers=workers,
        crashed=lambda job: Examined(f"{job[0]}: the decoder crashed on it"),
        title="Decoding videos" if decode else "Opening videos",
        progress=progress,
        few=_FEW_DECODES if decode else FEW_PROBES,
    )
    found = {video: examined for (video, _), examined in results}
    infos = {video: found[video] for video in by_video if video in found}
    opened = {video: one.info for video, one in infos.items() if one.info is not None and not one.reason}
    short = lengths(annotations, opened, by_video)
    extra, unreadable = extra_videos(by_video)
    labels, splits = annotations.labels, annotations.splits
    used = {sample.key: (sample.video, sample.sound or sample.video) for sample in annotations.samples}
    usable = {key for key, files in used.items() if opened.keys() >= set(files)} - pictures.unusable
    counts = {
        split: labels.count(splits[split], sum(sample.key in usable for sample in splits[split])) for split in SPLITS
    }
    seen = {sample.video for sample in annotations.samples if not sample.picture_files()}
    heard = {sound for _, sound in used.values()}
    return VerifyReport(
        name=annotations.name,
        root=str(annotations.root),
        splits=counts,
        classes=len(labels.names),
        outputs=labels.outputs,
        videos=len(by_video),
        missing=(*map(str, missing), *pictures.missing),
        broken={str(video): one.reason for video, one in infos.items() if one.reason} | pictures.broken,
        no_audio=tuple(str(video) for video, info in opened.items() if not info.has_audio and video in heard),
        no_video=tuple(str(video) for video, info in opened.items() if not info.has_video and video in seen),
        repaired={str(video): " ".join(one.remarks) for video, one in infos.items() if one.remarks} | pictures.repaired,
        too_short=short.too_short,
        padded=short.padded,
        past_end=short.past_end,
        repeated=annotations.repeated_ids(),
        overlaps={} if labels.splits_share_videos else annotations.videos_in_two_splits(),
        copies=copies(annotations.samples),
        unlabelled={split: names for split, found in counts.items() if found.samples and (names := found.unlabelled())},
        extra=extra,
        unreadable=unreadable,
        decoded=decode,
        allowed=_allowed(config),
        notes=annotations.notes,
        lost=annotations.lost,
    )


def _of_features(annotations: Annotations, decode: bool, progress: bool) -> VerifyReport:
    """The report on a data set of precomputed features: whether their files have what is asked for, in each value."""
    samples, labels = annotations.samples, annotations.labels
    files = {path for sample in samples if (of := sample.features) for path in (of.visual, of.audio)}
    found = FeatureStore(0, 0).fill(samples, progress, values=decode)
    broken = found.broken
    counts = {
        split: labels.count(some, sum(sample.key not in broken for sample in some))
        for split, some in annotations.splits.items()
    }
    missing = tuple(sorted(str(path) for path in files if not path.is_file()))
    reasons = {key: reason for key, reason in broken.items() if "no such file" not in reason}
    videos = len({sample.video_id for sample in samples})
    return _report_without_media(annotations, counts, videos, missing, reasons, found.repaired, decode)


def _report_without_media(
    annotations: Annotations,
    counts: dict[str, Counts],
    videos: int,
    missing: tuple[str, ...],
    broken: dict[str, str],
    repaired: dict[str, str],
    decoded: bool,
) -> VerifyReport:
    """The report on a data set of which no media file was opened by itself."""
    labels = annotations.labels
    return VerifyReport(
        name=annotations.name,
        root=str(annotations.root),
        splits=counts,
        classes=len(labels.names),
        outputs=labels.outputs,
        videos=videos,
        missing=missing,
        broken=broken,
        no_audio=(),
        no_video=(),
        repaired=repaired,
        too_short={},
        padded=(),
        repeated=annotations.repeated_ids(),
        overlaps={} if labels.splits_share_videos else annotations.videos_in_two_splits(),
        copies=(),
        unlabelled={split: names for split, found in counts.items() if found.samples and (names := found.unlabelled())},
        extra=(),
        unreadable=(),
        decoded=decoded,
        allowed=(),
        notes=annotations.notes,
        lost=annotations.lost,
    )


def _of_shards(
    annotations: Annotations, decode: bool, workers: int, progress: bool, config: ReaderOptions
) -> VerifyReport:
    """The report on shards: whether each is whole, every byte of it, and if asked for, whether its videos decode."""
    samples, labels = annotations.samples, annotations.labels
    every = {sample.packed.shard: sample for sample in samples if sample.packed is not None}
    broken: dict[str, str] = {}
    crashed = "the process that read it ended."
    checks = run(
        _shard_fault, list(every), workers=workers, crashed=lambda _: crashed, title="Reading shards", progress=progress
    )
    for shard, reason in checks:
        if reason:
            broken[shard.place] = reason
    kept = [s for s in samples if s.packed is not None and s.packed.shard.place not in broken]
    left_out = {s.key for s in kept if s.packed is not None and s.packed.reason}
    missing = {str(s.video): None for s in kept if s.key in left_out}
    if decode and not any(shard.settings for shard in every):
        examine = functools.partial(_decoded_from_shard, config=config)
        jobs = [sample for sample in kept if sample.key not in left_out]
        gone = "the decoder crashed on it"
        for sample, reason in run(
            examine, jobs, workers=workers, crashed=lambda job: f"{job.video}: {gone}", title="Decoding videos",
            progress=progress,
        ):  # fmt: skip
            if reason:
                broken[sample.key] = reason
    usable = {sample.key for sample in kept if sample.key not in broken} - left_out
    counts = {
        split: labels.count(some, sum(sample.key in usable for sample in some))
        for split, some in annotations.splits.items()
    }
    return _report_without_media(
        annotations, counts, len({str(s.video) for s in samples}), tuple(missing), broken, {}, decode
    )


def _shard_fault(shard: Shard) -> str:
    """What is wrong with a shard; empty if nothing is."""
    try:
        require_whole(shard)
    except DataError as error:
        return str(error)
    return ""


def _decoded_from_shard(sample: Sample, config: ReaderOptions) -> str:
    """Why a sample of a shard cannot be decoded; empty if it can."""
    try:
        with unpacked(sample) as here:
            read_sample(here, config, TINY)
    except (MediaError, DataError) as error:
        return str(error)
    return ""


def _allowed(config: ReaderOptions) -> tuple[str, ...]:
    values = {"audio": config.missing_audio, "video": config.missing_video}
    return tuple(kind for kind, value in values.items() if value != "error")
