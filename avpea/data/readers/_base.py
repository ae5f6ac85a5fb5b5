"""The base class of readers, which turn annotations on disk into samples and their labels."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from avpea.labels import Annotations, Labels
from avpea.sections import ReaderOptions

__all__ = ["Reader"]


class Reader(ABC):
    """Reads the annotations of a data set. The name of a file in `avpea/data/readers/` is a reader's name.

    Attributes:
        labels: Kind of labels that it reads.
        features: Whether its samples are precomputed features instead of videos.
        Options: Its options.
    """

    labels: ClassVar[type[Labels]]
    features: ClassVar[bool] = False
    Options: ClassVar[type[ReaderOptions]] = ReaderOptions

    @staticmethod
    @abstractmethod
    def read(options: Any) -> Annotations:
        """Read the annotations that the options name; no video is decoded.

        Raises:
            DataError: A file is missing or malformed; names the file and line, what was found and what was expected.
        """
