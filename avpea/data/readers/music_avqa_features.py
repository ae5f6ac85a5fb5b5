"""MUSIC-AVQA's published features: what AVST is trained on, instead of the videos.

root/
  json/avqa-train.json ...                  as for the reader music_avqa
  visual_14x14/<video_id>.npy               (60, 512, 14, 14) of ResNet-18
  vggish/<video_id>.npy                     (60, 128) of VGGish
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avpea.data.readers._base import Reader
from avpea.data.readers.music_avqa import MusicAVQAOptions
from avpea.data.readers.music_avqa import read as read_questions
from avpea.labels import Annotations, Precomputed, QuestionLabels

__all__ = ["EXTENSION", "MusicAVQAFeaturesOptions", "MusicAVQAFeaturesReader", "read"]


@dataclass(frozen=True)
class MusicAVQAFeaturesOptions(MusicAVQAOptions):
    """Options of MUSIC-AVQA's published features.

    Attributes:
        seconds: Which moments of the features to use: `consecutive`, the first ones; `every`, every
            (moments // segments)-th from the first on, as in MUSIC-AVQA's public code; `linspace`, evenly spaced from
            the first to the last. Features have no other moments, as `lavish` would need.
        visual: Folder of the maps of the frames, as a path or relative to `root`.
        audio: Folder of the vectors of the sound, as a path or relative to `root`.
    """

    seconds: Literal["consecutive", "every", "linspace"] = "consecutive"
    visual: str = "visual_14x14"
    audio: str = "vggish"


def read(options: MusicAVQAFeaturesOptions) -> Annotations:
    """Read the annotations; the features are read when they are used.

    Raises:
        DataError: As the reader music_avqa.
    """
    annotations, root = read_questions(options), Path(options.root)

    def featured(sample: Any) -> Any:
        sound = sample.video_id if sample.sound is None else sample.sound.stem
        visual, audio = root / options.visual / f"{sample.video_id}.npy", root / options.audio / f"{sound}.npy"
        return dataclasses.replace(sample, video=visual, sound=None, features=Precomputed(visual, audio))

    splits = {split: tuple(featured(sample) for sample in samples) for split, samples in annotations.splits.items()}
    return dataclasses.replace(annotations, splits=splits)


class MusicAVQAFeaturesReader(Reader):
    """MUSIC-AVQA's questions with the published features."""

    labels = QuestionLabels
    features = True
    Options = MusicAVQAFeaturesOptions
    read = staticmethod(read)


EXTENSION = MusicAVQAFeaturesReader
