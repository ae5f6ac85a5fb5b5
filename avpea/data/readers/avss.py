"""AVSBench-semantic, AVSS (Zhou et al., 2023): masks of 70 classes and background, of videos of 5 or 10 s.

    root/                                                or these in root/avs_released
      metadata.csv                                       with the columns uid, label (v1s, v1m or v2) and split
      <label>/<uid>/frames/<0..>.jpg                     5 pictures, of v2 10
      <label>/<uid>/labels_rgb/<0..>.png                 a mask of each; of v1s in train only 0
      <label>/<uid>/audio.wav

The colour of a class is that of Pascal VOC's palette, and classes are in alphabetical order, from 1. Pictures are
squeezed to a square in training too, where the public code crops them. Shorter videos are padded with black frames
that are not annotated.
"""

from dataclasses import dataclass
from pathlib import Path

from avpea.data.readers._avsbench import AVSBenchOptions, annotations, find, require_segments, rows_of, sample
from avpea.data.readers._base import Reader
from avpea.errors import DataError
from avpea.labels import AVSS_CLASSES, Annotations, MaskLabels

__all__ = ["EXTENSION", "AVSSReader", "read"]

SECONDS = {"v1s": 5, "v1m": 5, "v2": 10}


@dataclass(frozen=True)
class AVSSOptions(AVSBenchOptions):
    """Options of AVSBench-semantic.

    Attributes:
        segments: Number of one-second segments in a sample.
    """

    segments: int = 10


def read(options: AVSSOptions) -> Annotations:
    """Read the annotations below `options.root`; no picture is opened.

    Raises:
        DataError: The table is missing, or a row is malformed.
    """
    root = Path(options.root)
    require_segments(options, max(SECONDS.values()))
    table = find(root, "metadata.csv", "avs_released")
    samples, ids = [], []
    for number, (where, (name, label, split)) in enumerate(rows_of(table, ("uid", "label", "split"), (0, 1, 2))):
        if label not in SECONDS:
            raise DataError(f"{where}: found the label '{label}'; expected {', '.join(SECONDS)}.")
        folder, seconds = table.parent / label / name, SECONDS[label]
        annotated = 1 if (label, split) == ("v1s", "train") else seconds
        pictures = [folder / "frames" / f"{k}.jpg" for k in range(seconds)]
        masks = [folder / "labels_rgb" / f"{k}.png" for k in range(annotated)]
        samples.append(sample(number, split, name, folder / "audio.wav", pictures, masks, options, label, colours=True))
        ids.append(name)
    labels = MaskLabels(AVSS_CLASSES, options.mask_size, max(SECONDS.values()))
    return annotations("AVSBench-semantic", root, samples, labels, ids)


class AVSSReader(Reader):
    """AVSBench-semantic."""

    labels = MaskLabels
    Options = AVSSOptions
    read = staticmethod(read)


EXTENSION = AVSSReader
