"""Readers of annotations. A file here is a reader's name."""

from avpea.data.readers._base import Reader
from avpea.sections import ReaderOptions, SpreadOptions

__all__ = ["Reader", "ReaderOptions", "SpreadOptions"]
