"""A reader: videos sorted into folders, SPLIT/CLASS/video.mp4, each of them one event from start to end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avpea.data.readers import Reader, ReaderOptions
from avpea.errors import DataError
from avpea.labels import MEDIA_SUFFIXES, SPLITS, Annotations, EventLabels, EventSample


@dataclass(frozen=True)
class FolderOptions(ReaderOptions):
    """Options of the reader of folders.

    Attributes:
        background: Name of the folders whose videos hold no event.
    """

    background: str = "background"


class FolderReader(Reader):
    """A sample is the first `data.segments` seconds of a video."""

    labels = EventLabels
    Options = FolderOptions

    @staticmethod
    def read(options: Any) -> Annotations:
        root = Path(options.root)
        if not root.is_dir():
            raise DataError(f"There is no folder {root} (--data.root); expected SPLIT/CLASS/VIDEO in it.")
        found = [path for path in sorted(root.glob("*/*/*")) if path.suffix.lower() in MEDIA_SUFFIXES]
        videos = [path for path in found if path.parts[-3] in SPLITS]
        others = sorted({path.parts[-3] for path in found} - {*SPLITS})
        classes = sorted({path.parent.name for path in videos} - {options.background})
        if not classes:
            raise DataError(f"{root} holds no videos as train/CLASS/VIDEO, val/CLASS/VIDEO, test/CLASS/VIDEO.")
        index = {name: number for number, name in enumerate(classes)} | {options.background: len(classes)}
        samples = [
            EventSample(
                key=f"{path.parts[-3]}-{number:05d}",
                video_id=path.relative_to(root).as_posix(),  # a name alone may be that of several
                video=path,
                start_seconds=0.0,
                segments=options.segments,
                split=path.parts[-3],
                labels=(index[path.parent.name],) * options.segments,
            )
            for number, path in enumerate(videos)
        ]
        by_split = {split: tuple(one for one in samples if one.split == split) for split in SPLITS}
        notes = (f"Not used, as they are none of {', '.join(SPLITS)}: {', '.join(others)}.",) if others else ()
        return Annotations(root.name, root, EventLabels(tuple(classes)), by_split, notes)
