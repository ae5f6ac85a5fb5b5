"""What becomes of the samples that are packed: files whose bytes go into a shard, or a reason why there are none."""

from dataclasses import dataclass
from pathlib import Path

from avpea.data._packing import Group
from avpea.data.cache import SampleCache
from avpea.data.packed import DECODED, as_npy, suffix_of
from avpea.errors import MediaError
from avpea.files import replacing
from avpea.labels import Sample

__all__ = ["Made", "made_decoded", "made_of_files"]


@dataclass(frozen=True)
class Made:
    """What became of a group: its members come from files, or it is left out."""

    files: tuple[tuple[str, Path], ...] = ()
    reason: str = ""
    duration_seconds: float = 0.0
    remarks: str = ""


def made_of_files(group: Group) -> Made:
    """The files of a group as they are."""
    if group.reason:
        return Made(reason=group.reason)
    video, sound = group.first.video, group.first.sound
    files = [(suffix_of(video), video)] + ([(f".sound{suffix_of(sound)}", sound)] if sound is not None else [])
    return Made(tuple(files))


def made_decoded(job: tuple[str, str, Sample], cache: SampleCache, spool: Path) -> Made:
    """Decode a sample in a worker, into files from which its shard is written."""
    _, key, sample = job
    try:
        tensors, about = cache.kept(sample) or cache.decode(sample)
    except MediaError as error:
        return Made(reason=error.reason)
    files = {f".{ending}": spool / f"{key}.{ending}" for ending in DECODED.values()}
    for (name, _), path in zip(DECODED.items(), files.values(), strict=True):
        with replacing(path) as aside:
            aside.write_bytes(as_npy(tensors[name]))
    return Made(tuple(files.items()), "", float(about["duration_seconds"]), about["remarks"])
