"""Dividing videos into train, val and test where their annotations do not say."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from avpea.sections import ReaderOptions

__all__ = ["DividedOptions", "by_class", "by_hash"]

HELD_OUT = 0.15  # of the videos of a class, for val and again for test


@dataclass(frozen=True)
class DividedOptions(ReaderOptions):
    """Options of readers of your own videos.

    Attributes:
        divide: How videos are divided where no split is given. `by_class`: of each class 70 % to train, 15 % to val and
            15 % to test, at least one to each from three videos on; more videos can change the split of others.
            `by_hash`: 80 %, 10 % and 10 % of all videos by a hash of their paths, whatever their classes (the rule up
            to version 0.1.0); the split of a video never changes.
    """

    divide: Literal["by_class", "by_hash"] = "by_class"


def by_hash(video: str) -> str:
    """The split of a video, 80/10/10, by a hash of its path in the manifest, so the same on every machine."""
    share = int.from_bytes(_digest(video)[:4], "big") % 100
    return "train" if share < 80 else "val" if share < 90 else "test"


def by_class(videos: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The split of each video, so that each class is in each split in the same proportion as far as possible.

    The rarest class is divided first. A video with several classes is divided with its rarest, and counts for the
    others too. Which videos of a class go where depends on a hash of their paths alone, so the answer is the same on
    every machine and for every order of the rows.

    Args:
        videos: The classes of each video; empty for a video without events.
    """
    sizes = Counter(name for classes in videos.values() for name in set(classes))
    strata: dict[str, list[str]] = {}
    for video in sorted(videos, key=_digest):
        strata.setdefault(min(videos[video], key=lambda name: (sizes[name], name), default=""), []).append(video)
    found: dict[str, str] = {}
    trainable = sizes.copy()  # of each class, the videos that are not held out
    for stratum in sorted(strata, key=lambda name: (sizes[name] or len(videos), name)):
        members = strata[stratum]
        given = Counter(found[video] for video in found if stratum in videos[video])
        for split, count in _held_out(sizes[stratum] or len(members)).items():
            for video in members:
                last = any(trainable[name] < 2 for name in videos[video])  # the only one left to train its class on
                if given[split] < count and video not in found and not last:
                    found[video] = split
                    given[split] += 1
                    trainable.subtract(set(videos[video]))
        found |= {video: "train" for video in members if video not in found}
    return found


def _held_out(videos: int) -> dict[str, int]:
    """How many of a class's videos to hold out for each split; of two, one is for val, which selects the epoch."""
    if videos < 3:
        return {"val": videos - 1, "test": 0}
    share = max(1, int(HELD_OUT * videos + 0.5))
    return {"val": share, "test": share}


def _digest(video: str) -> bytes:
    return hashlib.sha256(video.encode(errors="surrogatepass")).digest()
