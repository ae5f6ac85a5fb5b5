"""What the readers of masks share."""

from dataclasses import dataclass

from avpea.options import require
from avpea.sections import ReaderOptions

__all__ = ["MaskOptions"]


@dataclass(frozen=True)
class MaskOptions(ReaderOptions):
    """Options of data sets of masks.

    Attributes:
        mask_size: Height and width to which masks are resized, in pixels; the model answers in this size.
    """

    mask_size: int = 224

    def __post_init__(self) -> None:
        super().__post_init__()
        require(8 <= self.mask_size <= 1024, f"data.mask_size is {self.mask_size}; expected 8 to 1024 pixels.")
