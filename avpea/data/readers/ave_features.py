"""AVE's published features: what AVE-ECCV18, CMBS and others train on, instead of the videos.

root/
  visual_feature.h5 audio_feature.h5    avadataset: (4143, 10, 7, 7, 512) of VGG-19, (4143, 10, 128) of VGGish
  labels.h5                             avadataset: (4143, 10, 29), the last column is background
  train_order.h5 val_order.h5 test_order.h5     order: rows of each split
"""

from pathlib import Path
from typing import Any

import numpy as np

from avpea.data.features import TABLE, h5_table
from avpea.data.readers._base import Reader
from avpea.data.readers.ave import AVE_CLASSES
from avpea.errors import DataError
from avpea.labels import SPLITS, Annotations, EventLabels, EventSample, Precomputed
from avpea.sections import ReaderOptions

__all__ = ["AVEFeaturesReader", "read"]

_LAYOUT = "expected visual_feature.h5, audio_feature.h5, labels.h5 and train_order.h5, val_order.h5, test_order.h5"


def read(options: ReaderOptions) -> Annotations:
    """Read labels and splits; the features are read when they are used.

    Raises:
        DataError: A file is missing, or has other contents.
    """
    root = Path(options.root)
    missing = [name for name in ("labels.h5", "visual_feature.h5", "audio_feature.h5") if not (root / name).is_file()]
    orders = {split: root / f"{split}_order.h5" for split in SPLITS}
    if missing or not any(path.is_file() for path in orders.values()):
        raise DataError(f"{root} has no {', '.join(missing) or 'order of a split'}; {_LAYOUT} (--data.root FOLDER).")
    labels = h5_table(root / "labels.h5", TABLE)
    wanted = (options.segments, len(AVE_CLASSES) + 1)
    if labels.ndim != 3 or labels.shape[1:] != wanted:
        raise DataError(
            f"{root / 'labels.h5'} has labels of shape {labels.shape}; expected (videos, {wanted[0]}, {wanted[1]}): "
            f"{wanted[0]} seconds (data.segments), AVE's 28 classes and background."
        )
    splits = {split: _samples(root, path, split, labels) if path.is_file() else () for split, path in orders.items()}
    lacking = [split for split, path in orders.items() if not path.is_file()]
    notes = (f"There is no {' and no '.join(f'{split}_order.h5' for split in lacking)}.",) if lacking else ()
    return Annotations("AVE, published features", root, EventLabels(AVE_CLASSES), splits, notes)


def _samples(root: Path, order: Path, split: str, labels: Any) -> tuple[EventSample, ...]:
    rows = h5_table(order, "order")
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not ((rows >= 0) & (rows < len(labels))).all():
        raise DataError(f"{order} holds no rows of labels.h5; expected whole numbers from 0 to {len(labels) - 1}.")
    visual, audio = root / "visual_feature.h5", root / "audio_feature.h5"
    return tuple(
        EventSample(
            key=f"{split}-{number:04d}-row{row:04d}",
            video_id=f"row{row:04d}",
            video=visual,
            start_seconds=0.0,
            segments=labels.shape[1],
            split=split,
            features=Precomputed(visual, audio, int(row)),
            labels=tuple(int(label) for label in labels[row].argmax(axis=-1)),
        )
        for number, row in enumerate(rows)
    )


class AVEFeaturesReader(Reader):
    """AVE's published features."""

    labels = EventLabels
    features = True
    read = staticmethod(read)


EXTENSION = AVEFeaturesReader
