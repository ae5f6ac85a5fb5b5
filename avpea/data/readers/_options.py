"""Options that several readers share."""

from dataclasses import dataclass

from avpea.sections import SpreadOptions

__all__ = ["AnnotatedOptions"]


@dataclass(frozen=True)
class AnnotatedOptions(SpreadOptions):
    """Options of readers whose annotations may lie in several places.

    Attributes:
        annotations: Folder of the annotation files, as a path or relative to `root` (MUSIC-AVQA: `json` is the original
            release, `json_update` the corrected one).
    """

    annotations: str = ""
