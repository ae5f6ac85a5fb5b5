"""Dividing videos into train, val and test where their annotations do not say."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avpea.data.readers._files import read_json
from avpea.errors import AvpeaError, DataError
from avpea.files import replacing
from avpea.labels import SPLITS, Division
from avpea.sections import ReaderOptions

__all__ = ["DividedOptions", "by_class", "by_hash", "keep_division", "read_division", "written"]

HELD_OUT = 0.15  # of the videos of a class, for val and again for test


@dataclass(frozen=True)
class DividedOptions(ReaderOptions):
    """Options of readers of your own videos.

    Attributes:
        divide: How videos are divided where no split is given. `by_class`: of each class 70 % to train, 15 % to val and
            15 % to test, at least one to each from three videos on. Training keeps the division beside the data, in
            `splits.json` or `NAME-splits.json`, and later videos are divided so that these stay where they are.
            `by_hash`: 80 %, 10 % and 10 % of all videos by a hash of their paths, whatever their classes (the rule up
            to version 0.1.0); the split of a video never changes.
    """

    divide: Literal["by_class", "by_hash"] = "by_class"


def by_hash(video: str) -> str:
    """The split of a video, 80/10/10, by a hash of its path in the manifest, so the same on every machine."""
    share = int.from_bytes(_digest(video)[:4], "big") % 100
    return "train" if share < 80 else "val" if share < 90 else "test"


def by_class(videos: Mapping[str, Sequence[str]], kept: Mapping[str, str] | None = None) -> dict[str, str]:
    """The split of each video, so that each class is in each split in the same proportion as far as possible.

    The rarest class is divided first. A video with several classes is divided with its rarest, and counts for the
    others too. Which videos of a class go where depends on a hash of their paths alone, so the answer is the same on
    every machine and for every order of the rows.

    Args:
        videos: The classes of each video; empty for a video without events.
        kept: The split of videos that have one already. They keep it, and the others are divided so that the shares
            come as near as they can.
    """
    sizes = Counter(name for classes in videos.values() for name in set(classes))
    strata: dict[str, list[str]] = {}
    for video in sorted(videos, key=_digest):
        strata.setdefault(min(videos[video], key=lambda name: (sizes[name], name), default=""), []).append(video)
    found = {video: split for video, split in (kept or {}).items() if video in videos}
    trainable = sizes.copy()  # of each class, the videos that are not held out
    for video in found:
        if found[video] != "train":
            trainable.subtract(set(videos[video]))
    for stratum in sorted(strata, key=lambda name: (sizes[name] or len(videos), name)):
        members = strata[stratum]
        given = Counter(found[video] for video in found if stratum in (videos[video] or [""]))
        for split, count in _held_out(sizes[stratum] or len(members)).items():
            for video in members:
                last = any(trainable[name] < 2 for name in videos[video])  # the only one left to train its class on
                if given[split] < count and video not in found and not last:
                    found[video] = split
                    given[split] += 1
                    trainable.subtract(set(videos[video]))
        found |= {video: "train" for video in members if video not in found}
    return found


def written(name: str) -> str:
    """A video's name as text for a file, which the bytes of its path need not be."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_division(path: Path) -> dict[str, str]:
    """The split of each video, by its name as `written`, in a file of `keep_division`; empty if there is none.

    Raises:
        DataError: It is damaged, or a split has another name.
    """
    if not os.path.isfile(path):  # unlike Path's, it takes paths that are too long
        return {}
    found = read_json(path)
    wrong = f"expected an object of videos, each with one of {', '.join(SPLITS)}; mend or remove it"
    if not isinstance(found, dict):
        raise DataError(f"{path} holds {type(found).__name__}; {wrong}, and all are divided anew.")
    for video, split in found.items():
        if split not in SPLITS:
            raise DataError(f"{path} has {split!r:.40} for {video!r:.80}; {wrong}, and all are divided anew.")
    return found


def keep_division(division: Division) -> str:
    """Write down how videos are divided, beside those of earlier divisions; returns a note if that cannot be done."""
    try:
        earlier = read_division(division.path)
        every = {**division.splits, **earlier}
        if every != earlier:
            with replacing(division.path) as aside:
                aside.write_text(json.dumps(dict(sorted(every.items())), indent=0) + "\n", encoding="utf-8")
    except (OSError, AvpeaError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return (
            f"The division of the videos cannot be kept in {division.path} ({reason}), so videos that are added later "
            "can move others to another split; a column 'split' prevents that."
        )
    return ""


def _held_out(videos: int) -> dict[str, int]:
    """How many of a class's videos to hold out for each split; of two, one is for val, which selects the epoch."""
    if videos < 3:
        return {"val": videos - 1, "test": 0}
    share = max(1, int(HELD_OUT * videos + 0.5))
    return {"val": share, "test": share}


def _digest(video: str) -> bytes:
    return hashlib.sha256(video.encode(errors="surrogatepass")).digest()
