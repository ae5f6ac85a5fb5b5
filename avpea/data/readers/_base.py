"""What every reader is: annotations on disk to samples and their labels."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from avpea.labels import Annotations, Labels
from avpea.sections import ReaderOptions

__all__ = ["Reader"]


class Reader(ABC):
    """A data set's annotations to samples. A file in `avpea/data/readers/` with one subclass is a reader's name.

    Attributes:
        labels: What it reads.
        Options: What a recipe can tell it.
    """

    labels: ClassVar[type[Labels]]
    Options: ClassVar[type[ReaderOptions]] = ReaderOptions

    @staticmethod
    @abstractmethod
    def read(options: Any) -> Annotations:
        """Read the annotations that the options name; no video is decoded.

        Raises:
            DataError: A file is missing, or malformed: its name and line, what was found, what was expected.
        """
