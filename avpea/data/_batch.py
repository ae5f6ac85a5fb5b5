"""A batch: the decoded samples of one training or evaluation step, stacked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avpea.dataset import Sample

__all__ = ["Batch", "collate"]


@dataclass(frozen=True)
class Batch:
    """Decoded samples, batch first.

    Attributes:
        frames: RGB, 0 to 255.
        log_mel: Natural log of mel energies; rows are time, not normalised.
        samples: What each row is.
    """

    frames: UInt8[Tensor, "batch segments height width 3"]
    log_mel: Float[Tensor, "batch segments frames mel"]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def to(self, device: torch.device | str) -> "Batch":
        """Move to a device; the batch itself stays as it is."""
        return replace(self, frames=self.frames.to(device), log_mel=self.log_mel.to(device))


def collate(samples: Sequence[Sample], tensors: Sequence[Mapping[str, Tensor]]) -> Batch:
    """Stack samples and their decoded tensors, which all have as many segments (`DataConfig.segments`)."""
    return Batch(
        frames=torch.stack([entry["frames"] for entry in tensors]),
        log_mel=torch.stack([entry["log_mel"] for entry in tensors]),
        samples=tuple(samples),
    )
