"""AVSBench's single sources, S4 (Zhou et al., ECCV 2022): videos of 5 s in which one object sounds.

    root/Single-source/                                  or these directly in the root
      s4_meta_data.csv                                   name, start time, category, split
      s4_data/visual_frames/<split>/<category>/<name>/<name>_<1..5>.png
      s4_data/gt_masks/<split>/<category>/<name>/<name>_<k>.png      train: k = 1; val and test: 1 to 5
      s4_data/audio_wav/<split>/<category>/<name>.wav

The pickled log-mels that lie beside the wavs are not read: unpickling runs whatever is in them.
"""

from pathlib import Path

from avpea.data.readers._avsbench import AVSBenchOptions, annotations, find, require_segments, rows_of, sample
from avpea.data.readers._base import Reader
from avpea.labels import Annotations, MaskLabels

__all__ = ["EXTENSION", "S4Reader", "read"]

SECONDS = 5


def read(options: AVSBenchOptions) -> Annotations:
    """Read the annotations below `options.root`; no picture is opened.

    Raises:
        DataError: The table is missing, or a row is malformed.
    """
    root = Path(options.root)
    require_segments(options, SECONDS)
    table = find(root, "s4_meta_data.csv", "Single-source")
    data, samples, ids = table.parent / "s4_data", [], []
    for number, (_, (name, category, split)) in enumerate(rows_of(table, ("name", "category", "split"), (0, 2, 3))):
        inside = Path(split, category)
        frames, masks = (data / one / inside / name for one in ("visual_frames", "gt_masks"))
        pictures = [frames / f"{name}_{k}.png" for k in range(1, SECONDS + 1)]
        annotated = [masks / f"{name}_{k}.png" for k in range(1, (1 if split == "train" else SECONDS) + 1)]
        sound = data / "audio_wav" / inside / f"{name}.wav"
        samples.append(sample(number, split, name, sound, pictures, annotated, options, category))
        ids.append(name)
    return annotations("AVSBench S4", root, samples, MaskLabels(side=options.mask_size), ids)


class S4Reader(Reader):
    """AVSBench's single sources."""

    labels = MaskLabels
    Options = AVSBenchOptions
    read = staticmethod(read)


EXTENSION = S4Reader
