"""What a check of a data set found, and how it is told."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from avpea.data._reading import as_options
from avpea.data._report import PAST_END
from avpea.labels import Counts, shortened
from avpea.tables import how_many

__all__ = ["VerifyReport"]

_SHOWN = 10  # sentences of a kind on the terminal
_ONE = {"classes": "class", "answers": "answer"}


@dataclass(frozen=True)
class VerifyReport:
    """The findings of `verify`; files are given as paths.

    Attributes:
        name: Name of the data set.
        root: Folder of the data set.
        splits: Counts by split.
        classes: Number of event classes or answers.
        outputs: What `classes` counts; empty if the labels are no classes.
        videos: Number of different video files in the annotations.
        missing: Files that do not exist.
        broken: Reason by file, for files that cannot be opened (or, if requested, decoded).
        no_audio: Files without a sound track; a fault unless silence is allowed for it.
        no_video: Files without a picture; a fault unless black frames are allowed for it.
        repaired: Sentences by file, for files that are not read as they are: time stamps that jump, sound that is NaN.
        too_short: Reason by file, for files that end before one of their events does.
        padded: Files shorter than their window, or than their pictures; the rest is the last frame and silence.
        repeated: Video ids with several samples for the same window.
        overlaps: Video ids that are in two splits, by pair of splits.
        copies: Videos that are there under several names, with their splits.
        unlabelled: Classes without an event, by split.
        extra: Videos in the same folders that are not annotated.
        unreadable: Folders of videos that cannot be listed, with the reason.
        decoded: Whether every file was decoded to its end, and every sample read as in training.
        allowed: What may be missing by the settings: `audio`, `video`.
        notes: Notes of the reader of the annotations.
        lost: Annotations that label nothing, such as events that are too short, each with the reason.
        past_end: Files that are shorter than their window and whose labels go on to its end, as background.
    """

    name: str
    root: str
    splits: dict[str, Counts]
    classes: int
    outputs: str
    videos: int
    missing: tuple[str, ...]
    broken: dict[str, str]
    no_audio: tuple[str, ...]
    no_video: tuple[str, ...]
    repaired: dict[str, str]
    too_short: dict[str, str]
    padded: tuple[str, ...]
    repeated: tuple[str, ...]
    overlaps: dict[str, tuple[str, ...]]
    copies: tuple[str, ...]
    unlabelled: dict[str, tuple[str, ...]]
    extra: tuple[str, ...]
    unreadable: tuple[str, ...]
    decoded: bool
    allowed: tuple[str, ...]
    notes: tuple[str, ...]
    lost: tuple[str, ...]
    past_end: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every annotated second can be read, picture and sound; remarks such as overlaps do not count."""
        lacking = [files for kind, files in self._lacking().items() if kind not in self.allowed]
        return not (self.missing or self.broken or any(lacking) or self.too_short)

    def _lacking(self) -> dict[str, tuple[str, ...]]:
        return {"audio": self.no_audio, "video": self.no_video}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with `ok`."""
        broken = {video: as_options(reason) for video, reason in self.broken.items()}
        return {"ok": self.ok, **dataclasses.asdict(self), "broken": broken}

    def lines(self) -> list[str]:
        """Sentences for the terminal: counts, then faults, then remarks."""
        return [*self._count_lines(), *self._fault_lines(), *self._remark_lines()]

    def _count_lines(self) -> list[str]:
        named = (
            f", {how_many(self.classes, _ONE.get(self.outputs, self.outputs), self.outputs)}" if self.outputs else ""
        )
        lines = [f"{self.name} in {self.root}: {how_many(self.videos, 'video')}{named}."]
        return lines + [
            f"{split}: {counts.line() if counts.samples else 'no samples.'}" for split, counts in self.splits.items()
        ]

    def _fault_lines(self) -> list[str]:
        faults: list[tuple[str, tuple[str, ...]]] = [
            ("Missing", self.missing),
            ("Broken", tuple(self.broken.values())),
            ("Without sound", self.no_audio if "audio" not in self.allowed else ()),
            ("Without picture", self.no_video if "video" not in self.allowed else ()),
            ("Shorter than annotated", tuple(self.too_short.values())),
        ]
        lines = [as_options(f"{what}: {len(files)} ({shortened(files)}).") for what, files in faults if files]
        how = "decodes to its end" if self.decoded else "opens"
        return lines or [f"Every annotated video is there and {how}."]

    def _remark_lines(self) -> list[str]:
        lines = [f"Remark: {note}" for note in self.notes]
        if self.lost:
            one, several = "annotation labels no second, and is", "annotations label no second, and are"
            lost = how_many(len(self.lost), one, several)
            lines.append(f"Remark: {lost} lost to training:")
            lines += [f"  {one}." for one in self.lost[:_SHOWN]]
            lines += ["  …; --json names all of them."] * (len(self.lost) > _SHOWN)
        lines += [f"Remark: one video under several names: {some}." for some in self.copies[:_SHOWN]]
        if len(self.copies) > _SHOWN:
            lines.append(f"Remark: {how_many(len(self.copies) - _SHOWN, 'more video')} like these; --json names all.")
        for split, names in self.unlabelled.items():
            lines.append(
                f"Remark: {split} has no event of {how_many(len(names), 'class', 'classes')}: {shortened(names)}."
            )
        for kind, what, instead in (
            ("audio", "without sound", "silence"),
            ("video", "without a picture", "black frames"),
        ):
            if kind in self.allowed and self._lacking()[kind]:
                files = self._lacking()[kind]
                lines.append(f"Remark: {instead} for {how_many(len(files), 'file')} {what}: {shortened(files)}.")
        lines += [f"Remark: {video}: {remarks}" for video, remarks in list(self.repaired.items())[:_SHOWN]]
        if len(self.repaired) > _SHOWN:
            lines.append(
                f"Remark: mended like this: {how_many(len(self.repaired) - _SHOWN, 'more file')}; --json names all."
            )
        lines += [f"Remark: {folder}." for folder in self.unreadable]
        if self.padded:
            lines.append(
                f"Remark: shorter than the window: {how_many(len(self.padded), 'file')}; what is missing is silence, "
                f"and the last picture where there are no pictures beside it: {shortened(self.padded)}."
            )
        if self.past_end:
            many = how_many(len(self.past_end), "file is", "files are")
            lines.append(f"Remark: {many} shorter than the window: {PAST_END} ({shortened(self.past_end)}).")
        if self.extra:
            lines.append(f"Remark: not annotated: {how_many(len(self.extra), 'video')} ({shortened(self.extra)}).")
        return lines
