"""AVSBench's multiple sources, MS3 (Zhou et al., ECCV 2022): videos of 5 s in which several objects may sound.

    root/Multi-sources/                                  or these directly in the root
      ms3_meta_data.csv                                  video id, split
      ms3_data/visual_frames/<id>/<id>.mp4_<1..5>.png
      ms3_data/gt_masks/<split>/<id>/<id>_<1..5>.png
      ms3_data/audio_wav/<split>/<id>.wav

The pickled log-mels that lie beside the wavs are not read: unpickling runs whatever is in them.
"""

from pathlib import Path

from avpea.data.readers._avsbench import AVSBenchOptions, annotations, find, require_segments, rows_of, sample
from avpea.data.readers._base import Reader
from avpea.labels import Annotations, MaskLabels

__all__ = ["EXTENSION", "MS3Reader", "read"]

SECONDS = 5


def read(options: AVSBenchOptions) -> Annotations:
    """Read the annotations below `options.root`; no picture is opened.

    Raises:
        DataError: The table is missing, or a row is malformed.
    """
    root = Path(options.root)
    require_segments(options, SECONDS)
    table = find(root, "ms3_meta_data.csv", "Multi-sources")
    data, samples, ids = table.parent / "ms3_data", [], []
    for number, (_, (name, split)) in enumerate(rows_of(table, ("video_id", "split"), (0, 1))):
        seconds = range(1, SECONDS + 1)
        pictures = [data / "visual_frames" / name / f"{name}.mp4_{k}.png" for k in seconds]
        masks = [data / "gt_masks" / split / name / f"{name}_{k}.png" for k in seconds]
        samples.append(
            sample(number, split, name, data / "audio_wav" / split / f"{name}.wav", pictures, masks, options)
        )
        ids.append(name)
    return annotations("AVSBench MS3", root, samples, MaskLabels(side=options.mask_size), ids)


class MS3Reader(Reader):
    """AVSBench's multiple sources."""

    labels = MaskLabels
    Options = AVSBenchOptions
    read = staticmethod(read)


EXTENSION = MS3Reader
